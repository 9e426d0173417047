//! Words that several kinds share.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Verdict;
use crate::quantity::Amount;

/// How strictly data is kept. Ordered: what is bound to stricter data is as strict as that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
pub enum DataClass {
    /// May be read by anyone: opening hours, leaflets.
    Public,
    /// Appointments, billing, staff rosters: no findings, but people in it.
    Administrative,
    /// Findings, images, orders, prescriptions. Never leaves the hospital.
    #[default]
    Clinical,
}

impl DataClass {
    /// The word in manifests and labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::Public => "Public",
            Self::Administrative => "Administrative",
            Self::Clinical => "Clinical",
        }
    }
}

/// Schema of a class that may be left out, so that a field keeps its own description.
pub(crate) fn optional_class(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    DataClass::json_schema(generator)
}

/// What becomes of data when its object is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// Data and passwords stay; an object of the same name takes them up again.
    #[default]
    Retain,
    /// Data goes with the object, for good.
    Delete,
}

impl DeletionPolicy {
    /// True when data outlives its object.
    pub fn retains(self) -> bool {
        self == Self::Retain
    }
}

/// Processor and memory of one copy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = (
    "!has(self.memoryLimit) || quantity(self.memoryLimit).compareTo(quantity(self.memory)) >= 0",
    "memoryLimit must be at least memory"
))]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Processor time set aside for one copy: `250m` is a quarter of a core. It may use more when the server is idle.
    #[serde(default = "tenth_of_a_core")]
    pub cpu: Amount,

    /// Memory set aside for one copy.
    #[serde(default = "quarter_gibibyte")]
    pub memory: Amount,

    /// Memory at which a copy is stopped and started again. Default: the same as `memory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<Amount>,
}

impl Default for Resources {
    fn default() -> Self {
        Self { cpu: tenth_of_a_core(), memory: quarter_gibibyte(), memory_limit: None }
    }
}

impl Resources {
    /// Memory at which a copy is stopped.
    pub fn limit(&self) -> &Amount {
        self.memory_limit.as_ref().unwrap_or(&self.memory)
    }
}

fn tenth_of_a_core() -> Amount {
    Amount::from("100m")
}

fn quarter_gibibyte() -> Amount {
    Amount::from("256Mi")
}

/// Volume of one copy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// Room for data, per copy. It can grow and never shrink.
    #[x_kube(validation = (
        "quantity(self).compareTo(quantity(oldSelf)) >= 0",
        "storage can grow and never shrink; move the data to a new, smaller instance instead"
    ))]
    pub size: Amount,

    /// Class of volume; default: the platform's, on the server's own disk. It cannot change afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub storage_class: Option<String>,
}

/// One pod of a database or cache, in a status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Name of the pod.
    #[schemars(length(max = 253))]
    pub name: String,

    /// Server it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node: Option<String>,

    /// What it is right now; nothing while it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub role: Option<String>,

    /// It takes connections.
    pub ready: bool,
}

/// A pod as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodSeen {
    /// Its name.
    pub name: String,
    /// Server it runs on.
    pub node: Option<String>,
    /// Value of its `hz.hospital/role` label.
    pub role: Option<String>,
    /// Its `Ready` condition.
    pub ready: bool,
    /// What keeps it from running, from its conditions and container states: `ImagePullBackOff: ...`,
    /// `Unschedulable: 0/8 nodes ...`.
    pub trouble: Option<String>,
}

impl From<&PodSeen> for Member {
    fn from(pod: &PodSeen) -> Self {
        Self { name: pod.name.clone(), node: pod.node.clone(), role: pod.role.clone(), ready: pod.ready }
    }
}

/// What came of asking the thing itself whether it answers, through its Service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Probe {
    /// Nobody has asked yet.
    #[default]
    NotAsked,
    /// It answered.
    Answered,
    /// It did not, and this is what came instead.
    Failed(String),
}

/// The condition that every copy works with what the spec says: settings, room, description of its pod.
pub const CONFIGURED: &str = "Configured";

/// How far what the spec says has come to the copies that run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Settings {
    /// Nobody looked in this pass; what the status says stays.
    #[default]
    NotSeen,
    /// Every copy works with it.
    InForce,
    /// This is being done for it.
    OnTheirWay(String),
    /// This failed.
    Failed(String),
}

impl Settings {
    /// The verdict of [`CONFIGURED`]; nothing if nobody looked.
    pub fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::NotSeen => None,
            Self::InForce => Some(Verdict::yes("InForce", "every copy works with the settings of the spec")),
            Self::OnTheirWay(what) => Some(Verdict::no("Applying", what.clone())),
            Self::Failed(what) => Some(Verdict::no("NotApplied", what.clone())),
        }
    }
}

/// Status before anybody has looked: no generation is -1, so tools that compare it wait.
pub fn unobserved() -> i64 {
    -1
}

/// The first pod that cannot run, and why, as a sentence.
pub fn trouble(pods: &[PodSeen]) -> Option<String> {
    pods.iter().find_map(|pod| pod.trouble.as_ref().map(|trouble| format!("{}: {trouble}", pod.name)))
}

/// SHA-256 of parts, in hexadecimal. Each part is preceded by its length, so that no two lists of parts collide.
pub fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
