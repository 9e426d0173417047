//! What it costs. `make bench BENCH=operator` prints figures: `HZ_BENCH` says with how many services.

use std::time::{Duration, Instant};

use hz_operator::engine::metrics::resident_bytes;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::lab::{Lab, eventually, resource};
use crate::process::{Program, start};

fn many(number: usize) -> Value {
    json!({"apiVersion": "hz.hospital/v1alpha1", "kind": "MedicalService",
           "metadata": {"name": format!("service-{number}"), "namespace": "hospital-many"},
           "spec": {"image": "hz.hospital/appointments:0.1.0", "replicas": 1}})
}

fn count() -> usize {
    std::env::var("HZ_BENCH").ok().and_then(|text| text.parse().ok()).map_or(40, |n: usize| n.max(40))
}

#[tokio::test(flavor = "multi_thread")]
async fn bench_a_resync_of_unchanged_objects_calls_nothing_and_making_them_costs_little_more_than_by_hand() {
    let lab = Lab::new().await;
    let count = count();
    let operator = lab.operator();
    lab.apply(&json!({"apiVersion": "hz.hospital/v1alpha1", "kind": "Hospital", "metadata": {"name": "many"}, "spec": {"displayName": "M"}})).await;
    lab.until_ready("Hospital", None, "many", "True").await;
    operator.at_rest().await;
    let idle = resident_bytes().unwrap_or_default();

    // From the custom resource to all of its objects, one at a time.
    let mut waits = Vec::new();
    for number in 0..count {
        let started = Instant::now();
        lab.apply(&many(number)).await;
        let name = format!("service-{number}");
        while lab.get("Deployment", Some("hospital-many"), &name).await.is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        waits.push(started.elapsed());
    }
    operator.at_rest().await;
    let full = resident_bytes().unwrap_or_default();

    // The same objects by a client that only writes.
    let mut objects: Vec<(String, Value)> = Vec::new();
    for (kind, _, mut object) in lab.everything("hospital-many").await {
        let meta = object["metadata"].clone();
        if meta["labels"]["app.kubernetes.io/instance"] != "service-0" {
            continue;
        }
        object["metadata"] = json!({"name": meta["name"], "namespace": "hospital-many", "labels": meta["labels"]});
        object.as_object_mut().unwrap().remove("status");
        if kind == "Service" {
            object["spec"].as_object_mut().unwrap().retain(|field, _| field == "ports" || field == "selector");
        }
        objects.push((kind, object));
    }
    let order = ["ServiceAccount", "NetworkPolicy", "Service", "PodDisruptionBudget", "Deployment"];
    objects.sort_by_key(|(kind, _)| order.iter().position(|known| known == kind));
    let mut by_hand = Vec::new();
    for number in 0..count.min(ENOUGH) {
        let started = Instant::now();
        let name = format!("by-hand-{number}");
        let mut manifest = many(number);
        manifest["metadata"]["name"] = json!(name);
        for (kind, object) in &objects {
            let mut object = object.clone();
            object["metadata"]["name"] = json!(name);
            let api: Api<DynamicObject> = Api::namespaced_with(lab.admin.clone(), "hospital-many", &resource(kind));
            api.patch(&name, &PatchParams::apply("hand").force(), &Patch::Apply(&object)).await.unwrap();
        }
        by_hand.push(started.elapsed());
    }

    // A pass over everything that changed nothing.
    operator.at_rest().await;
    let (calls, passes) = (operator.metrics.calls(), operator.metrics.reconciles("MedicalService"));
    let touch = json!({"metadata": {"annotations": {"touched": "yes"}}});
    for number in 0..count {
        let api = lab.of("MedicalService", Some("hospital-many"));
        api.patch(&format!("service-{number}"), &PatchParams::default(), &Patch::Merge(&touch)).await.unwrap();
    }
    eventually("every object was passed over", || async {
        (operator.metrics.reconciles("MedicalService") >= passes + count as u64).then_some(())
    })
    .await;
    let called = operator.metrics.calls() - calls;

    let (ours, hand) = (p99(&mut waits), p99(&mut by_hand));
    let ratio = ours.as_secs_f64() / hand.as_secs_f64();
    println!("objects of a service: {}, services: {count}", objects.len());
    println!(
        "CR -> all objects p99: {ours:?} (median {:?}); by hand: {hand:?} (median {:?}); ratio {ratio:.2}",
        waits[count / 2],
        by_hand[by_hand.len() / 2]
    );
    println!("API calls in a pass over {count} unchanged services: {called}");
    println!(
        "resident memory of the whole test process: idle {} KiB, with {count} services {} KiB",
        idle >> 10,
        full >> 10
    );
    assert_eq!(called, 0);
    assert_eq!(
        lab.of("MedicalService", Some("hospital-many"))
            .list(&Default::default())
            .await
            .unwrap()
            .iter()
            .filter(|s| s.name_any().starts_with("service-"))
            .count(),
        count
    );
}

