//! The pooler: PgBouncer in front of an instance, so that hundreds of clients share few connections to the server.
//!
//! Each of its pods holds two programs. PgBouncer shares connections. The holder (`hz-operator hold`) stands between it and
//! the server and opens these connections: PgBouncer turns all clients of a pool away as soon as one attempt to log in
//! fails, which at a failover is certain, so the holder tries on for it until a primary is there.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::KubeSchema;
use kube::core::ResourceExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::patroni::PORT;
use super::sql::{identifier, literal};
use super::tls::{self as encryption, Tls};
use super::{APP, Inputs, PASSWORD_KEY, PostgresInstance, SUPERUSER_KEY, Statement, scram, system_secret};
use crate::conditions::Verdict;
use crate::object::{DynamicObject, object};
use crate::shared::{Probe, Resources, digest};
use crate::{Platform, Slot, Unfit, labels, network, pod};

/// Word for its pods in labels. Not the database's: its Services, walls and budgets must not find them.
pub const POOLER_APP: &str = "pooler";
/// The condition that the pooler takes clients and passes them on.
pub const POOLED: &str = "Pooled";
/// Role by which PgBouncer looks up who a client is.
pub const POOLER_USER: &str = "pooler";
/// Who may pause and resume, on PgBouncer's own console.
pub const CONSOLE_USER: &str = "hz-operator";
/// The console, as a database.
pub const CONSOLE: &str = "pgbouncer";
/// Key of the console's password in the pooler's Secret; that of the role is under `password`.
pub const CONSOLE_KEY: &str = "console-password";
/// Seconds that a client waits for a connection to the server before it is told that there is none.
pub const PATIENCE: u32 = 60;

/// User in the image.
const USER: i64 = 10011;
/// Where the holder listens, inside the pod only.
const HOLDER_PORT: u16 = 6432;
const FOLDER: &str = "/etc/pgbouncer";
const SECRETS: &str = "/etc/hz/pooler";
const TLS_FOLDER: &str = encryption::FOLDER;
/// A pod that leaves: clients are sent elsewhere, then those at work finish, then it ends.
const LEAVE: &str = "sleep 5; kill -INT 1; sleep 50";

/// A pooler in front of the instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pooler {
    /// Copies, spread over the servers.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 5))]
    pub instances: i32,

    /// When a connection to the server is free for the next client.
    #[serde(default)]
    pub mode: PoolMode,

    /// Clients that each copy takes at a time; one more is refused.
    #[serde(default = "five_hundred")]
    #[schemars(range(min = 10, max = 10000))]
    pub max_client_connections: i32,

    /// Connections to the server that each copy opens for each pair of database and user. All copies and pairs together
    /// must fit into the server's `max_connections`.
    #[serde(default = "twenty")]
    #[schemars(range(min = 1, max = 500))]
    pub default_pool_size: i32,

    /// A second pooler, `<instance>-pooler-ro`, in front of the copies that only read.
    #[serde(default)]
    pub read_only: bool,

    /// Processor and memory of each copy.
    #[serde(default)]
    pub resources: Resources,
}

/// When a connection to the server is free for the next client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum PoolMode {
    /// After each transaction. What outlives one (`SET`, advisory locks, `LISTEN`, temporary tables) must not be used.
    #[default]
    Transaction,
    /// When the client leaves. Everything works; clients beyond the pool wait until another leaves.
    Session,
}

impl Default for Pooler {
    fn default() -> Self {
        Self {
            instances: two(),
            mode: PoolMode::default(),
            max_client_connections: five_hundred(),
            default_pool_size: twenty(),
            read_only: false,
            resources: Resources::default(),
        }
    }
}

/// What the operator saw of a pooler.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolerSeen {
    /// Name of its Deployment and Service, copies that take clients, copies wanted.
    pub name: String,
    /// Copies that take clients.
    pub ready: i32,
    /// Copies wanted.
    pub wanted: i32,
    /// `SELECT 1` through its Service.
    pub probe: Probe,
}

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

/// Name of the pooler for writes, its Services and its Secret.
pub fn pooler_name(instance: &str) -> String {
    format!("{instance}-pooler")
}

/// Name of the pooler for reads.
pub fn pooler_ro_name(instance: &str) -> String {
    format!("{instance}-pooler-ro")
}

/// The poolers of an instance by name, and the Service of the instance that each is in front of.
pub fn poolers(instance: &PostgresInstance) -> Vec<(String, String)> {
    let name = instance.name_any();
    let Some(spec) = &instance.spec.pooler else { return Vec::new() };
    let mut all = vec![(pooler_name(&name), name.clone())];
    if spec.read_only {
        all.push((pooler_ro_name(&name), format!("{name}-ro")));
    }
    all
}

/// Passwords of the pooler.
pub fn pooler_slots(instance: &PostgresInstance) -> Vec<Slot> {
    let secret = pooler_name(&instance.name_any());
    let keys = instance.spec.pooler.as_ref().map_or(&[][..], |_| &[PASSWORD_KEY, CONSOLE_KEY][..]);
    keys.iter().map(|key| Slot::new(secret.as_str(), key)).collect()
}

/// What no schema can see.
pub(super) fn check(instance: &PostgresInstance) -> Result<(), Unfit> {
    let spec = &instance.spec;
    if spec.instances == 1 && spec.pooler.as_ref().is_some_and(|pooler| pooler.read_only) {
        return Err(Unfit::refused(
            "spec.pooler.readOnly",
            true,
            "spec.instances is 1, so that there is no copy that only reads",
            "possible: false, or 2 or more instances",
        ));
    }
    // Their Secrets would meet.
    let own = pooler_name("");
    match spec
        .databases
        .iter()
        .position(|database| spec.pooler.is_some() && super::database_secret("", &database.name) == own)
    {
        None => Ok(()),
        Some(number) => Err(Unfit::refused(
            format!("spec.databases[{number}].name"),
            &spec.databases[number].name,
            "its Secret would have the name of the pooler's",
            "choose another name, or leave spec.pooler out",
        )),
    }
}

