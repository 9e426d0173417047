//! A cache with copies, as a hospital orders it.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CacheUser, Tls};
use crate::conditions::Condition;
use crate::quantity::Amount;
use crate::shared::{DataClass, DeletionPolicy, Member, Storage, unobserved};

/// What a cache should be.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "hz.hospital",
    version = "v1alpha1",
    kind = "CacheInstance",
    namespaced,
    shortname = "cachei",
    category = "hz",
    doc = "A Valkey cache with copies on different machines; sentinels choose a new master when the old one is lost. Copies follow a moment later, so the last writes can be lost: keep nothing in it that is nowhere else.",
    status = "CacheInstanceStatus",
    derive = "PartialEq",
    validation = (
        "self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "the name becomes part of names of pods and Services: at most 40 lower-case letters, digits and hyphens, a letter first"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Master", type_ = "string", json_path = ".status.master"),
    printcolumn(name = "Replicas", type_ = "string", json_path = ".status.replicas"),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.endpoint"),
    printcolumn(name = "Memory", type_ = "string", json_path = ".spec.memory", priority = 1),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[cfg_attr(test, kube(cel))]
#[x_kube(
    validation = (
        "(self.persistence == 'None') != has(self.storage)",
        "storage goes with persistence Snapshot or AppendOnly, and with neither of them missing"
    ),
    validation = (
        "(self.persistence == 'None') == (oldSelf.persistence == 'None')",
        "persistence can be turned neither on nor off in place, because the volumes are fixed: make a new cache"
    ),
    validation = (
        "!has(self.storage) || !has(oldSelf.storage) || (has(self.storage.storageClass) == has(oldSelf.storage.storageClass) && (!has(self.storage.storageClass) || self.storage.storageClass == oldSelf.storage.storageClass))",
        "storage.storageClass cannot change: make a new cache"
    ),
    validation = (
        "self.minReplicasToWrite < self.replicas",
        "minReplicasToWrite counts the copies besides the master, so it must be less than replicas"
    ),
    validation = (
        "self.tls == oldSelf.tls || (self.suspend && oldSelf.suspend)",
        "tls can change only while spec.suspend is true: servers that encrypt and servers that do not cannot find each other"
    ),
    validation = (
        "self.credentialsGeneration >= oldSelf.credentialsGeneration",
        "credentialsGeneration can only be raised: passwords that were given up do not come back"
    ),
    validation = (
        "!has(self.parameters) || !('appendfsync' in self.parameters) || self.persistence == 'AppendOnly'",
        "parameters.appendfsync goes with persistence AppendOnly: nothing is appended otherwise"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct CacheInstanceSpec {
    /// Software of the cache. It cannot change.
    #[serde(default)]
    #[x_kube(validation = ("self == oldSelf", "the engine cannot change"))]
    pub engine: Engine,

    /// Servers of the cache, master included, each on a machine of its own: 1, 3, 5 or 7. An even number cannot
    /// agree on a new master when half of it is lost.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 7))]
    #[x_kube(validation = ("self % 2 == 1", "an even number cannot outvote a lost half: take 1, 3, 5 or 7"))]
    pub replicas: i32,

    /// Memory for data, on each server. The server itself gets half as much again, and at least 64Mi more.
    #[serde(default = "sixty_four_mebibytes")]
    pub memory: Amount,

    /// Processor time set aside for each server.
    #[serde(default = "twentieth_of_a_core")]
    pub cpu: Amount,

    /// What goes when memory is full.
    #[serde(default)]
    pub eviction: Eviction,

    /// Whether data survives when all servers stop at once.
    #[serde(default)]
    pub persistence: Persistence,

    /// Disk of each server, for persistence `Snapshot` and `AppendOnly`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,

    /// Refuse writes when fewer than this many copies besides the master follow it. 0 favours taking writes; 1 bounds
    /// what a cut-off master can lose to some ten seconds.
    #[serde(default)]
    #[schemars(range(min = 0, max = 6))]
    pub min_replicas_to_write: i32,

    /// Whether everything on the network is encrypted: `Required`, or `Disabled`. It changes only while the cache is
    /// suspended.
    #[serde(default)]
    pub tls: Tls,

    /// Users besides `default`, which services are bound as that name no other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub users: Vec<CacheUser>,

    /// Raise it to give all users new passwords, but for those whose Secret is yours. Old ones are accepted for a while.
    #[serde(default = "first")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub credentials_generation: i64,

    /// Seconds for which an old password is accepted after a new one was handed out. Services that the platform runs
    /// take the new one at once.
    #[serde(default = "ten_minutes")]
    #[schemars(range(min = 0, max = 604_800))]
    pub rotation_overlap_seconds: i32,

    /// Settings of Valkey by name, for example `notify-keyspace-events: KEA`. Settings that the platform depends on are
    /// refused by name in the status. A change reaches running servers at once, and none restarts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "parameters_schema")]
    pub parameters: BTreeMap<String, String>,

    /// How strictly the data is kept. Services that use it are at least as strict.
    #[serde(default)]
    pub data_class: DataClass,

    /// What becomes of volumes and the password when the cache is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// Stop all servers; what is not persistent is gone. Set to false to start them again.
    #[serde(default)]
    pub suspend: bool,
}

/// Software of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Engine {
    /// Valkey 8, which speaks the Redis protocol.
    #[default]
    Valkey,
}

