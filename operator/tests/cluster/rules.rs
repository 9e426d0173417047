//! The rules in the definitions, on the server that will enforce them: each refuses once, and its twin is accepted.

use std::collections::BTreeSet;

use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::lab::Lab;
use crate::{rules_of_backups, rules_of_caches};

/// The smallest object of each kind that is accepted.
pub fn base(kind: &str) -> Value {
    let spec = match kind {
        "Hospital" => json!({"displayName": "St. Anna"}),
        "PostgresInstance" => json!({"storage": {"size": "2Gi"}}),
        "CacheInstance" => json!({}),
        "MedicalService" => json!({"image": "hz.hospital/orthanc:1.12.7"}),
        "DataOperation" => json!({"action": "Restart", "target": {"kind": "PostgresInstance", "name": "records"}}),
        "ObjectStore" => json!({"storage": {"size": "4Gi"}}),
        "BackupPlan" => json!({"instance": "records", "destination": {"objectStore": {"name": "vault"}}}),
        "Backup" => json!({"plan": "nightly"}),
        "Restore" => json!({"plan": "nightly", "instance": "records-back"}),
        "RestoreDrill" => json!({"plan": "nightly"}),
        other => panic!("{other}"),
    };
    let mut object =
        json!({"apiVersion": "hz.hospital/v1alpha1", "kind": kind, "metadata": {"name": "trial"}, "spec": spec});
    if kind != "Hospital" {
        object["metadata"]["namespace"] = json!("default");
    }
    object
}

/// RFC 7386.
pub fn merged(mut into: Value, patch: &Value) -> Value {
    match patch {
        Value::Object(patch) => {
            if !into.is_object() {
                into = json!({});
            }
            for (field, value) in patch {
                let before = into.get(field).cloned().unwrap_or(Value::Null);
                let map = into.as_object_mut().unwrap();
                match value {
                    Value::Null => map.remove(field),
                    value => map.insert(field.clone(), merged(before, value)),
                };
            }
            into
        }
        other => other.clone(),
    }
}

/// A rule, by a piece of its message; what it refuses, and the twin it accepts. All are merged into the base.
pub struct Case {
    kind: &'static str,
    says: &'static str,
    refused: Value,
    accepted: Value,
}

pub fn case(kind: &'static str, says: &'static str, refused: Value, accepted: Value) -> Case {
    Case { kind, says, refused, accepted }
}

