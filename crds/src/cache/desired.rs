//! What a cache turns into.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::core::ResourceExt;
use serde_json::{Value, json};

use super::live::live;
use super::tls::{self, FOLDER, certificate};
use super::{
    CacheInstance, CacheInstanceSpec, Inputs, Live, PASSWORD_KEY, SYSTEM_FOLDER, metrics, parameters, system_secret,
    system_slot, users,
};
use crate::object::{DynamicObject, object};
use crate::quantity::Amount;
use crate::shared::digest;
use crate::{Plan, Platform, Unfit, certificates, labels, network, pod, rbac};

/// Word for it in labels.
pub const APP: &str = "cache";
/// User in the image.
const USER: i64 = 10003;
/// Port of the server.
pub const PORT: u16 = 6379;
/// Port of the sentinels.
pub const SENTINEL_PORT: u16 = 26379;
/// Silence after which a master is given up. Shorter would take a busy server for a dead one.
const DOWN_AFTER_MS: &str = "4000";
/// The most servers the schema takes.
const MOST_REPLICAS: i32 = 7;
const MEBIBYTE: i128 = 1 << 20;

const SCRIPTS: [(&str, &str); 7] = [
    ("common.sh", include_str!("scripts/common.sh")),
    ("server.sh", include_str!("scripts/server.sh")),
    ("sentinel.sh", include_str!("scripts/sentinel.sh")),
    ("reconfigured.sh", include_str!("scripts/reconfigured.sh")),
    ("leave.sh", include_str!("scripts/leave.sh")),
    ("ready.sh", include_str!("scripts/ready.sh")),
    ("cli.sh", include_str!("scripts/cli.sh")),
];