/// Keys that a database's Secret gains.
pub(super) fn keys(
    instance: &PostgresInstance,
    platform: &Platform,
    (user, password, database): (&str, &str, &str),
) -> Vec<(&'static str, String)> {
    let namespace = instance.namespace().unwrap_or_default();
    let names = [("pooler-host", "pooler-uri"), ("pooler-ro-host", "pooler-ro-uri")];
    let each = poolers(instance).into_iter().zip(names).flat_map(|((name, _), (host, uri))| {
        let address = platform.host(&name, &namespace);
        let query = encryption::query(instance.spec.tls);
        let whole = format!("postgresql://{user}:{password}@{address}:{PORT}/{database}{query}");
        [(host, address), (uri, whole)]
    });
    each.collect()
}

/// Pods of the poolers of an instance.
pub fn pooler_pods(instance: &str) -> Value {
    network::pods(&labels::selector(POOLER_APP, instance))
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

/// Says what the server keeps of a user's password: the pooler's alone to ask, and never of the platform's users.
const LOOKUP: &str = "hz_pooler.lookup";

/// What the server needs to have for the pooler; and, where there is none any more, that its role gets in no more.
pub(super) fn statements(instance: &PostgresInstance, inputs: &Inputs) -> Result<Vec<Statement>, Unfit> {
    let on_server = |unless: Option<String>, sql: String, what: &str| Statement {
        database: "postgres".into(),
        unless,
        sql,
        what: what.into(),
    };
    let (role, text) = (identifier(POOLER_USER), literal(POOLER_USER));
    let slots = pooler_slots(instance);
    let Some(slot) = slots.first() else {
        let without =
            format!("SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {text} AND rolcanlogin)");
        return Ok(vec![on_server(Some(without), format!("ALTER ROLE {role} NOLOGIN"), "keep the pooler out")]);
    };
    let secret = inputs.passwords.get(&Slot::new(system_secret(&instance.name_any()), SUPERUSER_KEY))?;
    let kept = literal(&scram::verifier(secret, POOLER_USER, inputs.passwords.get(slot)?));
    let lookup = format!(
        "CREATE SCHEMA IF NOT EXISTS hz_pooler; \
         CREATE OR REPLACE FUNCTION {LOOKUP}(wanted text) RETURNS TABLE (name text, kept text) \
         LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $hz$ \
         SELECT rolname::text, rolpassword FROM pg_authid WHERE rolname = wanted AND rolcanlogin \
         AND NOT rolsuper AND NOT rolreplication AND NOT rolbypassrls AND rolname NOT IN ('rewinder', {text}) \
         AND (rolvaliduntil IS NULL OR rolvaliduntil > now()) $hz$; \
         REVOKE ALL ON SCHEMA hz_pooler FROM PUBLIC; REVOKE ALL ON FUNCTION {LOOKUP}(text) FROM PUBLIC; \
         GRANT CONNECT ON DATABASE postgres TO {role}; GRANT USAGE ON SCHEMA hz_pooler TO {role}; \
         GRANT EXECUTE ON FUNCTION {LOOKUP}(text) TO {role}"
    );
    Ok(vec![
        on_server(
            Some(format!("SELECT 1 FROM pg_roles WHERE rolname = {text}")),
            format!("CREATE ROLE {role}"),
            "create the pooler's role",
        ),
        on_server(
            Some(format!("SELECT 1 FROM pg_authid WHERE rolname = {text} AND rolcanlogin AND rolpassword = {kept}")),
            format!("ALTER ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD {kept}"),
            "set the password of the pooler's role",
        ),
        on_server(None, lookup, "let the pooler look up who a client is"),
    ])
}

/// The verdict of [`POOLED`]; nothing if there is no pooler.
pub(super) fn pooled(instance: &PostgresInstance, seen: &[PoolerSeen]) -> Option<Verdict> {
    instance.spec.pooler.as_ref()?;
    if instance.spec.suspend {
        return Some(Verdict::no("Suspended", "all copies are stopped"));
    }
    if seen.is_empty() {
        return Some(Verdict::unknown("NotSeen", "nobody could look"));
    }
    let told = |seen: &PoolerSeen| format!("{}: {} of {} copies are ready", seen.name, seen.ready, seen.wanted);
    let counts = seen.iter().map(told).collect::<Vec<_>>().join("; ");
    let failed = seen.iter().find_map(|seen| match &seen.probe {
        Probe::Failed(what) => Some(format!("{counts}; SELECT 1 through {} failed: {what}", seen.name)),
        Probe::NotAsked | Probe::Answered => None,
    });
    Some(match failed {
        Some(failed) => Verdict::no("NotAnswering", failed),
        None if seen.iter().any(|seen| seen.ready < seen.wanted) => Verdict::no("CopiesMissing", counts),
        None if seen.iter().all(|seen| seen.probe == Probe::Answered) => {
            Verdict::yes("Answering", format!("{counts}; SELECT 1 through each was answered"))
        }
        None => Verdict::unknown("NotAsked", format!("{counts}; nobody could ask")),
    })
}

fn two() -> i32 {
    2
}

fn twenty() -> i32 {
    20
}

fn five_hundred() -> i32 {
    500
}
