use std::collections::BTreeMap;

use kube::core::{Resource, ResourceExt};
use serde_json::json;

use super::conf::Access;
use super::restore::{self, Seen, options, restore_status};
use super::*;
use crate::certificates::{Certificates, KeyPair};
use crate::conditions::READY;
use crate::operation::Phase;
use crate::plan::kind;
use crate::postgres::{PostgresInstance, RestoreFrom};
use crate::testing::{at, parse, passwords, refuse_unknown_fields};
use crate::{Outcome, Plan, Platform, Timestamp, Unfit};

fn plan() -> BackupPlan {
    parse(
        "{apiVersion: hz.hospital/v1alpha1, kind: BackupPlan, metadata: {name: nightly, namespace: hospital-st-anna},
          spec: {instance: records, destination: {objectStore: {name: vault}}}}",
    )
}

fn records() -> PostgresInstance {
    parse(
        "{apiVersion: hz.hospital/v1alpha1, kind: PostgresInstance, metadata: {name: records, namespace: hospital-st-anna},
          spec: {instances: 3, storage: {size: 1Gi}, databases: [{name: appointments}]}}",
    )
}

fn store() -> Access {
    let secret = BTreeMap::from(
        [
            ("endpoint", "https://vault.hospital-st-anna.svc:8333"),
            ("region", "us-east-1"),
            ("access-key-id", "AK"),
            ("secret-access-key", "SK"),
            ("ca.crt", "PEM"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    Access::own("backups", "vault", &secret).unwrap()
}

fn inputs(plan: &BackupPlan) -> Inputs {
    let pem = |what: &str| format!("PEM {what}");
    let pair = KeyPair { ca_crt: pem("ca"), ca_key: pem("ca key"), tls_crt: pem("crt"), tls_key: pem("key") };
    Inputs {
        instance: Some(records()),
        access: Ok(store()),
        passwords: passwords(vec![slot(&plan.name_any())]),
        certificates: Certificates::default().with(&certificate(plan, &Platform::eight_nodes()), pair),
    }
}

fn made(plan: &BackupPlan, inputs: &Inputs) -> Plan {
    desired(plan, inputs, &Platform::eight_nodes()).unwrap()
}

fn held(plan: &Plan, secret: &str, key: &str) -> String {
    let secret = plan.find("Secret", secret).unwrap_or_else(|| panic!("no Secret {secret}"));
    let data: BTreeMap<String, k8s_openapi::ByteString> = serde_json::from_value(secret.data["data"].clone()).unwrap();
    String::from_utf8(data[key].0.clone()).unwrap()
}

fn backup(name: &str, created: &str, phase: Phase, label: &str) -> Backup {
    let mut backup = Backup::new(name, BackupSpec { plan: "nightly".into(), type_: BackupType::Full, cancel: false });
    backup.metadata.namespace = Some("hospital-st-anna".into());
    let created: Timestamp = created.parse().unwrap();
    backup.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(created));
    backup.status = Some(BackupStatus {
        phase: Some(phase),
        message: Some("the store is full".into()),
        completion_time: phase.is_final().then(|| second(created)),
        label: Some(label.into()),
        oldest: Some(label.into()),
        instance: serde_json::to_value(records().spec).ok(),
        ..BackupStatus::default()
    });
    backup
}

fn complete(name: &str, created: &str) -> Backup {
    backup(name, created, Phase::Succeeded, &format!("{}F", created.replace(['-', 'T', ':', 'Z'], "")))
}

#[test]
fn a_plan_says_where_the_log_goes_and_keeps_the_passphrase() {
    let plan = plan();
    let objects = made(&plan, &inputs(&plan));
    refuse_unknown_fields(&objects);
    let copies = held(&objects, "records-backup", "pgbackrest.conf");
    for line in [
        "repo1-path=/nightly",
        "repo1-s3-endpoint=vault.hospital-st-anna.svc",
        "repo1-storage-port=8333",
        "repo1-cipher-type=aes-256-cbc",
        "repo1-cipher-pass=nightly-encryption.passphrase",
        "repo1-storage-ca-file=/etc/pgbackrest/store-ca.crt",
        "tls-server-auth=backup-nightly=main",
        "repo1-retention-full=4",
    ] {
        assert!(copies.lines().any(|there| there == line), "{line} is not in\n{copies}");
    }
    let job = held(&objects, "records-backup", "job.conf");
    assert!(job.contains("pg3-host=records-2.records-pods.hospital-st-anna.svc.cluster.local\n"), "{job}");
    assert!(!job.contains("pg4-host"), "{job}");
    assert!(!job.contains("PEM"), "keys are files of their own");
    // The key of the authority is no business of pods.
    let configuration = objects.find("Secret", "records-backup").unwrap();
    assert!(configuration.data["data"].get("ca.key").is_none());
    // Backups outlive the plan, and are nothing without the passphrase.
    let kept = objects.find("Secret", "nightly-encryption").unwrap();
    assert!(kept.metadata.owner_references.is_none() && kept.labels().contains_key(crate::labels::RETAIN));
}

#[test]
fn an_instance_that_is_gone_can_still_be_restored() {
    let plan = plan();
    let objects = made(&plan, &Inputs { instance: None, ..inputs(&plan) });
    assert!(objects.find("Secret", "records-backup").is_none(), "there is nobody to tell");
    assert!(held(&objects, "nightly-source", "restore.conf").contains("repo1-path=/nightly"));
}

#[test]
fn clinical_data_goes_to_no_store_outside() {
    let mut plan = plan();
    plan.spec.destination = serde_json::from_value(json!({
        "s3": { "endpoint": "https://s3.example.com", "bucket": "backups", "secret": "key" }
    }))
    .unwrap();
    let refused = desired(&plan, &inputs(&plan), &Platform::eight_nodes()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "spec.destination.s3.endpoint is `https://s3.example.com`: records is Clinical, and its backups stay in the \
         hospital; take an objectStore, or a store in the hospital and say so with onPremises: true"
    );
    plan.spec.destination.s3.as_mut().unwrap().on_premises = true;
    made(&plan, &inputs(&plan));
}

#[test]
fn a_key_that_is_not_there_is_named() {
    let s3: S3 = serde_json::from_value(
        json!({ "endpoint": "https://s3.example.com:9000", "bucket": "backups", "secret": "key" }),
    )
    .unwrap();
    let mut secret = BTreeMap::from([("access-key-id".to_owned(), "AK".to_owned())]);
    let refused = Access::external(&s3, &secret).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "spec.destination.s3.secret is `key`: the Secret has no usable secret-access-key; it has access-key-id; put \
         secret-access-key into it, on one line"
    );
    // A line of its own would be a setting of its own.
    secret.insert("secret-access-key".into(), "x\nrepo1-path=/other".into());
    assert!(Access::external(&s3, &secret).is_err());
    secret.insert("secret-access-key".into(), "x".into());
    assert_eq!(Access::external(&s3, &secret).unwrap().port, 9000);
}

#[test]
fn a_schedule_that_is_none_is_refused_with_its_field() {
    let mut plan = plan();
    plan.spec.schedule.full = "61 1 * * 0".into();
    let refused = desired(&plan, &inputs(&plan), &Platform::eight_nodes()).unwrap_err().to_string();
    assert!(refused.starts_with("spec.schedule.full is `61 1 * * 0`: "), "{refused}");
    assert!(schedule::parse("x", "0 1 * * * Europe/Berlin").is_ok());
}

#[test]
fn the_first_backup_is_made_at_once_and_the_next_when_the_schedule_says() {
    let (plan, now) = (plan(), "2026-07-01T12:00:00Z".parse().unwrap()); // a Wednesday
    let first = due(&plan, &[], now).unwrap();
    assert_eq!(
        (first.type_, first.at, first.name("nightly").as_str()),
        (BackupType::Full, now, "nightly-202607011200")
    );

    let running = backup("a", "2026-07-01T12:00:00Z", Phase::Running, "");
    assert_eq!(due(&plan, &[running], now), None, "one at a time");

    let done = complete("a", "2026-07-01T12:00:00Z");
    let next = due(&plan, std::slice::from_ref(&done), now).unwrap();
    assert_eq!((next.type_, second(next.at).as_str()), (BackupType::Differential, "2026-07-02T01:00:00Z"));
    // Away over the weekend: the full one that was due stands for all.
    let late = "2026-07-06T00:30:00Z".parse().unwrap();
    let next = due(&plan, &[done], late).unwrap();
    assert_eq!((next.type_, second(next.at).as_str()), (BackupType::Full, "2026-07-05T01:00:00Z"));
}

#[test]
fn a_first_backup_that_failed_is_tried_again_after_a_while() {
    let failed = backup("a", "2026-07-01T12:00:00Z", Phase::Failed, "");
    let next = due(&plan(), &[failed], at("12:01:00")).unwrap();
    assert_eq!((next.type_, next.at), (BackupType::Full, at("12:15:00")));
}

#[test]
fn what_the_store_dropped_is_forgotten_and_nothing_else() {
    let old = complete("old", "2026-06-01T01:00:00Z");
    let kept = complete("kept", "2026-06-08T01:00:00Z");
    let mut last = complete("last", "2026-06-15T01:00:00Z");
    last.status.as_mut().unwrap().oldest = kept.status.as_ref().unwrap().label.clone();
    let mut failed = backup("failed", "2026-06-02T01:00:00Z", Phase::Failed, "");
    failed.status.as_mut().unwrap().label = None;
    let all = [old, kept, last, failed];
    let names: Vec<String> = expired(&all).into_iter().map(ResourceExt::name_any).collect();
    assert_eq!(names, ["old"]);
}

fn healthy(observed: &Observed, now: Timestamp) -> (String, String, String) {
    let status = status(&plan(), observed, now);
    let condition = status.conditions.into_iter().find(|condition| condition.type_ == HEALTHY).unwrap();
    (condition.status, condition.reason, condition.message)
}

#[test]
fn a_backup_that_stopped_is_told() {
    let now = at("12:00:00");
    let well = Archiver { last: Some(at("11:58:00")), failed: None, waiting: 0 };
    let seen = |backups: Vec<Backup>, archiver: Option<Archiver>| Observed {
        backups,
        archiver,
        instance: true,
        ..Observed::default()
    };
    let today = complete("today", "2026-07-01T01:00:00Z");
    let reason = |observed: &Observed| {
        let (status, reason, _) = healthy(observed, now);
        format!("{status} {reason}")
    };
    assert_eq!(reason(&seen(vec![], Some(well.clone()))), "False NoBackupYet");
    assert_eq!(reason(&seen(vec![today.clone()], Some(well.clone()))), "True Recent");
    assert_eq!(reason(&seen(vec![today.clone()], None)), "Unknown NotSeen");
    // A day was left out.
    let old = complete("old", "2026-06-28T01:00:00Z");
    assert_eq!(reason(&seen(vec![old], Some(well.clone()))), "False Overdue");
    let failed = backup("failed", "2026-07-01T11:00:00Z", Phase::Failed, "");
    let (_, why, message) = healthy(&seen(vec![today.clone(), failed], Some(well)), now);
    assert_eq!((why.as_str(), message.as_str()), ("BackupFailed", "failed: the store is full"));
    let stuck = Archiver { last: Some(at("11:00:00")), failed: Some("000000010000000000000007".into()), waiting: 9 };
    let (_, why, message) = healthy(&seen(vec![today.clone()], Some(stuck)), now);
    assert!(why == "ArchivingFails" && message.contains("000000010000000000000007 (9 wait)"), "{message}");
    let slow = Archiver { last: Some(at("11:00:00")), failed: None, waiting: 9 };
    assert_eq!(reason(&seen(vec![today], Some(slow))), "False ArchivingLags");
}

#[test]
fn a_status_that_says_the_same_says_it_in_the_same_words() {
    let mut plan = plan();
    let observed = Observed {
        backups: vec![complete("today", "2026-07-01T01:00:00Z")],
        archiver: Some(Archiver { last: Some(at("11:58:00")), failed: None, waiting: 0 }),
        instance: true,
        ..Observed::default()
    };
    let first = status(&plan, &observed, at("12:00:00"));
    plan.status = Some(first.clone());
    let later =
        Observed { archiver: Some(Archiver { last: Some(at("12:03:00")), failed: None, waiting: 1 }), ..observed };
    assert_eq!(status(&plan, &later, at("12:05:00")), first, "nothing that a person has to know has changed");
    assert_eq!(first.next_backup_time.as_deref(), Some("2026-07-02T01:00:00Z"));
    assert_eq!(first.recoverable_from.as_deref(), Some("2026-07-01T01:00:00Z"));
}

#[test]
fn a_backup_says_what_its_job_said() {
    let mut backup = backup("a", "2026-07-01T12:00:00Z", Phase::Running, "");
    let said = json!({ "label": "20260701-120000F", "start": 1_782_907_200, "stop": 1_782_907_260, "size": 58_041_389,
        "stored": 15_766_592, "oldest": "20260601-120000F" });
    let now = at("12:02:00");
    let seen = JobSeen::Succeeded(Some(said.to_string()));
    let done = backup_status(&backup, &Outcome::Applied, &seen, None, now);
    assert_eq!(done.phase, Some(Phase::Succeeded));
    assert_eq!(done.completion_time.as_deref(), Some("2026-07-01T12:01:00Z"));
    assert_eq!(done.stored.as_deref(), Some("15.0 MiB of 55.4 MiB"));
    assert_eq!(done.label.as_deref(), Some("20260701-120000F"));
    assert!(done.instance.is_some(), "what was backed up is remembered");
    backup.status = Some(done.clone());
    let other = backup_status(&backup, &Outcome::Applied, &JobSeen::Failed(None), None, at("12:10:00"));
    assert_eq!(other, done, "how it ended does not change");

    backup.status = None;
    let failed = JobSeen::Failed(Some(json!({ "error": "[041]: unable to open" }).to_string()));
    let failed = backup_status(&backup, &Outcome::Applied, &failed, None, now);
    assert_eq!((failed.phase, failed.message.as_deref()), (Some(Phase::Failed), Some("[041]: unable to open")));
    let deadline = JobSeen::Failed(Some("Job was active longer than specified deadline".into()));
    let failed = backup_status(&backup, &Outcome::Applied, &deadline, None, now);
    assert_eq!(failed.message.as_deref(), Some("Job was active longer than specified deadline"));
}

#[test]
fn the_job_is_one_that_a_restricted_namespace_takes() {
    let backup = backup("nightly-1", "2026-07-01T12:00:00Z", Phase::Pending, "");
    let mut backup = backup;
    backup.meta_mut().uid = Some("u".into());
    let objects = job(&backup, &plan(), &Platform::eight_nodes());
    refuse_unknown_fields(&objects);
    let job = objects.objects().iter().find(|object| kind(object) == "Job").unwrap();
    let pod = &job.data["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(pod["volumes"][0]["secret"]["secretName"], "records-backup");
    assert_eq!(pod["automountServiceAccountToken"], false);
}

fn restore(spec: serde_json::Value) -> Restore {
    let mut restore = Restore::new("back", serde_json::from_value(spec).unwrap());
    restore.metadata.namespace = Some("hospital-st-anna".into());
    restore.metadata.uid = Some("r".into());
    restore.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at("12:00:00")));
    restore
}

