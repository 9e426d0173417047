use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::conditions::{READY, is_true};
use crate::shared::DataClass;
use crate::testing::{
    at, fixture, passwords, refuse_misfits, refuse_unknown_fields, refuse_what_restricted_refuses, running,
};
use crate::{Plan, Platform, Unfit, rbac};

fn load(name: &str) -> PostgresInstance {
    fixture("postgres", name)
}

pub(super) fn inputs(instance: &PostgresInstance) -> Inputs {
    let slot = tls::certificate(instance, &Platform::eight_nodes());
    let certificates = Certificates::default().with(&slot, pair("(certificate)"));
    Inputs { passwords: passwords(slots(instance)), certificates, ..Inputs::default() }
}

pub(super) fn pair(leaf: &str) -> crate::KeyPair {
    let [ca_crt, ca_key] = ["(authority)", "(key of the authority)"].map(String::from);
    crate::KeyPair { ca_crt, ca_key, tls_crt: leaf.into(), tls_key: "(key)".into() }
}

fn plan(instance: &PostgresInstance) -> Result<Plan, Unfit> {
    desired(instance, &inputs(instance), &Platform::eight_nodes())
}

#[test]
fn three_synchronous_copies_on_three_servers() {
    let plan = plan(&load("records")).unwrap();
    refuse_unknown_fields(&plan);
    refuse_what_restricted_refuses(&plan);
    refuse_misfits(&plan);
    insta::assert_yaml_snapshot!(plan.objects());
}

#[test]
fn a_suspended_trial_stops_and_goes_with_its_object() {
    let trial = load("trial");
    let with_store = Inputs { patroni_maps: vec!["trial-config".into(), "trial-leader".into()], ..inputs(&trial) };
    let plan = desired(&trial, &with_store, &Platform::eight_nodes()).unwrap();
    refuse_unknown_fields(&plan);
    assert!(plan.objects().iter().all(|object| object.metadata.owner_references.is_some()));
    assert!(plan.find("ConfigMap", "trial-leader").is_some(), "Patroni's state goes along");
    insta::assert_yaml_snapshot!(plan.find("StatefulSet", "trial"));
}

#[test]
fn what_is_left_out_is_safe() {
    let spec = load("minimal").spec;
    assert_eq!((spec.instances, spec.synchronous, spec.data_class), (3, Synchronous::Strict, DataClass::Clinical));
    assert!(spec.deletion_policy.retains() && !spec.suspend);
}

#[test]
fn passwords_and_volumes_outlive_an_instance_that_retains() {
    let plan = plan(&load("records")).unwrap();
    for secret in ["records-system", "records-orthanc", "records-lab-results"] {
        assert_eq!(plan.find("Secret", secret).unwrap().metadata.owner_references, None);
    }
    let set = plan.find("StatefulSet", "records").unwrap();
    assert_eq!(set.data.pointer("/spec/persistentVolumeClaimRetentionPolicy/whenDeleted"), Some(&json!("Retain")));
}

#[test]
fn the_operator_holds_every_right_that_patroni_gets() {
    let plan = plan(&load("records")).unwrap();
    let role = plan.find("Role", "records").unwrap();
    let rules: Vec<k8s_openapi::api::rbac::v1::PolicyRule> =
        serde_json::from_value(role.data["rules"].clone()).unwrap();
    for wanted in rules {
        assert!(rbac::covers(&rbac::operator_in_namespace(), &wanted), "the operator may not grant {wanted:?}");
    }
}

#[test]
fn more_copies_than_servers_are_refused_by_name() {
    let mut instance = load("minimal");
    instance.spec.instances = 7;
    assert_eq!(
        plan(&instance).unwrap_err().to_string(),
        "spec.instances is `7`: every copy needs a server of its own and there are 5; possible: 1 to 5"
    );
    assert!(desired(&instance, &inputs(&instance), &Platform::default()).is_ok(), "nobody has counted yet");
}

#[test]
fn a_setting_with_a_slip_gets_the_nearest_name() {
    let mut instance = load("minimal");
    instance.spec.parameters = [("max_conections".to_owned(), "50".to_owned())].into();
    let unfit = plan(&instance).unwrap_err();
    assert!(unfit.to_string().ends_with("did you mean max_connections?"), "{unfit}");
    assert!(!unfit.may_pass());
}

#[test]
fn settings_that_lead_out_of_the_database_are_refused() {
    for name in ["archive_command", "shared_preload_libraries", "synchronous_standby_names", "data_directory", "ssl"] {
        let mut instance = load("minimal");
        instance.spec.parameters = [(name.to_owned(), "x".to_owned())].into();
        assert!(plan(&instance).is_err(), "{name}");
    }
}

