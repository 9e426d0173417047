//! What the definitions say about numbers, words and lists, on the server that will enforce it.

use serde_json::{Value, json};

use crate::lab::Lab;
use crate::rules::{base, create, merged};

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_on_numbers_words_and_lists() {
    let lab = Lab::new().await;
    let long = |count: usize| "x".repeat(count);
    let many = |count: usize| (0..count).map(|n| json!({"name": format!("d{n}")})).collect::<Vec<_>>();
    let cases = [
        ("Hospital", json!({"displayName": ""}), json!({"displayName": "A"})),
        ("Hospital", json!({"displayName": long(121)}), json!({"displayName": long(120)})),
        ("Hospital", json!({"quota": {"cpu": "lots"}}), json!({"quota": {"cpu": "1.5"}})),
        ("Hospital", json!({"quota": {"pods": 0}}), json!({"quota": {"pods": 1}})),
        ("Hospital", json!({"deletionPolicy": "retain"}), json!({"deletionPolicy": "Retain"})),
        (
            "Hospital",
            json!({"admins": [{"kind": "Robot", "name": "x"}]}),
            json!({"admins": [{"kind": "User", "name": "x"}]}),
        ),
        ("Hospital", json!({"domains": ["UPPER.example"]}), json!({"domains": ["lower.example"]})),
        ("PostgresInstance", json!({"instances": 8}), json!({"instances": 7})),
        ("PostgresInstance", json!({"instances": 0}), json!({"instances": 2})),
        ("PostgresInstance", json!({"version": "9.6"}), json!({"version": "17"})),
        ("PostgresInstance", json!({"databases": many(33)}), json!({"databases": many(32)})),
        ("PostgresInstance", json!({"databases": [{"name": "Upper"}]}), json!({"databases": [{"name": "lower"}]})),
        (
            "PostgresInstance",
            json!({"databases": [{"name": "a", "extensions": ["plpython3u"]}]}),
            json!({"databases": [{"name": "a", "extensions": ["citext"]}]}),
        ),
        (
            "PostgresInstance",
            json!({"databases": [{"name": "a"}, {"name": "a"}]}),
            json!({"databases": [{"name": "a"}, {"name": "b"}]}),
        ),
        ("PostgresInstance", json!({"storage": null}), json!({"storage": {"size": "1Gi"}})),
        (
            "PostgresInstance",
            json!({"parameters": {"work_mem": long(257)}}),
            json!({"parameters": {"work_mem": "8MB"}}),
        ),
        ("CacheInstance", json!({"replicas": 9}), json!({"replicas": 7})),
        ("CacheInstance", json!({"eviction": "Random"}), json!({"eviction": "Never"})),
        ("DataOperation", json!({"deadlineSeconds": 29}), json!({"deadlineSeconds": 30})),
        ("DataOperation", json!({"action": "Upgrade"}), json!({"action": "Switchover"})),
        ("DataOperation", json!({"action": "Expand", "size": "lots"}), json!({"action": "Expand", "size": "20Gi"})),
        ("MedicalService", json!({"replicas": 51}), json!({"replicas": 50})),
        ("MedicalService", json!({"port": 80}), json!({"port": 1024})),
        ("MedicalService", json!({"env": [{"name": "NOT-A-NAME"}]}), json!({"env": [{"name": "A_NAME"}]})),
        (
            "MedicalService",
            json!({"routes": [{"host": "no_underscores.example"}]}),
            json!({"routes": [{"host": "fine.example"}]}),
        ),
        ("MedicalService", json!({"routes": [{"path": "no-slash"}]}), json!({"routes": [{"path": "/slash"}]})),
        ("MedicalService", json!({"probes": {"startSeconds": 1}}), json!({"probes": {"startSeconds": 5}})),
    ];
    for (kind, refused, accepted) in cases {
        let accepted = merged(base(kind), &json!({"spec": accepted}));
        create(&lab, &accepted).await.unwrap_or_else(|error| panic!("should be accepted: {accepted}\n{error}"));
        let refused = merged(base(kind), &json!({"spec": refused}));
        let error = create(&lab, &refused).await.expect_err(&format!("should be refused: {refused}"));
        assert!(error.contains("spec"), "names the field: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_is_explained() {
    let lab = Lab::new().await;
    let _ = &lab; // definitions on the server are those that were explained offline
    fn undocumented(schema: &Value, path: String, found: &mut Vec<String>) {
        for (name, child) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            let known = [".metadata", ".apiVersion", ".kind"].contains(&path.as_str());
            if child["description"].as_str().is_none_or(|text| text.trim().is_empty()) && !known {
                found.push(path.clone());
            }
            undocumented(child, path, found);
        }
        if schema["items"].is_object() {
            undocumented(&schema["items"], path, found);
        }
    }
    for crd in hz_crds::crd::all() {
        let crd = serde_json::to_value(&crd).unwrap();
        let mut found = Vec::new();
        undocumented(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], String::new(), &mut found);
        assert!(found.is_empty(), "{}: {found:?}", crd["spec"]["names"]["kind"]);
    }
}