fn planned() -> BackupPlan {
    let mut plan = plan();
    plan.status =
        Some(BackupPlanStatus { recoverable_from: Some("2026-06-28T01:00:00Z".into()), ..BackupPlanStatus::default() });
    plan
}

fn new_instance(spec: serde_json::Value) -> Result<PostgresInstance, Unfit> {
    let backups = [complete("sunday", "2026-06-28T01:00:00Z"), complete("today", "2026-07-01T01:00:00Z")];
    restore::instance(&restore(spec), Some(&planned()), &backups, at("12:00:00"))
}

#[test]
fn a_restore_makes_an_instance_like_the_one_that_was_backed_up() {
    let new = new_instance(json!({ "plan": "nightly", "instance": "records-back" })).unwrap();
    assert_eq!((new.name_any().as_str(), new.spec.instances), ("records-back", 3));
    assert_eq!(new.spec.databases, records().spec.databases);
    assert_eq!(new.spec.restore_from.as_ref().unwrap().backup, None, "the last state, not that of a backup");
    assert!(new.metadata.owner_references.is_none(), "it outlives its restore");
    let sealed = json!({ "plan": "nightly", "instance": "look", "instances": 1, "sealed": true });
    let sealed = new_instance(sealed).unwrap();
    assert!(sealed.spec.sealed && sealed.spec.synchronous == crate::postgres::Synchronous::Disabled);
    assert_eq!(sealed.metadata.owner_references.unwrap()[0].kind, "Restore", "it goes with its restore");
}

