//! A PostgresInstance from its manifest until it answers, against the same by hand: the very objects that the operator made of
//! it, with the same image and settings, applied at once by somebody who had them ready. Turn about, in one run.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::stats::median;
use crate::{
    cluster::{Cluster, HOSPITAL, name},
    journey::{SETTLE, Scene},
    run::until,
};

const BAR: f64 = 1.5;
/// Words that are nowhere in the objects, so that one can take the place of the other.
const OURS: &str = "startdecl";
const HAND: &str = "starthand";
/// Everything that an instance is made of.
const KINDS: &str =
    "serviceaccounts,roles,rolebindings,networkpolicies,configmaps,secrets,services,poddisruptionbudgets,statefulsets";
/// What Patroni writes itself.
const PATRONIS: [&str; 4] = ["config", "failover", "leader", "sync"];
/// What a live object has and a manifest has not.
const OF_THE_SERVER: [&str; 6] =
    ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "ownerReferences"];

/// Measure and print.
pub fn run(scene: &Scene, runs: usize) -> Result<String> {
    let cluster = scene.cluster();
    let (mut ours, mut hand) = (Vec::new(), Vec::new());
    let measured = (|| {
        // Once beforehand: it gives what is applied by hand, and every server has read the image.
        declared(&cluster)?;
        let objects = assembled(&cluster)?;
        gone(&cluster)?;
        for run in 1..=runs {
            ours.push(declared(&cluster)?);
            gone(&cluster)?;
            hand.push(by_hand(&cluster, &objects)?);
            gone(&cluster)?;
            eprintln!("bench: {run} of {runs}: declared {:.1} s, by hand {:.1} s", ours[run - 1], hand[run - 1]);
        }
        Ok(())
    })();
    gone(&cluster)?;
    match measured {
        Err(cause) if ours.is_empty() || hand.is_empty() => Err(cause),
        Err(cause) => Ok(markdown(&ours, &hand) + &format!("\n**Stopped: {cause:#}**\n")),
        Ok(()) => Ok(markdown(&ours, &hand)),
    }
}

fn manifest() -> Value {
    json!({
        "apiVersion": "hz.hospital/v1alpha1", "kind": "PostgresInstance",
        "metadata": { "name": OURS, "namespace": HOSPITAL },
        "spec": {
            "instances": 3, "storage": { "size": "1Gi" }, "deletionPolicy": "Delete",
            "resources": { "cpu": "50m", "memory": "192Mi", "memoryLimit": "384Mi" },
            "databases": [{ "name": "ledger", "dataClass": "Administrative" }]
        }
    })
}

/// Seconds from `kubectl apply` to the first answer through the Service.
fn declared(cluster: &Cluster<'_>) -> Result<f64> {
    let begun = Instant::now();
    cluster.kubectl_with("apply -f -", &manifest().to_string())?;
    answers(cluster, OURS)?;
    Ok(begun.elapsed().as_secs_f64())
}

fn by_hand(cluster: &Cluster<'_>, objects: &str) -> Result<f64> {
    let begun = Instant::now();
    cluster.kubectl_with("apply -f -", objects)?;
    answers(cluster, HAND)?;
    Ok(begun.elapsed().as_secs_f64())
}

/// As the superuser, whom both have from the start; the first copy asks through the Service.
fn answers(cluster: &Cluster<'_>, instance: &str) -> Result<()> {
    let ask = format!(
        "exec -n {HOSPITAL} {instance}-0 -c postgres -- sh -c 'PGCONNECT_TIMEOUT=2 PGPASSWORD=$PATRONI_SUPERUSER_PASSWORD \
         psql -X -A -t -h {instance} -U postgres -d postgres -c \"select 1\"'"
    );
    until(&format!("an answer of {instance}"), SETTLE, || {
        let said = cluster.kubectl(&ask)?;
        ensure!(said.trim() == "1", "it said {said}");
        Ok(())
    })
}

/// The objects of the declared instance under another name, as a list to apply.
fn assembled(cluster: &Cluster<'_>) -> Result<String> {
    let live = cluster.items(&format!("get {KINDS} -n {HOSPITAL} -l app.kubernetes.io/instance={OURS}"))?;
    let items: Vec<Value> = live.into_iter().filter(|item| !is_patronis(item)).map(bare).collect();
    ensure!(
        items.iter().any(|item| item["kind"] == "StatefulSet"),
        "there is no StatefulSet among {} objects",
        items.len()
    );
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string();
    Ok(list.replace(OURS, HAND))
}

fn is_patronis(item: &Value) -> bool {
    let own = name(item);
    item["kind"] == "ConfigMap" && PATRONIS.iter().any(|part| own == format!("{OURS}-{part}"))
}

