use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::conditions::{READY, is_true};
use crate::testing::{at, fixture, refuse_misfits, refuse_unknown_fields, refuse_what_restricted_refuses, running};
use crate::{Plan, Platform, Unfit, rbac};

pub(super) fn load(name: &str) -> CacheInstance {
    fixture("cache", name)
}

pub(super) fn plan(cache: &CacheInstance) -> Result<Plan, Unfit> {
    let platform = Platform::eight_nodes();
    desired(cache, &Inputs::made_up(cache, &platform), &platform)
}

#[test]
fn three_servers_with_three_sentinels() {
    let plan = plan(&load("sessions")).unwrap();
    refuse_unknown_fields(&plan);
    refuse_what_restricted_refuses(&plan);
    refuse_misfits(&plan);
    // The scripts are files of their own; here they would be read as noise.
    insta::assert_yaml_snapshot!(plan.objects(), { "[].data.*" => insta::dynamic_redaction(|value, path| {
        if path.to_string().ends_with("sh") { "(script)".into() } else { value }
    }) });
}

#[test]
fn a_persistent_cache_has_volumes_and_keeps_its_sentinels_memory() {
    let plan = plan(&load("queue")).unwrap();
    refuse_unknown_fields(&plan);
    let set = plan.find("StatefulSet", "queue").unwrap();
    insta::assert_yaml_snapshot!(&set.data["spec"]["volumeClaimTemplates"]);
    assert_eq!(set.data.pointer("/spec/persistentVolumeClaimRetentionPolicy/whenDeleted"), Some(&json!("Delete")));
    let conf = plan.find("ConfigMap", "queue-valkey").unwrap().data["data"]["live.conf"].as_str().unwrap().to_owned();
    assert!(conf.contains("\nappendonly yes\n") && conf.contains("\nmin-replicas-to-write 1\n"), "{conf}");
}

#[test]
fn what_is_left_out_is_safe() {
    let spec = load("sessions").spec;
    assert_eq!((spec.replicas, spec.persistence), (3, Persistence::None));
    assert!(spec.deletion_policy.retains());
}

#[test]
fn sentinels_may_label_their_own_pods_and_nothing_else() {
    let plan = plan(&load("sessions")).unwrap();
    let rules = plan.find("Role", "sessions").unwrap().data["rules"].clone();
    assert_eq!(rules[0]["verbs"], json!(["patch"]));
    assert_eq!(rules[0]["resourceNames"][0], "sessions-0");
    let rules: Vec<k8s_openapi::api::rbac::v1::PolicyRule> = serde_json::from_value(rules).unwrap();
    assert!(rules.iter().all(|wanted| rbac::covers(&rbac::operator_in_namespace(), wanted)));
}

#[test]
fn what_servers_take_while_they_run_starts_none_of_them_again() {
    let platform = Platform::eight_nodes();
    let template = |cache: &CacheInstance, inputs: &Inputs| {
        let plan = desired(cache, inputs, &platform).unwrap();
        plan.find("StatefulSet", "queue").unwrap().data["spec"]["template"].clone()
    };
    let cache = load("queue");
    let first = Inputs::made_up(&cache, &platform);
    let before = template(&cache, &first);
    let mut turned = first.clone();
    turned.credentials.users.get_mut("default").unwrap().next = Some("another".into());
    assert_eq!(template(&cache, &turned), before, "passwords");
    let other = changed("queue", |cache| {
        cache.spec.parameters = [("notify-keyspace-events".to_owned(), "KEA".to_owned())].into();
        cache.spec.eviction = Eviction::LeastRecentlyUsed;
        cache.spec.min_replicas_to_write = 2;
        cache.spec.persistence = Persistence::Snapshot;
        cache.spec.users = vec![user(json!({ "name": "report" }))];
    });
    assert_eq!(template(&other, &Inputs::made_up(&other, &platform)), before, "users and settings");
}

#[test]
fn more_servers_than_there_are_machines_are_refused() {
    let mut cache = load("sessions");
    cache.spec.replicas = 7;
    assert!(plan(&cache).unwrap_err().to_string().starts_with("spec.replicas is `7`"));
}

#[test]
fn a_secret_of_somebody_else_is_not_overwritten() {
    let cache = load("sessions");
    let platform = Platform::eight_nodes();
    let foreign = vec![("sessions-auth".into(), "nobody".into())];
    let inputs = Inputs { foreign, ..Inputs::made_up(&cache, &platform) };
    assert!(matches!(desired(&cache, &inputs, &platform), Err(Unfit::Taken { .. })));
}

pub(super) fn user(manifest: serde_json::Value) -> CacheUser {
    serde_json::from_value(manifest).unwrap()
}

