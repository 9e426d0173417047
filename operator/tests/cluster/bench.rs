//! What it costs. `HZ_BENCH=1 cargo test --release -p hz-operator --test cluster bench -- --nocapture` prints figures.

use std::time::{Duration, Instant};

use hz_operator::engine::metrics::resident_bytes;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::lab::{Lab, resource};

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
    for number in 0..count {
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
    crate::lab::eventually("every object was passed over", || async {
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
        by_hand[count / 2]
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

fn p99(waits: &mut [Duration]) -> Duration {
    waits.sort();
    waits[(waits.len() * 99 / 100).min(waits.len() - 1)]
}
