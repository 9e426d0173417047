//! Nodes from the Kubernetes API: one watch, no polling, no writes but one condition where somebody set it.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt, TryStreamExt};
use kube::{
    Api, Client, Config,
    api::{ApiResource, Patch, PatchParams},
    core::Object,
    runtime::{WatchStreamExt, watcher},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;
use tracing::{info, warn};

use super::Nodes;
use crate::{agent::chain, health::Health, node::Node};

/// A Node object without what we do not read (its list of images alone is most of it).
type Slim = Object<SlimSpec, SlimStatus>;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SlimSpec {
    #[serde(rename = "podCIDR")]
    pod_cidr: String,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct SlimStatus {
    addresses: Vec<SlimAddress>,
    conditions: Vec<SlimCondition>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct SlimAddress {
    r#type: String,
    address: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct SlimCondition {
    r#type: String,
    status: String,
}

/// Why the API cannot be watched at all.
#[derive(Debug, thiserror::Error)]
pub enum Unwatchable {
    /// Not in a pod, and no kubeconfig.
    #[error("found no way to the Kubernetes API (run in a pod, or with KUBECONFIG, or use --nodes-from)")]
    NoConfig(#[source] kube::config::InferConfigError),
    /// The client could not be made.
    #[error("failed to make a client of the Kubernetes API")]
    Client(#[source] kube::Error),
}

/// Follow the nodes of the API. `me` is this node.
pub async fn watch_api(me: String, health: Arc<Health>) -> Result<watch::Receiver<Nodes>, Unwatchable> {
    let config = Config::infer().await.map_err(Unwatchable::NoConfig)?;
    let client = Client::try_from(config).map_err(Unwatchable::Client)?;
    let (sender, receiver) = watch::channel(None);
    let (flag, flagged) = watch::channel(false);
    tokio::spawn(clear_unavailable(client.clone(), me.clone(), health, flagged));
    tokio::spawn(follow(client, me, sender, flag));
    Ok(receiver)
}

async fn follow(client: Client, me: String, sender: watch::Sender<Nodes>, flag: watch::Sender<bool>) {
    let api: Api<Slim> = Api::all_with(client, &resource());
    let mut known = BTreeMap::new();
    let mut listing = BTreeMap::new();
    let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
    let mut complaint = String::new();
    loop {
        match events.try_next().await {
            Ok(Some(event)) => {
                // A list that begins is no answer yet.
                if !matches!(event, watcher::Event::Init) && !std::mem::take(&mut complaint).is_empty() {
                    info!("the API answers again");
                }
                match event {
                    watcher::Event::Init => listing.clear(),
                    watcher::Event::InitApply(object) => {
                        note(&object, &me, &flag);
                        insert(&mut listing, &object);
                        continue;
                    }
                    watcher::Event::InitDone => known = std::mem::take(&mut listing),
                    watcher::Event::Apply(object) => {
                        note(&object, &me, &flag);
                        insert(&mut known, &object);
                    }
                    watcher::Event::Delete(object) => {
                        known.remove(object.metadata.name.as_deref().unwrap_or_default());
                    }
                }
                if !known.is_empty() {
                    publish(&sender, &known);
                }
            }
            Ok(None) => return,
            Err(error) => {
                let why = chain(&error);
                if why != complaint {
                    warn!("watching nodes: {why}; trying again, routes stay as they are");
                    complaint = why;
                }
            }
        }
    }
}

fn publish(sender: &watch::Sender<Nodes>, known: &BTreeMap<String, Node>) {
    sender.send_if_modified(|told| {
        let same = told.as_ref().is_some_and(|told| told.iter().eq(known.values()));
        if !same {
            *told = Some(Arc::new(known.values().cloned().collect()));
        }
        !same
    });
}

fn insert(nodes: &mut BTreeMap<String, Node>, object: &Slim) {
    let name = object.metadata.name.clone().unwrap_or_default();
    let node = read(&name, object);
    nodes.insert(name, node);
}

fn read(name: &str, object: &Slim) -> Node {
    let addresses = object.status.iter().flat_map(|status| &status.addresses);
    let ranges: Vec<&str> = if object.spec.pod_cidrs.is_empty() {
        Some(object.spec.pod_cidr.as_str()).filter(|range| !range.is_empty()).into_iter().collect()
    } else {
        object.spec.pod_cidrs.iter().map(String::as_str).collect()
    };
    Node::parse(
        name,
        addresses.filter(|address| address.r#type == "InternalIP").map(|address| address.address.as_str()),
        ranges,
    )
}

/// Note whether somebody (a cloud's controller) declared our network unavailable.
fn note(object: &Slim, me: &str, flag: &watch::Sender<bool>) {
    if object.metadata.name.as_deref() != Some(me) {
        return;
    }
    let unavailable = object
        .status
        .iter()
        .flat_map(|status| &status.conditions)
        .any(|condition| condition.r#type == "NetworkUnavailable" && condition.status == "True");
    flag.send_if_modified(|before| std::mem::replace(before, unavailable) != unavailable);
}

/// Take that declaration back as soon as the routes are in place. Without one, nothing is ever written.
async fn clear_unavailable(client: Client, me: String, health: Arc<Health>, mut flagged: watch::Receiver<bool>) {
    let api: Api<Slim> = Api::all_with(client, &resource());
    let mut ready = health.ready();
    loop {
        if flagged.wait_for(|unavailable| *unavailable).await.is_err() || ready.wait_for(|ready| *ready).await.is_err()
        {
            return;
        }
        let now = k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let patch = Patch::Strategic(json!({ "status": { "conditions": [{
            "type": "NetworkUnavailable",
            "status": "False",
            "reason": "NetguardIsUp",
            "message": "netguard has routes to the pods of all nodes",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }] } }));
        match api.patch_status(&me, &PatchParams::default(), &patch).await {
            Ok(_) => {
                info!("condition NetworkUnavailable taken back");
                if flagged.wait_for(|unavailable| !*unavailable).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                warn!("failed to take back the condition NetworkUnavailable: {}", chain(&error));
                tokio::time::sleep(std::time::Duration::from_secs(10)).await;
            }
        }
    }
}

fn resource() -> ApiResource {
    ApiResource {
        group: String::new(),
        version: "v1".into(),
        api_version: "v1".into(),
        kind: "Node".into(),
        plural: "nodes".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Family;

    fn slim(value: serde_json::Value) -> Slim {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_node_object_gives_its_internal_address_and_range() {
        let object = slim(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": { "name": "cp-1" },
            "spec": { "podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"], "taints": [{ "key": "x", "effect": "NoSchedule" }] },
            "status": {
                "addresses": [{ "type": "Hostname", "address": "cp-1" }, { "type": "InternalIP", "address": "10.77.0.11" }],
                "images": [{ "names": ["a"], "sizeBytes": 1 }],
                "conditions": [{ "type": "Ready", "status": "False", "lastHeartbeatTime": "2026-01-01T00:00:00Z" }],
            },
        }));
        let node = read("cp-1", &object);
        assert_eq!(node, Node::parse("cp-1", ["10.77.0.11"], ["10.244.0.0/24"]));
    }

    #[test]
    fn a_node_that_was_just_born_has_neither() {
        let object = slim(json!({ "metadata": { "name": "cp-1" }, "spec": {} }));
        let node = read("cp-1", &object);
        assert_eq!((node.address(Family::V4), node.range(Family::V4)), (None, None));
    }

    #[test]
    fn only_this_nodes_own_condition_counts() {
        let (flag, flagged) = watch::channel(false);
        let status = json!({ "conditions": [{ "type": "NetworkUnavailable", "status": "True" }] });
        note(&slim(json!({ "metadata": { "name": "b" }, "spec": {}, "status": status })), "a", &flag);
        assert!(!*flagged.borrow());
        note(&slim(json!({ "metadata": { "name": "a" }, "spec": {}, "status": status })), "a", &flag);
        assert!(*flagged.borrow());
    }
}
