//! A PostgreSQL database server with copies, as a hospital orders it.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pooler::Pooler;
use super::tls::Tls;
use super::users::{User, UserStatus};
use crate::conditions::Condition;
use crate::shared::{DataClass, DeletionPolicy, Member, Resources, Storage, unobserved};

/// What a database server should be.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "hz.hospital",
    version = "v1alpha1",
    kind = "PostgresInstance",
    namespaced,
    shortname = "pgi",
    category = "hz",
    doc = "A PostgreSQL server with copies on different machines. If one is lost another takes over, and by default no confirmed write is lost.",
    status = "PostgresInstanceStatus",
    derive = "PartialEq",
    validation = (
        "self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "the name becomes part of names of pods and Services: at most 40 lower-case letters, digits and hyphens, a letter first"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Primary", type_ = "string", json_path = ".status.primary"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Instances", type_ = "string", json_path = ".status.instances"),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.endpoint"),
    printcolumn(name = "LastBackup", type_ = "date", json_path = ".status.lastBackup"),
    printcolumn(name = "LastProved", type_ = "date", json_path = ".status.lastProvedRestore", priority = 1),
    printcolumn(name = "Sync", type_ = "string", json_path = ".spec.synchronous", priority = 1),
    printcolumn(name = "Class", type_ = "string", json_path = ".spec.dataClass", priority = 1),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[cfg_attr(test, kube(cel))]
#[x_kube(
    validation = (
        "self.instances > 1 || self.synchronous == 'Disabled'",
        "a single instance has no other to confirm its writes: set synchronous to Disabled, or take 2 or more instances"
    ),
    validation = (
        "has(self.storage.storageClass) == has(oldSelf.storage.storageClass) && (!has(self.storage.storageClass) || self.storage.storageClass == oldSelf.storage.storageClass)",
        "storage.storageClass cannot change: make a new instance of the other class and move the data"
    ),
    validation = (
        "has(self.restoreFrom) == has(oldSelf.restoreFrom) && (!has(self.restoreFrom) || self.restoreFrom == oldSelf.restoreFrom)",
        "restoreFrom counts only when the instance is made: make a Restore into a new one"
    ),
    validation = (
        "!has(self.users) || !has(self.databases) || self.users.all(u, !self.databases.exists(d, d.name == u.name))",
        "a user cannot have the name of a database: that is the name of its owner"
    ),
    validation = (
        "!has(self.databases) || self.databases.all(d, self.dataClass == 'Clinical' || !has(d.dataClass) || d.dataClass == self.dataClass || d.dataClass == 'Public')",
        "a database cannot be of a stricter dataClass than the instance that holds it"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct PostgresInstanceSpec {
    /// Major version of PostgreSQL. A DataOperation with action `Upgrade` changes it, and `RollBack` changes it back. Changed by
    /// hand it changes nothing: the database goes on with the version of its data, and the condition `Configured` says so.
    #[serde(default)]
    pub version: PostgresVersion,

    /// Copies of the server, 1 to 7, each on a machine of its own. 3 survive the loss of any one machine and go on
    /// taking writes; 1 does not survive the loss of its machine.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 7))]
    pub instances: i32,

    /// When a write counts as done. `Strict`: when a second machine has it on disk; if there is none, writes wait.
    #[serde(default)]
    pub synchronous: Synchronous,

    /// Disk of each copy.
    pub storage: Storage,

    /// Processor and memory of each copy. A quarter of the memory limit becomes PostgreSQL's shared buffers.
    #[serde(default)]
    pub resources: Resources,

    /// Databases to create. Each has an owner of the same name, whose credentials are put into the Secret
    /// `<instance>-<database>`. A database that is left out later is kept, and its Secret with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub databases: Vec<Database>,

    /// Users besides the owners, and what they may do. One that is left out later gets in no more and loses its rights;
    /// what it owns stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub users: Vec<User>,

    /// Count this up to have new passwords made for all owners, and for the users whose passwords the operator made.
    /// Services that are bound restart one copy at a time with the new ones. A server knows one password of a user at a
    /// time: from the moment the new one is in the server until a copy of a service has restarted, that copy keeps the
    /// connections that it has and gets no new ones.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    #[x_kube(validation = ("self >= oldSelf", "credentialsGeneration counts up: old passwords do not come back"))]
    pub credentials_generation: i64,

    /// A pooler in front of it: hundreds of clients share few connections, and wait instead of failing while another
    /// copy takes over. Services use it with `via: Pooler` in their binding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooler: Option<Pooler>,

    /// Settings of PostgreSQL by name, for example `max_connections: "200"`. Settings that the platform depends on are
    /// refused by name in the status. A change reaches running copies by itself; where it needs a restart, copies restart
    /// one by one and the primary hands its work over first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "parameters_schema")]
    pub parameters: BTreeMap<String, String>,

    /// How strictly the data is kept. Services that use it are at least as strict.
    #[serde(default)]
    pub data_class: DataClass,

    /// Whether connections must be encrypted. The certificate is issued and renewed by the platform; what to trust is in
    /// the Secret of each database, under `ca.crt`.
    #[serde(default)]
    pub tls: Tls,

    /// What becomes of volumes and passwords when the instance is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// Stop all copies and keep their data; set to false to start them again.
    #[serde(default)]
    pub suspend: bool,

    /// Nobody but the platform reaches it: for looking whether what was restored is whole.
    #[serde(default)]
    pub sealed: bool,

    /// Where its data comes from when it is made; default: it begins empty. A Restore fills this in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_from: Option<RestoreFrom>,
}

/// Backups that an instance begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreFrom {
    /// The BackupPlan, in the same namespace.
    #[schemars(length(min = 1, max = 40))]
    pub plan: String,

    /// Restore the state at the end of this backup, by pgBackRest's label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[0-9]{8}-[0-9]{6}F(_[0-9]{8}-[0-9]{6}[DI])?$"))]
    pub backup: Option<String>,

    /// Restore this moment: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 20, max = 40), regex(pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(\.[0-9]{1,9})?Z$"))]
    pub target_time: Option<String>,
}

