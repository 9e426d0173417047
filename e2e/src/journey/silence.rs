//! After Ready, silence: for 60 seconds our operator writes nothing. A controller that writes without a reason fills
//! etcd, wakes every watcher, and hides the writes that matter.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use super::Scene;
use crate::cluster::Cluster;

const MANAGER: &str = "hz-operator";
const QUIET: Duration = Duration::from_secs(60);
/// A lease is a heartbeat by design, and the only one.
const HEARTBEAT: &str = "leases.coordination.k8s.io";

/// All that our operator has written, by object: when, and what it owned.
type Written = BTreeMap<String, Vec<String>>;

pub fn run(scene: &Scene) -> Result<()> {
    let cluster = scene.cluster();
    let kinds = kinds(&cluster)?;
    let before = written(&cluster, &kinds)?;
    ensure!(before.len() > 10, "{MANAGER} wrote only {} objects: is it another field manager?", before.len());
    let start = Instant::now();
    // The one place where time itself is what is tested.
    while start.elapsed() < QUIET {
        std::thread::sleep(Duration::from_millis(250));
    }
    let noise = noise(&before, &written(&cluster, &kinds)?);
    if !noise.is_empty() {
        bail!("{MANAGER} wrote within {} s after Ready: {}", QUIET.as_secs(), noise.join(", "));
    }
    eprintln!("    {} objects of {MANAGER} untouched for {} s", before.len(), QUIET.as_secs());
    Ok(())
}

/// Every kind that can be listed, heartbeats apart.
fn kinds(cluster: &Cluster) -> Result<String> {
    let all = cluster.kubectl("api-resources --verbs=list -o name")?;
    let kinds: Vec<&str> = all.lines().filter(|kind| *kind != HEARTBEAT && !kind.ends_with("metrics.k8s.io")).collect();
    Ok(kinds.join(","))
}

fn written(cluster: &Cluster, kinds: &str) -> Result<Written> {
    let items = cluster.items(&format!("get {kinds} -A --show-managed-fields"))?;
    Ok(items.iter().filter_map(ours).collect())
}

/// The object's identity and our entries in its managed fields; None if there are none. An event that we sent counts.
fn ours(object: &Value) -> Option<(String, Vec<String>)> {
    let meta = &object["metadata"];
    let entries = meta["managedFields"].as_array()?;
    let entries: Vec<String> =
        entries.iter().filter(|entry| entry["manager"] == MANAGER).map(Value::to_string).collect();
    let id = format!(
        "{} {}/{} ({})",
        object["kind"].as_str()?,
        meta["namespace"].as_str().unwrap_or(""),
        meta["name"].as_str()?,
        meta["uid"].as_str()?,
    );
    (!entries.is_empty()).then_some((id, entries))
}

/// What differs, in words.
fn noise(before: &Written, after: &Written) -> Vec<String> {
    let changed = after.iter().filter_map(|(id, entries)| match before.get(id) {
        None => Some(format!("created or took over {id}")),
        Some(old) if old != entries => Some(format!("changed {id}")),
        Some(_) => None,
    });
    // Events are deleted by the API server when they are old.
    let gone = before.keys().filter(|id| !after.contains_key(*id) && !id.starts_with("Event "));
    changed.chain(gone.map(|id| format!("deleted {id}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(time: &str, manager: &str) -> Written {
        let object = json!({"kind": "Service", "metadata": {"name": "a", "uid": "1",
            "managedFields": [{"manager": manager, "time": time}]}});
        ours(&object).into_iter().collect()
    }

    #[test]
    fn a_write_of_ours_is_noise_even_if_it_changed_nothing_but_the_time() {
        assert_eq!(noise(&object("1", MANAGER), &object("1", MANAGER)), Vec::<String>::new());
        assert!(noise(&object("1", MANAGER), &object("2", MANAGER))[0].starts_with("changed Service"));
    }

    #[test]
    fn a_write_of_another_is_not_ours() {
        assert!(object("1", "Patroni").is_empty());
    }

    #[test]
    fn a_new_and_a_deleted_object_are_noise() {
        let (none, one) = (Written::new(), object("1", MANAGER));
        assert!(noise(&none, &one)[0].starts_with("created"));
        assert!(noise(&one, &none)[0].starts_with("deleted"));
    }
}
