//! The pooler: PgBouncer in front of an instance, so that hundreds of clients share few connections to the server.
//!
//! Each of its pods holds two programs. PgBouncer shares connections. The holder (`hz-operator hold`) stands between it and
//! the server and opens these connections: PgBouncer turns all clients of a pool away as soon as one attempt to log in
//! fails, which at a failover is certain, so the holder tries on for it until a primary is there.

use kube::KubeSchema;
use kube::core::ResourceExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::patroni::PORT;
use super::sql::{identifier, literal};
use super::{Inputs, PASSWORD_KEY, PostgresInstance, SUPERUSER_KEY, Statement, scram, system_secret, tls};
use crate::conditions::Verdict;
use crate::shared::{Probe, Resources};
use crate::{Platform, Slot, Unfit, labels, network};

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
        let query = tls::query(instance.spec.tls);
        let whole = format!("postgresql://{user}:{password}@{address}:{PORT}/{database}{query}");
        [(host, address), (uri, whole)]
    });
    each.collect()
}

/// Pods of the poolers of an instance.
pub fn pooler_pods(instance: &str) -> Value {
    network::pods(&labels::selector(POOLER_APP, instance))
}

/// Says what the server keeps of a user's password: the pooler's alone to ask, and never of the platform's users.
pub(super) const LOOKUP: &str = "hz_pooler.lookup";

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