/// Services that memory is measured with and that are made by hand, at most: more only take longer to make and to remove.
const ENOUGH: usize = 500;
/// Objects that a service is made of.
const OBJECTS: usize = 5;
/// Secrets, and ConfigMaps, of others.
const FOREIGN: usize = 600;

#[tokio::test(flavor = "multi_thread")]
async fn bench_memory_grows_little_with_objects_and_not_with_what_is_nobodys_business() {
    if std::env::var_os("HZ_BENCH").is_none() {
        return; // a program that is not optimized says nothing
    }
    let lab = Lab::new().await;
    let leases: Api<k8s_openapi::api::coordination::v1::Lease> = Api::namespaced(lab.admin.clone(), "hz-system");
    let _ = leases.delete("hz-operator", &Default::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let program = start(dir.path(), "memory");
    eventually("it leads", || async { program.leads().await.then_some(()) }).await;
    lab.apply(&json!({"apiVersion": "hz.hospital/v1alpha1", "kind": "Hospital", "metadata": {"name": "many"}, "spec": {"displayName": "M"}})).await;
    lab.until_ready("Hospital", None, "many", "True").await;
    let count = count().min(ENOUGH);

    let idle = settled(&program).await;
    make(&lab, 0..count).await;
    let alone = settled(&program).await;
    let foreign = foreign(&lab).await;
    let crowded = settled(&program).await;
    make(&lab, count..2 * count).await;
    let full = settled(&program).await;
    for api in foreign {
        api.delete_collection(&Default::default(), &Default::default()).await.unwrap();
    }

    let slope = |from: u64, to: u64| (to as f64 - from as f64) / 1024.0 / (count * OBJECTS) as f64 * 1000.0;
    println!("resident memory of the operator, {count} services of {OBJECTS} objects at a time:");
    println!("idle {:.1} MiB (bar: 20)", idle as f64 / 1024.0);
    println!("for 1,000 objects: {:.1} MiB (bar: 8)", slope(idle, alone));
    println!(
        "for {FOREIGN} Secrets and {FOREIGN} ConfigMaps of others, 4 KiB each: {:.1} MiB",
        (crowded as f64 - alone as f64) / 1024.0
    );
    println!("for 1,000 objects more, beside those: {:.1} MiB (bar: 8)", slope(crowded, full));
}

/// Services, until each has its Deployment.
async fn make(lab: &Lab, numbers: std::ops::Range<usize>) {
    for number in numbers {
        lab.apply(&many(number)).await;
        let name = format!("service-{number}");
        while lab.get("Deployment", Some("hospital-many"), &name).await.is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// What it takes when it has not changed by much for a while.
async fn settled(program: &Program) -> u64 {
    let mut before = program.resident_kib();
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let now = program.resident_kib();
        if now.abs_diff(before) < 64 {
            return now;
        }
        before = now;
    }
    before
}

/// What others keep in a namespace of theirs.
async fn foreign(lab: &Lab) -> Vec<Api<DynamicObject>> {
    lab.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "others"}})).await;
    let kinds = ["Secret", "ConfigMap"];
    for number in 0..FOREIGN {
        for kind in kinds {
            lab.apply(&json!({"apiVersion": "v1", "kind": kind,
                              "metadata": {"name": format!("theirs-{number}"), "namespace": "others"},
                              (if kind == "Secret" { "stringData" } else { "data" }): {"text": "x".repeat(4096)}}))
                .await;
        }
    }
    kinds.map(|kind| lab.of(kind, Some("others"))).to_vec()
}

fn p99(waits: &mut [Duration]) -> Duration {
    waits.sort();
    waits[(waits.len() * 99 / 100).min(waits.len() - 1)]
}
