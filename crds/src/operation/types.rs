//! Something done once to a database or cache, as a person asks for it.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::postgres::PostgresVersion;
use crate::quantity::Amount;
use crate::shared::unobserved;

/// What is to be done, to what, and how long it may take.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "hz.hospital",
    version = "v1alpha1",
    kind = "DataOperation",
    namespaced,
    shortname = "dop",
    category = "hz",
    doc = "One piece of work on a database or cache: a restart, a switchover, a copy built anew, more copies, more room, another major version. One at a time for each database or cache; it ends once, and how it ended never changes.",
    status = "DataOperationStatus",
    derive = "PartialEq",
    validation = ("self.metadata.name.size() <= 100", "the name is shown beside its target: at most 100 letters"),
    printcolumn(name = "Action", type_ = "string", json_path = ".spec.action"),
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.target.kind", priority = 1),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.target.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.progress"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[cfg_attr(test, kube(cel))]
#[x_kube(
    validation = (
        "(self.action == 'Scale') == has(self.instances)",
        "instances goes with the action Scale, and with no other"
    ),
    validation = (
        "(self.action == 'Expand') == has(self.size)",
        "size goes with the action Expand, and with no other"
    ),
    validation = (
        "(self.action == 'Rebuild') == has(self.member)",
        "member goes with the action Rebuild, and with no other"
    ),
    validation = (
        "!has(self.candidate) || self.action == 'Switchover' && self.target.kind == 'PostgresInstance'",
        "candidate goes with the action Switchover of a PostgresInstance; the sentinels of a cache choose by themselves"
    ),
    validation = (
        "(self.action == 'Upgrade') == has(self.version)",
        "version goes with the action Upgrade, and with no other"
    ),
    validation = (
        "!self.skipBackup || self.action == 'Upgrade'",
        "skipBackup goes with the action Upgrade, and with no other"
    ),
    validation = (
        "(self.action == 'RollBack') == self.acceptLossSince",
        "RollBack loses everything that was written since the upgrade, and has to say so: acceptLossSince: true; it goes with no other action"
    ),
    validation = (
        "!(self.action in ['Upgrade', 'RollBack', 'FinishUpgrade']) || self.target.kind == 'PostgresInstance'",
        "only a PostgresInstance has a version to upgrade"
    ),
    validation = (
        "self.skipBackup == oldSelf.skipBackup && self.acceptLossSince == oldSelf.acceptLossSince && has(self.version) == has(oldSelf.version) && (!has(self.version) || self.version == oldSelf.version)",
        "an operation cannot become another: only cancel and ttlSecondsAfterFinished may change; make a new one"
    ),
    validation = (
        "self.target.kind != 'CacheInstance' || !has(self.instances) || self.instances % 2 == 1",
        "an even number of cache servers cannot outvote a lost half: take 1, 3, 5 or 7"
    ),
    validation = (
        "self.action == oldSelf.action && self.target == oldSelf.target && self.deadlineSeconds == oldSelf.deadlineSeconds && has(self.instances) == has(oldSelf.instances) && (!has(self.instances) || self.instances == oldSelf.instances) && has(self.size) == has(oldSelf.size) && (!has(self.size) || self.size == oldSelf.size) && has(self.member) == has(oldSelf.member) && (!has(self.member) || self.member == oldSelf.member) && has(self.candidate) == has(oldSelf.candidate) && (!has(self.candidate) || self.candidate == oldSelf.candidate)",
        "an operation cannot become another: only cancel and ttlSecondsAfterFinished may change; make a new one"
    ),
    validation = ("!oldSelf.cancel || self.cancel", "what was cancelled stays cancelled; make a new operation")
)]
#[serde(rename_all = "camelCase")]
pub struct DataOperationSpec {
    /// The database or cache, in the same namespace.
    pub target: Target,

    /// What to do with it.
    pub action: Action,

    /// For `Scale`: copies there should be, 1 to 7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 7))]
    pub instances: Option<i32>,

    /// For `Expand`: room for data of each copy, such as `20Gi`. It can grow and never shrink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Amount>,

    /// For `Rebuild`: the copy to build anew, by the name of its pod. What is on its disk goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub member: Option<String>,

    /// For `Switchover`: the copy that is to become the primary, by the name of its pod. Default: one that has every
    /// confirmed write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub candidate: Option<String>,

    /// For `Upgrade`: the major version to upgrade to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_version")]
    pub version: Option<PostgresVersion>,

    /// For `Upgrade`: do without a backup of today, though there is a BackupPlan.
    #[serde(default)]
    pub skip_backup: bool,

    /// For `RollBack`: everything that was written since the upgrade may be lost. It has to be true.
    #[serde(default)]
    pub accept_loss_since: bool,

    /// Seconds from its start after which the operation is given up. What is under way by then is finished by the
    /// database itself; no further step is begun.
    #[serde(default = "half_an_hour")]
    #[schemars(range(min = 30, max = 86400))]
    pub deadline_seconds: i32,

    /// Seconds after its end at which the object is removed, with the record of how it ended. Default: a week.
    #[serde(default = "a_week")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub ttl_seconds_after_finished: i32,

    /// Begin no further step. An operation that had nothing left to do succeeds all the same.
    #[serde(default)]
    pub cancel: bool,
}

