//! Backups of databases, and getting them back.

mod backup_types;
pub mod conf;
mod desired;
pub mod drill;
mod immutable;
mod plan_status;
mod plan_types;
pub mod restore;
mod restore_types;
pub mod schedule;

#[cfg(test)]
mod tests;

pub use backup_types::*;
pub use desired::{
    BACKUP_APP, Inputs, PLAN_APP, SOURCE, UPGRADED, certificate, configuration_secret, desired, job, slot,
    source_secret,
};
pub use immutable::*;
pub use plan_status::*;
pub use plan_types::*;
pub use restore_types::*;

/// What answers PostgreSQL when its log is complete, in its pods.
pub const ARCHIVE: &str = include_str!("pgbackrest.sh");
/// What serves backups beside PostgreSQL.
pub const SERVE: &str = include_str!("server.sh");
/// What fetches the data of an instance that is restored.
pub const RESTORE: &str = include_str!("restore.py");
