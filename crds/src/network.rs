//! Walls and the doors in them.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

use crate::object::{DynamicObject, object};
use crate::{Platform, labels};

/// Ports of one protocol, as policies write them.
pub fn tcp<const N: usize>(ports: [u16; N]) -> Value {
    ports.map(|port| json!({ "protocol": "TCP", "port": port })).to_vec().into()
}

/// Pods of the same namespace with these labels.
pub fn pods(labels: &BTreeMap<String, String>) -> Value {
    json!({ "podSelector": { "matchLabels": labels } })
}

/// All pods of another namespace.
pub fn namespace(name: &str) -> Value {
    json!({ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": name } } })
}

/// The operator's pods.
pub fn operator(platform: &Platform) -> Value {
    json!({
        "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": platform.operator.namespace } },
        "podSelector": { "matchLabels": { labels::NAME: labels::MANAGER } },
    })
}

/// A rule that lets these in.
pub fn from(peers: Vec<Value>, ports: Value) -> Value {
    json!({ "from": peers, "ports": ports })
}

/// A rule that lets out to these.
pub fn to(peers: Vec<Value>, ports: Value) -> Value {
    json!({ "to": peers, "ports": ports })
}

/// A rule that lets out to the API servers, and, if their addresses are not known, to that port anywhere.
/// Addresses only: the API servers run on the hosts' network, where no selector finds them.
pub fn to_api(platform: &Platform) -> Value {
    let peers: Vec<Value> =
        platform.api_servers.iter().map(|address| json!({ "ipBlock": { "cidr": whole(address) } })).collect();
    let ports = tcp([platform.api_port]);
    if peers.is_empty() { json!({ "ports": ports }) } else { to(peers, ports) }
}

fn whole(address: &str) -> String {
    let bits = if address.contains(':') { 128 } else { 32 };
    format!("{address}/{bits}")
}

/// A policy for these pods, or for all if no label is named: what is not named here stays shut.
pub fn wall(name: &str, who: &BTreeMap<String, String>, ingress: Vec<Value>, egress: Vec<Value>) -> DynamicObject {
    object::<NetworkPolicy>(
        name,
        json!({ "spec": {
            // An empty map would come back as none, and look like a change to whoever compares.
            "podSelector": { "matchLabels": (!who.is_empty()).then_some(who) },
            "policyTypes": ["Ingress", "Egress"],
            "ingress": (!ingress.is_empty()).then_some(ingress),
            "egress": (!egress.is_empty()).then_some(egress),
        } }),
    )
}

/// Everybody in the namespace may ask cluster DNS.
pub fn to_dns(platform: &Platform) -> Value {
    json!({
        "to": [{
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": platform.dns.namespace } },
            "podSelector": { "matchLabels": { "k8s-app": platform.dns.app } },
        }],
        "ports": [{ "protocol": "UDP", "port": 53 }, { "protocol": "TCP", "port": 53 }],
    })
}