#[test]
fn what_cannot_be_restored_is_refused_with_what_can() {
    let refused = |spec: serde_json::Value| new_instance(spec).unwrap_err().to_string();
    let at = |time: &str| refused(json!({ "plan": "nightly", "instance": "x", "targetTime": time }));
    let window = "possible: 2026-06-28T01:00:00Z to 2026-07-01T12:00:00Z";
    assert_eq!(
        at("2026-06-01T00:00:00Z"),
        format!(
            "spec.targetTime is `2026-06-01T00:00:00Z`: this moment is before the oldest backup that is kept; {window}"
        )
    );
    assert!(at("2026-07-01T12:00:01Z").ends_with(&format!("has not come yet; {window}")));
    assert!(at("2026-07-01 12 o'clock").contains("write it as in RFC 3339"));
    let backup = refused(json!({ "plan": "nightly", "instance": "x", "backup": "sundays" }));
    assert!(backup.ends_with("no complete backup of that name; the newest: today, sunday"), "{backup}");
    let size = refused(json!({ "plan": "nightly", "instance": "x", "size": "500Mi" }));
    assert!(size.starts_with("spec.size is `500Mi`") && size.ends_with("possible: 1Gi or more"), "{size}");
}

#[test]
fn what_is_asked_for_becomes_options_of_pgbackrest() {
    let from = |backup: Option<&str>, target_time: Option<&str>| RestoreFrom {
        plan: "nightly".into(),
        backup: backup.map(str::to_owned),
        target_time: target_time.map(str::to_owned),
    };
    assert!(options(&from(None, None)).is_empty());
    assert_eq!(
        options(&from(None, Some("2026-07-01T12:30:00.5Z"))),
        ["--type=time", "--target=2026-07-01 12:30:00.5+00", "--target-action=promote"]
    );
    assert_eq!(
        options(&from(Some("20260701-010000F"), None)),
        ["--set=20260701-010000F", "--type=immediate", "--target-action=promote"]
    );
}