fn at_birth() -> Vec<Case> {
    let name = |name: &str| json!({"metadata": {"name": name}});
    let spec = |spec: Value| json!({"spec": spec});
    let image = |image: &str| json!({"spec": {"image": image}});
    let bind = |bindings: Value| json!({"spec": {"bindings": bindings}});
    let scratch = |path: &str| json!({"spec": {"scratch": [{"path": path}]}});
    vec![
        case("Hospital", "part of a namespace and of host names", name("9th-street"), name("ninth-street")),
        case("Hospital", "part of a namespace and of host names", name("st.anna"), name("st-anna")),
        case(
            "Hospital",
            "ServiceAccount needs the namespace",
            spec(json!({"admins": [{"kind": "ServiceAccount", "name": "flux"}]})),
            spec(json!({"admins": [{"kind": "ServiceAccount", "name": "flux", "namespace": "gitops"}]})),
        ),
        case(
            "Hospital",
            "ServiceAccount needs the namespace",
            spec(json!({"admins": [{"kind": "User", "name": "eva", "namespace": "x"}]})),
            spec(json!({"admins": [{"kind": "User", "name": "eva"}]})),
        ),
        case(
            "Hospital",
            "begin with system:",
            spec(json!({"admins": [{"kind": "Group", "name": "system:masters"}]})),
            spec(json!({"admins": [{"kind": "Group", "name": "masters"}]})),
        ),
        case("PostgresInstance", "names of pods and Services", name("9records"), name("records-9")),
        case(
            "PostgresInstance",
            "no other to confirm its writes",
            spec(json!({"instances": 1})),
            spec(json!({"instances": 1, "synchronous": "Disabled"})),
        ),
        case(
            "PostgresInstance",
            "stricter dataClass",
            spec(json!({"dataClass": "Administrative", "databases": [{"name": "findings", "dataClass": "Clinical"}]})),
            spec(json!({"dataClass": "Clinical", "databases": [{"name": "findings", "dataClass": "Administrative"}]})),
        ),
        case(
            "PostgresInstance",
            "that is the name of its owner",
            spec(json!({"databases": [{"name": "findings"}], "users": [{"name": "findings"}]})),
            spec(json!({"databases": [{"name": "findings"}], "users": [{"name": "reporter"}]})),
        ),
        case(
            "PostgresInstance",
            "belongs to PostgreSQL or to the platform",
            spec(json!({"databases": [{"name": "pg_findings"}]})),
            spec(json!({"databases": [{"name": "findings_pg"}]})),
        ),
        case(
            "PostgresInstance",
            "belongs to PostgreSQL or to the platform",
            spec(json!({"databases": [{"name": "postgres"}]})),
            spec(json!({"databases": [{"name": "postgres2"}]})),
        ),
        case(
            "PostgresInstance",
            "memoryLimit must be at least",
            spec(json!({"resources": {"memory": "1Gi", "memoryLimit": "512Mi"}})),
            spec(json!({"resources": {"memory": "512Mi", "memoryLimit": "1Gi"}})),
        ),
        case(
            "DataOperation",
            "version goes with the action Upgrade",
            spec(json!({"version": "17"})),
            spec(json!({"action": "Upgrade", "version": "17"})),
        ),
        case(
            "DataOperation",
            "skipBackup goes with the action Upgrade",
            spec(json!({"skipBackup": true})),
            spec(json!({"action": "Upgrade", "version": "17", "skipBackup": true})),
        ),
        case(
            "DataOperation",
            "RollBack loses everything that was written",
            spec(json!({"action": "RollBack"})),
            spec(json!({"action": "RollBack", "acceptLossSince": true})),
        ),
        case(
            "DataOperation",
            "only a PostgresInstance has a version",
            spec(json!({"action": "FinishUpgrade", "target": {"kind": "CacheInstance", "name": "sessions"}})),
            spec(json!({"action": "FinishUpgrade"})),
        ),
        case("CacheInstance", "names of pods and Services", name("a.b"), name("a-b")),
        case("CacheInstance", "even number cannot outvote", spec(json!({"replicas": 4})), spec(json!({"replicas": 5}))),
        case(
            "CacheInstance",
            "minReplicasToWrite counts the copies",
            spec(json!({"replicas": 3, "minReplicasToWrite": 3})),
            spec(json!({"replicas": 3, "minReplicasToWrite": 2})),
        ),
        case(
            "CacheInstance",
            "storage goes with persistence",
            spec(json!({"persistence": "AppendOnly"})),
            spec(json!({"persistence": "AppendOnly", "storage": {"size": "1Gi"}})),
        ),
        case(
            "CacheInstance",
            "storage goes with persistence",
            spec(json!({"storage": {"size": "1Gi"}})),
            spec(json!({"persistence": "None"})),
        ),
        case("MedicalService", "part of host names", name("a.b"), name("a-b")),
        case("MedicalService", "not the name of an image", image("Orthanc:1"), image("orthanc:1")),
        case("MedicalService", "say which version", image("hz.hospital/orthanc"), image("hz.hospital:5000/orthanc:1")),
        case(
            "MedicalService",
            "tag latest changes",
            image("hz.hospital/orthanc:latest"),
            image("hz.hospital/orthanc@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"),
        ),
        case(
            "MedicalService",
            "either a database or a cache",
            bind(json!([{"prefix": "X"}])),
            bind(json!([{"cache": {"instance": "c"}}])),
        ),
        case(
            "MedicalService",
            "either a database or a cache",
            bind(json!([{"cache": {"instance": "c"}, "database": {"instance": "d", "name": "n"}}])),
            bind(json!([{"database": {"instance": "d", "name": "n"}}])),
        ),
        case(
            "MedicalService",
            "share a prefix",
            bind(json!([{"cache": {"instance": "a"}}, {"cache": {"instance": "b"}}])),
            bind(json!([{"cache": {"instance": "a"}}, {"cache": {"instance": "b"}, "prefix": "OTHER"}])),
        ),
        case(
            "MedicalService",
            "memoryLimit must be at least",
            spec(json!({"resources": {"memory": "1Gi", "memoryLimit": "1023Mi"}})),
            spec(json!({"resources": {"memory": "1Gi", "memoryLimit": "1024Mi"}})),
        ),
        case("MedicalService", "folders of the system", scratch("/etc/ssl"), scratch("/etcetera")),
        case("MedicalService", "folders of the system", scratch("/data/../etc"), scratch("/data")),
    ]
}

