//! Looking at a running cluster.

use std::collections::BTreeMap;

use hz_crds::backup::HEALTHY;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use kube::{Api as Kind, Client, ResourceExt};
use serde_json::Value;

use super::Item;
use crate::bootstrap::api::{Api, NodeLook, ReleaseLook};
use crate::bootstrap::fault::Fault;
use crate::bootstrap::server::Server;
use crate::bootstrap::steps::{hospital, release, verify};
use crate::cluster::{Cluster, Role};
use crate::node::types::Member;

/// Kinds of ours, and how they are called in a list.
const KINDS: [(&str, &str); 4] = [
    ("Hospital", "hospitals"),
    ("PostgresInstance", "databases"),
    ("CacheInstance", "caches"),
    ("MedicalService", "services"),
];

/// Everything, asked at once.
pub async fn all(cluster: &Cluster, api: &Api, server: &Server) -> Result<Vec<Item>, Fault> {
    let members = server.node::<_, Vec<Member>>("failed to list the members of etcd", &["etcd-members"], &());
    let (nodes, members, releases, unready, objects) = tokio::join!(
        api.nodes(),
        members,
        api.releases(),
        verify::add_ons_of(api.client.clone(), 0),
        objects(api.client.clone()),
    );
    let mut items = nodes_of(cluster, &nodes?);
    items.extend(etcd_of(cluster, members));
    items.extend(releases_of(cluster, &releases?));
    let pods = "`kubectl get pods -A` shows which do not start, `kubectl describe` why";
    items.extend(unready?.into_iter().map(|what| {
        let (name, state) = what.split_once(": ").unwrap_or((&what, ""));
        Item::wrong("HZ-HC-ADDON", "add-ons", name, state, pods)
    }));
    items.extend(objects);
    Ok(items)
}

/// Each host of cluster.yaml as a node.
pub fn nodes_of(cluster: &Cluster, nodes: &BTreeMap<String, NodeLook>) -> Vec<Item> {
    let item = |host: &crate::cluster::Host| {
        let group = if host.role == Role::ControlPlane { "control planes" } else { "workers" };
        let id = "HZ-HC-NODE";
        match nodes.get(&host.name) {
            None => Item::wrong(
                id,
                group,
                &host.name,
                "is not part of the cluster",
                "run `hzctl bootstrap` again: it brings in what is missing",
            ),
            Some(node) if node.ready => Item::well(id, group, &host.name, "ready"),
            Some(node) if node.message.contains("stopped posting") => {
                let fix = format!("see whether {} is up and reached; `systemctl status kubelet` there", host.address);
                Item::wrong(id, group, &host.name, "has fallen silent", fix)
            }
            Some(node) => {
                let state = format!("not ready: {}", node.message);
                Item::wrong(id, group, &host.name, state, "`journalctl -u kubelet` on the host tells why")
            }
        }
    };
    cluster.control_planes().chain(cluster.workers()).map(item).collect()
}

fn etcd_of(cluster: &Cluster, members: Result<Vec<Member>, Fault>) -> Vec<Item> {
    let id = "HZ-HC-ETCD";
    let members = match members {
        Ok(members) => members,
        Err(fault) => {
            return vec![Item::wrong(
                id,
                "etcd",
                "members",
                fault.to_string(),
                "see `journalctl -u kubelet` and the etcd pod on a control plane",
            )];
        }
    };
    let item = |host: &crate::cluster::Host| match crate::bootstrap::decide::member_of(&members, host) {
        Some(member) if member.name.is_empty() => Item::wrong(
            id,
            "etcd",
            &host.name,
            "was added and never came up",
            "run `hzctl bootstrap` again: it takes the member out and adds it anew",
        ),
        Some(member) if member.learner => {
            Item::wrong(id, "etcd", &host.name, "learns and does not vote yet", "wait, or run `hzctl bootstrap` again")
        }
        Some(_) => Item::well(id, "etcd", &host.name, "votes"),
        None => Item::wrong(id, "etcd", &host.name, "is no member", "run `hzctl bootstrap` again"),
    };
    cluster.control_planes().map(item).collect()
}

fn releases_of(cluster: &Cluster, releases: &BTreeMap<String, ReleaseLook>) -> Vec<Item> {
    let again = "run `hzctl bootstrap` again";
    let item = |one: release::Release| {
        let id = "HZ-HC-RELEASE";
        match releases.get(one.name) {
            None => Item::wrong(id, "add-ons", one.name, "is not installed", again),
            Some(found) if found.status != "deployed" => {
                Item::wrong(id, "add-ons", one.name, format!("its installation is {}", found.status), again)
            }
            Some(found) if !found.missing.is_empty() => {
                Item::wrong(id, "add-ons", one.name, format!("lacks {}", found.missing.join(", ")), again)
            }
            Some(_) => Item::well(id, "add-ons", one.name, "installed"),
        }
    };
    release::all(cluster).into_iter().map(item).collect()
}

/// Hospitals and what they have.
async fn objects(client: Client) -> Vec<Item> {
    let mut items = Vec::new();
    for (kind, group) in KINDS {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("hz.hospital", "v1alpha1", kind));
        let listed = Kind::<DynamicObject>::all_with(client.clone(), &resource).list(&ListParams::default()).await;
        for object in listed.map(|list| list.items).unwrap_or_default() {
            let name = match object.namespace() {
                Some(namespace) => format!("{namespace}/{}", object.name_any()),
                None => object.name_any(),
            };
            let value = serde_json::to_value(&object).unwrap_or_default();
            items.push(match hospital::readiness(&value) {
                Ok(()) => Item::well("HZ-HC-HOSPITAL", group, name, ready(&value)),
                Err(why) => {
                    let fix = format!("`kubectl describe {} {}` tells more", kind.to_lowercase(), object.name_any());
                    Item::wrong("HZ-HC-HOSPITAL", group, name, why, fix)
                }
            });
        }
    }
    items
}

/// A database that works is well even while its backups are not, but whoever looks should read of it.
fn ready(object: &Value) -> String {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    match conditions.iter().find(|condition| condition["type"] == HEALTHY && condition["status"] == "False") {
        None => "ready".to_owned(),
        Some(backups) => {
            let text = |key: &str| backups[key].as_str().unwrap_or_default().to_owned();
            format!("ready, but not backed up as it should be: {} ({})", text("message"), text("reason"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_database_that_is_ready_still_warns_of_its_backups() {
        let with = |status: &str| {
            json!({ "status": { "conditions": [
                { "type": "Ready", "status": "True" },
                { "type": "BackupHealthy", "status": status, "reason": "Overdue", "message": "the last is old" },
            ] } })
        };
        assert_eq!(ready(&with("False")), "ready, but not backed up as it should be: the last is old (Overdue)");
        assert_eq!((ready(&with("True")), ready(&with("Unknown"))), ("ready".to_owned(), "ready".to_owned()));
        assert_eq!(ready(&json!({})), "ready");
    }
}
