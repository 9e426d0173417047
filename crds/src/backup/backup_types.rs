//! A backup that was made, or is to be.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::operation::Phase;
use crate::shared::unobserved;

/// One backup.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "hz.hospital",
    version = "v1alpha1",
    kind = "Backup",
    namespaced,
    shortname = "bk",
    category = "hz",
    doc = "One backup of a PostgresInstance, made by its BackupPlan on schedule or because somebody asked for one. It goes when its backup is no longer kept; deleting it deletes no backup.",
    status = "BackupStatus",
    derive = "PartialEq",
    validation = (
        "self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
        "the name becomes that of a Job: at most 63 lower-case letters, digits and hyphens"
    ),
    printcolumn(name = "Plan", type_ = "string", json_path = ".spec.plan"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Completed", type_ = "date", json_path = ".status.completionTime"),
    printcolumn(name = "Stored", type_ = "string", json_path = ".status.stored"),
    printcolumn(name = "Label", type_ = "string", json_path = ".status.label", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[cfg_attr(test, kube(cel))]
#[x_kube(
    validation = (
        "self.plan == oldSelf.plan && self.type == oldSelf.type",
        "a backup cannot become another: only cancel may change; make a new one"
    ),
    validation = ("!oldSelf.cancel || self.cancel", "what was cancelled stays cancelled; make a new backup")
)]
#[serde(rename_all = "camelCase")]
pub struct BackupSpec {
    /// The BackupPlan, in the same namespace.
    #[schemars(length(min = 1, max = 40))]
    pub plan: String,

    /// How much is copied.
    #[serde(default, rename = "type")]
    pub type_: BackupType,

    /// Stop it: no Job is begun, and one that is at work is stopped. A backup that was complete by then stays so.
    #[serde(default)]
    pub cancel: bool,
}

/// How much a backup copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum BackupType {
    /// Everything.
    #[default]
    Full,
    /// What changed since the last full backup.
    Differential,
    /// What changed since the last backup of any type.
    Incremental,
}

impl BackupType {
    /// pgBackRest's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Differential => "diff",
            Self::Incremental => "incr",
        }
    }
}

/// What the platform says of a backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = (
    "!has(oldSelf.phase) || !(oldSelf.phase in ['Succeeded', 'Failed', 'Cancelled']) || self.phase == oldSelf.phase && self.message == oldSelf.message && self.completionTime == oldSelf.completionTime",
    "the backup has ended; how it ended does not change"
))]
#[serde(rename_all = "camelCase")]
pub struct BackupStatus {
    /// The generation of the spec that this status speaks of; -1 until anybody looked.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,

    /// `Ready` turns true when the backup is complete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_phase")]
    pub phase: Option<Phase>,

    /// What is being done, or how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub message: Option<String>,

    /// When it began: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub start_time: Option<String>,

    /// When it ended: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub completion_time: Option<String>,

    /// pgBackRest's name for it. Labels sort by time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub label: Option<String>,

    /// The oldest backup that was still kept after this one, by its label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub oldest: Option<String>,

    /// Size of the database, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,

    /// What this backup added to the store, in bytes: compressed, and without what was there already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_bytes: Option<i64>,

    /// The same for people: `15.0 MiB of 55.4 MiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub stored: Option<String>,

    /// The spec of the instance as it was backed up, for restoring it when it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub instance: Option<serde_json::Value>,
}

impl Default for BackupStatus {
    fn default() -> Self {
        Self {
            observed_generation: unobserved(),
            conditions: Vec::new(),
            phase: None,
            message: None,
            start_time: None,
            completion_time: None,
            label: None,
            oldest: None,
            size_bytes: None,
            stored_bytes: None,
            stored: None,
            instance: None,
        }
    }
}

pub(crate) fn optional_phase(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    Phase::json_schema(generator)
}

fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}