/// Major versions of PostgreSQL that can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
pub enum PostgresVersion {
    /// PostgreSQL 15.
    #[serde(rename = "15")]
    V15,
    /// PostgreSQL 17.
    #[default]
    #[serde(rename = "17")]
    V17,
}

impl PostgresVersion {
    /// The number.
    pub fn word(self) -> &'static str {
        match self {
            Self::V15 => "15",
            Self::V17 => "17",
        }
    }

    /// The version of this number, if it can be had.
    pub fn of(word: &str) -> Option<Self> {
        [Self::V15, Self::V17].into_iter().find(|version| version.word() == word)
    }
}

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Synchronous {
    /// A second copy has it on disk. Without a second copy writes wait: none is ever lost to one failure.
    #[default]
    Strict,
    /// As `Strict` while a second copy is there; without one writes go on and may be lost with the machine.
    Preferred,
    /// The primary alone has it. The last writes may be lost at a failover.
    Disabled,
}

/// A database on the instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Database {
    /// Name of the database and of its owner: lower-case letters, digits and underscores, a letter first.
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z][a-z0-9_]*$"))]
    #[x_kube(validation = (
        "!(self in ['postgres', 'template0', 'template1', 'system', 'standby', 'rewinder', 'tls', 'backup', 'pooler']) && !self.startsWith('pg_') && !self.startsWith('hz_')",
        "this name belongs to PostgreSQL or to the platform"
    ))]
    pub name: String,

    /// Extensions to create in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub extensions: Vec<Extension>,

    /// How strictly this database is kept, if less strictly than the instance: a database of appointments on the
    /// server of the records is `Administrative`. Only its own credentials open it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::shared::optional_class")]
    pub data_class: Option<DataClass>,
}

/// Extensions that ship with PostgreSQL and cannot reach outside the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Extension {
    /// B-tree operators in GIN indexes.
    BtreeGin,
    /// B-tree operators in GiST indexes.
    BtreeGist,
    /// Text that compares without case.
    Citext,
    /// Key-value pairs in a column.
    Hstore,
    /// Trees of labels.
    Ltree,
    /// Hashing and encryption.
    Pgcrypto,
    /// Search by similar words; Orthanc's index uses it.
    PgTrgm,
    /// Text without accents.
    Unaccent,
}

