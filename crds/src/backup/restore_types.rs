//! Getting a database back, and proving now and then that it can be got back.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::backup_types::optional_phase;
use crate::conditions::Condition;
use crate::operation::Phase;
use crate::quantity::Amount;
use crate::shared::unobserved;

/// Which moment to restore, and into what.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "hz.hospital",
    version = "v1alpha1",
    kind = "Restore",
    namespaced,
    shortname = "rst",
    category = "hz",
    doc = "Makes a new PostgresInstance from the backups of a plan: the last state, a moment, or one backup. It never writes over an instance that is there.",
    status = "RestoreStatus",
    derive = "PartialEq",
    validation = ("self.metadata.name.size() <= 63", "at most 63 letters"),
    printcolumn(name = "Plan", type_ = "string", json_path = ".spec.plan"),
    printcolumn(name = "Instance", type_ = "string", json_path = ".spec.instance"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "RecoveredTo", type_ = "string", json_path = ".status.recoveredTo"),
    printcolumn(name = "Seconds", type_ = "integer", json_path = ".status.recoverySeconds"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[cfg_attr(test, kube(cel))]
#[x_kube(
    validation = (
        "self.plan == oldSelf.plan && self.instance == oldSelf.instance && self.sealed == oldSelf.sealed && self.deadlineSeconds == oldSelf.deadlineSeconds && has(self.targetTime) == has(oldSelf.targetTime) && (!has(self.targetTime) || self.targetTime == oldSelf.targetTime) && has(self.backup) == has(oldSelf.backup) && (!has(self.backup) || self.backup == oldSelf.backup) && has(self.instances) == has(oldSelf.instances) && (!has(self.instances) || self.instances == oldSelf.instances) && has(self.size) == has(oldSelf.size) && (!has(self.size) || self.size == oldSelf.size)",
        "a restore cannot become another: only cancel may change; make a new one"
    ),
    validation = ("!oldSelf.cancel || self.cancel", "what was cancelled stays cancelled; make a new restore"),
    validation = ("!(has(self.backup) && has(self.targetTime))", "take one of backup and targetTime, or neither for the last state")
)]
#[serde(rename_all = "camelCase")]
pub struct RestoreSpec {
    /// The BackupPlan whose backups are taken, in the same namespace.
    #[schemars(length(min = 1, max = 40))]
    pub plan: String,

    /// Restore this moment: RFC 3339 with an offset, such as `2026-07-01T12:30:00Z`. Everything that was confirmed up to then is
    /// there, and nothing later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 20, max = 40))]
    pub target_time: Option<String>,

    /// Restore the state at the end of this Backup, by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub backup: Option<String>,

    /// Name of the new PostgresInstance. One of that name must not be there.
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub instance: String,

    /// Copies of the new instance; default: as many as the one that was backed up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 7))]
    pub instances: Option<i32>,

    /// Room for data of each copy; default: as much as the one that was backed up had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Amount>,

    /// Nobody but the platform reaches the new instance, and its data goes with it: for looking whether it is whole.
    #[serde(default)]
    pub sealed: bool,

    /// Seconds after which a restore that is not done is given up. What was restored until then stays.
    #[serde(default = "a_day")]
    #[schemars(range(min = 60, max = 604_800))]
    pub deadline_seconds: i32,

    /// Begin nothing further. An instance that was made by then stays, and the message names it; one that answers already was
    /// restored all the same.
    #[serde(default)]
    pub cancel: bool,
}

/// What the platform says of a restore.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = (
    "!has(oldSelf.phase) || !(oldSelf.phase in ['Succeeded', 'Failed', 'Cancelled']) || self.phase == oldSelf.phase && self.message == oldSelf.message && self.completionTime == oldSelf.completionTime",
    "the restore has ended; how it ended does not change"
))]
#[serde(rename_all = "camelCase")]
pub struct RestoreStatus {
    /// The generation of the spec that this status speaks of; -1 until anybody looked.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,

    /// `Ready` turns true when the new instance answers.
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

    /// Moment of the last transaction in the new instance: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub recovered_to: Option<String>,

    /// Seconds from the request until the new instance answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_seconds: Option<i64>,
}

impl Default for RestoreStatus {
    fn default() -> Self {
        Self {
            observed_generation: unobserved(),
            conditions: Vec::new(),
            phase: None,
            message: None,
            start_time: None,
            completion_time: None,
            recovered_to: None,
            recovery_seconds: None,
        }
    }
}