fn operations_at_birth() -> Vec<Case> {
    let spec = |spec: Value| json!({"spec": spec});
    let on_cache = |rest: Value| merged(spec(json!({"target": {"kind": "CacheInstance"}})), &spec(rest));
    let about = |says, refused, accepted| case("DataOperation", says, refused, accepted);
    vec![
        about(
            "instances goes with the action Scale",
            spec(json!({"action": "Scale"})),
            spec(json!({"action": "Scale", "instances": 5})),
        ),
        about(
            "instances goes with the action Scale",
            spec(json!({"instances": 5})),
            on_cache(json!({"action": "Scale", "instances": 5})),
        ),
        about(
            "size goes with the action Expand",
            spec(json!({"action": "Expand"})),
            spec(json!({"action": "Expand", "size": "20Gi"})),
        ),
        about(
            "member goes with the action Rebuild",
            spec(json!({"action": "Rebuild"})),
            spec(json!({"action": "Rebuild", "member": "records-1"})),
        ),
        about(
            "sentinels of a cache choose",
            on_cache(json!({"action": "Switchover", "candidate": "sessions-1"})),
            spec(json!({"action": "Switchover", "candidate": "records-1"})),
        ),
        about(
            "even number of cache servers",
            on_cache(json!({"action": "Scale", "instances": 4})),
            spec(json!({"action": "Scale", "instances": 4})),
        ),
        about(
            "at most 100 letters",
            json!({"metadata": {"name": "x".repeat(101)}}),
            json!({"metadata": {"name": "x".repeat(100)}}),
        ),
    ]
}

/// What may not change: the object as it is, and the changes refused and accepted.
fn later() -> Vec<(Value, Case)> {
    let spec = |spec: Value| json!({"spec": spec});
    let operation = |says, before: Value, refused: Value, accepted: Value| {
        (spec(before), case("DataOperation", says, spec(refused), spec(accepted)))
    };
    let disk =
        |class: &str| spec(json!({"persistence": "Snapshot", "storage": {"size": "1Gi", "storageClass": class}}));
    vec![
        (
            json!({"spec": {"credentialsGeneration": 2}}),
            case(
                "PostgresInstance",
                "old passwords do not come back",
                json!({"spec": {"credentialsGeneration": 1}}),
                json!({"spec": {"credentialsGeneration": 3}}),
            ),
        ),
        (
            spec(json!({"storage": {"size": "2Gi"}})),
            case(
                "PostgresInstance",
                "grow and never shrink",
                spec(json!({"storage": {"size": "2047Mi"}})),
                spec(json!({"storage": {"size": "3Gi"}})),
            ),
        ),
        (
            spec(json!({"storage": {"storageClass": "fast"}})),
            case(
                "PostgresInstance",
                "storageClass cannot change",
                spec(json!({"storage": {"storageClass": "slow"}})),
                spec(json!({"storage": {"size": "4Gi"}})),
            ),
        ),
        (
            disk("fast"),
            case("CacheInstance", "storageClass cannot change", disk("slow"), spec(json!({"memory": "128Mi"}))),
        ),
        (
            disk("fast"),
            case(
                "CacheInstance",
                "grow and never shrink",
                spec(json!({"storage": {"size": "512Mi"}})),
                spec(json!({"storage": {"size": "2Gi"}})),
            ),
        ),
        (
            disk("fast"),
            case(
                "CacheInstance",
                "turned neither on nor off",
                spec(json!({"persistence": "None", "storage": null})),
                spec(json!({"persistence": "AppendOnly"})),
            ),
        ),
        operation(
            "only cancel and ttlSecondsAfterFinished may change",
            json!({"action": "Rebuild", "member": "records-1"}),
            json!({"member": "records-2"}),
            json!({"cancel": true}),
        ),
        operation(
            "only cancel and ttlSecondsAfterFinished may change",
            json!({}),
            json!({"target": {"name": "other"}}),
            json!({"ttlSecondsAfterFinished": 60}),
        ),
        operation("stays cancelled", json!({"cancel": true}), json!({"cancel": false}), json!({"cancel": true})),
    ]
}

