//! What a cache turns into.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::core::ResourceExt;
use serde_json::{Value, json};

use super::{CacheInstance, CacheInstanceSpec, Inputs, PASSWORD_KEY, Persistence, auth_secret, slots};
use crate::object::{DynamicObject, object};
use crate::quantity::Amount;
use crate::shared::digest;
use crate::{Plan, Platform, Unfit, labels, network, pod, rbac};

/// Word for it in labels.
pub const APP: &str = "cache";
/// User in the image.
const USER: i64 = 10003;
/// Port of the server.
const PORT: u16 = 6379;
/// Port of the sentinels.
pub const SENTINEL_PORT: u16 = 26379;
/// Silence after which a master is given up. Shorter would take a busy server for a dead one.
const DOWN_AFTER_MS: &str = "4000";
/// The most servers the schema takes.
const MOST_REPLICAS: i32 = 7;
const MEBIBYTE: i128 = 1 << 20;

const SCRIPTS: [(&str, &str); 5] = [
    ("common.sh", include_str!("scripts/common.sh")),
    ("server.sh", include_str!("scripts/server.sh")),
    ("sentinel.sh", include_str!("scripts/sentinel.sh")),
    ("reconfigured.sh", include_str!("scripts/reconfigured.sh")),
    ("leave.sh", include_str!("scripts/leave.sh")),
];

/// Everything a cache owns.
pub fn desired(cache: &CacheInstance, inputs: &Inputs, platform: &Platform) -> Result<Plan, Unfit> {
    let server =
        Server { name: &cache.name_any(), namespace: &cache.namespace().unwrap_or_default(), spec: &cache.spec };
    pod::fits("spec.replicas", server.spec.replicas, platform)?;
    if let Some((secret, holder)) = inputs.foreign.iter().find(|(secret, _)| *secret == auth_secret(server.name)) {
        return Err(Unfit::Taken { kind: "Secret".into(), name: secret.clone(), holder: holder.clone() });
    }
    let slots = slots(cache);
    let password = inputs.passwords.get(&slots[0])?;
    let role = labels::ROLE;
    Ok(Plan::owned_by(cache, APP)
        .keeping_if(server.spec.deletion_policy.retains(), server.auth(password, platform))
        .with(rbac::service_account(server.name))
        .with(rbac::role(server.name, &[labelling(server.name)]))
        .with(rbac::binding(server.name, "Role", server.name, vec![rbac::account(server.namespace, server.name)]))
        .with(server.wall(platform))
        .with(server.configuration())
        .with(pod::headless(&server.pods(), &server.selector(), &[("valkey", PORT), ("sentinel", SENTINEL_PORT)]))
        .with(pod::service(server.name, &server.selected(role, "master"), ("valkey", PORT, "valkey")))
        .with(pod::service(
            &format!("{}-ro", server.name),
            &server.selected(role, "replica"),
            ("valkey", PORT, "valkey"),
        ))
        .with(pod::one_at_a_time(server.name, &server.selector()))
        .with(server.stateful_set(password, platform)))
}

/// The sentinels label the pods of this cache and can do nothing else.
fn labelling(name: &str) -> k8s_openapi::api::rbac::v1::PolicyRule {
    let pods = (0..MOST_REPLICAS).map(|number| format!("{name}-{number}")).collect();
    rbac::named_rule("", &["pods"], pods, &["patch"])
}

/// A cache under the names its objects go by.
struct Server<'a> {
    name: &'a str,
    namespace: &'a str,
    spec: &'a CacheInstanceSpec,
}

