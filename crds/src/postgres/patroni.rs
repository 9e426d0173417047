//! Patroni's configuration: what each pod reads at its start, and what the copies agree on.

use serde_json::{Value, json};

use super::{PostgresInstanceSpec, PostgresVersion, RestoreFrom, Synchronous, parameters, tls};
use crate::object::without_nulls;
use crate::{backup, labels};

/// Folder of the configuration in the pod.
pub const FOLDER: &str = "/etc/patroni";
/// Port of Patroni's REST API.
pub const REST_PORT: u16 = 8008;
/// Port of PostgreSQL.
pub const PORT: u16 = 5432;
/// Volume of data.
pub const VOLUME: &str = "/var/lib/postgresql/data";
/// Takes the label of the primary away from pods that no longer are.
pub const TAKE_OVER: &str = include_str!("take_over.py");

/// Names of the ConfigMaps in which Patroni keeps its state.
pub fn store(instance: &str) -> Vec<String> {
    ["config", "failover", "leader", "sync"].map(|part| format!("{instance}-{part}")).to_vec()
}

/// What the copies agree on. It stands in Patroni's store; the operator brings it up to date over the REST API
/// (`PATCH /config`) when [`is_in`] says that it is not there.
pub fn agreed(spec: &PostgresInstanceSpec) -> Value {
    json!({
        // A silent primary is given up after `ttl`, the least that Patroni takes. Two retries and a pause fit into it,
        // so that one slow answer of the API server does not cost the primary.
        "ttl": 20,
        "loop_wait": 2,
        "retry_timeout": 9,
        "maximum_lag_on_failover": 1_048_576,
        // A crashed primary is not waited for when another can take over at once.
        "primary_start_timeout": 0,
        "primary_stop_timeout": 30,
        // While the API servers are away the primary goes on as long as it reaches every copy.
        "failsafe_mode": true,
        // Any copy may confirm a write, so that the loss of one copy holds up nothing; a new primary is the one that is
        // furthest, and only if enough copies were asked to be sure of that.
        "synchronous_mode": if spec.synchronous == Synchronous::Disabled { json!(false) } else { json!("quorum") },
        "synchronous_mode_strict": spec.synchronous == Synchronous::Strict,
        "synchronous_node_count": 1,
        "postgresql": {
            "use_pg_rewind": true,
            "use_slots": true,
            "remove_data_directory_on_rewind_failure": true,
            "pg_hba": tls::pg_hba(spec),
            "parameters": parameters::all(spec),
        },
    })
}

/// True when everything in `wanted` is in `there`.
pub fn is_in(wanted: &Value, there: &Value) -> bool {
    match (wanted, there) {
        (Value::Object(wanted), Value::Object(there)) => {
            wanted.iter().all(|(key, value)| there.get(key).is_some_and(|there| is_in(value, there)))
        }
        _ => wanted == there,
    }
}

/// How the data of an instance that is restored gets there.
fn fetched(from: &RestoreFrom) -> Value {
    let options = backup::restore::options(from);
    let options: Vec<String> = options.iter().map(|option| format!("'{option}'")).collect();
    json!({
        "command": format!("python3 {FOLDER}/restore.py restore {}", options.join(" ")),
        "no_params": true,
        "keep_existing_recovery_conf": true,
    })
}

/// How an empty database is made.
fn initdb(version: PostgresVersion) -> Vec<Value> {
    let own = match version {
        // It has no collation of its own. That of the C library by this name orders by code points as well.
        PostgresVersion::V15 => vec![],
        // PostgreSQL's own collation: an update of the C library never reorders, and so never breaks, an index.
        PostgresVersion::V17 => vec![json!({ "locale-provider": "builtin" }), json!({ "builtin-locale": "C.UTF-8" })],
    };
    let first = [json!({ "encoding": "UTF8" }), json!({ "locale": "C.UTF-8" })];
    let last = [json!("data-checksums"), json!({ "auth-local": "peer" }), json!({ "auth-host": "scram-sha-256" })];
    first.into_iter().chain(own).chain(last).collect()
}

/// The file each pod starts with. Names, addresses and passwords come by the environment.
pub fn file(instance: &str, spec: &PostgresInstanceSpec) -> Value {
    let version = spec.version.word();
    without_nulls(json!({
        "scope": instance,
        "log": { "level": "INFO", "format": "%(asctime)s %(levelname)s: %(message)s" },
        "restapi": { "listen": format!("0.0.0.0:{REST_PORT}") },
        "kubernetes": {
            "use_endpoints": false,
            "scope_label": labels::PATRONI,
            "labels": { labels::NAME: super::APP },
            "role_label": labels::ROLE,
            "leader_label_value": "primary",
            "follower_label_value": "replica",
            "standby_leader_label_value": "primary",
        },
        "bootstrap": {
            "dcs": agreed(spec),
            "method": spec.restore_from.as_ref().map(|_| "pgbackrest"),
            "pgbackrest": spec.restore_from.as_ref().map(fetched),
            "post_bootstrap": spec.restore_from.as_ref().map(|_| format!("python3 {FOLDER}/restore.py settle")),
            "initdb": initdb(spec.version),
        },
        "postgresql": {
            "listen": format!("0.0.0.0:{PORT}"),
            "data_dir": format!("{VOLUME}/pgdata"),
            "bin_dir": format!("/usr/lib/postgresql/{version}/bin"),
            "pgpass": "/tmp/pgpass",
            "callbacks": {
                "on_role_change": format!("python3 {FOLDER}/take_over.py"),
                "on_start": format!("python3 {FOLDER}/take_over.py"),
            },
            // Not agreed on with the rest: only a pod that has the files can name them.
            "parameters": tls::parameters(),
            "authentication": tls::among_copies(spec.tls),
        },
        "watchdog": { "mode": "off" },
        "tags": { "nofailover": false, "noloadbalance": false, "clonefrom": false, "nosync": false },
    }))
}
