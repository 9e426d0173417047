//! Plans, backups, restores and drills as objects. What needs PostgreSQL and a store is tried on the lab.

use hz_crds::Timestamp;
use hz_crds::backup::Archiver;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::lab::{HOSPITAL, Lab, eventually};

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "hz.hospital/v1alpha1", "kind": kind,
        "metadata": { "name": name, "namespace": HOSPITAL }, "spec": spec,
    })
}

/// A store in the hospital, by its key alone: nobody asks it anything here.
async fn key(lab: &Lab, keys: &[(&str, &str)]) {
    let data: serde_json::Map<String, Value> = keys.iter().map(|(key, v)| ((*key).into(), (*v).into())).collect();
    lab.apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "store", "namespace": HOSPITAL }, "stringData": data,
    }))
    .await;
}

async fn plan(lab: &Lab, on_premises: bool) {
    let s3 = json!({ "endpoint": "https://store.example:9000", "bucket": "backups", "secret": "store", "onPremises": on_premises });
    lab.apply(&object("BackupPlan", "nightly", &json!({ "instance": "records", "destination": { "s3": s3 } }))).await;
}

fn condition<'a>(object: &'a Value, type_: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().find(|condition| condition["type"] == type_).unwrap_or(&Value::Null)
}

async fn until_says(lab: &Lab, kind: &str, name: &str, type_: &str, reason: &str) -> Value {
    lab.until(kind, Some(HOSPITAL), name, |object| condition(object, type_)["reason"] == reason).await
}

/// What kubelets and the controller of Jobs would write: the Job of the plan's first backup ends.
async fn end_job(lab: &Lab, name: &str, good: bool, words: &Value) {
    let at = "2026-07-01T01:01:00Z";
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": format!("{name}-x"), "namespace": HOSPITAL, "labels": {
            "app.kubernetes.io/name": "backup", "app.kubernetes.io/instance": name, "hz.hospital/data-class": "Clinical" } },
        "spec": { "containers": [{ "name": "backup", "image": "x", "resources": { "requests": { "cpu": "1m", "memory": "1Mi" } },
            "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } } }],
            "securityContext": { "runAsNonRoot": true, "runAsUser": 1, "seccompProfile": { "type": "RuntimeDefault" } } },
    });
    lab.apply(&pod).await;
    let ended = json!({ "exitCode": i32::from(!good), "message": words.to_string(), "finishedAt": at });
    let status = json!({ "status": { "phase": if good { "Succeeded" } else { "Failed" }, "containerStatuses": [{
        "name": "backup", "ready": false, "restartCount": 0, "image": "x", "imageID": "x", "state": { "terminated": ended } }] } });
    let pods = lab.of("Pod", Some(HOSPITAL));
    pods.patch_status(&format!("{name}-x"), &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    let of = |type_: &str| json!({ "type": type_, "status": "True", "lastTransitionTime": at, "lastProbeTime": at });
    let (before, last) = if good { ("SuccessCriteriaMet", "Complete") } else { ("FailureTarget", "Failed") };
    let mut status = json!({ "startTime": at, "conditions": [of(before), of(last)] });
    if good {
        status["completionTime"] = at.into();
    }
    let jobs = lab.of("Job", Some(HOSPITAL));
    let body = Patch::Merge(json!({ "status": status }));
    jobs.patch_status(name, &PatchParams::default(), &body).await.unwrap();
}

async fn first_backup(lab: &Lab) -> String {
    eventually("the first backup is ordered", || async {
        let backups = lab.of("Backup", Some(HOSPITAL)).list(&kube::api::ListParams::default()).await.unwrap();
        backups.items.first().and_then(|backup| backup.metadata.name.clone())
    })
    .await
}