impl Extension {
    /// The name for `CREATE EXTENSION`.
    pub fn word(self) -> &'static str {
        match self {
            Self::BtreeGin => "btree_gin",
            Self::BtreeGist => "btree_gist",
            Self::Citext => "citext",
            Self::Hstore => "hstore",
            Self::Ltree => "ltree",
            Self::Pgcrypto => "pgcrypto",
            Self::PgTrgm => "pg_trgm",
            Self::Unaccent => "unaccent",
        }
    }
}

/// What the platform says of a database server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostgresInstanceStatus {
    /// The generation of the spec that this status speaks of; -1 until anybody looked.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,

    /// What is true of the instance: `Ready` (a query through its Service was answered), `Redundant` (every copy is
    /// there), `Durable` (a confirmed write survives the loss of a machine), `Configured` (every copy works with the
    /// settings and the room of the spec), `BackupHealthy` (it is backed up as its BackupPlan says), `Encrypted` (nobody
    /// gets in without TLS, and every copy shows the certificate that is kept), `Provisioned` (databases, users and
    /// passwords are as the spec says), `Pooled` (the pooler takes clients and passes them on).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// Pod that takes writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub primary: Option<String>,

    /// Copies that are ready, of those wanted: `3/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub instances: Option<String>,

    /// Copies that are ready.
    #[serde(default)]
    pub ready_instances: i32,

    /// Every copy, where it runs and what it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub members: Vec<Member>,

    /// Where to connect for reading and writing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300))]
    pub endpoint: Option<String>,

    /// Where to connect for reading only; data there may be a moment old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300))]
    pub read_only_endpoint: Option<String>,

    /// Databases and the Secrets with their credentials.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub databases: Vec<DatabaseStatus>,

    /// Users and the Secrets with their passwords.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub users: Vec<UserStatus>,

    /// Where to connect through the pooler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300))]
    pub pooler_endpoint: Option<String>,

    /// Generation of the passwords that are in the server and in the Secrets.
    #[serde(default)]
    pub credentials_generation: i64,

    /// When the last backup of it was complete: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub last_backup: Option<String>,

    /// When a RestoreDrill last proved that it can be restored: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub last_proved_restore: Option<String>,

    /// Version of PostgreSQL that its data is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub version: Option<String>,

    /// Version of before an upgrade, to which a DataOperation with action `RollBack` leads back until one with action
    /// `FinishUpgrade` throws its data away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub kept_version: Option<String>,

    /// The DataOperation that is at work on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub operation: Option<String>,

    /// Fingerprint of the databases, owners and passwords that were last written into the server. The operator
    /// writes them again when it differs from what the spec asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub provisioned: Option<String>,

    /// The same of the users and what they may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub granted: Option<String>,
}

/// A database and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseStatus {
    /// Its name.
    #[schemars(length(max = 40))]
    pub name: String,

    /// Secret with host, port, dbname, user, password, uri, sslmode and ca.crt; with a pooler also pooler-host and
    /// pooler-uri.
    #[schemars(length(max = 253))]
    pub secret: String,
}

impl Default for PostgresInstanceStatus {
    fn default() -> Self {
        Self {
            observed_generation: unobserved(),
            conditions: Vec::new(),
            primary: None,
            instances: None,
            ready_instances: 0,
            members: Vec::new(),
            endpoint: None,
            read_only_endpoint: None,
            databases: Vec::new(),
            users: Vec::new(),
            pooler_endpoint: None,
            credentials_generation: 0,
            last_backup: None,
            last_proved_restore: None,
            version: None,
            kept_version: None,
            operation: None,
            provisioned: None,
            granted: None,
        }
    }
}

fn three() -> i32 {
    3
}

fn parameters_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": { "type": "string", "maxLength": 256 }
    })
}