/// Rules about fields that have one value so far: nothing can break them before the schema does.
const OUT_OF_REACH: [&str; 1] = ["the engine cannot change"];

pub async fn create(lab: &Lab, object: &Value) -> Result<(), String> {
    let namespace = object["metadata"]["namespace"].as_str();
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let api = lab.of(object["kind"].as_str().unwrap(), namespace);
    let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    api.create(&params, &object).await.map(|_| ()).map_err(|error| error.to_string())
}

async fn change(lab: &Lab, kind: &str, patch: &Value) -> Result<(), String> {
    let api = lab.of(kind, Some("default"));
    let params = PatchParams { dry_run: true, ..PatchParams::default() };
    api.patch("trial", &params, &Patch::Merge(patch)).await.map(|_| ()).map_err(|error| error.to_string())
}

fn rules_of(schema: &Value, found: &mut BTreeSet<String>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        found.insert(rule["message"].as_str().unwrap_or_default().to_owned());
    }
    for child in schema["properties"].as_object().into_iter().flatten().map(|(_, child)| child) {
        rules_of(child, found);
    }
    if schema["items"].is_object() {
        rules_of(&schema["items"], found);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rule_refuses_once_and_accepts_once() {
    let lab = Lab::new().await;
    let mut heard = String::new();
    for case in at_birth()
        .into_iter()
        .chain(operations_at_birth())
        .chain(rules_of_backups::at_birth())
        .chain(rules_of_caches::at_birth())
    {
        let accepted = merged(base(case.kind), &case.accepted);
        create(&lab, &accepted).await.unwrap_or_else(|error| panic!("should be accepted: {accepted}\n{error}"));
        let refused = merged(base(case.kind), &case.refused);
        let error = create(&lab, &refused).await.expect_err(&format!("should be refused ({}): {refused}", case.says));
        assert!(error.contains(case.says), "{refused}\n{error}");
        heard.push_str(&error);
    }
    for (before, case) in later().into_iter().chain(rules_of_backups::later()).chain(rules_of_caches::later()) {
        lab.apply(&merged(base(case.kind), &before)).await;
        change(&lab, case.kind, &case.accepted).await.unwrap_or_else(|error| panic!("{}: {error}", case.accepted));
        let error =
            change(&lab, case.kind, &case.refused).await.expect_err(&format!("{}: {}", case.says, case.refused));
        assert!(error.contains(case.says), "{}\n{error}", case.refused);
        heard.push_str(&error);
        lab.delete(case.kind, Some("default"), "trial").await;
    }
    let mut all = BTreeSet::new();
    for crd in hz_crds::crd::all() {
        let crd = serde_json::to_value(&crd).unwrap();
        rules_of(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], &mut all);
    }
    for kind in ["DataOperation", "Backup", "Restore"] {
        heard.push_str(&ended(&lab, kind).await);
    }
    assert!(all.len() > 20);
    let untested: Vec<_> =
        all.iter().filter(|rule| !heard.contains(rule.as_str()) && !OUT_OF_REACH.contains(&rule.as_str())).collect();
    assert!(untested.is_empty(), "no case breaks these rules: {untested:#?}");
}

/// The rule about the status of what ends: how it ended does not change, and before that everything may.
async fn ended(lab: &Lab, kind: &str) -> String {
    lab.apply(&base(kind)).await;
    let api = lab.of(kind, Some("default"));
    let write = async |phase: &str, message: &str| {
        let status = json!({"status": {"phase": phase, "message": message, "completionTime": "2026-07-01T12:00:00Z"}});
        api.patch_status("trial", &PatchParams::default(), &Patch::Merge(&status))
            .await
            .map_err(|error| error.to_string())
    };
    write("Running", "one").await.unwrap();
    write("Failed", "two").await.unwrap();
    write("Failed", "two").await.unwrap();
    let error = write("Succeeded", "two").await.expect_err("an end that changes");
    let reworded = write("Failed", "three").await.expect_err("an end that is told otherwise");
    assert!(reworded.contains("does not change"), "{reworded}");
    lab.delete(kind, Some("default"), "trial").await;
    error
}