/// A database or cache.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Its kind.
    pub kind: TargetKind,

    /// Its name.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
}

/// Kinds that hold data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TargetKind {
    /// A PostgreSQL server.
    PostgresInstance,
    /// A Valkey cache.
    CacheInstance,
}

impl TargetKind {
    /// The word in manifests.
    pub fn word(self) -> &'static str {
        match self {
            Self::PostgresInstance => "PostgresInstance",
            Self::CacheInstance => "CacheInstance",
        }
    }
}

/// What can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Action {
    /// Start every copy anew, one after the other; the primary last, after it has handed its work over.
    Restart,
    /// Have another number of copies.
    Scale,
    /// Give every copy more room. Where the storage class cannot grow volumes, copies are built anew one by one.
    Expand,
    /// Hand the primary's work to another copy.
    Switchover,
    /// Throw one copy's disk away and build it anew from the others.
    Rebuild,
    /// Go to another major version. The data of before is kept until `FinishUpgrade`.
    Upgrade,
    /// Go back to the version and the data of before an upgrade. What was written since is lost.
    RollBack,
    /// Throw the data of before an upgrade away, and with it the way back.
    FinishUpgrade,
}

impl Action {
    /// The word in manifests.
    pub fn word(self) -> &'static str {
        match self {
            Self::Restart => "Restart",
            Self::Scale => "Scale",
            Self::Expand => "Expand",
            Self::Switchover => "Switchover",
            Self::Rebuild => "Rebuild",
            Self::Upgrade => "Upgrade",
            Self::RollBack => "RollBack",
            Self::FinishUpgrade => "FinishUpgrade",
        }
    }
}

/// Where an operation on the version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Stage {
    /// The schema is loaded into an empty database of the new version, for a trial.
    #[default]
    Checking,
    /// The primary's work goes to the copy whose volume is used.
    HandingOver,
    /// The other copies stop; writes wait.
    Draining,
    /// All copies stop.
    Stopping,
    /// Data of the other version is made ready.
    Working,
    /// The copies start with the other version. From here on there is no way to cancel.
    Starting,
    /// The copies start again with the version of before.
    Returning,
    /// The data of before is thrown away.
    Finishing,
}

impl Stage {
    /// How far that is.
    pub fn progress(self, action: Action) -> &'static str {
        match (self, action) {
            (Self::Checking, _) => "0/5",
            (Self::HandingOver, _) => "1/5",
            (Self::Draining, _) => "2/5",
            (Self::Stopping, Action::RollBack) => "0/2",
            (Self::Working, Action::RollBack) => "1/2",
            (Self::Starting, Action::RollBack) => "2/2",
            (Self::Stopping, _) => "3/5",
            (Self::Working, _) => "4/5",
            (Self::Starting, _) => "5/5",
            (Self::Returning, _) => "0/0",
            (Self::Finishing, _) => "0/1",
        }
    }
}

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// It waits: for another operation on the same target, or to be looked at.
    #[default]
    Pending,
    /// Steps are being done.
    Running,
    /// What was asked for is so.
    Succeeded,
    /// It was given up; the message says at what.
    Failed,
    /// A person stopped it.
    Cancelled,
}

impl Phase {
    /// It ended and never changes again.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// The word in a status.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
        }
    }
}

/// What the platform says of an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = (
    "!has(oldSelf.phase) || !(oldSelf.phase in ['Succeeded', 'Failed', 'Cancelled']) || self.phase == oldSelf.phase && self.message == oldSelf.message && self.completionTime == oldSelf.completionTime",
    "the operation has ended; how it ended does not change"
))]
#[serde(rename_all = "camelCase")]
pub struct DataOperationStatus {
    /// The generation of the spec that this status speaks of; -1 until anybody looked.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,

    /// `Ready` turns true when the operation succeeded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_phase")]
    pub phase: Option<Phase>,

    /// Copies that are as asked for, of all: `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub progress: Option<String>,

    /// What is being done, what it waits for, or how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,

    /// When its first step began: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub start_time: Option<String>,

    /// When it ended: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub completion_time: Option<String>,

    /// What was there before the first step, to tell by the thing itself when it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Before>,

    /// For operations on the version: where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_stage")]
    pub stage: Option<Stage>,
}

/// What was there before the first step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Before {
    /// Pod that took writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub primary: Option<String>,

    /// Unique ids of the pods, and of the volume of a copy that is built anew: those that are to be gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    pub uids: Vec<String>,

    /// Version of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub from: Option<String>,

    /// Version that it leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub to: Option<String>,

    /// Why it goes back, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub going_back: Option<String>,
}

impl Default for DataOperationStatus {
    fn default() -> Self {
        Self {
            observed_generation: unobserved(),
            conditions: Vec::new(),
            phase: None,
            progress: None,
            message: None,
            start_time: None,
            completion_time: None,
            before: None,
            stage: None,
        }
    }
}

fn half_an_hour() -> i32 {
    1800
}

/// Seconds in a week.
pub fn a_week() -> i32 {
    604_800
}

fn optional_stage(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    Stage::json_schema(generator)
}

fn optional_version(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    PostgresVersion::json_schema(generator)
}

fn optional_phase(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    Phase::json_schema(generator)
}