/// As one would have written it.
fn bare(mut item: Value) -> Value {
    if let Some(object) = item.as_object_mut() {
        object.remove("status");
    }
    if let Some(meta) = item["metadata"].as_object_mut() {
        meta.retain(|key, _| !OF_THE_SERVER.contains(&key.as_str()));
    }
    // Nobody's but ours to manage.
    if item["metadata"]["labels"].is_object() {
        item["metadata"]["labels"]["app.kubernetes.io/managed-by"] = json!("hand");
    }
    if item["kind"] == "Service"
        && let Some(spec) = item["spec"].as_object_mut()
    {
        let headless = spec.get("clusterIP").is_some_and(|address| address == "None");
        spec.retain(|key, _| key != "clusterIPs" && (key != "clusterIP" || headless));
    }
    item
}

/// Both instances with their volumes and what Patroni keeps.
fn gone(cluster: &Cluster<'_>) -> Result<()> {
    cluster.kubectl(&format!("delete postgresinstance -n {HOSPITAL} {OURS} --ignore-not-found --timeout=180s"))?;
    let by_hand = format!("-n {HOSPITAL} -l app.kubernetes.io/instance={HAND}");
    cluster.kubectl(&format!("delete {KINDS} {by_hand} --ignore-not-found --timeout=180s"))?;
    until("both to be gone", Duration::from_secs(180), || {
        for instance in [OURS, HAND] {
            let pods = cluster.items(&format!("get pods -n {HOSPITAL} -l app.kubernetes.io/instance={instance}"))?;
            ensure!(pods.is_empty(), "{} pods of {instance} are there", pods.len());
            for part in PATRONIS {
                cluster.kubectl(&format!("delete configmap -n {HOSPITAL} {instance}-{part} --ignore-not-found"))?;
            }
            for number in 0..3 {
                let claim =
                    format!("delete pvc -n {HOSPITAL} data-{instance}-{number} --ignore-not-found --timeout=60s");
                cluster.kubectl(&claim)?;
            }
        }
        let left = cluster.items(&format!("get secrets -n {HOSPITAL} -l app.kubernetes.io/instance={OURS}"))?;
        if let Some(secret) = left.first() {
            bail!("the Secret {} is there", name(secret));
        }
        Ok(())
    })
    .context("what was measured could not be taken away")
}

fn markdown(ours: &[f64], hand: &[f64]) -> String {
    let mut out = String::from("| pair | PostgresInstance s | by hand s | ratio |\n|---|---|---|---|\n");
    for (n, (ours, hand)) in ours.iter().zip(hand).enumerate() {
        out += &format!("| {} | {ours:.1} | {hand:.1} | {:.2} |\n", n + 1, ours / hand);
    }
    let (ours, hand) = (median(ours.to_vec()), median(hand.to_vec()));
    let ratio = ours / hand;
    let verdict = if ratio <= BAR { "met" } else { "**not met**" };
    out + &format!("| **median** | {ours:.1} | {hand:.1} | **{ratio:.2}** |\n\nBar: ratio ≤ {BAR}: {verdict}.\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_service_becomes_one_to_apply() {
        let live = json!({
            "kind": "Service", "status": {},
            "metadata": { "name": "startdecl", "uid": "1", "resourceVersion": "7", "ownerReferences": [],
                          "labels": { "app.kubernetes.io/managed-by": "hz-operator", "app.kubernetes.io/instance": "startdecl" } },
            "spec": { "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ports": [] }
        });
        assert_eq!(
            bare(live),
            json!({
                "kind": "Service",
                "metadata": { "name": "startdecl",
                              "labels": { "app.kubernetes.io/managed-by": "hand", "app.kubernetes.io/instance": "startdecl" } },
                "spec": { "ports": [] }
            })
        );
        let headless = json!({ "kind": "Service", "spec": { "clusterIP": "None", "clusterIPs": ["None"] } });
        assert_eq!(bare(headless)["spec"], json!({ "clusterIP": "None" }));
    }

    #[test]
    fn what_patroni_writes_is_not_applied() {
        let map = |name: &str| json!({ "kind": "ConfigMap", "metadata": { "name": name } });
        assert!(is_patronis(&map("startdecl-leader")));
        assert!(!is_patronis(&map("startdecl-patroni")));
    }

    #[test]
    fn the_bar_is_for_the_ratio_of_medians() {
        let table = markdown(&[12.0, 14.0, 13.0], &[10.0, 9.0, 11.0]);
        assert!(table.ends_with("| **median** | 13.0 | 10.0 | **1.30** |\n\nBar: ratio ≤ 1.5: met.\n"), "{table}");
    }
}
