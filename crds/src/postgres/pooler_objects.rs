//! What a pooler is made of: settings, pods, walls.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::core::ResourceExt;
use serde_json::{Value, json};

use super::patroni::PORT;
use super::pooler::{
    CONSOLE_KEY, CONSOLE_USER, LOOKUP, PATIENCE, POOLER_APP, POOLER_USER, PoolMode, Pooler, pooler_name, pooler_slots,
    poolers,
};
use super::tls::{self as encryption, Tls};
use super::{APP, Inputs, PASSWORD_KEY, PostgresInstance};
use crate::object::{DynamicObject, object};
use crate::shared::{Resources, digest};
use crate::{Platform, Unfit, labels, network, pod};

/// User in the image.
const USER: i64 = 10011;
/// Where the holder listens, inside the pod only.
const HOLDER_PORT: u16 = 6432;
const FOLDER: &str = "/etc/pgbouncer";
const SECRETS: &str = "/etc/hz/pooler";
const TLS_FOLDER: &str = encryption::FOLDER;
/// A pod that leaves: clients are sent elsewhere, then those at work finish, then it ends.
const LEAVE: &str = "sleep 5; kill -INT 1; sleep 50";

/// How connections are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolerTls {
    /// Not at all.
    Off,
    /// For clients that want it; to the server always, and its certificate is verified.
    Preferred,
    /// Always, on both sides.
    Required,
}

/// As the server itself does, so that whoever goes through the pooler is no worse off.
fn tls_of(instance: &PostgresInstance) -> PoolerTls {
    match instance.spec.tls {
        Tls::Required => PoolerTls::Required,
        Tls::Preferred => PoolerTls::Preferred,
        Tls::Introduced => PoolerTls::Off,
    }
}

