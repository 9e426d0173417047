//! Plans, backups, restores and drills of the server that only pretends.

use std::thread;

use serde_json::{Value, json};

use super::{STEP, World};

/// `records` is backed up and well; `retired` is gone, and its plan is still there.
pub fn plans() -> Vec<Value> {
    let plan = |name: &str, instance: &str, status: Value| {
        json!({
            "apiVersion": "hz.hospital/v1alpha1",
            "kind": "BackupPlan",
            "metadata": { "name": name, "namespace": "hospital-anna" },
            "spec": { "instance": instance, "destination": { "objectStore": { "name": "archive" } } },
            "status": status,
        })
    };
    let healthy = |status: &str, reason: &str, message: &str| {
        json!([{
            "type": "BackupHealthy", "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-03-01T08:00:00Z",
        }])
    };
    vec![
        plan(
            "nightly",
            "records",
            json!({
                "conditions": healthy("True", "Recent", "the log is archived"),
                "recoverableFrom": "2026-03-01T01:02:00Z", "lastProvedRestore": "2026-03-01T04:02:00Z", "backups": 1,
            }),
        ),
        plan(
            "old",
            "retired",
            json!({
                "conditions": healthy("False", "NoInstance", "there is no PostgresInstance retired"),
                "recoverableFrom": "2026-02-01T01:02:00Z", "backups": 1,
            }),
        ),
    ]
}

/// What is there from the beginning.
pub fn furnish(world: &World) {
    let make = |kind: &str, list: &str, name: &str, spec: Value, status: Value| {
        let object = json!({
            "apiVersion": "hz.hospital/v1alpha1",
            "kind": kind,
            "metadata": { "name": name, "namespace": "hospital-anna", "creationTimestamp": "2026-03-01T01:00:00Z" },
            "spec": spec,
            "status": status,
        });
        drop(world.put(list, name, |there| *there = object));
    };
    let backup =
        |name: &str, plan: &str, status: Value| make("Backup", "backups", name, json!({ "plan": plan }), status);
    backup("nightly-202603010100", "nightly", complete());
    backup("nightly-202603010200", "nightly", json!({ "phase": "Failed", "message": "the store does not answer" }));
    backup("old-202602010100", "old", complete());
    let drill = |name: &str, plan: &str| {
        let spec = json!({ "plan": plan, "recoveryTimeObjective": 300 });
        make("RestoreDrill", "restoredrills", name, spec, json!({ "nextRunTime": "2026-03-07T04:00:00Z" }));
    };
    drill("weekly", "nightly");
    drill("old-weekly", "old");
}

fn complete() -> Value {
    json!({
        "phase": "Succeeded", "message": "complete", "label": "20260301-010001F", "stored": "15.0 MiB of 55.4 MiB",
        "startTime": "2026-03-01T01:00:01Z", "completionTime": "2026-03-01T01:02:01Z",
    })
}

/// The operator's part.
pub fn work(world: &World, kind: &str, name: &str) {
    let object = world.lock().at(kind, name).clone();
    let request = object["metadata"]["annotations"]["hz.hospital/run"].clone();
    let status = |status: Value| {
        let status = match kind {
            "restoredrills" => {
                let mut run = status;
                run["restore"] = json!("weekly-1");
                run["requested"] = request.clone();
                run["startTime"] = json!("2026-03-02T12:00:01Z");
                json!({ "lastRun": run })
            }
            _ => status,
        };
        drop(world.put(kind, name, |object| object["status"] = status));
    };
    status(json!({ "phase": "Running", "message": "at work" }));
    thread::sleep(STEP);
    let mut state = world.lock();
    while state.held {
        state = world.changed.wait(state).unwrap();
    }
    drop(state);
    let spec = &object["spec"];
    status(match kind {
        "backups" if spec["type"] == "Incremental" => {
            json!({ "phase": "Failed", "message": "the store does not answer" })
        }
        "backups" => complete(),
        "restores" if spec["instances"] == 5 => json!({
            "phase": "Failed", "message": "its volumes are not bound", "conditions": [{
                "type": "Ready", "status": "False", "reason": "DeadlineExceeded", "message": "",
                "lastTransitionTime": "2026-03-01T08:30:00Z",
            }],
        }),
        "restores" => json!({
            "phase": "Succeeded", "message": format!("{} answers", spec["instance"].as_str().unwrap()),
            "startTime": "2026-03-02T12:00:00Z", "completionTime": "2026-03-02T12:01:14Z",
            "recoveredTo": "2026-03-02T11:59:58Z", "recoverySeconds": 74,
        }),
        _ => {
            let passed = spec["plan"] == "nightly";
            let message =
                if passed { "restored, and all 2 checks passed" } else { "restored, and not as it should be" };
            json!({
                "phase": if passed { "Succeeded" } else { "Failed" }, "message": message,
                "completionTime": "2026-03-02T12:01:15Z", "recoverySeconds": 61, "lossSeconds": 0,
                "checks": [
                    { "name": "every row of findings can be read", "passed": true, "answer": "12 rows in 3 tables" },
                    { "name": "patients", "passed": passed, "answer": if passed { "812" } else { "0" } },
                ],
            })
        }
    });
}