#[test]
fn a_secret_of_somebody_else_is_not_overwritten() {
    let instance = load("records");
    let taken = Inputs { foreign: vec![("records-orthanc".into(), "nobody".into())], ..inputs(&instance) };
    let unfit = desired(&instance, &taken, &Platform::eight_nodes()).unwrap_err();
    assert_eq!(unfit.reason(), "NameTaken");
}

#[test]
fn without_passwords_there_is_no_plan_yet() {
    let unfit = desired(&load("records"), &Inputs::default(), &Platform::eight_nodes()).unwrap_err();
    assert!(unfit.may_pass());
}

#[test]
fn databases_and_owners_are_made_and_others_kept_out() {
    let instance = load("records");
    let provision = provision(&instance, &inputs(&instance)).unwrap();
    let told: Vec<String> = provision
        .statements
        .iter()
        .map(|statement| {
            let unless = statement.unless.as_ref().map_or_else(String::new, |unless| format!(" -- unless {unless}"));
            format!("{}: {}{unless}", statement.database, statement.sql)
        })
        .collect();
    insta::assert_yaml_snapshot!(told);
}

#[test]
fn the_fingerprint_changes_with_a_password_and_with_nothing_else() {
    let mut instance = load("records");
    let first = inputs(&instance);
    let print = |instance: &PostgresInstance, inputs: &Inputs| provision(instance, inputs).unwrap().fingerprint;
    let before = print(&instance, &first);
    instance.spec.instances = 5;
    assert_eq!(print(&instance, &first), before);
    let rotated = slots(&instance).into_iter().map(|slot| (slot, "other".to_owned())).collect();
    assert_ne!(print(&instance, &Inputs { passwords: rotated, ..Inputs::default() }), before);
}

#[test]
fn a_password_stands_in_no_log() {
    let instance = load("records");
    let inputs = inputs(&instance);
    let told = format!("{inputs:?} {:?}", provision(&instance, &inputs).unwrap());
    assert!(!told.contains("records-orthanc.password"), "{told}");
}

#[test]
fn what_is_agreed_on_is_found_in_what_patroni_answers() {
    let wanted = patroni::agreed(&load("records").spec);
    let mut there = wanted.clone();
    there["check_timeline"] = json!(true);
    assert!(patroni::is_in(&wanted, &there));
    there["ttl"] = json!(30);
    assert!(!patroni::is_in(&wanted, &there));
}

/// Patroni lowers what does not fit, without a word to the operator; then the operator would write it again forever.
#[test]
fn patroni_takes_the_times_as_they_are() {
    let agreed = patroni::agreed(&load("minimal").spec);
    let time = |name: &str| agreed[name].as_i64().unwrap();
    assert!(time("ttl") >= 20 && time("loop_wait") >= 1 && time("retry_timeout") >= 3);
    assert!(time("loop_wait") + 2 * time("retry_timeout") <= time("ttl"));
}

#[test]
fn changing_what_is_agreed_on_restarts_nothing() {
    let mut instance = load("records");
    let template = |instance: &PostgresInstance| {
        plan(instance).unwrap().find("StatefulSet", "records").unwrap().data["spec"]["template"].clone()
    };
    let before = template(&instance);
    instance.spec.parameters = [("work_mem".to_owned(), "8MB".to_owned())].into();
    assert_eq!(template(&instance), before);
}

fn changed(change: impl FnOnce(&mut PostgresInstance)) -> PostgresInstance {
    let mut instance = load("records");
    change(&mut instance);
    instance
}

#[test]
fn one_copy_has_no_other_to_confirm_its_writes() {
    let one = |synchronous| {
        changed(|instance| {
            instance.spec.instances = 1;
            instance.spec.synchronous = synchronous;
        })
        .validate_cel()
    };
    assert!(one(Synchronous::Disabled).is_ok());
    assert!(one(Synchronous::Strict).is_err());
    assert!(one(Synchronous::Preferred).is_err());
}

#[test]
fn storage_grows_and_never_shrinks() {
    let to =
        |size: &str| changed(|instance| instance.spec.storage.size = size.into()).validate_cel_update(&load("records"));
    assert!(to("20480Mi").is_ok());
    assert!(to("21Gi").is_ok());
    assert!(to("19Gi").is_err());
}

#[test]
fn the_class_of_storage_stays() {
    let fast = changed(|instance| instance.spec.storage.storage_class = Some("fast".into()));
    let slow = changed(|instance| instance.spec.storage.storage_class = Some("slow".into()));
    assert!(fast.validate_cel_update(&fast).is_ok());
    assert!(fast.validate_cel_update(&slow).is_err());
    assert!(fast.validate_cel_update(&load("records")).is_err());
}

