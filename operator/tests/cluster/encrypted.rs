//! Certificates of databases: issued, mounted, handed on, renewed without touching a pod.

use std::sync::atomic::Ordering;
use std::time::Duration;

use hz_operator::engine::certificates::der;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::lab::{HOSPITAL, Lab, Running, eventually};

/// What a Secret holds, as text.
async fn text(lab: &Lab, secret: &str, key: &str) -> Option<String> {
    use base64::Engine as _;
    let secret = lab.get("Secret", Some(HOSPITAL), secret).await?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(secret["data"][key].as_str()?).unwrap();
    String::from_utf8(bytes).ok()
}

async fn patch(lab: &Lab, kind: &str, name: &str, patch: &Value) {
    let params = PatchParams::default();
    lab.of(kind, Some(HOSPITAL)).patch(name, &params, &Patch::Merge(patch)).await.unwrap();
}

/// Every copy shows what the Secret keeps.
async fn show(lab: &Lab, operator: &Running) {
    *operator.probes.shown.lock().unwrap() = der(&text(lab, "records-tls", "tls.crt").await.unwrap());
}

fn encrypted(object: &Value) -> Value {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == "Encrypted").unwrap_or(Value::Null)
}

/// Settings are given a moment to be taken over before they are told as being in force, so this may take a while.
async fn until_says(lab: &Lab, reason: &str) -> Value {
    let look = async {
        loop {
            let told = encrypted(&lab.get("PostgresInstance", Some(HOSPITAL), "records").await.unwrap());
            if told["reason"] == reason {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(90), look).await.unwrap_or_else(|_| panic!("it never said {reason}"))
}

/// The example runs, and its pods have addresses.
async fn open(lab: &Lab) {
    lab.open_example().await;
    for number in 0..3 {
        let addressed =
            json!({ "podIP": format!("10.244.1.{number}"), "podIPs": [{ "ip": format!("10.244.1.{number}") }] });
        lab.play("Pod", HOSPITAL, &format!("records-{number}"), addressed).await;
    }
}

/// Generation of what runs, which grows with every change of a pod's description.
async fn generation(lab: &Lab, kind: &str, name: &str) -> i64 {
    lab.get(kind, Some(HOSPITAL), name).await.unwrap()["metadata"]["generation"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_issued_mounted_and_handed_on() {
    let lab = Lab::new().await;
    let operator = lab.operator();
    open(&lab).await;
    let authority = text(&lab, "records-tls", "ca.crt").await.unwrap();
    let set = lab.get("StatefulSet", Some(HOSPITAL), "records").await.unwrap();
    let volumes = set.pointer("/spec/template/spec/volumes").unwrap().as_array().unwrap();
    assert!(volumes.iter().any(|volume| volume["secret"]["secretName"] == "records-tls"));
    // Services trust this authority, by a file, and know how to look.
    assert_eq!(text(&lab, "records-orthanc", "ca.crt").await, Some(authority));
    assert!(text(&lab, "records-orthanc", "uri").await.unwrap().ends_with("?sslmode=verify-full"));
    let service = lab.get("Deployment", Some(HOSPITAL), "imaging").await.unwrap();
    let container = service.pointer("/spec/template/spec/containers/0").unwrap();
    let variable = |name: &str| container["env"].as_array().unwrap().iter().find(|v| v["name"] == name).cloned();
    assert_eq!(variable("DATABASE_CA_FILE").unwrap()["value"], "/etc/hz/bindings/database/ca.crt");
    assert!(variable("DATABASE_SSLMODE").is_some());
    let mounts = container["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().any(|mount| mount["mountPath"] == "/etc/hz/bindings/database"));

    show(&lab, &operator).await;
    let told = until_says(&lab, "Required").await;
    assert_eq!(told["status"], "True");
    assert!(
        told["message"].as_str().unwrap().contains("the certificate in Secret records-tls holds until 20"),
        "{told}"
    );

    // Clear text is let in where it is said, without a restart of anything.
    let before = generation(&lab, "StatefulSet", "records").await;
    patch(&lab, "PostgresInstance", "records", &json!({ "spec": { "tls": "Preferred" } })).await;
    assert_eq!(until_says(&lab, "Preferred").await["status"], "False");
    let hba = operator.probes.agreed.lock().unwrap()["postgresql"]["pg_hba"].to_string();
    assert!(!hba.contains("hostssl") && !hba.contains("reject"), "{hba}");
    assert_eq!(generation(&lab, "StatefulSet", "records").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_touches_no_pod_and_a_new_authority_reaches_the_services() {
    let lab = Lab::new().await;
    let operator = lab.operator();
    open(&lab).await;
    show(&lab, &operator).await;
    until_says(&lab, "Required").await;
    let kept = text(&lab, "records-tls", "tls.crt").await;
    let authority = text(&lab, "records-tls", "ca.crt").await;
    let workloads = [("StatefulSet", "records"), ("Deployment", "imaging"), ("Deployment", "appointments")];
    let mut before = Vec::new();
    for (kind, name) in workloads {
        before.push(generation(&lab, kind, name).await);
    }
    let told = operator.probes.reloaded.load(Ordering::SeqCst);

    // The leaf is gone, as if it had come to its end: another takes its place, and copies are told until they show it.
    patch(&lab, "Secret", "records-tls", &json!({ "data": { "tls.crt": null, "tls.key": null } })).await;
    eventually("another leaf", || async {
        text(&lab, "records-tls", "tls.crt").await.filter(|leaf| Some(leaf) != kept.as_ref())
    })
    .await;
    assert_eq!(text(&lab, "records-tls", "ca.crt").await, authority, "of the same authority");
    until_says(&lab, "OtherCertificate").await;
    eventually("every copy is told", || async {
        (operator.probes.reloaded.load(Ordering::SeqCst) >= told + 3).then_some(())
    })
    .await;
    show(&lab, &operator).await;
    until_says(&lab, "Required").await;
    operator.at_rest().await;
    for ((kind, name), before) in workloads.into_iter().zip(&before) {
        assert_eq!(generation(&lab, kind, name).await, *before, "{kind} {name} was touched by a renewal");
    }

    // The authority's key is lost: there is a new one, and whoever trusted the old one is told.
    patch(&lab, "Secret", "records-tls", &json!({ "data": { "ca.key": null, "tls.crt": null } })).await;
    let new = eventually("another authority", || async {
        text(&lab, "records-tls", "ca.crt").await.filter(|ca| Some(ca) != authority.as_ref())
    })
    .await;
    eventually("tenants are told", || async { text(&lab, "records-orthanc", "ca.crt").await.filter(|ca| *ca == new) })
        .await;
    eventually("the services start again", || async {
        let imaging = generation(&lab, "Deployment", "imaging").await;
        let appointments = generation(&lab, "Deployment", "appointments").await;
        (imaging > before[1] && appointments > before[2]).then_some(())
    })
    .await;
    assert_eq!(generation(&lab, "StatefulSet", "records").await, before[0], "copies read it without a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_from_before_there_was_tls_are_replaced_before_anybody_insists() {
    let lab = Lab::new().await;
    let operator = lab.operator();
    open(&lab).await;
    show(&lab, &operator).await;
    until_says(&lab, "Required").await;
    // One of them is as the last version made it.
    patch(&lab, "Pod", "records-1", &json!({ "metadata": { "labels": { "hz.hospital/tls": null } } })).await;
    let told = until_says(&lab, "Introducing").await;
    assert!(told["message"].as_str().unwrap().contains("records-1"), "{told}");
    eventually("tenants are not told yet", || async {
        text(&lab, "records-orthanc", "uri").await.filter(|uri| !uri.contains("sslmode"))
    })
    .await;
    eventually("everybody is let in", || async {
        let hba = operator.probes.agreed.lock().unwrap()["postgresql"]["pg_hba"].to_string();
        (!hba.contains("hostssl")).then_some(())
    })
    .await;
    patch(&lab, "Pod", "records-1", &json!({ "metadata": { "labels": { "hz.hospital/tls": "offered" } } })).await;
    until_says(&lab, "Required").await;
    assert!(text(&lab, "records-orthanc", "uri").await.unwrap().contains("sslmode=verify-full"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_that_name_of_somebody_else_is_left_alone_and_named() {
    let lab = Lab::new().await;
    let _operator = lab.operator();
    let manifests = crate::lab::example();
    lab.apply(&manifests[0]).await;
    eventually("the namespace stands", || lab.get("Namespace", None, HOSPITAL)).await;
    lab.apply(
        &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "records-tls", "namespace": HOSPITAL},
        "stringData": {"tls.crt": "mine"}}),
    )
    .await;
    lab.apply(&manifests[1]).await;
    let refused = lab
        .until("PostgresInstance", Some(HOSPITAL), "records", |object| {
            crate::lab::ready(object)["reason"] == "NameTaken"
        })
        .await;
    assert!(crate::lab::ready(&refused)["message"].as_str().unwrap().contains("records-tls"), "{refused:#}");
    assert_eq!(text(&lab, "records-tls", "tls.crt").await.as_deref(), Some("mine"));
}
