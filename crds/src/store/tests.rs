use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::conditions::{READY, is_true};
use crate::shared::DataClass;
use crate::testing::{
    at, fixture, passwords, refuse_misfits, refuse_unknown_fields, refuse_what_restricted_refuses, running,
};
use crate::{KeyPair, Plan, Unfit};

fn load(name: &str) -> ObjectStore {
    fixture("store", name)
}

fn pair(leaf: &str) -> KeyPair {
    let [ca_crt, ca_key] = ["(authority)", "(key of the authority)"].map(String::from);
    KeyPair { ca_crt, ca_key, tls_crt: leaf.into(), tls_key: "(key)".into() }
}

fn inputs(store: &ObjectStore, pair: KeyPair) -> Inputs {
    let slot = certificate(store, &Platform::eight_nodes());
    Inputs {
        passwords: passwords(slots(store).into()),
        certificates: Certificates::default().with(&slot, pair),
        foreign: Vec::new(),
    }
}

fn plan(store: &ObjectStore) -> Result<Plan, Unfit> {
    desired(store, &inputs(store, pair("(certificate)")), &Platform::eight_nodes())
}

fn arguments(store: &ObjectStore) -> Vec<String> {
    let plan = plan(store).unwrap();
    let set = plan.find("StatefulSet", &store.name_any()).unwrap();
    serde_json::from_value(set.data.pointer("/spec/template/spec/containers/0/args").unwrap().clone()).unwrap()
}

#[test]
fn three_servers_behind_a_wall() {
    let plan = plan(&load("vault")).unwrap();
    refuse_unknown_fields(&plan);
    refuse_what_restricted_refuses(&plan);
    refuse_misfits(&plan);
    insta::assert_yaml_snapshot!(plan.objects());
}

#[test]
fn a_single_server_keeps_one_copy_and_goes_with_its_data() {
    let single = load("single");
    let plan = plan(&single).unwrap();
    refuse_unknown_fields(&plan);
    refuse_misfits(&plan);
    let set = plan.find("StatefulSet", "single").unwrap();
    assert_eq!(set.data.pointer("/spec/persistentVolumeClaimRetentionPolicy/whenDeleted"), Some(&json!("Delete")));
    let arguments = arguments(&single);
    for wanted in ["-master.defaultReplication=000", "-master.volumeSizeLimitMB=64", "-volume.max=28"] {
        assert!(arguments.iter().any(|argument| argument == wanted), "{wanted} is not in {arguments:?}");
    }
}

#[test]
fn what_is_left_out_is_safe() {
    let spec = load("vault").spec;
    assert_eq!((spec.instances, spec.data_class), (3, DataClass::Clinical));
    assert_eq!(spec.buckets, ["backups"]);
    assert!(spec.deletion_policy.retains());
}

#[test]
fn a_client_finds_all_it_needs_in_one_secret_and_it_stays() {
    let plan = plan(&load("vault")).unwrap();
    let secret = plan.find("Secret", "vault-s3").unwrap();
    let keys: Vec<&String> = secret.data["data"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["access-key-id", "ca.crt", "endpoint", "region", "secret-access-key"]);
    assert!(secret.metadata.labels.as_ref().unwrap().contains_key(crate::labels::RETAIN));
    assert!(secret.metadata.owner_references.is_none());
}

#[test]
fn no_pod_has_the_key_of_the_authority_or_a_token() {
    let plan = plan(&load("vault")).unwrap();
    let pod = plan.find("StatefulSet", "vault").unwrap().data["spec"]["template"]["spec"].clone();
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert!(!pod.to_string().contains("ca.key"));
}

#[test]
fn a_renewed_certificate_starts_nothing_again_and_a_new_authority_does() {
    let store = load("vault");
    let template = |pair: KeyPair| {
        let plan = desired(&store, &inputs(&store, pair), &Platform::eight_nodes()).unwrap();
        plan.find("StatefulSet", "vault").unwrap().data["spec"]["template"].clone()
    };
    assert_eq!(template(pair("one")), template(pair("two")));
    assert_ne!(template(pair("one")), template(KeyPair { ca_crt: "another".into(), ..pair("one") }));
}

#[test]
fn secrets_of_somebody_else_are_not_overwritten() {
    let store = load("vault");
    let inputs =
        Inputs { foreign: vec![("vault-tls".into(), "nobody".into())], ..inputs(&store, pair("(certificate)")) };
    assert!(matches!(desired(&store, &inputs, &Platform::eight_nodes()), Err(Unfit::Taken { .. })));
}