#[test]
fn a_restore_is_done_when_the_new_instance_answers() {
    let asked = restore(json!({ "plan": "nightly", "instance": "records-back" }));
    let mut new = records();
    let seen = |new: &PostgresInstance, to| Seen { instance: Some(new.clone()), recovered_to: to, ..Seen::default() };
    let running = restore_status(&asked, &seen(&new, None), at("12:00:30"));
    assert_eq!(running.phase, Some(Phase::Running));
    let ready = json!({ "observedGeneration": 1, "conditions": [{ "type": READY, "status": "True", "reason": "Answering",
        "message": "", "lastTransitionTime": "2026-07-01T12:01:00Z" }] });
    new.status = serde_json::from_value(ready).unwrap();
    let done = restore_status(&asked, &seen(&new, Some(Some(at("11:59:50")))), at("12:01:05"));
    assert_eq!((done.phase, done.recovery_seconds), (Some(Phase::Succeeded), Some(65)));
    assert_eq!(done.recovered_to.as_deref(), Some("2026-07-01T11:59:50Z"));

    let name_taken = Unfit::refused("spec.instance", "records", "is there", "take another");
    let refused = Seen { outcome: Outcome::Unfit(name_taken), ..Seen::default() };
    assert_eq!(restore_status(&asked, &refused, at("12:00:01")).phase, Some(Phase::Failed));
}