/// What is proved, and how often.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "hz.hospital",
    version = "v1alpha1",
    kind = "RestoreDrill",
    namespaced,
    shortname = "drill",
    category = "hz",
    doc = "Restores a plan's backups on a schedule into an instance that nobody reaches, asks it questions, measures how long it took and how much was missing, and removes it again.",
    status = "RestoreDrillStatus",
    derive = "PartialEq",
    validation = (
        "self.metadata.name.size() <= 34 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "the name becomes part of an instance's: at most 34 lower-case letters, digits and hyphens, a letter first"
    ),
    printcolumn(name = "Plan", type_ = "string", json_path = ".spec.plan"),
    printcolumn(name = "Proved", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "LastProved", type_ = "date", json_path = ".status.lastProvedRestore"),
    printcolumn(name = "RTO", type_ = "integer", json_path = ".status.lastRun.recoverySeconds"),
    printcolumn(name = "RPO", type_ = "integer", json_path = ".status.lastRun.lossSeconds"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.lastRun.message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
pub struct RestoreDrillSpec {
    /// The BackupPlan, in the same namespace.
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = ("self == oldSelf", "a drill stays with its plan: make another drill"))]
    pub plan: String,

    /// When: five fields as in crontab(5), in UTC unless a time zone follows. The first drill is made as soon as the plan has a
    /// backup.
    #[serde(default = "saturdays")]
    #[schemars(length(min = 9, max = 100))]
    pub schedule: String,

    /// Questions to the restored databases, beside those that every drill asks: that each database opens and every row of every
    /// table can be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub checks: Vec<Check>,

    /// Longest time, in seconds, that getting the database back may take (recovery time objective).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub recovery_time_objective: Option<i64>,

    /// Most seconds of confirmed writes that may be missing (recovery point objective).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub recovery_point_objective: Option<i64>,

    /// Seconds after which a drill that is not done has failed.
    #[serde(default = "four_hours")]
    #[schemars(range(min = 60, max = 604_800))]
    pub deadline_seconds: i32,

    /// Begin no new drill.
    #[serde(default)]
    pub suspend: bool,
}

/// A question, and what its answer has to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = ("has(self.equals) != has(self.minimum)", "take one of equals and minimum"))]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What it is called in the status.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,

    /// Database that is asked.
    #[schemars(length(min = 1, max = 40))]
    pub database: String,

    /// A query whose first column of its first row is the answer. It is run by the database's owner, in a transaction that cannot
    /// write.
    #[schemars(length(min = 1, max = 4096))]
    pub query: String,

    /// The answer has to be this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub equals: Option<String>,

    /// The answer has to be a whole number, at least this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<i64>,
}

/// What the platform says of a drill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreDrillStatus {
    /// The generation of the spec that this status speaks of; -1 until anybody looked.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,

    /// `Ready`: the last drill proved that the plan's backups can be restored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// When a drill last proved it: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub last_proved_restore: Option<String>,

    /// When the next drill is due: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub next_run_time: Option<String>,

    /// The drill under way, or the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<DrillRun>,
}

/// One drill.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillRun {
    /// The Restore that it made.
    #[schemars(length(max = 63))]
    pub restore: String,

    /// The request that it came of, if somebody asked for it: the value of the annotation `hz.hospital/run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub requested: Option<String>,

    /// How far it is.
    pub phase: Phase,

    /// What is being done, or how it ended.
    #[schemars(length(max = 2048))]
    pub message: String,

    /// When it began: RFC 3339, UTC.
    #[schemars(length(max = 40))]
    pub start_time: String,

    /// When it ended: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub completion_time: Option<String>,

    /// Moment of the last transaction in the database that is backed up, when the drill began: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub last_commit: Option<String>,

    /// Moment of the last transaction that was restored: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub recovered_to: Option<String>,

    /// Seconds from the request until the restored database answered: the measured recovery time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_seconds: Option<i64>,

    /// Seconds between the last transaction of the database and the last that was restored: the measured recovery point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_seconds: Option<i64>,

    /// Each question and its answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub checks: Vec<CheckResult>,
}

/// A question and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckResult {
    /// Its name.
    #[schemars(length(max = 128))]
    pub name: String,

    /// The answer was as it has to be.
    pub passed: bool,

    /// What was answered.
    #[schemars(length(max = 256))]
    pub answer: String,
}

impl Default for RestoreDrillStatus {
    fn default() -> Self {
        Self {
            observed_generation: unobserved(),
            conditions: Vec::new(),
            last_proved_restore: None,
            next_run_time: None,
            last_run: None,
        }
    }
}

fn a_day() -> i32 {
    86_400
}

fn four_hours() -> i32 {
    14_400
}

fn saturdays() -> String {
    "0 4 * * 6".to_owned()
}