#[test]
fn more_servers_than_there_are_machines_are_refused() {
    let platform = Platform { workers: Some(2), ..Platform::eight_nodes() };
    let store = load("vault");
    let refused = desired(&store, &inputs(&store, pair("(certificate)")), &platform).unwrap_err();
    assert!(refused.to_string().starts_with("spec.instances is `3`"));
}

fn changed(name: &str, change: impl FnOnce(&mut ObjectStore)) -> ObjectStore {
    let mut store = load(name);
    change(&mut store);
    store
}

#[test]
fn one_server_or_three() {
    let of = |instances| changed("vault", |store| store.spec.instances = instances).validate_cel();
    assert!(of(1).is_ok() && of(3).is_ok());
    assert!(of(2).is_err());
}

#[test]
fn servers_and_volumes_stay_as_they_were_made() {
    let vault = load("vault");
    assert!(vault.validate_cel_update(&vault).is_ok());
    assert!(changed("vault", |store| store.spec.instances = 1).validate_cel_update(&vault).is_err());
    assert!(load("single").validate_cel_update(&load("single")).is_ok());
    assert!(changed("single", |store| store.spec.instances = 3).validate_cel_update(&load("single")).is_err());
    let to = |size: &str| changed("vault", |store| store.spec.storage.size = size.into());
    assert!(to("20480Mi").validate_cel_update(&vault).is_ok());
    assert!(to("30Gi").validate_cel_update(&vault).is_err());
    assert!(to("10Gi").validate_cel_update(&vault).is_err());
}

#[test]
fn the_class_of_storage_stays() {
    let class = |class: &str| changed("vault", |store| store.spec.storage.storage_class = Some(class.into()));
    assert!(class("fast").validate_cel_update(&class("fast")).is_ok());
    assert!(class("fast").validate_cel_update(&class("slow")).is_err());
    assert!(class("fast").validate_cel_update(&load("vault")).is_err());
}

#[test]
fn a_bucket_that_is_left_out_is_kept() {
    let fewer = changed("single", |store| store.spec.buckets.truncate(1));
    assert!(fewer.validate_cel_update(&load("single")).is_ok());
    // Nothing in the plan speaks of buckets; the operator makes those that are missing and removes none.
    let said = serde_json::to_string(plan(&load("single")).unwrap().objects()).unwrap();
    assert!(!said.contains("images"));
}

#[test]
fn names_are_short_enough_for_pods() {
    let named = |name: &str| changed("vault", |store| store.metadata.name = Some(name.into())).validate_cel();
    assert!(named(&"a".repeat(40)).is_ok());
    assert!(named(&"a".repeat(41)).is_err());
}

fn serving() -> Observed {
    let pods = [0, 1, 2].map(|number| {
        let mut pod = running(&format!("vault-{number}"), "");
        pod.role = None;
        pod
    });
    Observed { pods: pods.into(), probe: Probe::Answered, ..Observed::default() }
}

#[test]
fn a_serving_store_says_where() {
    insta::assert_yaml_snapshot!(status(&load("vault"), &serving(), &Platform::eight_nodes(), at("08:00:00")));
}

#[test]
fn a_pass_that_changes_nothing_changes_no_status() {
    let mut store = load("vault");
    let told = |store: &ObjectStore, clock: &str| status(store, &serving(), &Platform::eight_nodes(), at(clock));
    store.status = Some(told(&store, "08:00:00"));
    assert_eq!(Some(told(&store, "09:00:00")), store.status);
}

#[test]
fn a_lost_server_makes_it_less_redundant_and_not_unready() {
    let mut observed = serving();
    observed.pods.pop();
    let told = status(&load("vault"), &observed, &Platform::eight_nodes(), at("08:00:00"));
    assert!(is_true(&told.conditions, READY));
    assert!(!is_true(&told.conditions, "Redundant"));
    assert_eq!(told.instances.as_deref(), Some("2/3"));
}

proptest! {
    #[test]
    fn every_name_that_is_let_in_fits_everywhere(name in "[a-z]([-a-z0-9]{0,38}[a-z0-9])?", size in 1..4096_u32) {
        let mut store = load("vault");
        store.metadata.name = Some(name);
        store.spec.storage.size = format!("{size}Gi").as_str().into();
        let first = plan(&store).unwrap();
        refuse_misfits(&first);
        prop_assert_eq!(first, plan(&store).unwrap());
    }
}