#[test]
fn a_backup_that_is_cancelled_says_what_it_leaves_and_one_that_was_complete_stays_so() {
    let mut backup = backup("a", "2026-07-01T12:00:00Z", Phase::Running, "");
    backup.spec.cancel = true;
    let now = at("12:02:00");
    backup.status = None;
    let early = backup_status(&backup, &Outcome::Applied, &JobSeen::Missing, None, now);
    assert_eq!(early.phase, Some(Phase::Cancelled));
    assert_eq!(early.message.as_deref(), Some("cancelled before it began; nothing was done"));
    let at_work = backup_status(&backup, &Outcome::Applied, &JobSeen::Running(None), None, now);
    assert!(at_work.message.as_deref().unwrap().contains("is no backup"), "{at_work:?}");
    assert_eq!((at_work.conditions[0].reason.as_str(), at_work.conditions[0].status.as_str()), ("Cancelled", "False"));
    assert_eq!(at_work.completion_time.as_deref(), Some("2026-07-01T12:02:00Z"));
    let said = json!({ "label": "20260701-120000F", "stop": 1_782_907_260 }).to_string();
    let done = backup_status(&backup, &Outcome::Applied, &JobSeen::Succeeded(Some(said)), None, now);
    assert_eq!(done.phase, Some(Phase::Succeeded));
    // A plan that is gone keeps nobody from stopping.
    let unfit = Outcome::Unfit(Unfit::waiting("spec.plan", "a BackupPlan nightly"));
    assert_eq!(backup_status(&backup, &unfit, &JobSeen::Missing, None, now).phase, Some(Phase::Cancelled));
}

