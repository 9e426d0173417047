//! When a database is backed up, and where to.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Immutability;
use crate::conditions::Condition;
use crate::shared::unobserved;

/// What is backed up, where to, when, and how long it is kept.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "hz.hospital",
    version = "v1alpha1",
    kind = "BackupPlan",
    namespaced,
    shortname = "bkp",
    category = "hz",
    doc = "Backs a PostgresInstance up: its write-ahead log all the time, the whole of it on a schedule, encrypted, into an object store. From there it can be restored to any moment since the oldest backup.",
    status = "BackupPlanStatus",
    derive = "PartialEq",
    validation = (
        "self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "the name becomes part of names of Jobs and Secrets: at most 40 lower-case letters, digits and hyphens, a letter first"
    ),
    printcolumn(name = "Instance", type_ = "string", json_path = ".spec.instance"),
    printcolumn(name = "Healthy", type_ = "string", json_path = ".status.conditions[?(@.type=='BackupHealthy')].status"),
    printcolumn(name = "LastBackup", type_ = "date", json_path = ".status.lastBackupTime"),
    printcolumn(name = "LastProved", type_ = "date", json_path = ".status.lastProvedRestore"),
    printcolumn(name = "Backups", type_ = "integer", json_path = ".status.backups"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='BackupHealthy')].reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
pub struct BackupPlanSpec {
    /// The PostgresInstance, in the same namespace. One plan for each.
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = ("self == oldSelf", "a plan stays with its instance: make another plan for the other one"))]
    pub instance: String,

    /// Where backups are put.
    pub destination: Destination,

    /// When.
    #[serde(default)]
    pub schedule: Schedule,

    /// How long backups are kept.
    #[serde(default)]
    pub retention: Retention,

    /// Seconds after which a backup that is not done is given up.
    #[serde(default = "four_hours")]
    #[schemars(range(min = 60, max = 604_800))]
    pub deadline_seconds: i32,

    /// Prove once a day that the store keeps what was written: a small object is written as backups are, and then an attempt is made to
    /// delete it and to write over it, with the same key. It leaves that object behind for as long as the store keeps it.
    #[serde(default)]
    pub prove_immutable: bool,

    /// Make no new backups. The log is still archived, so that nothing is missing when they go on.
    #[serde(default)]
    pub suspend: bool,
}

/// Where backups are put: one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = ("has(self.objectStore) != has(self.s3)", "take one of objectStore and s3"),
    validation = (
        "has(self.objectStore) == has(oldSelf.objectStore) && (!has(self.s3) || self.s3.endpoint == oldSelf.s3.endpoint && self.s3.bucket == oldSelf.s3.bucket) && (!has(self.objectStore) || self.objectStore == oldSelf.objectStore)",
        "a plan stays with its store, where its backups are: make another plan for another store"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    /// An ObjectStore of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_store: Option<StoreRef>,

    /// Any other store that speaks S3 over TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3>,
}

/// An ObjectStore and a bucket in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreRef {
    /// Name of the ObjectStore.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,

    /// One of its buckets.
    #[serde(default = "backups")]
    #[schemars(length(min = 3, max = 63))]
    pub bucket: String,
}

/// A store that speaks S3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3 {
    /// `https://host` or `https://host:port`.
    #[schemars(length(max = 253), regex(pattern = r"^https://[a-z0-9.-]+(:[0-9]{1,5})?$"))]
    pub endpoint: String,

    /// Bucket, which has to exist.
    #[schemars(length(min = 3, max = 63))]
    pub bucket: String,

    /// Region that requests are signed for.
    #[serde(default = "us_east")]
    #[schemars(length(min = 1, max = 63))]
    pub region: String,

    /// How the bucket is named in requests.
    #[serde(default)]
    pub uri_style: UriStyle,

    /// Secret of this namespace with `access-key-id`, `secret-access-key` and, if its certificate is signed by an
    /// authority of your own, `ca.crt`.
    #[schemars(length(min = 1, max = 253))]
    pub secret: String,

    /// The store stands in the hospital. Clinical data is put nowhere else, encrypted or not.
    #[serde(default)]
    pub on_premises: bool,
}

/// How a bucket is named in requests to S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum UriStyle {
    /// In the path: `https://host/bucket/…`.
    #[default]
    Path,
    /// In the host: `https://bucket.host/…`.
    Host,
}

impl UriStyle {
    /// pgBackRest's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Host => "host",
        }
    }
}

/// When backups are made: five fields as in crontab(5), in UTC unless a time zone follows, such as
/// `0 1 * * * Europe/Berlin`. The first full backup is made as soon as the plan is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// Everything.
    #[serde(default = "sundays")]
    #[schemars(length(min = 9, max = 100))]
    pub full: String,

    /// What changed since the last full backup.
    #[serde(default = "other_days", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 100))]
    pub differential: Option<String>,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { full: sundays(), differential: other_days() }
    }
}

/// How long backups are kept. What is older goes after the next backup has succeeded, and never before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// Full backups that are kept, with all that builds on them and the log since the oldest.
    #[serde(default = "four")]
    #[schemars(range(min = 1, max = 999))]
    pub full: i32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { full: four() }
    }
}

/// What the platform says of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupPlanStatus {
    /// The generation of the spec that this status speaks of; -1 until anybody looked.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,

    /// `Ready` (the instance knows where to put its log), `BackupHealthy` (the log is archived, and the last backup is
    /// no older than the schedule says), `Immutable` (the store keeps what was written; only if that is to be proved).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// Name of the last Backup that succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub last_backup: Option<String>,

    /// When it was complete: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub last_backup_time: Option<String>,

    /// When a RestoreDrill last proved that it can be restored: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub last_proved_restore: Option<String>,

    /// When the next backup is due: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub next_backup_time: Option<String>,

    /// The earliest moment that can be restored: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub recoverable_from: Option<String>,

    /// Backups that can be restored.
    #[serde(default)]
    pub backups: i32,

    /// Whether the store keeps what was written, as last tried; only if `spec.proveImmutable` asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutability: Option<Immutability>,
}

impl Default for BackupPlanStatus {
    fn default() -> Self {
        Self {
            observed_generation: unobserved(),
            conditions: Vec::new(),
            last_backup: None,
            last_backup_time: None,
            last_proved_restore: None,
            next_backup_time: None,
            recoverable_from: None,
            backups: 0,
            immutability: None,
        }
    }
}

fn four_hours() -> i32 {
    14_400
}

fn four() -> i32 {
    4
}

fn backups() -> String {
    "backups".to_owned()
}

fn us_east() -> String {
    "us-east-1".to_owned()
}

fn sundays() -> String {
    "0 1 * * 0".to_owned()
}

#[allow(clippy::unnecessary_wraps)] // serde wants the field's own type
fn other_days() -> Option<String> {
    Some("0 1 * * 1-6".to_owned())
}
