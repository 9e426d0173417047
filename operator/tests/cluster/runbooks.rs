//! What a message leads to, and what a full disk is told as.

use hz_crds::postgres::room::Room;
use serde_json::{Value, json};

use crate::lab::{HOSPITAL, Lab, example, ready};

fn condition<'a>(object: &'a Value, type_: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().find(|condition| condition["type"] == type_).unwrap_or(&Value::Null)
}

fn message(object: &Value, type_: &str) -> String {
    condition(object, type_)["message"].as_str().unwrap_or_default().to_owned()
}

async fn records_say(lab: &Lab, type_: &str, reason: &str) -> Value {
    lab.until("PostgresInstance", Some(HOSPITAL), "records", |object| condition(object, type_)["reason"] == reason)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_names_its_runbook_once_and_an_alert_has_a_gauge() {
    let lab = Lab::new().await;
    let operator = lab.operator();
    lab.open_example().await;
    let mut manifest = example()[1].clone();
    manifest["spec"]["parameters"] = json!({"wal_level": "minimal"});
    lab.apply(&manifest).await;
    let refused =
        lab.until("PostgresInstance", Some(HOSPITAL), "records", |object| ready(object)["reason"] == "Unfit").await;
    for type_ in ["Ready", "Stalled"] {
        let said = message(&refused, type_);
        assert!(said.ends_with(" (hzctl explain HZ-ANY-001)"), "{said}");
        assert_eq!(said.matches("hzctl explain").count(), 1, "{said}");
    }
    assert!(message(&refused, "BackupHealthy").ends_with(" (hzctl explain HZ-PG-014)"), "{refused:#}");
    let page = operator.metrics.render();
    let gauge = format!(
        "hz_condition{{kind=\"PostgresInstance\",namespace=\"{HOSPITAL}\",name=\"records\",type=\"Ready\",\
         status=\"False\",reason=\"Unfit\"}} 1\n"
    );
    assert!(page.contains(&gauge), "{page}");
    // What stands is not written again, although every pass says it without the runbook first.
    operator.at_rest().await;
    let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
    let before = lab.get("PostgresInstance", Some(HOSPITAL), "records").await.unwrap();
    let touch = json!({"metadata": {"annotations": {"look": "again"}}});
    let instances = lab.of("PostgresInstance", Some(HOSPITAL));
    let params = kube::api::PatchParams::default();
    let touched = instances.patch("records", &params, &kube::api::Patch::Merge(&touch)).await.unwrap();
    operator.at_rest().await;
    let after = lab.get("PostgresInstance", Some(HOSPITAL), "records").await.unwrap();
    assert_eq!(
        Some(version(&after)),
        touched.metadata.resource_version.map(Value::from),
        "before: {}",
        version(&before)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_is_told_before_it_is_full_and_also_when_nothing_answers() {
    let lab = Lab::new().await;
    let operator = lab.operator();
    lab.open_example().await;
    for number in 0..3 {
        let ip = format!("10.244.0.1{number}");
        lab.play("Pod", HOSPITAL, &format!("records-{number}"), json!({"podIP": ip, "podIPs": [{"ip": ip}]})).await;
    }
    let told = records_say(&lab, "StorageHealthy", "HasRoom").await;
    assert_eq!(condition(&told, "StorageHealthy")["status"], "True");

    *operator.probes.room.lock().unwrap() = Some(Room { size: 20 << 30, free: 2 << 30 });
    let told = records_say(&lab, "StorageHealthy", "NearlyFull").await;
    let said = message(&told, "StorageHealthy");
    assert!(
        said.contains("records-0 has 10 % of 20.0 GiB free, records-1") && said.contains("hzctl db expand records"),
        "{said}"
    );
    assert!(said.ends_with(" (hzctl explain HZ-PG-017)"), "{said}");
    assert_eq!(ready(&told)["status"], "True", "it still works");

    *operator.probes.silent.lock().unwrap() = Some(hz_operator::probes::Silent::Unreachable("no answer".into()));
    *operator.probes.room.lock().unwrap() = Some(Room { size: 20 << 30, free: 0 });
    let told = records_say(&lab, "StorageHealthy", "Full").await;
    assert!(message(&told, "StorageHealthy").ends_with(" (hzctl explain HZ-PG-018)"), "{told:#}");
}