/// An operation that is at work on the version, as the copies see it.
fn course(stage: crate::operation::Stage) -> Option<upgrade::Course> {
    let operation = serde_json::from_value(json!({
        "apiVersion": "hz.hospital/v1alpha1", "kind": "DataOperation",
        "metadata": { "name": "up", "namespace": "hospital-st-anna", "uid": "one" },
        "spec": { "target": { "kind": "PostgresInstance", "name": "records" }, "action": "Upgrade", "version": "17" },
        "status": { "phase": "Running", "stage": stage, "before": { "primary": "records-1", "from": "15", "to": "17" } },
    }));
    crate::operation::upgrade::course(&operation.unwrap())
}

#[test]
fn a_copy_that_is_to_make_data_of_another_version_does_nothing_else() {
    use crate::operation::Stage;
    let mut records = load("records");
    records.spec.version = PostgresVersion::V15;
    let plan = |stage| {
        let inputs = Inputs { course: course(stage), ..inputs(&records) };
        let plan = desired(&records, &inputs, &Platform::eight_nodes()).unwrap();
        refuse_unknown_fields(&plan);
        refuse_what_restricted_refuses(&plan);
        let set = plan.find("StatefulSet", "records").unwrap().data.clone();
        let task = plan.find("ConfigMap", "records-patroni").unwrap().data["data"]["task.json"].clone();
        let variables = set.pointer("/spec/template/spec/containers/0/env").unwrap().as_array().unwrap().clone();
        let variable =
            |name: &str| variables.iter().find(|found| found["name"] == name).map(|found| found["value"].clone());
        (set["spec"]["replicas"].clone(), task, variable("HZ_VERSION"), variable("HZ_TASK"))
    };
    let (replicas, task, version, work) = plan(Stage::Working);
    assert_eq!((replicas, task, version), (json!(1), json!(null), Some(json!("15"))));
    assert_eq!(work, Some(json!(r#"{"id":"one","do":"upgrade","from":"15","to":"17"}"#)));
    assert_eq!(plan(Stage::Stopping).0, json!(0));
    assert_eq!(plan(Stage::Draining).0, json!(1));
    let (replicas, task, _, work) = plan(Stage::Checking);
    assert_eq!((replicas, work), (json!(3), None));
    assert_eq!(task, json!(r#"{"id":"one","do":"check","from":"15","to":"17","pod":"records-1"}"#));
    assert_eq!(plan(Stage::Starting).1, json!(r#"{"id":"one","do":"follow","from":"15","to":"17"}"#));
    assert_eq!(course(Stage::Starting).unwrap().version, Some(PostgresVersion::V17));
}

#[test]
fn an_empty_database_of_version_15_has_a_collation_that_it_knows() {
    let mut records = load("records");
    let initdb =
        |records: &PostgresInstance| patroni::file("records", &records.spec)["bootstrap"]["initdb"].to_string();
    assert!(initdb(&records).contains("builtin"));
    records.spec.version = PostgresVersion::V15;
    assert!(!initdb(&records).contains("builtin") && initdb(&records).contains("C.UTF-8"));
    assert_eq!(patroni::file("records", &records.spec)["postgresql"]["bin_dir"], "/usr/lib/postgresql/15/bin");
}

#[test]
fn a_setting_of_a_newer_version_is_refused_by_name() {
    let mut records = load("records");
    records.spec.parameters.insert("transaction_timeout".into(), "5s".into());
    assert!(plan(&records).is_ok());
    records.spec.version = PostgresVersion::V15;
    let refused = plan(&records).unwrap_err().to_string();
    assert!(
        refused.starts_with("spec.parameters.transaction_timeout is `5s`: PostgreSQL 15 has no such setting"),
        "{refused}"
    );
}

#[test]
fn a_database_is_not_stricter_than_its_instance() {
    let classed = |instance, database| {
        changed(|changed| {
            changed.spec.data_class = instance;
            changed.spec.databases.truncate(1);
            changed.spec.databases[0].data_class = database;
        })
        .validate_cel()
    };
    use DataClass::{Administrative, Clinical, Public};
    assert!(classed(Clinical, Some(Administrative)).is_ok());
    assert!(classed(Administrative, Some(Public)).is_ok());
    assert!(classed(Public, None).is_ok());
    assert!(classed(Administrative, Some(Clinical)).is_err());
    assert!(classed(Public, Some(Administrative)).is_err());
}

#[test]
fn names_that_postgresql_keeps_for_itself_are_refused() {
    let named = |name: &str| changed(|instance| instance.spec.databases[0].name = name.into()).validate_cel();
    assert!(named("orders").is_ok());
    for name in ["postgres", "template1", "system", "standby", "pg_mine", "tls", "backup"] {
        assert!(named(name).is_err(), "{name}");
    }
}

#[test]
fn memory_may_be_limited_above_what_is_set_aside_and_not_below() {
    let limited =
        |limit: &str| changed(|instance| instance.spec.resources.memory_limit = Some(limit.into())).validate_cel();
    assert!(limited("1Gi").is_ok());
    assert!(limited("512Mi").is_err());
}

#[test]
fn names_are_short_enough_for_pods() {
    let named = |name: &str| changed(|instance| instance.metadata.name = Some(name.into())).validate_cel();
    assert!(named(&"a".repeat(40)).is_ok());
    assert!(named(&"a".repeat(41)).is_err());
}

fn serving() -> Observed {
    Observed {
        pods: vec![running("records-1", "replica"), running("records-0", "primary"), running("records-2", "replica")],
        probe: Probe::Answered,
        confirming: vec!["records-1".into()],
        provisioned: Provisioned::Done("f00d".into()),
        ..Observed::default()
    }
}

fn told(instance: &PostgresInstance, observed: &Observed, clock: &str) -> PostgresInstanceStatus {
    status(instance, observed, &Platform::eight_nodes(), at(clock))
}

#[test]
fn a_serving_instance_says_where_and_how() {
    insta::assert_yaml_snapshot!(told(&load("records"), &serving(), "08:00:00"));
}

#[test]
fn a_pass_that_changes_nothing_changes_no_status() {
    let mut instance = load("records");
    instance.status = Some(told(&instance, &serving(), "08:00:00"));
    assert_eq!(Some(told(&instance, &serving(), "09:00:00")), instance.status);
}

#[test]
fn without_an_answer_it_is_not_ready_and_says_which_pod_is_in_trouble() {
    let mut observed = serving();
    observed.probe = Probe::Failed("connection refused".into());
    observed.pods[0].ready = false;
    observed.pods[0].trouble = Some("Unschedulable: 0/8 nodes are available".into());
    let status = told(&load("records"), &observed, "08:00:00");
    assert!(!is_true(&status.conditions, READY));
    assert_eq!(
        status.conditions[0].message,
        "SELECT 1 through the Service failed: connection refused; records-1: Unschedulable: 0/8 nodes are available"
    );
    assert_eq!(status.instances.as_deref(), Some("2/3"));
}

#[test]
fn ready_waits_for_the_databases() {
    let observed = Observed { provisioned: Provisioned::NotTried, ..serving() };
    assert!(!is_true(&told(&load("records"), &observed, "08:00:00").conditions, READY));
    let failed = Observed { provisioned: Provisioned::Failed("failed to create database orthanc".into()), ..serving() };
    assert!(!is_true(&told(&load("records"), &failed, "08:00:00").conditions, READY));
}

#[test]
fn two_that_claim_to_be_primary_are_none() {
    let mut observed = serving();
    observed.pods[0].role = Some("primary".into());
    assert_eq!(told(&load("records"), &observed, "08:00:00").primary, None);
}

#[test]
fn the_loss_of_the_confirming_copy_is_told_as_what_it_means() {
    let alone = Observed { confirming: vec![], ..serving() };
    let reason = |synchronous| {
        let instance = changed(|instance| instance.spec.synchronous = synchronous);
        let status = told(&instance, &alone, "08:00:00");
        let durable = status.conditions.into_iter().find(|condition| condition.type_ == "Durable").unwrap();
        (durable.status, durable.reason)
    };
    assert_eq!(reason(Synchronous::Strict), ("True".into(), "WritesWait".into()));
    assert_eq!(reason(Synchronous::Preferred), ("False".into(), "NoSecondCopy".into()));
    assert_eq!(reason(Synchronous::Disabled), ("False".into(), "Asynchronous".into()));
}

proptest! {
    #[test]
    fn every_name_that_is_let_in_fits_everywhere(name in "[a-z]([-a-z0-9]{0,38}[a-z0-9])?", database in "[a-z][a-z0-9_]{0,39}", instances in 2..=5) {
        let mut instance = load("minimal");
        instance.metadata.name = Some(name);
        instance.spec.instances = instances;
        instance.spec.databases = vec![Database { name: database, extensions: vec![], data_class: None }];
        let first = plan(&instance).unwrap();
        refuse_misfits(&first);
        prop_assert_eq!(first, plan(&instance).unwrap());
    }
}