/// Everything a cache owns.
pub fn desired(cache: &CacheInstance, inputs: &Inputs, platform: &Platform) -> Result<Plan, Unfit> {
    let server =
        Server { name: &cache.name_any(), namespace: &cache.namespace().unwrap_or_default(), spec: &cache.spec };
    pod::fits("spec.replicas", server.spec.replicas, platform)?;
    if let Some((secret, holder)) = inputs.foreign.first() {
        return Err(Unfit::Taken { kind: "Secret".into(), name: secret.clone(), holder: holder.clone() });
    }
    users::check(cache)?;
    tls::stays(cache, inputs.running)?;
    let live = live(cache, inputs)?;
    let system = inputs.passwords.get(&system_slot(cache))?;
    let pair = match server.spec.tls.is_required() {
        true => Some(inputs.certificates.get(&certificate(cache, platform))?),
        false => None,
    };
    let keep = server.spec.deletion_policy.retains();
    // First: what is handed out afterwards has to be remembered.
    let mut plan = Plan::owned_by(cache, APP).keeping_if(keep, server.system(system, &live, inputs));
    if let Some(pair) = pair {
        plan = plan.with(pair.secret(&certificate(cache, platform)));
    }
    for (user, secret) in users::secrets(cache) {
        let Some(held) = inputs.credentials.users.get(&user) else { continue };
        let authority = pair.map(|pair| pair.ca_crt.as_str());
        let object = server.credentials(&secret, &user, &held.password, authority, platform);
        plan = plan.keeping_if(keep && user == users::DEFAULT, object);
    }
    let role = labels::ROLE;
    Ok(plan
        .with(rbac::service_account(server.name))
        .with(rbac::role(server.name, &[labelling(server.name)]))
        .with(rbac::binding(server.name, "Role", server.name, vec![rbac::account(server.namespace, server.name)]))
        .with(server.wall(platform))
        .with(server.configuration(&live))
        .with(pod::headless(&server.pods(), &server.selector(), &[("valkey", PORT), ("sentinel", SENTINEL_PORT)]))
        .with(pod::service(server.name, &server.selected(role, "master"), ("valkey", PORT, "valkey")))
        .with(pod::service(
            &format!("{}-ro", server.name),
            &server.selected(role, "replica"),
            ("valkey", PORT, "valkey"),
        ))
        .with(pod::one_at_a_time(server.name, &server.selector()))
        .with(server.stateful_set(platform)))
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

    /// What a user needs to connect.
    fn credentials(
        &self,
        secret: &str,
        user: &str,
        password: &str,
        authority: Option<&str>,
        platform: &Platform,
    ) -> DynamicObject {
        let host = platform.host(self.name, self.namespace);
        let scheme = if self.spec.tls.is_required() { "rediss" } else { "redis" };
        let named = if user == users::DEFAULT { "" } else { user };
        let uri = format!("{scheme}://{named}:{password}@{host}:{PORT}/0");
        let mut data = BTreeMap::from([
            ("host", host),
            ("port", PORT.to_string()),
            ("username", user.to_owned()),
            (PASSWORD_KEY, password.to_owned()),
            ("uri", uri),
        ]);
        data.extend(authority.map(|authority| (certificates::CA_CRT, authority.to_owned())));
        let labels = json!({ labels::COMPONENT: "credentials", labels::DATA_CLASS: self.spec.data_class.word() });
        object::<Secret>(secret, json!({ "type": "Opaque", "data": bytes(data), "metadata": { "labels": labels } }))
    }

    /// What only the platform knows: its own password, the users as servers read them, and passwords on their way.
    fn system(&self, password: &str, live: &Live, inputs: &Inputs) -> DynamicObject {
        let kept = serde_json::to_string(&inputs.credentials).expect("maps of text are JSON");
        let data = BTreeMap::from([
            (PASSWORD_KEY, password.to_owned()),
            (ACL_FILE, live.acl.file()),
            (metrics::PASSWORD_FILE, metrics::password_file(self.spec, password)),
            (super::CREDENTIALS_KEY, kept),
        ]);
        let labels = json!({ labels::COMPONENT: "system", labels::DATA_CLASS: self.spec.data_class.word() });
        object::<Secret>(
            system_secret(self.name),
            json!({ "type": "Opaque", "data": bytes(data), "metadata": { "labels": labels } }),
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
                metrics::door(),
            ],
            vec![network::to(vec![own], both), network::to_api(platform)],
        )
    }

    fn configuration(&self, live: &Live) -> DynamicObject {
        let mut data: BTreeMap<&str, String> =
            SCRIPTS.into_iter().map(|(name, text)| (name, text.to_owned())).collect();
        data.insert("server.conf", server_conf());
        // As it is when a server starts; what changes later is given to the running server.
        data.insert("live.conf", parameters::lines(&live.settings));
        data.insert("sentinel.conf", sentinel_conf());
        object::<ConfigMap>(self.configuration_name(), json!({ "data": data }))
    }

    fn stateful_set(&self, platform: &Platform) -> DynamicObject {
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
                "template": { "metadata": self.pod_metadata(), "spec": self.pod(platform) },
                "volumeClaimTemplates": claims,
            } }),
        )
    }

    /// Users, passwords and settings are not in it: they change while servers run.
    fn pod_metadata(&self) -> Value {
        let mut labels = self.selector();
        labels.insert(labels::PART_OF.into(), labels::hospital_of(self.namespace).into());
        labels.insert(labels::DATA_CLASS.into(), self.spec.data_class.word().into());
        labels.insert(tls::LABEL.into(), self.spec.tls.word().into());
        let (server, sentinel) = (server_conf(), sentinel_conf());
        let read_at_start = SCRIPTS.iter().map(|(_, text)| *text).chain([server.as_str(), sentinel.as_str()]);
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
        let system = [PASSWORD_KEY, ACL_FILE, metrics::PASSWORD_FILE].map(|key| json!({ "key": key, "path": key }));
        let system = json!({
            "name": "system",
            "secret": { "secretName": system_secret(self.name), "defaultMode": 0o440, "items": system },
        });
        let tls = self.spec.tls.is_required().then(|| certificates::volume("tls", &format!("{}-tls", self.name)));
        let volumes: Vec<Value> = [scripts, system].into_iter().chain(tls).chain(scratch).chain(data).collect();
        json!({
            "serviceAccountName": self.name,
            "automountServiceAccountToken": true,
            "enableServiceLinks": false,
            "dnsConfig": pod::dns(),
            "securityContext": pod::restricted(Some(USER)),
            "terminationGracePeriodSeconds": 30,
            "affinity": pod::apart(&self.selector(), &platform.spread_over),
            "tolerations": pod::steadfast(),
            "containers": [self.server(platform), self.sentinel(platform), metrics::container(self.spec, platform)],
            "volumes": volumes,
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
                "exec": { "command": ["bash", "/etc/hz/ready.sh"] },
                "periodSeconds": 3, "timeoutSeconds": 3, "failureThreshold": 3,
            },
            "lifecycle": { "preStop": { "exec": { "command": ["bash", "/etc/hz/leave.sh"] } } },
            "resources": pod::resources(&self.spec.cpu, &whole, &whole),
            "securityContext": pod::locked(),
            "volumeMounts": self.mounts("server"),
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
            "volumeMounts": self.mounts("sentinel"),
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
            pod::variable("TLS", self.spec.tls.word()),
        ])
    }

    fn mounts(&self, own: &str) -> Value {
        let mut mounts = vec![
            json!({ "name": "scripts", "mountPath": "/etc/hz", "readOnly": true }),
            json!({ "name": "system", "mountPath": SYSTEM_FOLDER, "readOnly": true }),
            json!({ "name": "data", "mountPath": "/data" }),
            json!({ "name": own, "mountPath": "/run/hz" }),
            json!({ "name": "tmp", "mountPath": "/tmp" }),
        ];
        if self.spec.tls.is_required() {
            mounts.push(json!({ "name": "tls", "mountPath": FOLDER, "readOnly": true }));
        }
        mounts.into()
    }
}

/// Users as a server reads them when it starts.
const ACL_FILE: &str = "users.acl";

fn bytes(data: BTreeMap<&str, String>) -> BTreeMap<&str, ByteString> {
    data.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes()))).collect()
}

/// Settings of the server that stay as they are while it runs; ports, users, name and master are added as it starts.
fn server_conf() -> String {
    [
        "bind * -::*".into(),
        "dir /data".into(),
        "repl-diskless-sync yes".into(),
        "repl-diskless-sync-delay 0".into(),
        "repl-timeout 15".into(),
        "repl-ping-replica-period 2".into(),
        "min-replicas-max-lag 10".into(),
        format!("replica-announce-port {PORT}"),
        String::new(),
    ]
    .join("\n")
}

/// Settings of the sentinel; ports, passwords, name and master are added as it starts. Names and not addresses, because
/// pods change their addresses and keep their names.
fn sentinel_conf() -> String {
    [
        "bind * -::*".into(),
        "dir /data".into(),
        "sentinel resolve-hostnames yes".into(),
        "sentinel announce-hostnames yes".into(),
        format!("sentinel announce-port {SENTINEL_PORT}"),
        String::new(),
    ]
    .join("\n")
}
