//! A PostgreSQL server with copies, kept by Patroni.

pub mod change;
mod desired;
pub mod exporter;
mod grants;
pub mod parameters;
pub mod patroni;
pub mod pooler;
mod pooler_objects;
pub mod room;
mod scram;
mod sql;
mod status;
pub mod tls;
mod types;
pub mod upgrade;
pub mod users;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_users;

pub use crate::shared::{CONFIGURED, Settings};
pub(crate) use desired::USER;
pub use desired::{APP, desired};
pub use grants::grants;
pub use pooler_objects::PoolerTls;
pub use sql::{Provision, Statement, provision};
pub use status::status;
pub use tls::Tls;
pub use types::*;

use std::collections::BTreeMap;

use kube::core::ResourceExt;

use crate::shared::{PodSeen, Probe};
use crate::{Certificates, Outcome, Passwords, Slot};

/// What the operator looks up before it decides.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// A password for each of [`slots`].
    pub passwords: Passwords,
    /// The certificate of [`tls::certificate`].
    pub certificates: Certificates,
    /// Secrets of the names in [`slots`] that exist and do not carry this instance's labels, with whom they belong
    /// to. They are never overwritten.
    pub foreign: Vec<(String, String)>,
    /// Names of the ConfigMaps in which Patroni keeps its state (label [`crate::labels::PATRONI`] with the
    /// instance's name), as they exist now. With deletionPolicy Delete they go with the instance.
    pub patroni_maps: Vec<String>,
    /// For each user with a secretRef: the password there, or what is wrong with it ([`users::password_from`]).
    pub users: BTreeMap<String, Result<String, String>>,
    /// What an operation that is at work on the version asks of the copies.
    pub course: Option<upgrade::Course>,
}

impl std::fmt::Debug for Inputs {
    /// Names the users and never what is in their Secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let users: Vec<&String> = self.users.keys().collect();
        let mut said = f.debug_struct("Inputs");
        said.field("passwords", &self.passwords).field("foreign", &self.foreign).field("users", &users);
        said.field("patroni_maps", &self.patroni_maps).field("course", &self.course).finish()
    }
}

/// What the operator saw after it wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// How far the pass got.
    pub outcome: Outcome,
    /// Pods of the instance.
    pub pods: Vec<PodSeen>,
    /// `SELECT 1` through the instance's Service as the superuser.
    pub probe: Probe,
    /// Pods that confirm writes right now (annotation or Patroni's `sync` map); informs `Durable`.
    pub confirming: Vec<String>,
    /// How far the settings of the spec have come.
    pub settings: Settings,
    /// What the copies show to whoever connects.
    pub encryption: tls::Encryption,
    /// The operation that is at work on it.
    pub operation: Option<String>,
    /// What the primary says of its data.
    pub data: Option<upgrade::DataSeen>,
    /// How its backups are; nothing if no plan is for it.
    pub backups: Option<BackupsSeen>,
    /// What the copies say of the room on their volumes.
    pub rooms: Vec<room::Asked>,
    /// What came of [`provision`]: the fingerprint that now stands, or what failed.
    pub provisioned: Provisioned,
    /// The same of [`grants`].
    pub granted: Provisioned,
    /// What is wrong with Secrets that users name.
    pub unusable: Vec<String>,
    /// Passwords of the generation of the spec are in the server and in the Secrets.
    pub turned: bool,
    /// How its poolers are.
    pub poolers: Vec<pooler::PoolerSeen>,
}

/// What the plan for the backups of an instance says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupsSeen {
    /// Name of the plan.
    pub plan: String,
    /// Its `BackupHealthy`: whether it holds (nothing: unknown), and why.
    pub healthy: (Option<bool>, String),
    /// When the last backup was complete.
    pub last: Option<String>,
    /// When a drill last proved it.
    pub proved: Option<String>,
}

/// What came of writing databases and owners into the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Provisioned {
    /// The server could not be asked yet; what the status says stays.
    #[default]
    NotTried,
    /// Written, with this fingerprint.
    Done(String),
    /// A statement failed.
    Failed(String),
}

/// Users of the platform in the server.
pub const SUPERUSER: &str = "postgres";
pub(crate) const REPLICATION: &str = "standby";
pub(crate) const REWIND: &str = "rewinder";
/// User of Patroni's REST API, for what changes something.
pub const REST_USER: &str = "hz-operator";

/// Key of the superuser's password in the `<instance>-system` Secret.
pub const SUPERUSER_KEY: &str = "superuser-password";
/// Key of the password of Patroni's REST API there.
pub const REST_KEY: &str = "rest-password";
pub(crate) const REPLICATION_KEY: &str = "replication-password";
pub(crate) const REWIND_KEY: &str = "rewind-password";
pub(crate) const PASSWORD_KEY: &str = "password";

/// Secret with the platform's own passwords; tenants never see it.
pub fn system_secret(instance: &str) -> String {
    format!("{instance}-system")
}

/// Secret with a database's credentials.
pub fn database_secret(instance: &str, database: &str) -> String {
    // Names of databases may hold underscores, names of Secrets may not.
    format!("{instance}-{}", database.replace('_', "-"))
}

/// Passwords this instance needs. The operator keeps those that exist and makes those that do not.
pub fn slots(instance: &PostgresInstance) -> Vec<Slot> {
    let name = instance.name_any();
    let system = [SUPERUSER_KEY, REPLICATION_KEY, REWIND_KEY, REST_KEY, exporter::KEY]
        .map(|key| Slot::new(system_secret(&name), key));
    let databases = instance.spec.databases.iter().map(|database| owner_slot(&name, database));
    let users = instance.spec.users.iter().filter_map(|user| users::user_slot(&name, user));
    let rest = pooler::pooler_slots(instance).into_iter().chain(users::turn_slot(instance));
    system.into_iter().chain(databases).chain(users).chain(rest).collect()
}

pub(crate) fn owner_slot(instance: &str, database: &Database) -> Slot {
    Slot::new(database_secret(instance, &database.name), PASSWORD_KEY)
}