impl Server<'_> {
    fn pods(&self) -> String {
        format!("{}-pods", self.name)
    }

    fn configuration_name(&self) -> String {
        format!("{}-valkey", self.name)
    }

    fn selector(&self) -> BTreeMap<String, String> {
        labels::selector(APP, self.name)
    }

    fn selected(&self, label: &str, value: &str) -> BTreeMap<String, String> {
        let mut selector = self.selector();
        selector.insert(label.to_owned(), value.to_owned());
        selector
    }

    fn auth(&self, password: &str, platform: &Platform) -> DynamicObject {
        let host = platform.host(self.name, self.namespace);
        let uri = format!("redis://:{password}@{host}:{PORT}/0");
        let data = [("host", host), ("port", PORT.to_string()), (PASSWORD_KEY, password.to_owned()), ("uri", uri)]
            .map(|(key, value)| (key, ByteString(value.into_bytes())));
        let labels = json!({ labels::COMPONENT: "credentials", labels::DATA_CLASS: self.spec.data_class.word() });
        object::<Secret>(
            auth_secret(self.name),
            json!({ "type": "Opaque", "data": BTreeMap::from(data), "metadata": { "labels": labels } }),
        )
    }

    fn wall(&self, platform: &Platform) -> DynamicObject {
        let own = network::pods(&self.selector());
        let bound = network::pods(&labels::map([(&labels::may_use(APP, self.name), "true")]));
        let both = network::tcp([PORT, SENTINEL_PORT]);
        network::wall(
            self.name,
            &self.selector(),
            vec![
                network::from(vec![bound], network::tcp([PORT])),
                // The operator asks the sentinels for a switchover.
                network::from(vec![own.clone(), network::operator(platform)], both.clone()),
            ],
            vec![network::to(vec![own], both), network::to_api(platform)],
        )
    }

    fn configuration(&self) -> DynamicObject {
        let mut data: BTreeMap<&str, String> =
            SCRIPTS.into_iter().map(|(name, text)| (name, text.to_owned())).collect();
        data.insert("server.conf", self.server_conf());
        data.insert("sentinel.conf", sentinel_conf());
        object::<ConfigMap>(self.configuration_name(), json!({ "data": data }))
    }

    /// Settings of the server; password, name and master are added as it starts.
    fn server_conf(&self) -> String {
        let memory = self.spec.memory.units().unwrap_or_default();
        let (save, append) = match self.spec.persistence {
            Persistence::None => ("\"\"", "no"),
            Persistence::Snapshot => ("900 1 300 10 60 1000", "no"),
            Persistence::AppendOnly => ("\"\"", "yes"),
        };
        [
            format!("port {PORT}"),
            "bind * -::*".into(),
            "dir /data".into(),
            "tcp-keepalive 15".into(),
            format!("maxmemory {memory}"),
            format!("maxmemory-policy {}", self.spec.eviction.word()),
            format!("save {save}"),
            format!("appendonly {append}"),
            "appendfsync everysec".into(),
            "repl-diskless-sync yes".into(),
            "repl-diskless-sync-delay 0".into(),
            "repl-timeout 15".into(),
            "repl-ping-replica-period 2".into(),
            format!("min-replicas-to-write {}", self.spec.min_replicas_to_write),
            "min-replicas-max-lag 10".into(),
            format!("replica-announce-port {PORT}"),
            String::new(),
        ]
        .join("\n")
    }

    fn stateful_set(&self, password: &str, platform: &Platform) -> DynamicObject {
        let retention = if self.spec.deletion_policy.retains() { "Retain" } else { "Delete" };
        let claims = self.spec.storage.as_ref().map(|storage| vec![pod::volume_claim("data", storage, platform)]);
        object::<StatefulSet>(
            self.name,
            json!({ "spec": {
                "serviceName": self.pods(),
                "replicas": if self.spec.suspend { 0 } else { self.spec.replicas },
                "podManagementPolicy": "Parallel",
                "updateStrategy": { "type": "RollingUpdate" },
                // The next server is restarted only when this one has had time to copy the data.
                "minReadySeconds": 10,
                "revisionHistoryLimit": 3,
                "persistentVolumeClaimRetentionPolicy":
                    claims.as_ref().map(|_| json!({ "whenDeleted": retention, "whenScaled": "Retain" })),
                "selector": { "matchLabels": self.selector() },
                "template": { "metadata": self.pod_metadata(password), "spec": self.pod(platform) },
                "volumeClaimTemplates": claims,
            } }),
        )
    }

    fn pod_metadata(&self, password: &str) -> Value {
        let mut labels = self.selector();
        labels.insert(labels::PART_OF.into(), labels::hospital_of(self.namespace).into());
        labels.insert(labels::DATA_CLASS.into(), self.spec.data_class.word().into());
        let (server, sentinel) = (self.server_conf(), sentinel_conf());
        let read_at_start = SCRIPTS.iter().map(|(_, text)| *text).chain([server.as_str(), sentinel.as_str(), password]);
        json!({
            "labels": labels,
            "annotations": { "hz.hospital/configuration": digest(read_at_start.map(str::as_bytes))[..16] },
        })
    }

    fn pod(&self, platform: &Platform) -> Value {
        let data = self.spec.storage.is_none().then(|| pod::scratch("data", &Amount::from("64Mi")));
        let scratch = ["server", "sentinel", "tmp"].map(|name| pod::scratch(name, &Amount::from("16Mi")));
        let scripts =
            json!({ "name": "scripts", "configMap": { "name": self.configuration_name(), "defaultMode": 0o555 } });
        json!({
            "serviceAccountName": self.name,
            "automountServiceAccountToken": true,
            "enableServiceLinks": false,
            "dnsConfig": pod::dns(),
            "securityContext": pod::restricted(Some(USER)),
            "terminationGracePeriodSeconds": 30,
            "affinity": pod::apart(&self.selector(), &platform.spread_over),
            "tolerations": pod::steadfast(),
            "containers": [self.server(platform), self.sentinel(platform)],
            "volumes": std::iter::once(scripts).chain(scratch).chain(data).collect::<Vec<_>>(),
        })
    }

    fn server(&self, platform: &Platform) -> Value {
        let memory = self.spec.memory.units().unwrap_or_default();
        // Beyond its data a server needs room for connections, for copies that catch up, and for a snapshot.
        let whole = (memory + (memory / 2).max(64 * MEBIBYTE)) / MEBIBYTE;
        let whole = Amount::mebibytes(whole);
        json!({
            "name": "valkey",
            "image": platform.images.valkey,
            "imagePullPolicy": pod::PULL,
            "command": ["bash", "/etc/hz/server.sh"],
            "env": self.environment(platform),
            "ports": [{ "name": "valkey", "containerPort": PORT, "protocol": "TCP" }],
            "readinessProbe": {
                "exec": { "command": ["sh", "-c", "test \"$(valkey-cli ping)\" = PONG"] },
                "periodSeconds": 3, "timeoutSeconds": 3, "failureThreshold": 3,
            },
            "lifecycle": { "preStop": { "exec": { "command": ["bash", "/etc/hz/leave.sh"] } } },
            "resources": pod::resources(&self.spec.cpu, &whole, &whole),
            "securityContext": pod::locked(),
            "volumeMounts": mounts("server"),
        })
    }

    fn sentinel(&self, platform: &Platform) -> Value {
        json!({
            "name": "sentinel",
            "image": platform.images.valkey,
            "imagePullPolicy": pod::PULL,
            "command": ["bash", "/etc/hz/sentinel.sh"],
            "env": self.environment(platform),
            "ports": [{ "name": "sentinel", "containerPort": SENTINEL_PORT, "protocol": "TCP" }],
            "readinessProbe": {
                "tcpSocket": { "port": "sentinel" }, "periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": 3,
            },
            "resources": pod::resources(&Amount::from("10m"), &Amount::from("32Mi"), &Amount::from("64Mi")),
            "securityContext": pod::locked(),
            "volumeMounts": mounts("sentinel"),
        })
    }

    fn environment(&self, platform: &Platform) -> Value {
        json!([
            pod::from_field("POD_NAME", "metadata.name"),
            pod::from_field("POD_NAMESPACE", "metadata.namespace"),
            pod::variable("INSTANCE", self.name),
            pod::variable("DOMAIN", platform.host(&self.pods(), self.namespace)),
            pod::variable("REPLICAS", self.spec.replicas.to_string()),
            pod::variable("DOWN_AFTER_MS", DOWN_AFTER_MS),
            pod::from_secret("REDISCLI_AUTH", &auth_secret(self.name), PASSWORD_KEY),
        ])
    }
}

/// Settings of the sentinel; password, name and master are added as it starts for the first time. Names and not
/// addresses, because pods change their addresses and keep their names.
fn sentinel_conf() -> String {
    [
        format!("port {SENTINEL_PORT}"),
        "bind * -::*".into(),
        "dir /data".into(),
        "sentinel resolve-hostnames yes".into(),
        "sentinel announce-hostnames yes".into(),
        format!("sentinel announce-port {SENTINEL_PORT}"),
        String::new(),
    ]
    .join("\n")
}

fn mounts(own: &str) -> Value {
    json!([
        { "name": "scripts", "mountPath": "/etc/hz", "readOnly": true },
        { "name": "data", "mountPath": "/data" },
        { "name": own, "mountPath": "/run/hz" },
        { "name": "tmp", "mountPath": "/tmp" },
    ])
}