pub(super) fn changed(name: &str, change: impl FnOnce(&mut CacheInstance)) -> CacheInstance {
    let mut cache = load(name);
    change(&mut cache);
    cache
}

#[test]
fn an_even_number_of_servers_is_refused() {
    let of = |replicas| changed("sessions", |cache| cache.spec.replicas = replicas).validate_cel();
    assert!(of(1).is_ok() && of(3).is_ok());
    assert!(of(2).is_err() && of(4).is_err());
}

#[test]
fn storage_goes_with_persistence() {
    assert!(load("queue").validate_cel().is_ok());
    assert!(load("sessions").validate_cel().is_ok());
    assert!(changed("queue", |cache| cache.spec.storage = None).validate_cel().is_err());
    assert!(changed("queue", |cache| cache.spec.persistence = Persistence::None).validate_cel().is_err());
}

#[test]
fn persistence_changes_its_manner_and_not_whether() {
    let queue = load("queue");
    let snapshot = changed("queue", |cache| cache.spec.persistence = Persistence::Snapshot);
    assert!(snapshot.validate_cel_update(&queue).is_ok());
    let none = changed("queue", |cache| {
        cache.spec.persistence = Persistence::None;
        cache.spec.storage = None;
    });
    assert!(none.validate_cel_update(&queue).is_err());
}

#[test]
fn the_class_of_storage_stays() {
    let class =
        |class: &str| changed("queue", |cache| cache.spec.storage.as_mut().unwrap().storage_class = Some(class.into()));
    assert!(class("fast").validate_cel_update(&class("fast")).is_ok());
    assert!(class("fast").validate_cel_update(&class("slow")).is_err());
    assert!(class("fast").validate_cel_update(&load("queue")).is_err());
}

#[test]
fn storage_grows_and_never_shrinks() {
    let to = |size: &str| changed("queue", |cache| cache.spec.storage.as_mut().unwrap().size = size.into());
    assert!(to("5Gi").validate_cel_update(&load("queue")).is_ok());
    assert!(to("3Gi").validate_cel_update(&load("queue")).is_err());
}

#[test]
fn writes_cannot_wait_for_more_copies_than_there_are() {
    let least = |least| changed("sessions", |cache| cache.spec.min_replicas_to_write = least).validate_cel();
    assert!(least(2).is_ok());
    assert!(least(3).is_err());
}

#[test]
fn the_engine_stays() {
    assert!(load("sessions").validate_cel_update(&load("sessions")).is_ok());
    let schema =
        serde_json::to_value(crate::crd::all()[2].spec.versions[0].schema.clone().unwrap().open_api_v3_schema).unwrap();
    let rule = schema.pointer("/properties/spec/properties/engine/x-kubernetes-validations/0/rule");
    assert_eq!(rule, Some(&json!("self == oldSelf")));
}

#[test]
fn names_are_short_enough_for_pods() {
    let named = |name: &str| changed("sessions", |cache| cache.metadata.name = Some(name.into())).validate_cel();
    assert!(named(&"a".repeat(40)).is_ok());
    assert!(named(&"a".repeat(41)).is_err());
}

pub(super) fn serving() -> Observed {
    Observed {
        pods: vec![running("sessions-0", "master"), running("sessions-1", "replica"), running("sessions-2", "replica")],
        probe: Probe::Answered,
        ..Observed::default()
    }
}

#[test]
fn a_serving_cache_says_where() {
    insta::assert_yaml_snapshot!(status(&load("sessions"), &serving(), &Platform::eight_nodes(), at("08:00:00")));
}

#[test]
fn a_pass_that_changes_nothing_changes_no_status() {
    let mut cache = load("sessions");
    let told = |cache: &CacheInstance, clock: &str| status(cache, &serving(), &Platform::eight_nodes(), at(clock));
    cache.status = Some(told(&cache, "08:00:00"));
    assert_eq!(Some(told(&cache, "09:00:00")), cache.status);
}

#[test]
fn a_lost_server_makes_it_less_redundant_and_not_unready() {
    let mut observed = serving();
    observed.pods.pop();
    let told = status(&load("sessions"), &observed, &Platform::eight_nodes(), at("08:00:00"));
    assert!(is_true(&told.conditions, READY));
    assert!(!is_true(&told.conditions, "Redundant"));
}

proptest! {
    #[test]
    fn every_name_that_is_let_in_fits_everywhere(name in "[a-z]([-a-z0-9]{0,38}[a-z0-9])?", memory in 1..4096_u32) {
        let mut cache = load("sessions");
        cache.metadata.name = Some(name);
        cache.spec.memory = format!("{memory}Mi").as_str().into();
        let first = plan(&cache).unwrap();
        refuse_misfits(&first);
        prop_assert_eq!(first, plan(&cache).unwrap());
    }
}