fn archived() -> Archiver {
    Archiver { last: Some(Timestamp::now()), failed: None, waiting: 0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_backs_up_at_once_and_says_how_it_is() {
    let lab = Lab::new().await;
    let running = lab.operator();
    *running.probes.archiver.lock().unwrap() = archived();
    lab.open_example().await;
    let records = until_says(&lab, "PostgresInstance", "records", "BackupHealthy", "NoPlan").await;
    assert_eq!(condition(&records, "BackupHealthy")["status"], "False");

    plan(&lab, false).await;
    let waits = until_says(&lab, "BackupPlan", "nightly", "Ready", "Waiting").await;
    assert!(condition(&waits, "Ready")["message"].as_str().unwrap().contains("a Secret store"), "{waits:#}");
    key(&lab, &[("access-key-id", "AK")]).await;
    let unfit = until_says(&lab, "BackupPlan", "nightly", "Ready", "Unfit").await;
    assert!(condition(&unfit, "Ready")["message"].as_str().unwrap().contains("secret-access-key"), "{unfit:#}");
    key(&lab, &[("access-key-id", "AK"), ("secret-access-key", "SK")]).await;
    lab.until("BackupPlan", Some(HOSPITAL), "nightly", |plan| {
        condition(plan, "Ready")["message"].as_str().is_some_and(|message| message.contains("Clinical"))
    })
    .await;
    plan(&lab, true).await;
    until_says(&lab, "BackupPlan", "nightly", "Ready", "Configured").await;
    assert!(lab.get("Secret", Some(HOSPITAL), "records-backup").await.is_some());

    let backup = first_backup(&lab).await;
    lab.until("Job", Some(HOSPITAL), &backup, |_| true).await;
    until_says(&lab, "PostgresInstance", "records", "BackupHealthy", "NotAsPlanned").await;
    let words = json!({ "label": "20260701-010000F", "start": 1_782_867_600, "stop": Timestamp::now().as_second(),
        "size": 4096, "stored": 1024, "oldest": "20260701-010000F" });
    end_job(&lab, &backup, true, &words).await;
    let done = lab.until("Backup", Some(HOSPITAL), &backup, |backup| backup["status"]["phase"] == "Succeeded").await;
    assert_eq!(done["status"]["label"], "20260701-010000F");
    assert_eq!(done["status"]["instance"]["instances"], 3, "{done:#}");
    let records = until_says(&lab, "PostgresInstance", "records", "BackupHealthy", "AsPlanned").await;
    assert_eq!(records["status"]["lastBackup"], done["status"]["completionTime"]);

    // The store takes no log any more.
    running.probes.archiver.lock().unwrap().failed = Some("000000010000000000000007".into());
    let touch = json!({ "metadata": { "annotations": { "look": "again" } } });
    let plans = lab.of("BackupPlan", Some(HOSPITAL));
    plans.patch("nightly", &PatchParams::default(), &Patch::Merge(&touch)).await.unwrap();
    let told = until_says(&lab, "BackupPlan", "nightly", "BackupHealthy", "ArchivingFails").await;
    assert!(condition(&told, "BackupHealthy")["message"].as_str().unwrap().contains("000000010000000000000007"));
    until_says(&lab, "PostgresInstance", "records", "BackupHealthy", "NotAsPlanned").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_makes_a_new_instance_and_never_touches_one_that_is_there() {
    let lab = Lab::new().await;
    let running = lab.operator();
    *running.probes.archiver.lock().unwrap() = archived();
    lab.open_example().await;
    key(&lab, &[("access-key-id", "AK"), ("secret-access-key", "SK")]).await;
    plan(&lab, true).await;
    let restore = |name: &str, into: &str| {
        object("Restore", name, &json!({ "plan": "nightly", "instance": into, "instances": 1 }))
    };
    lab.apply(&restore("early", "records-back")).await;
    lab.until("Restore", Some(HOSPITAL), "early", |restore| {
        restore["status"]["message"].as_str().is_some_and(|message| message.contains("its first backup"))
    })
    .await;
    let backup = first_backup(&lab).await;
    lab.until("Job", Some(HOSPITAL), &backup, |_| true).await;
    let words = json!({ "label": "20260701-010000F", "start": 1_782_867_600, "stop": 1_782_867_660, "size": 4096,
        "stored": 1024, "oldest": "20260701-010000F" });
    end_job(&lab, &backup, true, &words).await;

    let new = lab.until("PostgresInstance", Some(HOSPITAL), "records-back", |_| true).await;
    assert_eq!(new["spec"]["restoreFrom"], json!({ "plan": "nightly" }));
    assert_eq!((&new["spec"]["instances"], &new["spec"]["synchronous"]), (&json!(1), &json!("Disabled")));
    let file = lab.until("ConfigMap", Some(HOSPITAL), "records-back-patroni", |_| true).await;
    let file: Value = serde_json::from_str(file["data"]["patroni.yml"].as_str().unwrap()).unwrap();
    assert_eq!(file["bootstrap"]["method"], "pgbackrest", "{file:#}");

    let before = lab.get("PostgresInstance", Some(HOSPITAL), "records").await.unwrap();
    lab.apply(&restore("over", "records")).await;
    let refused = lab.until("Restore", Some(HOSPITAL), "over", |restore| restore["status"]["phase"] == "Failed").await;
    assert!(refused["status"]["message"].as_str().unwrap().contains("never writes over one"), "{refused:#}");
    let after = lab.get("PostgresInstance", Some(HOSPITAL), "records").await.unwrap();
    assert_eq!(before["metadata"]["generation"], after["metadata"]["generation"]);

    // A person's restore can go and leave the instance.
    lab.delete("Restore", Some(HOSPITAL), "early").await;
    assert!(lab.get("PostgresInstance", Some(HOSPITAL), "records-back").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_is_stopped_and_says_what_it_leaves() {
    let lab = Lab::new().await;
    let running = lab.operator();
    *running.probes.archiver.lock().unwrap() = archived();
    lab.open_example().await;
    key(&lab, &[("access-key-id", "AK"), ("secret-access-key", "SK")]).await;
    plan(&lab, true).await;
    let early = object("Restore", "early", &json!({ "plan": "nightly", "instance": "records-back" }));
    lab.apply(&early).await;
    lab.until("Restore", Some(HOSPITAL), "early", |restore| restore["status"]["phase"] == "Pending").await;
    let cancel = |cancel: bool| Patch::Merge(json!({ "spec": { "cancel": cancel } }));
    let params = PatchParams::default();
    let restores = lab.of("Restore", Some(HOSPITAL));
    restores.patch("early", &params, &cancel(true)).await.unwrap();
    let stopped = lab.until("Restore", Some(HOSPITAL), "early", |it| it["status"]["phase"] == "Cancelled").await;
    let said = condition(&stopped, "Ready")["message"].as_str().unwrap();
    assert!(said.contains("nothing was done") && said.ends_with("(hzctl explain HZ-RST-004)"), "{said}");
    let again = restores.patch("early", &params, &cancel(false)).await.unwrap_err().to_string();
    assert!(again.contains("stays cancelled"), "{again}");

    let backup = first_backup(&lab).await;
    lab.until("Job", Some(HOSPITAL), &backup, |_| true).await;
    lab.of("Backup", Some(HOSPITAL)).patch(&backup, &params, &cancel(true)).await.unwrap();
    let stopped = lab.until("Backup", Some(HOSPITAL), &backup, |it| it["status"]["phase"] == "Cancelled").await;
    assert!(stopped["status"]["message"].as_str().unwrap().contains("its Job is stopped"), "{stopped:#}");
    eventually("the Job goes", || async {
        // No collector of garbage is here: a Job that waits for its pods to go is on its way.
        let job = lab.get("Job", Some(HOSPITAL), &backup).await;
        job.is_none_or(|job| !job["metadata"]["deletionTimestamp"].is_null()).then_some(())
    })
    .await;
    running.at_rest().await;
    let still = lab.get("Backup", Some(HOSPITAL), &backup).await.unwrap();
    assert_eq!(still["status"]["phase"], "Cancelled");
    assert!(lab.get("PostgresInstance", Some(HOSPITAL), "records-back").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_refuse_what_can_never_be() {
    let lab = Lab::new().await;
    let _operator = lab.operator();
    lab.open_example().await;
    let refused = |kind: &'static str, spec: Value, says: &'static str| {
        let lab = &lab;
        async move {
            let error = lab.try_apply(&object(kind, "x", &spec)).await.unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    };
    let both = json!({ "objectStore": { "name": "vault" },
        "s3": { "endpoint": "https://s", "bucket": "backups", "secret": "k" } });
    refused("BackupPlan", json!({ "instance": "records", "destination": both }), "take one of objectStore and s3")
        .await;
    refused("BackupPlan", json!({ "instance": "records", "destination": {} }), "take one of objectStore and s3").await;
    let plain = json!({ "s3": { "endpoint": "http://s", "bucket": "backups", "secret": "k" } });
    refused("BackupPlan", json!({ "instance": "records", "destination": plain }), "spec.destination.s3.endpoint").await;
    let restore = json!({ "plan": "p", "instance": "i", "backup": "b", "targetTime": "2026-07-01T00:00:00Z" });
    refused("Restore", restore, "take one of backup and targetTime").await;
    let check = json!([{ "name": "c", "database": "d", "query": "SELECT 1" }]);
    refused("RestoreDrill", json!({ "plan": "p", "checks": check }), "take one of equals and minimum").await;
}
