//! Another major version, on a real API server: what the operator asks of pods, and what it makes of their answers. Pods are played; what
//! they do themselves is tried on real databases by `crds/src/postgres/upgrade_test.py` and on the lab.

use hz_crds::postgres::change::Cluster;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::lab::{HOSPITAL, Lab, Running, eventually};

const NAME: &str = "legacy";

async fn order(lab: &Lab, name: &str, spec: Value) {
    let mut whole = json!({ "target": { "kind": "PostgresInstance", "name": NAME } });
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

async fn annotate(lab: &Lab, pod: &str, key: &str, value: &Value) {
    let patch = json!({ "metadata": { "annotations": { format!("hz.hospital/{key}"): value.to_string() } } });
    lab.of("Pod", Some(HOSPITAL)).patch(pod, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

/// The copies run, and the first leads.
async fn play(lab: &Lab, operator: &Running, copies: &[Value]) {
    lab.play_pods(HOSPITAL, NAME, "primary").await;
    let mut members = Vec::new();
    for (number, data) in copies.iter().enumerate() {
        let pod = format!("{NAME}-{number}");
        annotate(lab, &pod, "data", data).await;
        let ready = json!([{ "type": "Ready", "status": "True" }]);
        lab.play("Pod", HOSPITAL, &pod, json!({ "podIP": format!("10.244.9.{number}"), "conditions": ready })).await;
        let (role, state) = if number == 0 { ("leader", "running") } else { ("sync_standby", "streaming") };
        members.push(json!({ "name": pod, "role": role, "state": state }));
    }
    let cluster: Cluster = serde_json::from_value(json!({ "members": members })).unwrap();
    *operator.probes.cluster.lock().unwrap() = cluster;
}

async fn gone(lab: &Lab, number: usize) {
    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    let _ = lab.of("Pod", Some(HOSPITAL)).delete(&format!("{NAME}-{number}"), &now).await;
}

/// What the StatefulSet asks for: copies, version, and the work of a pod that does nothing else.
async fn asked(lab: &Lab) -> (Value, Value, Value) {
    let set = eventually("the StatefulSet stands", || lab.get("StatefulSet", Some(HOSPITAL), NAME)).await;
    let variables = set.pointer("/spec/template/spec/containers/0/env").unwrap().as_array().unwrap().clone();
    let value = |name: &str| {
        variables.iter().find(|found| found["name"] == name).map_or(Value::Null, |found| found["value"].clone())
    };
    (set["spec"]["replicas"].clone(), value("HZ_VERSION"), value("HZ_TASK"))
}

async fn until_asked(lab: &Lab, replicas: i32, version: &str, work: bool) {
    eventually(&format!("{replicas} copies of version {version} are asked for"), || async {
        let (there, runs, task) = asked(lab).await;
        (there == replicas && runs == version && task.is_string() == work).then_some(())
    })
    .await;
}

async fn begin(lab: &Lab, operator: &Running) {
    lab.open_example().await;
    lab.apply(&json!({
        "apiVersion": "hz.hospital/v1alpha1", "kind": "PostgresInstance", "metadata": { "name": NAME, "namespace": HOSPITAL },
        "spec": { "version": "15", "instances": 2, "storage": { "size": "1Gi" } },
    }))
    .await;
    until_asked(lab, 2, "15", false).await;
    play(lab, operator, &[json!({ "version": "15" }), json!({ "version": "15" })]).await;
    lab.until("PostgresInstance", Some(HOSPITAL), NAME, |object| object["status"]["version"] == "15").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_stops_works_and_starts_with_the_new_version() {
    let lab = Lab::new().await;
    let operator = lab.operator();
    begin(&lab, &operator).await;
    order(&lab, "up", json!({ "action": "Upgrade", "version": "17" })).await;
    let running = until(&lab, "up", "Running", "for a trial").await;
    let id = running["metadata"]["uid"].clone();
    eventually("the trial is asked for", || async {
        let map = lab.get("ConfigMap", Some(HOSPITAL), "legacy-patroni").await?;
        let task: Value = serde_json::from_str(map["data"]["task.json"].as_str()?).unwrap();
        (task["do"] == "check" && task["pod"] == "legacy-0" && task["id"] == id).then_some(())
    })
    .await;
    annotate(&lab, "legacy-0", "task", &json!({ "id": id, "do": "check", "step": "done" })).await;
    until_asked(&lab, 1, "15", false).await;
    gone(&lab, 1).await;
    until_asked(&lab, 0, "15", false).await;
    gone(&lab, 0).await;
    until_asked(&lab, 1, "15", true).await;
    *operator.probes.cluster.lock().unwrap() = Cluster::default();

    // The pod that works is of an older description as soon as the version counts.
    lab.play_pods(HOSPITAL, NAME, "primary").await;
    lab.play("Pod", HOSPITAL, "legacy-0", json!({ "conditions": [{ "type": "Ready", "status": "False" }] })).await;
    let old = json!({ "metadata": { "labels": { "controller-revision-hash": "old" } } });
    lab.of("Pod", Some(HOSPITAL)).patch("legacy-0", &PatchParams::default(), &Patch::Merge(&old)).await.unwrap();
    annotate(&lab, "legacy-0", "task", &json!({ "id": id, "do": "upgrade", "step": "working", "message": "copies" }))
        .await;
    until(&lab, "up", "Running", "legacy-0: copies").await;
    annotate(&lab, "legacy-0", "task", &json!({ "id": id, "do": "upgrade", "step": "done" })).await;
    until_asked(&lab, 2, "17", false).await;
    lab.until("PostgresInstance", Some(HOSPITAL), NAME, |object| object["spec"]["version"] == "17").await;
    let set = lab.get("StatefulSet", Some(HOSPITAL), NAME).await.unwrap();
    let status = json!({ "observedGeneration": set["metadata"]["generation"], "updateRevision": "new", "replicas": 2 });
    lab.play("StatefulSet", HOSPITAL, NAME, status).await;
    eventually("the pod that worked is taken away", || async {
        let pod = lab.get("Pod", Some(HOSPITAL), "legacy-0").await;
        pod.is_none_or(|pod| pod["metadata"]["deletionTimestamp"].is_string()).then_some(())
    })
    .await;
    gone(&lab, 0).await;
    play(&lab, &operator, &[json!({ "version": "17", "kept": "15" }), json!({ "version": "17" })]).await;
    until(&lab, "up", "Succeeded", "kept on legacy-0 until FinishUpgrade").await;
    lab.until("PostgresInstance", Some(HOSPITAL), NAME, |object| {
        object["status"]["version"] == "17" && object["status"]["keptVersion"] == "15"
    })
    .await;

    // What is kept is not thrown away by the way, and no second upgrade begins over it.
    order(&lab, "anew", json!({ "action": "Rebuild", "member": "legacy-0" })).await;
    until(&lab, "anew", "Failed", "holds the data of version 15").await;
    order(&lab, "finish", json!({ "action": "FinishUpgrade" })).await;
    until(&lab, "finish", "Running", "throws the data of version 15 away").await;
    annotate(&lab, "legacy-0", "data", &json!({ "version": "17" })).await;
    until(&lab, "finish", "Succeeded", "is gone").await;
    order(&lab, "back", json!({ "action": "RollBack", "acceptLossSince": true })).await;
    until(&lab, "back", "Failed", "holds no data of before an upgrade").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_changed_by_hand_leaves_the_database_alone_and_says_so() {
    let lab = Lab::new().await;
    let operator = lab.operator();
    begin(&lab, &operator).await;
    let version = |version: &str| Patch::Merge(json!({ "spec": { "version": version } }));
    let databases = lab.of("PostgresInstance", Some(HOSPITAL));
    databases.patch(NAME, &PatchParams::default(), &version("17")).await.unwrap();
    lab.until("PostgresInstance", Some(HOSPITAL), NAME, |object| {
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let said = conditions.iter().find(|condition| condition["type"] == "Configured");
        said.is_some_and(|said| {
            said["status"] == "False" && said["message"].as_str().unwrap().contains("action Upgrade")
        })
    })
    .await;
    assert_eq!(asked(&lab).await, (json!(2), json!("15"), Value::Null));
    order(&lab, "up", json!({ "action": "Upgrade", "version": "17" })).await;
    until(&lab, "up", "Failed", "set it back to 15").await;
    databases.patch(NAME, &PatchParams::default(), &version("15")).await.unwrap();

    // A copy that is away is a reason not to begin.
    lab.play("Pod", HOSPITAL, "legacy-1", json!({ "conditions": [{ "type": "Ready", "status": "False" }] })).await;
    order(&lab, "early", json!({ "action": "Upgrade", "version": "17" })).await;
    until(&lab, "early", "Failed", "legacy-1 is not ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_finds_data_of_another_version_is_heard() {
    let lab = Lab::new().await;
    let _operator = lab.operator();
    lab.open_example().await;
    annotate(&lab, "records-0", "data", &json!({ "version": "15", "held": "its volume holds data of PostgreSQL 15" }))
        .await;
    lab.play("Pod", HOSPITAL, "records-0", json!({ "conditions": [{ "type": "Ready", "status": "False" }] })).await;
    lab.until("PostgresInstance", Some(HOSPITAL), "records", |object| {
        object["status"]["conditions"].to_string().contains("its volume holds data of PostgreSQL 15")
    })
    .await;
}

async fn revision(lab: &Lab, pod: &str, revision: &str, leads: bool) {
    let role = if leads { "primary" } else { "replica" };
    let labels =
        json!({ "metadata": { "labels": { "controller-revision-hash": revision, "hz.hospital/role": role } } });
    lab.of("Pod", Some(HOSPITAL)).patch(pod, &PatchParams::default(), &Patch::Merge(&labels)).await.unwrap();
}

async fn taken_away(lab: &Lab, pod: &str) {
    eventually(&format!("{pod} is taken away"), || async {
        let there = lab.get("Pod", Some(HOSPITAL), pod).await;
        there.is_none_or(|pod| pod["metadata"]["deletionTimestamp"].is_string()).then_some(())
    })
    .await;
}

/// A minor version is another image, and so another revision of the pods.
#[tokio::test(flavor = "multi_thread")]
async fn copies_with_an_older_image_go_one_by_one_and_the_primary_hands_over_first() {
    let lab = Lab::new().await;
    let operator = lab.operator();
    begin(&lab, &operator).await;
    revision(&lab, "legacy-0", "old", true).await;
    revision(&lab, "legacy-1", "old", false).await;
    let set = lab.get("StatefulSet", Some(HOSPITAL), NAME).await.unwrap();
    let status = json!({ "observedGeneration": set["metadata"]["generation"], "updateRevision": "new", "replicas": 2 });
    lab.play("StatefulSet", HOSPITAL, NAME, status).await;
    taken_away(&lab, "legacy-1").await;
    let primary = lab.get("Pod", Some(HOSPITAL), "legacy-0").await.unwrap();
    assert!(primary["metadata"]["deletionTimestamp"].is_null(), "the primary went first");

    gone(&lab, 1).await;
    gone(&lab, 0).await; // both are played anew; the first still is of the old revision
    play(&lab, &operator, &[json!({ "version": "15" }), json!({ "version": "15" })]).await;
    revision(&lab, "legacy-0", "old", true).await;
    revision(&lab, "legacy-1", "new", false).await;
    lab.until("PostgresInstance", Some(HOSPITAL), NAME, |object| {
        object["status"]["conditions"].to_string().contains("legacy-0 hands its work to legacy-1")
    })
    .await;
    let members = json!({ "members": [
        { "name": "legacy-0", "role": "sync_standby", "state": "streaming" },
        { "name": "legacy-1", "role": "leader", "state": "running" },
    ] });
    *operator.probes.cluster.lock().unwrap() = serde_json::from_value(members).unwrap();
    taken_away(&lab, "legacy-0").await;
}
