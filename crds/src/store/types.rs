//! A store of objects, as a hospital orders it.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::shared::{DataClass, DeletionPolicy, Member, Resources, Storage, unobserved};

/// What a store should be.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "hz.hospital",
    version = "v1alpha1",
    kind = "ObjectStore",
    namespaced,
    shortname = "ost",
    category = "hz",
    doc = "A store that speaks S3 over TLS, on three machines of the cluster: for backups of databases, which must not lie where the databases lie. With three servers every object is on two machines before a write counts as done. It is written to the operating system and not forced onto disk, so a loss of power on both machines at once may cost the last seconds.",
    status = "ObjectStoreStatus",
    derive = "PartialEq",
    validation = (
        "self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "the name becomes part of names of pods and Services: at most 40 lower-case letters, digits and hyphens, a letter first"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Redundant", type_ = "string", json_path = ".status.conditions[?(@.type=='Redundant')].status"),
    printcolumn(name = "Instances", type_ = "string", json_path = ".status.instances"),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.endpoint"),
    printcolumn(name = "Storage", type_ = "string", json_path = ".spec.storage.size", priority = 1),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[cfg_attr(test, kube(cel))]
#[x_kube(
    validation = (
        "has(self.storage.storageClass) == has(oldSelf.storage.storageClass) && (!has(self.storage.storageClass) || self.storage.storageClass == oldSelf.storage.storageClass)",
        "storage.storageClass cannot change: make a new store"
    ),
    validation = (
        "quantity(self.storage.size).compareTo(quantity(oldSelf.storage.size)) == 0",
        "the volumes of a store are fixed: make a new store of another size and copy what is in this one"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStoreSpec {
    /// Servers of the store, each on a machine of its own: 1 or 3. It cannot change, because objects that are there would
    /// stay on as many machines as before. 1 loses everything with its machine.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 3))]
    #[x_kube(
        validation = ("self == 1 || self == 3", "two servers cannot agree when one is lost: take 1 or 3"),
        validation = ("self == oldSelf", "the number of servers cannot change: make a new store and copy what is in this one")
    )]
    pub instances: i32,

    /// Disk of each server. Of three, half of their sum is for objects, because each is there twice.
    pub storage: Storage,

    /// Processor and memory of each server. Below 256Mi of memory it stops when several clients write at once.
    #[serde(default)]
    pub resources: Resources,

    /// Buckets to create. One that is left out later is kept with all that is in it.
    #[serde(default = "backups")]
    #[schemars(length(max = 8), inner(length(min = 3, max = 63), regex(pattern = r"^[a-z0-9][-a-z0-9]*[a-z0-9]$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub buckets: Vec<String>,

    /// How strictly the data is kept.
    #[serde(default)]
    pub data_class: DataClass,

    /// What becomes of volumes and keys when the store is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// Stop all servers and keep their data; set to false to start them again.
    #[serde(default)]
    pub suspend: bool,
}

/// What the platform says of a store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStoreStatus {
    /// The generation of the spec that this status speaks of; -1 until anybody looked.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,

    /// What is true of the store: `Ready` (its buckets are there and an object was written, by authenticated
    /// requests through its Service, over TLS), `Redundant` (every server is there).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// Servers that are ready, of those wanted: `3/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub instances: Option<String>,

    /// Servers that are ready.
    #[serde(default)]
    pub ready_instances: i32,

    /// Every server, and where it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub members: Vec<Member>,

    /// Where to connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300))]
    pub endpoint: Option<String>,

    /// Secret with endpoint, region, keys, and the authority to trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub secret: Option<String>,
}

impl Default for ObjectStoreStatus {
    fn default() -> Self {
        Self {
            observed_generation: unobserved(),
            conditions: Vec::new(),
            instances: None,
            ready_instances: 0,
            members: Vec::new(),
            endpoint: None,
            secret: None,
        }
    }
}

fn three() -> i32 {
    3
}

fn backups() -> Vec<String> {
    vec!["backups".to_owned()]
}