/// What encryption needs: settings of PgBouncer towards clients, and arguments of the holder towards the server, whose
/// certificate must bear this host name and come from the authority in the mounted Secret.
fn tls(mode: PoolerTls, host: &str) -> (Vec<(&'static str, String)>, Vec<String>) {
    let side = match mode {
        PoolerTls::Off => return (vec![("client_tls_sslmode", "disable".into())], Vec::new()),
        PoolerTls::Preferred => "prefer",
        PoolerTls::Required => "require",
    };
    let settings = vec![
        ("client_tls_sslmode", side.into()),
        ("client_tls_protocols", "secure".into()),
        ("client_tls_cert_file", format!("{TLS_FOLDER}/tls.crt")),
        ("client_tls_key_file", format!("{TLS_FOLDER}/tls.key")),
    ];
    (settings, ["--authority", &format!("{TLS_FOLDER}/ca.crt"), "--host", host].map(str::to_owned).to_vec())
}

/// Everything that the poolers of an instance are made of.
pub(super) fn objects(
    instance: &PostgresInstance,
    inputs: &Inputs,
    platform: &Platform,
) -> Result<Vec<DynamicObject>, Unfit> {
    let Some(spec) = &instance.spec.pooler else { return Ok(Vec::new()) };
    let name = instance.name_any();
    let passwords: Vec<&str> =
        pooler_slots(instance).iter().map(|slot| inputs.passwords.get(slot)).collect::<Result<_, _>>()?;
    let [password, console] = passwords[..] else { return Ok(Vec::new()) };
    // The format knows no other way to write a quote than to double it; ours have none.
    let users = format!("\"{POOLER_USER}\" \"{password}\"\n\"{CONSOLE_USER}\" \"{console}\"\n");
    let data = BTreeMap::from([(PASSWORD_KEY, password), (CONSOLE_KEY, console), ("users.txt", users.as_str())]);
    let data: BTreeMap<_, _> = data.into_iter().map(|(key, value)| (key, ByteString(value.into()))).collect();
    let mode = tls_of(instance);
    let settings = settings(spec, mode);
    let mut all = vec![
        object::<Secret>(
            pooler_name(&name),
            json!({ "type": "Opaque", "data": data, "metadata": { "labels": { labels::COMPONENT: "pooler" } } }),
        ),
        object::<ConfigMap>(pooler_name(&name), json!({ "data": { "pgbouncer.ini": settings } })),
        wall(instance, platform),
    ];
    let print = digest([settings.as_bytes(), users.as_bytes()])[..16].to_owned();
    for (pooler, service) in poolers(instance) {
        let mut selector = labels::selector(POOLER_APP, &name);
        selector.insert(labels::COMPONENT.into(), pooler[name.len() + 1..].to_owned());
        all.push(pod::service(&pooler, &selector, ("postgres", PORT, "postgres")));
        all.push(pod::one_at_a_time(&pooler, &selector));
        all.push(deployment(instance, platform, (&pooler, &service), &selector, (&print, mode)));
    }
    Ok(all)
}

/// Bound services and the operator come in; it goes out to the database alone, whose wall has a door for it.
fn wall(instance: &PostgresInstance, platform: &Platform) -> DynamicObject {
    let name = instance.name_any();
    let bound = network::pods(&labels::map([(&labels::may_use(APP, &name), "true")]));
    let mut peers = vec![network::operator(platform)];
    if !instance.spec.sealed {
        peers.insert(0, bound);
    }
    let database = network::pods(&labels::selector(APP, &name));
    network::wall(
        &pooler_name(&name),
        &labels::selector(POOLER_APP, &name),
        vec![network::from(peers, network::tcp([PORT]))],
        vec![network::to(vec![database], network::tcp([PORT]))],
    )
}

/// The file that PgBouncer reads.
fn settings(spec: &Pooler, mode: PoolerTls) -> String {
    let word = match spec.mode {
        PoolMode::Transaction => "transaction",
        PoolMode::Session => "session",
    };
    let mut lines: Vec<(&str, String)> = vec![
        ("listen_addr", "*".into()),
        ("listen_port", PORT.to_string()),
        ("unix_socket_dir", String::new()),
        ("auth_type", "scram-sha-256".into()),
        ("auth_file", format!("{SECRETS}/users.txt")),
        // Who a client is, is looked up each time it comes: a new password needs no restart here.
        ("auth_user", POOLER_USER.into()),
        ("auth_dbname", "postgres".into()),
        ("auth_query", format!("SELECT name, kept FROM {LOOKUP}($1)")),
        ("admin_users", CONSOLE_USER.into()),
        ("pool_mode", word.into()),
        ("max_client_conn", spec.max_client_connections.to_string()),
        ("default_pool_size", spec.default_pool_size.to_string()),
        // Drivers prepare statements by themselves; PgBouncer makes them anew on whichever connection they meet.
        ("max_prepared_statements", "200".into()),
        ("ignore_startup_parameters", "extra_float_digits".into()),
        // The holder knows when to give up; until then a client waits.
        ("server_connect_timeout", (PATIENCE + 5).to_string()),
        ("server_login_retry", "0.2".into()),
        ("query_wait_timeout", PATIENCE.to_string()),
        ("client_login_timeout", PATIENCE.to_string()),
        ("server_idle_timeout", "300".into()),
        ("server_tls_sslmode", "disable".into()),
        ("tcp_keepalive", "1".into()),
        ("tcp_keepidle", "30".into()),
        ("tcp_keepintvl", "10".into()),
        ("tcp_keepcnt", "3".into()),
        ("log_connections", "0".into()),
        ("log_disconnections", "0".into()),
        ("log_stats", "0".into()),
    ];
    lines.extend(tls(mode, "").0);
    let lines: Vec<String> = lines.into_iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    format!("[databases]\n* = host=127.0.0.1 port={HOLDER_PORT}\n\n[pgbouncer]\n{}", lines.concat())
}

fn deployment(
    instance: &PostgresInstance,
    platform: &Platform,
    (name, service): (&str, &str),
    selector: &BTreeMap<String, String>,
    (print, mode): (&str, PoolerTls),
) -> DynamicObject {
    let namespace = instance.namespace().unwrap_or_default();
    let copies = instance.spec.pooler.as_ref().map_or(0, |spec| spec.instances);
    let mut marks = selector.clone();
    marks.insert(labels::PART_OF.into(), labels::hospital_of(&namespace).into());
    marks.insert(labels::DATA_CLASS.into(), instance.spec.data_class.word().into());
    let certificate = (mode != PoolerTls::Off).then(|| format!("{}-tls", instance.name_any()));
    let container = "kubectl.kubernetes.io/default-container";
    object::<Deployment>(
        name,
        json!({ "spec": {
            "replicas": if instance.spec.suspend { 0 } else { copies },
            "revisionHistoryLimit": 3,
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 0, "maxSurge": 1 } },
            "selector": { "matchLabels": selector },
            "template": {
                "metadata": {
                    "labels": marks,
                    "annotations": { "hz.hospital/configuration": print, container: "pgbouncer" },
                },
                "spec": {
                    "automountServiceAccountToken": false,
                    "enableServiceLinks": false,
                    "dnsConfig": pod::dns(),
                    "securityContext": pod::restricted(Some(USER)),
                    "terminationGracePeriodSeconds": 60,
                    "topologySpreadConstraints": pod::evenly(selector, &platform.spread_over),
                    "initContainers": [holder(platform, &platform.host(service, &namespace), mode, service.ends_with("-ro"))],
                    "containers": [bouncer(instance, platform, mode)],
                    "volumes": [
                        { "name": "configuration", "configMap": { "name": pooler_name(&instance.name_any()) } },
                        { "name": "secrets", "secret": {
                            "secretName": pooler_name(&instance.name_any()), "defaultMode": 0o440,
                            "items": [{ "key": "users.txt", "path": "users.txt" }],
                        } },
                        certificate.map(|secret| json!({
                            "name": "tls", "secret": { "secretName": secret, "defaultMode": 0o440 },
                        })),
                    ],
                },
            },
        } }),
    )
}

