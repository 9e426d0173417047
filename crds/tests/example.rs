//! The example hospital is one that the platform takes.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // reading the example is what this test is about

use std::collections::BTreeMap;

use hz_crds::cache::{self, CacheInstance};
use hz_crds::hospital::{self, Hospital};
use hz_crds::postgres::{self, PostgresInstance};
use hz_crds::quantity::Amount;
use hz_crds::service::{self, MedicalService};
use hz_crds::{Certificates, KeyPair, Passwords, Plan, Platform, Slot};
use serde::Deserialize;
use serde_json::Value;

fn documents() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/eight-node-cluster/hospital.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    serde_yaml::Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap()).collect()
}

fn read<K: serde::de::DeserializeOwned>(document: &Value) -> K {
    serde_json::from_value(document.clone()).unwrap()
}

fn made(slots: Vec<Slot>) -> Passwords {
    slots.into_iter().map(|slot| (slot, "p".repeat(32))).collect()
}

fn plans() -> Vec<Plan> {
    let platform = Platform::eight_nodes();
    let plan = |document: &Value| match document["kind"].as_str().unwrap() {
        "Hospital" => hospital::desired(&read::<Hospital>(document), &hospital::Inputs::default(), &platform),
        "PostgresInstance" => {
            let instance: PostgresInstance = read(document);
            let pair = || KeyPair { ca_crt: "1".into(), ca_key: "2".into(), tls_crt: "3".into(), tls_key: "4".into() };
            let slot = postgres::tls::certificate(&instance, &platform);
            let certificates = Certificates::default().with(&slot, pair());
            let passwords = made(postgres::slots(&instance));
            let inputs = postgres::Inputs { passwords, certificates, ..Default::default() };
            postgres::desired(&instance, &inputs, &platform)
        }
        "CacheInstance" => {
            let instance: CacheInstance = read(document);
            let inputs = cache::Inputs::made_up(&instance, &platform);
            cache::desired(&instance, &inputs, &platform)
        }
        "MedicalService" => {
            let service: MedicalService = read(document);
            let secrets = service::secrets(&service).into_iter().map(|secret| (secret, "0".repeat(16))).collect();
            service::desired(&service, &service::Inputs { secrets, ..Default::default() }, &platform)
        }
        other => panic!("{other} is no kind of ours"),
    };
    documents().iter().map(|document| plan(document).unwrap()).collect()
}

#[test]
fn every_object_becomes_a_plan() {
    assert_eq!(plans().len(), 5);
}

#[test]
fn every_secret_that_a_service_needs_is_made_by_another_object() {
    let plans = plans();
    let made: Vec<String> = plans
        .iter()
        .flat_map(Plan::objects)
        .filter(|object| object.types.as_ref().unwrap().kind == "Secret")
        .filter_map(|object| object.metadata.name.clone())
        .collect();
    for document in documents().iter().filter(|document| document["kind"] == "MedicalService") {
        for secret in service::secrets(&read::<MedicalService>(document)) {
            assert!(made.contains(&secret), "nobody makes {secret}");
        }
    }
}

/// Two cores run eight servers in the lab, so little must be set aside, or pods would never be placed.
#[test]
fn all_of_it_fits_into_its_quota_and_into_the_lab() {
    let mut total: BTreeMap<&str, i128> = BTreeMap::new();
    for plan in plans() {
        for object in plan.objects() {
            let copies = i128::from(object.data.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0));
            let containers = object.data.pointer("/spec/template/spec/containers").and_then(Value::as_array);
            for container in containers.into_iter().flatten() {
                for what in ["cpu", "memory"] {
                    let amount = Amount::from(container["resources"]["requests"][what].as_str().unwrap());
                    *total.entry(what).or_default() += copies * amount.millis().unwrap();
                }
            }
        }
    }
    assert!(total["cpu"] <= 500, "{} thousandths of a core are set aside", total["cpu"]);
    assert!(total["memory"] / 1000 <= 2 << 30, "{} bytes are set aside", total["memory"] / 1000);
}

#[test]
fn the_backups_of_the_example_are_of_kinds_that_are_there() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/eight-node-cluster/backups.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let documents: Vec<Value> =
        serde_yaml::Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap()).collect();
    let [store, plan, drill] = &documents[..] else { panic!("{} documents", documents.len()) };
    let store: hz_crds::store::ObjectStore = read(store);
    let plan: hz_crds::backup::BackupPlan = read(plan);
    let drill: hz_crds::backup::RestoreDrill = read(drill);
    let to = plan.spec.destination.object_store.unwrap();
    assert_eq!(Some(&to.name), store.metadata.name.as_ref());
    assert!(store.spec.buckets.contains(&to.bucket));
    assert_eq!(Some(&drill.spec.plan), plan.metadata.name.as_ref());
    hz_crds::backup::schedule::parse("spec.schedule", &drill.spec.schedule).unwrap();
}
