//! Metrics: an exporter beside every server, that asks it over the loopback of the pod.

use serde_json::{Value, json};

use super::tls::FOLDER;
use super::users::SYSTEM;
use super::{CacheInstanceSpec, SYSTEM_FOLDER};
use crate::quantity::Amount;
use crate::{Platform, network, pod};

/// Port on which metrics are read.
pub const PORT: u16 = 9121;
/// Label of namespaces from which metrics may be read.
const MONITORING: &str = "hz.hospital/monitoring";
/// File with the password of the platform's user, as the exporter reads it.
pub(super) const PASSWORD_FILE: &str = "exporter.json";

fn address(spec: &CacheInstanceSpec, user: &str) -> String {
    let scheme = if spec.tls.is_required() { "rediss" } else { "redis" };
    format!("{scheme}://{user}localhost:{}", super::desired::PORT)
}

/// Passwords by address: the exporter looks its own up with the user in it.
pub(super) fn password_file(spec: &CacheInstanceSpec, password: &str) -> String {
    json!({ address(spec, &format!("{SYSTEM}@")): password }).to_string()
}

/// The exporter.
pub(super) fn container(spec: &CacheInstanceSpec, platform: &Platform) -> Value {
    let mut arguments = vec![
        format!("-redis.addr={}", address(spec, "")),
        format!("-redis.user={SYSTEM}"),
        format!("-redis.password-file={SYSTEM_FOLDER}/{PASSWORD_FILE}"),
        format!("-web.listen-address=:{PORT}"),
    ];
    let mut mounts = vec![json!({ "name": "system", "mountPath": SYSTEM_FOLDER, "readOnly": true })];
    if spec.tls.is_required() {
        arguments.push(format!("-tls-ca-cert-file={FOLDER}/ca.crt"));
        mounts.push(json!({ "name": "tls", "mountPath": FOLDER, "readOnly": true }));
    }
    json!({
        "name": "metrics",
        "image": platform.images.redis_exporter,
        "imagePullPolicy": pod::PULL,
        "args": arguments,
        "ports": [{ "name": "metrics", "containerPort": PORT, "protocol": "TCP" }],
        "resources": pod::resources(&Amount::from("5m"), &Amount::from("16Mi"), &Amount::from("64Mi")),
        "securityContext": pod::locked(),
        "volumeMounts": mounts,
    })
}

/// Lets whoever watches the hospital read metrics, and nothing else.
pub(super) fn door() -> Value {
    let monitoring = json!({ "namespaceSelector": { "matchLabels": { MONITORING: "true" } } });
    network::from(vec![monitoring], network::tcp([PORT]))
}
