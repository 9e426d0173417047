//! Settings of PostgreSQL: those a hospital may choose, and those that follow from what it ordered.

use std::collections::BTreeMap;

use super::patroni::FOLDER;
use super::{PostgresInstanceSpec, PostgresVersion};
use crate::Unfit;

/// Settings that may be chosen. A list of what is allowed, not of what is not: a setting that names a program or a
/// file would be a way out of the database, and one that Patroni relies on would break failover.
const ALLOWED: [&str; 66] = [
    "archive_timeout",
    "autovacuum_analyze_scale_factor",
    "autovacuum_analyze_threshold",
    "autovacuum_freeze_max_age",
    "autovacuum_max_workers",
    "autovacuum_naptime",
    "autovacuum_vacuum_cost_delay",
    "autovacuum_vacuum_cost_limit",
    "autovacuum_vacuum_insert_scale_factor",
    "autovacuum_vacuum_scale_factor",
    "autovacuum_vacuum_threshold",
    "autovacuum_work_mem",
    "checkpoint_completion_target",
    "checkpoint_timeout",
    "constraint_exclusion",
    "cpu_index_tuple_cost",
    "cpu_operator_cost",
    "cpu_tuple_cost",
    "cursor_tuple_fraction",
    "datestyle",
    "deadlock_timeout",
    "default_statistics_target",
    "default_transaction_isolation",
    "effective_cache_size",
    "effective_io_concurrency",
    "from_collapse_limit",
    "gin_fuzzy_search_limit",
    "gin_pending_list_limit",
    "hash_mem_multiplier",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "io_combine_limit",
    "jit",
    "join_collapse_limit",
    "lock_timeout",
    "log_autovacuum_min_duration",
    "log_checkpoints",
    "log_connections",
    "log_disconnections",
    "log_lock_waits",
    "log_min_duration_statement",
    "log_statement",
    "log_temp_files",
    "logical_decoding_work_mem",
    "maintenance_work_mem",
    "max_connections",
    "max_locks_per_transaction",
    "max_parallel_maintenance_workers",
    "max_parallel_workers",
    "max_parallel_workers_per_gather",
    "max_prepared_transactions",
    "max_worker_processes",
    "random_page_cost",
    "seq_page_cost",
    "shared_buffers",
    "statement_timeout",
    "temp_buffers",
    "temp_file_limit",
    "timezone",
    "track_activity_query_size",
    "track_io_timing",
    "transaction_timeout",
    "vacuum_buffer_usage_limit",
    "wal_compression",
    "work_mem",
];

const MEBIBYTE: i128 = 1 << 20;

/// Refuses settings that may not be chosen, naming the nearest that may.
pub fn check(spec: &PostgresInstanceSpec) -> Result<(), Unfit> {
    if let Some(name) = unknown_to(spec.version, &spec.parameters) {
        return Err(Unfit::refused(
            format!("spec.parameters.{name}"),
            &spec.parameters[name],
            format!("PostgreSQL {} has no such setting; version 17 has", spec.version.word()),
            "leave it out, or upgrade to version 17 first",
        ));
    }
    match spec.parameters.keys().find(|name| !ALLOWED.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(Unfit::refused(
            format!("spec.parameters.{name}"),
            &spec.parameters[name],
            "this setting is not known, or it is the platform's to choose",
            instead(name),
        )),
    }
}

/// Settings that older versions do not know.
const SINCE_17: [&str; 3] = ["io_combine_limit", "transaction_timeout", "vacuum_buffer_usage_limit"];

/// A setting of these that a version does not know.
pub fn unknown_to(version: PostgresVersion, parameters: &BTreeMap<String, String>) -> Option<&String> {
    parameters.keys().find(|name| version < PostgresVersion::V17 && SINCE_17.contains(&name.as_str()))
}

fn instead(name: &str) -> String {
    if name == "ssl" || name.starts_with("ssl_") {
        return "leave it out; whether connections must be encrypted is said by spec.tls".to_owned();
    }
    nearest(name).map_or_else(|| "leave it out".to_owned(), |near| format!("did you mean {near}?"))
}

/// Whether a hospital may choose this setting.
pub fn is_choice(name: &str) -> bool {
    ALLOWED.contains(&name)
}

fn nearest(name: &str) -> Option<&'static str> {
    let by_distance = |allowed: &&str| strsim::damerau_levenshtein(name, allowed);
    ALLOWED.into_iter().min_by_key(by_distance).filter(|near| by_distance(near) <= name.len() / 3)
}

/// All settings: what follows from memory and disk, what failover needs, and on top what the hospital chose.
pub fn all(spec: &PostgresInstanceSpec) -> BTreeMap<String, String> {
    let memory = spec.resources.limit().units().unwrap_or_default() / MEBIBYTE;
    let disk = spec.storage.size.units().unwrap_or_default() / MEBIBYTE;
    // On a small disk PostgreSQL's default of 1 GB of log would fill it; on a large one it would checkpoint too often.
    let log = (disk / 8).clamp(64, 4096);
    let derived = [
        ("shared_buffers", mebibytes((memory / 4).max(16))),
        ("effective_cache_size", mebibytes((memory * 3 / 4).max(32))),
        ("maintenance_work_mem", mebibytes((memory / 16).clamp(8, 1024))),
        ("max_connections", "100".into()),
        ("max_wal_size", mebibytes(log)),
        ("min_wal_size", mebibytes((log / 4).clamp(32, 80))),
        // A copy that is gone for good must not fill the primary's disk with the log kept for it.
        ("max_slot_wal_keep_size", mebibytes((disk / 4).max(64))),
        // Quicker than the defaults of a minute: while the machine that confirms writes is silent, writes wait.
        ("wal_sender_timeout", "8s".into()),
        ("wal_receiver_timeout", "8s".into()),
        ("tcp_keepalives_idle", "10".into()),
        ("tcp_keepalives_interval", "5".into()),
        ("tcp_keepalives_count", "3".into()),
        ("tcp_user_timeout", "20s".into()),
        // Always on, since turning it on takes a restart: without a plan for backups the command has nothing to do.
        // pgBackRest looks for its own name in it.
        ("archive_mode", "on".into()),
        ("archive_command", format!("sh {FOLDER}/pgbackrest.sh %p")),
        // The most that is lost with all servers at once, where something was written at all.
        ("archive_timeout", "300s".into()),
        // How much a restore is short of is told by the last transaction.
        ("track_commit_timestamp", "on".into()),
        ("password_encryption", "scram-sha-256".into()),
        ("logging_collector", "off".into()),
        ("log_line_prefix", "%m [%p] %q%u@%d ".into()),
        ("unix_socket_directories", "/var/run/postgresql".into()),
    ];
    let derived = derived.into_iter().map(|(name, value)| (name.to_owned(), value));
    derived.chain(spec.parameters.clone()).collect()
}

fn mebibytes(count: i128) -> String {
    format!("{count}MB")
}