/// A sidecar: it is there before PgBouncer and ends after it, so that the last transactions come through.
fn holder(platform: &Platform, host: &str, mode: PoolerTls, reads: bool) -> Value {
    let mut args: Vec<String> =
        ["hold", "--listen", &format!("127.0.0.1:{HOLDER_PORT}"), "--to", &format!("{host}:{PORT}")]
            .map(str::to_owned)
            .to_vec();
    args.extend(["--patience-seconds".to_owned(), PATIENCE.to_string()]);
    if !reads {
        args.push("--writes".to_owned());
    }
    args.extend(tls(mode, host).1);
    json!({
        "name": "holder",
        "image": platform.images.operator,
        "imagePullPolicy": pod::PULL,
        "restartPolicy": "Always",
        "args": args,
        "resources": pod::resources(&"20m".into(), &"16Mi".into(), &"128Mi".into()),
        "securityContext": pod::locked(),
        "volumeMounts": mounts(mode),
    })
}

fn bouncer(instance: &PostgresInstance, platform: &Platform, mode: PoolerTls) -> Value {
    let knock = |period: i32, failures: i32| json!({ "tcpSocket": { "port": "postgres" }, "periodSeconds": period, "timeoutSeconds": 3, "failureThreshold": failures });
    let mut volumes = vec![
        json!({ "name": "configuration", "mountPath": FOLDER, "readOnly": true }),
        json!({ "name": "secrets", "mountPath": SECRETS, "readOnly": true }),
    ];
    volumes.extend(mounts(mode).unwrap_or_default());
    json!({
        "name": "pgbouncer",
        "image": platform.images.pgbouncer,
        "imagePullPolicy": pod::PULL,
        "args": [format!("{FOLDER}/pgbouncer.ini")],
        "ports": [{ "name": "postgres", "containerPort": PORT, "protocol": "TCP" }],
        "readinessProbe": knock(2, 3),
        "livenessProbe": knock(10, 6),
        "lifecycle": { "preStop": { "exec": { "command": ["sh", "-c", LEAVE] } } },
        "resources": pod::resources_of(&instance.spec.pooler.as_ref().map_or_else(Resources::default, |spec| spec.resources.clone())),
        "securityContext": pod::locked(),
        "volumeMounts": volumes,
    })
}

fn mounts(mode: PoolerTls) -> Option<Vec<Value>> {
    (mode != PoolerTls::Off).then(|| vec![json!({ "name": "tls", "mountPath": TLS_FOLDER, "readOnly": true })])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encrypted_to_clients_is_verified_towards_the_server() {
        let (settings, holder) = tls(PoolerTls::Required, "records.x.svc");
        assert!(settings.contains(&("client_tls_sslmode", "require".to_owned())));
        assert_eq!(holder, ["--authority", "/etc/hz/tls/ca.crt", "--host", "records.x.svc"]);
        assert!(tls(PoolerTls::Preferred, "x").0.contains(&("client_tls_sslmode", "prefer".to_owned())));
        let (settings, holder) = tls(PoolerTls::Off, "x");
        assert_eq!((settings.len(), holder.len()), (1, 0));
    }
}