#[test]
fn a_cancelled_backup_is_no_failed_one_to_its_plan() {
    let observed = Observed {
        backups: vec![
            complete("today", "2026-07-01T01:00:00Z"),
            self::backup("stopped", "2026-07-01T11:00:00Z", Phase::Cancelled, ""),
        ],
        archiver: Some(Archiver { last: Some(at("11:58:00")), failed: None, waiting: 0 }),
        instance: true,
        ..Observed::default()
    };
    assert_eq!(healthy(&observed, at("12:00:00")).1, "Recent");
}

#[test]
fn a_restore_that_is_cancelled_names_what_it_leaves() {
    let spec =
        |sealed: bool| json!({ "plan": "nightly", "instance": "records-back", "cancel": true, "sealed": sealed });
    let mut asked = restore(spec(false));
    let nothing = restore_status(&asked, &restore::Seen::default(), at("12:00:30"));
    assert_eq!(nothing.phase, Some(Phase::Cancelled));
    assert!(nothing.message.as_deref().unwrap().ends_with("was made; nothing was done"), "{nothing:?}");
    let new = new_instance(json!({ "plan": "nightly", "instance": "records-back" })).unwrap();
    let made = restore::Seen { instance: Some(new), ..restore::Seen::default() };
    let left = restore_status(&asked, &made, at("12:00:30"));
    assert!(left.message.as_deref().unwrap().contains("records-back was made and stays"), "{left:?}");
    assert_eq!(left.conditions[0].reason, "Cancelled");
    asked.status = Some(left.clone());
    assert_eq!(restore_status(&asked, &made, at("12:09:00")), left, "how it ended does not change");
    let sealed = restore_status(&restore(spec(true)), &made, at("12:00:30"));
    assert!(sealed.message.as_deref().unwrap().contains("goes when this Restore is deleted"), "{sealed:?}");
}

#[test]
fn what_a_store_keeps_is_proved_once_a_day_and_only_if_asked_for() {
    let mut plan = plan();
    let now = at("12:00:00");
    assert!(!is_due(&plan, now), "nobody asked for it");
    plan.spec.prove_immutable = true;
    assert!(is_due(&plan, now));
    let tried = |state, at: &str| Observed {
        instance: true,
        immutability: Some(Immutability::new(state, "an object could be deleted", self::at(at))),
        ..Observed::default()
    };
    plan.status = Some(status(&plan, &tried(Kept::NotEnforced, "12:00:00"), now));
    let condition = |plan: &BackupPlan| {
        let held = plan.status.clone().unwrap().conditions;
        held.into_iter().find(|c| c.type_ == IMMUTABLE).map(|c| (c.status, c.reason))
    };
    assert_eq!(condition(&plan), Some(("False".into(), "NotEnforced".into())));
    assert!(!is_due(&plan, at("23:00:00")));
    assert!(is_due(&plan, "2026-07-02T12:00:00Z".parse().unwrap()));
    let nothing = Observed { instance: true, ..Observed::default() };
    let later = status(&plan, &nothing, at("18:00:00"));
    assert_eq!(later.immutability, plan.status.as_ref().unwrap().immutability, "what was proved stands");

    plan.status = Some(status(&plan, &tried(Kept::Unknown, "12:00:00"), now));
    assert!(!is_due(&plan, at("12:10:00")) && is_due(&plan, at("12:15:00")), "nobody could look: again soon");
    plan.spec.prove_immutable = false;
    plan.status = Some(status(&plan, &nothing, at("13:00:00")));
    assert_eq!((condition(&plan), plan.status.as_ref().unwrap().immutability.clone()), (None, None));
}
