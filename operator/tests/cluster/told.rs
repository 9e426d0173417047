//! What users are told.

use std::time::Duration;

use hz_operator::probes::Silent;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;

use crate::lab::{HOSPITAL, Lab, eventually, example, ready};

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_born_unobserved_and_its_status_follows_its_generation() {
    let lab = Lab::new().await;
    let hospital = lab.apply(&example()[0]).await;
    assert_eq!(hospital["status"]["observedGeneration"], -1, "nobody has looked");
    let _operator = lab.operator();
    let hospital = lab.until_ready("Hospital", None, "st-anna", "True").await;
    assert_eq!(hospital["status"]["observedGeneration"], hospital["metadata"]["generation"]);
    assert_eq!(hospital["status"]["namespace"], HOSPITAL);
    let mut manifest = example()[0].clone();
    manifest["spec"]["displayName"] = json!("St. Anna");
    let changed = lab.apply(&manifest).await;
    assert_eq!(changed["metadata"]["generation"], 2);
    lab.until_ready("Hospital", None, "st-anna", "True").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_means_that_the_thing_itself_answered() {
    let lab = Lab::new().await;
    let operator = lab.operator();
    *operator.probes.silent.lock().unwrap() = Some(Silent::Unreachable("connection refused".into()));
    lab.order_example().await;
    lab.play_pods(HOSPITAL, "records", "primary").await;
    lab.play_pods(HOSPITAL, "sessions", "master").await;
    for (kind, name) in [("PostgresInstance", "records"), ("CacheInstance", "sessions")] {
        let object = lab.until(kind, Some(HOSPITAL), name, |object| ready(object)["reason"] == "NotAnswering").await;
        assert!(ready(&object)["message"].as_str().unwrap().contains("connection refused"), "{object:#}");
    }
    *operator.probes.silent.lock().unwrap() = None;
    for (kind, name) in [("PostgresInstance", "records"), ("CacheInstance", "sessions")] {
        lab.until_ready(kind, Some(HOSPITAL), name, "True").await;
    }
    // And when it stops answering, that is noticed without an event from anywhere.
    *operator.probes.silent.lock().unwrap() = Some(Silent::Unreachable("connection refused".into()));
    for (kind, name) in [("PostgresInstance", "records"), ("CacheInstance", "sessions")] {
        lab.until_ready(kind, Some(HOSPITAL), name, "False").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_that_do_not_get_in_are_made_anew() {
    let lab = Lab::new().await;
    let operator = lab.operator();
    lab.open_example().await;
    let before = operator.probes.provisioned.load(std::sync::atomic::Ordering::SeqCst);
    // As after a volume was lost: the status says that all is made, the superuser gets in, owners do not.
    operator.probes.locked_out.store(true, std::sync::atomic::Ordering::SeqCst);
    // Only what stopped answering is asked again from the ground up.
    *operator.probes.silent.lock().unwrap() = Some(Silent::Unreachable("connection refused".into()));
    lab.until_ready("PostgresInstance", Some(HOSPITAL), "records", "False").await;
    *operator.probes.silent.lock().unwrap() = None;
    eventually("databases are made anew", || async {
        (operator.probes.provisioned.load(std::sync::atomic::Ordering::SeqCst) > before).then_some(())
    })
    .await;
    lab.until_ready("PostgresInstance", Some(HOSPITAL), "records", "True").await;
    assert!(!operator.probes.locked_out.load(std::sync::atomic::Ordering::SeqCst));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_mistake_is_named_by_field_and_value_and_left_alone() {
    let lab = Lab::new().await;
    let operator = lab.operator();
    lab.open_example().await;
    let mut manifest = example()[1].clone();
    manifest["spec"]["parameters"] = json!({"wal_level": "minimal"});
    lab.apply(&manifest).await;
    let refused =
        lab.until("PostgresInstance", Some(HOSPITAL), "records", |object| ready(object)["reason"] == "Unfit").await;
    let message = ready(&refused)["message"].as_str().unwrap().to_owned();
    assert!(message.contains("spec.parameters") && message.contains("wal_level"), "{message}");
    operator.at_rest().await;
    let passes = operator.metrics.reconciles("PostgresInstance");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(operator.metrics.reconciles("PostgresInstance"), passes, "a mistake is not tried again");
    let set = lab.get("StatefulSet", Some(HOSPITAL), "records").await.unwrap();
    assert_eq!(set["metadata"]["generation"], 1, "what runs is left alone");
    lab.apply(&example()[1]).await;
    lab.until_ready("PostgresInstance", Some(HOSPITAL), "records", "True").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_something_says_for_what_and_goes_on_when_it_comes() {
    let lab = Lab::new().await;
    let _operator = lab.operator();
    let manifests = example();
    lab.apply(&manifests[0]).await;
    lab.until_ready("Hospital", None, "st-anna", "True").await;
    lab.apply(&manifests[3]).await;
    let waiting =
        lab.until("MedicalService", Some(HOSPITAL), "imaging", |object| ready(object)["reason"] == "Waiting").await;
    let message = ready(&waiting)["message"].as_str().unwrap().to_owned();
    assert!(message.contains("spec.bindings[0]") && message.contains("records-orthanc"), "{message}");
    lab.apply(&manifests[1]).await;
    eventually("the Deployment stands", || lab.get("Deployment", Some(HOSPITAL), "imaging")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outside_a_hospital_nothing_is_made_and_the_user_is_told() {
    let lab = Lab::new().await;
    let _operator = lab.operator();
    let mut manifest = example()[1].clone();
    manifest["metadata"]["namespace"] = json!("default");
    lab.apply(&manifest).await;
    let told =
        lab.until("PostgresInstance", Some("default"), "records", |object| ready(object)["reason"] == "Waiting").await;
    assert!(ready(&told)["message"].as_str().unwrap().contains("metadata.namespace"), "{told:#}");
    assert!(lab.get("StatefulSet", Some("default"), "records").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_turning_is_an_event_once() {
    let lab = Lab::new().await;
    let _operator = lab.operator();
    lab.open_example().await;
    let events: Api<Event> = Api::namespaced(lab.admin.clone(), HOSPITAL);
    let instance = lab.get("PostgresInstance", Some(HOSPITAL), "records").await.unwrap();
    let answering = eventually("the event", || async {
        let all = events.list(&ListParams::default()).await.unwrap();
        let of_it = all.items.into_iter().filter(|event| {
            let regards = event.regarding.as_ref().and_then(|regarding| regarding.uid.clone());
            regards.as_deref() == instance["metadata"]["uid"].as_str() && event.reason.as_deref() == Some("Answering")
        });
        let found: Vec<Event> = of_it.collect();
        (!found.is_empty()).then_some(found)
    })
    .await;
    assert_eq!(answering.len(), 1);
    assert_eq!(answering[0].type_.as_deref(), Some("Normal"));
    assert_eq!(answering[0].reporting_controller.as_deref(), Some("hz.hospital/operator"));
}