/// What goes when memory is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Eviction {
    /// What was not used for longest.
    #[default]
    LeastRecentlyUsed,
    /// What is used least often.
    LeastFrequentlyUsed,
    /// What would expire soonest; keys without an expiry stay.
    SoonestToExpire,
    /// Nothing: writes are refused instead.
    Never,
}

impl Eviction {
    /// Valkey's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::LeastRecentlyUsed => "allkeys-lru",
            Self::LeastFrequentlyUsed => "allkeys-lfu",
            Self::SoonestToExpire => "volatile-ttl",
            Self::Never => "noeviction",
        }
    }
}

/// Whether data survives when all servers stop at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Persistence {
    /// It does not.
    #[default]
    None,
    /// As it was at the last snapshot, some minutes ago.
    Snapshot,
    /// Up to the last second.
    AppendOnly,
}

/// What the platform says of a cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CacheInstanceStatus {
    /// The generation of the spec that this status speaks of; -1 until anybody looked.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,

    /// What is true of the cache: `Ready` (a PING through its Service was answered), `Redundant` (every server is there),
    /// `Configured` (every server works with the room and the settings of the spec), `Encrypted` (nothing goes over the
    /// network in the clear), `CredentialsApplied` (every server knows users and passwords as they are now), `Durable`
    /// (never: its message says which writes can be lost).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// Pod that takes writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub master: Option<String>,

    /// Servers that are ready, of those wanted: `3/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub replicas: Option<String>,

    /// Servers that are ready.
    #[serde(default)]
    pub ready_replicas: i32,

    /// Every server, where it runs and what it is.
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

    /// Secret of the `default` user with host, port, username, password, uri and the authority to trust. Those of others
    /// are called `<cache>-<user>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub secret: Option<String>,

    /// The DataOperation that is at work on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub operation: Option<String>,
}

impl Default for CacheInstanceStatus {
    fn default() -> Self {
        Self {
            observed_generation: unobserved(),
            conditions: Vec::new(),
            master: None,
            replicas: None,
            ready_replicas: 0,
            members: Vec::new(),
            endpoint: None,
            read_only_endpoint: None,
            secret: None,
            operation: None,
        }
    }
}

fn three() -> i32 {
    3
}

fn first() -> i64 {
    1
}

fn ten_minutes() -> i32 {
    600
}

fn parameters_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": { "type": "string", "maxLength": 64 }
    })
}

fn sixty_four_mebibytes() -> Amount {
    Amount::from("64Mi")
}

fn twentieth_of_a_core() -> Amount {
    Amount::from("50m")
}
