//! Operations on databases: their turn, their steps, and their end. What needs PostgreSQL itself is tried on the lab.

use std::time::Duration;

use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::lab::{HOSPITAL, Lab, eventually};

async fn order(lab: &Lab, name: &str, spec: Value) {
    let mut whole = json!({ "target": { "kind": "PostgresInstance", "name": "records" } });
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    lab.apply(&json!({
        "apiVersion": "hz.hospital/v1alpha1", "kind": "DataOperation",
        "metadata": { "name": name, "namespace": HOSPITAL }, "spec": whole,
    }))
    .await;
}

async fn until(lab: &Lab, name: &str, phase: &str, says: &str) -> Value {
    let there = |object: &Value| {
        let status = &object["status"];
        status["phase"] == phase && status["message"].as_str().is_some_and(|message| message.contains(says))
    };
    lab.until("DataOperation", Some(HOSPITAL), name, there).await
}

async fn cancel(lab: &Lab, name: &str) {
    let patch = json!({ "spec": { "cancel": true } });
    let api = lab.of("DataOperation", Some(HOSPITAL));
    api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_take_turns_and_how_one_ended_stands() {
    let lab = Lab::new().await;
    let _operator = lab.operator();
    lab.open_example().await;
    order(&lab, "grow", json!({ "action": "Scale", "instances": 5 })).await;
    lab.until("PostgresInstance", Some(HOSPITAL), "records", |object| {
        object["spec"]["instances"] == 5 && object["status"]["operation"] == "grow"
    })
    .await;
    until(&lab, "grow", "Running", "not yet in step").await;
    order(&lab, "restart", json!({ "action": "Restart" })).await;
    until(&lab, "restart", "Pending", "waits for the operation grow").await;

    cancel(&lab, "grow").await;
    let ended = until(&lab, "grow", "Cancelled", "stays there").await;
    assert_eq!(ended["status"]["conditions"][0]["reason"], "Cancelled");
    assert!(ended["status"]["completionTime"].is_string(), "{ended:#}");
    until(&lab, "restart", "Running", "").await;
    let records = lab.get("PostgresInstance", Some(HOSPITAL), "records").await.unwrap();
    assert_eq!(records["spec"]["instances"], 5, "what was asked for stays");

    // Its target goes while it works.
    lab.delete("PostgresInstance", Some(HOSPITAL), "records").await;
    until(&lab, "restart", "Failed", "records is gone").await;
    order(&lab, "short", json!({ "action": "Restart", "ttlSecondsAfterFinished": 1 })).await;
    eventually("it is removed after its end", || async {
        lab.get("DataOperation", Some(HOSPITAL), "short").await.is_none().then_some(())
    })
    .await;
    let same = lab.get("DataOperation", Some(HOSPITAL), "grow").await.unwrap();
    assert_eq!(same["status"], ended["status"], "an end that changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_refused_with_the_field_and_an_event_and_nothing_is_touched() {
    let lab = Lab::new().await;
    let _operator = lab.operator();
    lab.open_example().await;
    let before = lab.get("PostgresInstance", Some(HOSPITAL), "records").await.unwrap()["spec"].clone();
    for (name, spec, says) in [
        ("shrink", json!({ "action": "Expand", "size": "1Mi" }), "spec.size: 1Mi is less than"),
        ("many", json!({ "action": "Scale", "instances": 7 }), "spec.instances: 7 copies need 7 servers"),
        ("who", json!({ "action": "Rebuild", "member": "records-9" }), "spec.member: records has no copy records-9"),
        (
            "where",
            json!({ "action": "Restart", "target": { "kind": "CacheInstance", "name": "record" } }),
            "there is no CacheInstance record",
        ),
    ] {
        order(&lab, name, spec).await;
        let refused = until(&lab, name, "Failed", says).await;
        assert_eq!(refused["status"]["conditions"][0]["reason"], "Refused", "{refused:#}");
        assert_eq!(refused["status"]["startTime"], Value::Null, "it never began");
    }
    let after = lab.get("PostgresInstance", Some(HOSPITAL), "records").await.unwrap()["spec"].clone();
    assert_eq!(before, after);
    let events: kube::Api<k8s_openapi::api::events::v1::Event> = kube::Api::namespaced(lab.admin.clone(), HOSPITAL);
    eventually("an event says why", || async {
        let all = events.list(&ListParams::default()).await.unwrap();
        let told = all.iter().any(|event| {
            event.reason.as_deref() == Some("Refused")
                && event.type_.as_deref() == Some("Warning")
                && event.regarding.as_ref().and_then(|about| about.name.as_deref()) == Some("many")
        });
        told.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_what_does_not_get_on() {
    let lab = Lab::new().await;
    let _operator = lab.operator();
    lab.open_example().await;
    order(&lab, "slow", json!({ "action": "Scale", "instances": 4, "deadlineSeconds": 30 })).await;
    until(&lab, "slow", "Running", "").await;
    // It is to pass half a minute; the rest of the limit is patience.
    tokio::time::timeout(Duration::from_secs(120), async {
        loop {
            let slow = lab.get("DataOperation", Some(HOSPITAL), "slow").await.unwrap();
            if slow["status"]["phase"] == "Failed" {
                assert_eq!(slow["status"]["conditions"][0]["reason"], "DeadlineExceeded", "{slow:#}");
                assert!(slow["status"]["message"].as_str().unwrap().contains("after 30 seconds"), "{slow:#}");
                return;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    })
    .await
    .expect("the deadline passed unnoticed");
}
