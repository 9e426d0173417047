//! What every pod we run has in common. All of it passes Pod Security `restricted`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::quantity::Amount;
use crate::shared::Resources;

/// Images come with the bundle, so a server that has one never asks a registry.
pub const PULL: &str = "IfNotPresent";

/// Security context of a pod that runs as this user.
pub fn restricted(user: Option<i64>) -> Value {
    json!({
        "runAsNonRoot": true,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "fsGroupChangePolicy": user.map(|_| "OnRootMismatch"),
        "seccompProfile": { "type": "RuntimeDefault" },
    })
}

/// Security context of a container: no privileges, and nothing to write to but its volumes.
pub fn locked() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"] },
    })
}

/// Complete names are asked for as they stand, and not first with every search domain behind them: one question to
/// cluster DNS instead of four.
pub fn dns() -> Value {
    json!({ "options": [{ "name": "ndots", "value": "2" }] })
}

/// Requests, and a limit on memory alone: a limit on processor time only makes idle servers slow.
pub fn resources(cpu: &Amount, memory: &Amount, limit: &Amount) -> Value {
    json!({
        "requests": { "cpu": cpu.canonical().to_string(), "memory": memory.canonical().to_string() },
        "limits": { "memory": limit.canonical().to_string() },
    })
}

/// [`resources`] as a spec says them.
pub fn resources_of(spec: &Resources) -> Value {
    resources(&spec.cpu, &spec.memory, spec.limit())
}

/// A variable with a fixed value.
pub fn variable(name: &str, value: impl Into<String>) -> Value {
    json!({ "name": name, "value": value.into() })
}

/// A variable from a Secret.
pub fn from_secret(name: &str, secret: &str, key: &str) -> Value {
    json!({ "name": name, "valueFrom": { "secretKeyRef": { "name": secret, "key": key } } })
}

/// A variable from the pod's own fields.
pub fn from_field(name: &str, path: &str) -> Value {
    json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } })
}

/// A folder that goes with the pod.
pub fn scratch(name: &str, size: &Amount) -> Value {
    json!({ "name": name, "emptyDir": { "sizeLimit": size.canonical().to_string() } })
}

/// Never two on one server. The disks are the servers' own, so two copies on one would be lost together.
pub fn apart(selector: &BTreeMap<String, String>, spread_over: &str) -> Value {
    json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
        { "labelSelector": { "matchLabels": selector }, "topologyKey": spread_over }
    ] } })
}

/// Evenly over the servers that take pods now; copies of the last version do not count.
pub fn evenly(selector: &BTreeMap<String, String>, spread_over: &str) -> Value {
    json!([{
        "maxSkew": 1,
        "topologyKey": spread_over,
        "whenUnsatisfiable": "DoNotSchedule",
        "nodeTaintsPolicy": "Honor",
        "matchLabelKeys": ["pod-template-hash"],
        "labelSelector": { "matchLabels": selector },
    }])
}

/// Stay on a server that has gone quiet: the data is on its disk, so nowhere else is better, and who leads is for
/// the copies to decide, not for eviction.
pub fn steadfast() -> Value {
    json!([
        { "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute" },
        { "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute" },
    ])
}

/// A budget that lets one pod at a time go for maintenance.
pub fn one_at_a_time(name: &str, selector: &BTreeMap<String, String>) -> crate::DynamicObject {
    crate::object::object::<k8s_openapi::api::policy::v1::PodDisruptionBudget>(
        name,
        json!({ "spec": {
            "maxUnavailable": 1,
            "selector": { "matchLabels": selector },
            // A pod that does not work is no reason to hold up the maintenance that may mend it.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        } }),
    )
}

/// A Service in front of these pods. `port` is `(name, number, target)`.
pub fn service(name: &str, selector: &BTreeMap<String, String>, port: (&str, u16, &str)) -> crate::DynamicObject {
    crate::object::object::<k8s_openapi::api::core::v1::Service>(
        name,
        json!({ "spec": {
            "type": "ClusterIP",
            "selector": selector,
            "ports": [{ "name": port.0, "port": port.1, "targetPort": port.2, "protocol": "TCP" }],
        } }),
    )
}

/// Names for each pod of a StatefulSet, ready or not: copies must find each other to become ready.
pub fn headless(name: &str, selector: &BTreeMap<String, String>, ports: &[(&str, u16)]) -> crate::DynamicObject {
    let ports: Vec<Value> = ports
        .iter()
        .map(|(name, port)| json!({ "name": name, "port": port, "targetPort": name, "protocol": "TCP" }))
        .collect();
    crate::object::object::<k8s_openapi::api::core::v1::Service>(
        name,
        json!({ "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": true,
            "selector": selector,
            "ports": ports,
        } }),
    )
}

/// A template for a volume of each copy, if it has one.
pub fn volume_claim(name: &str, storage: &crate::shared::Storage, platform: &crate::Platform) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": { "name": name },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "volumeMode": "Filesystem",
            "storageClassName": storage.storage_class.as_ref().unwrap_or(&platform.storage_class),
            "resources": { "requests": { "storage": storage.size.canonical().to_string() } },
        },
    })
}

/// More copies than servers can never all run.
pub fn fits(field: &str, copies: i32, platform: &crate::Platform) -> Result<(), crate::Unfit> {
    match platform.workers {
        Some(workers) if copies > workers => Err(crate::Unfit::refused(
            field,
            copies,
            format!("every copy needs a server of its own and there are {workers}"),
            format!("possible: 1 to {workers}"),
        )),
        _ => Ok(()),
    }
}
