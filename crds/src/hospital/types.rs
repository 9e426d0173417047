//! A hospital on the platform, as its IT writes it down.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::quantity::Amount;
use crate::shared::{DeletionPolicy, unobserved};

/// What a hospital is given.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "hz.hospital",
    version = "v1alpha1",
    kind = "Hospital",
    shortname = "hosp",
    category = "hz",
    doc = "A hospital on the platform: a namespace of its own named `hospital-<name>`, a quota, people who may work in it, and a wall around it.",
    status = "HospitalStatus",
    derive = "PartialEq",
    validation = (
        "self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "the name becomes part of a namespace and of host names: at most 40 lower-case letters, digits and hyphens, a letter first"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Name", type_ = "string", json_path = ".spec.displayName"),
    printcolumn(name = "Namespace", type_ = "string", json_path = ".status.namespace"),
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.deletionPolicy", priority = 1),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
pub struct HospitalSpec {
    /// The hospital's name as people say it: `St. Anna Hospital`.
    #[schemars(length(min = 1, max = 120))]
    pub display_name: String,

    /// The most that all its databases, caches and services together may take.
    #[serde(default)]
    pub quota: Quota,

    /// People who run the hospital's services: they create and change databases, caches and services in its
    /// namespace, and read pods, logs and events. They see no passwords of the system.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub admins: Vec<Subject>,

    /// Domains besides `<hospital>.<platform domain>` under which its services may publish. Only who may edit the
    /// hospital can add one, so that no tenant takes another's name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(
            length(min = 3, max = 200),
            regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+$")
        )
    )]
    pub domains: Vec<String>,

    /// What becomes of the namespace and all data in it when the hospital is deleted. `Retain` leaves everything
    /// running behind its wall; `Delete` removes it for good.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// The most a hospital may take. What is left out is not limited.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quota {
    /// Processor time that may be set aside: `8` or `500m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Amount>,

    /// Memory that may be set aside: `32Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Amount>,

    /// Disk that may be set aside: `500Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Amount>,

    /// Pods that may run at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub pods: Option<i32>,
}

/// Somebody who may work in the hospital's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = (
    "self.kind == 'ServiceAccount' ? has(self.__namespace__) : !has(self.__namespace__)",
    "a ServiceAccount needs the namespace it is in; users and groups have none"
))]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// `User`, `Group` or `ServiceAccount`.
    pub kind: SubjectKind,

    /// Name as the identity provider gives it. Names that begin with `system:` are the platform's own.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = ("!self.startsWith('system:')", "names that begin with system: belong to the platform"))]
    pub name: String,

    /// Namespace of a ServiceAccount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// Kinds of people and machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SubjectKind {
    /// A person.
    User,
    /// People whom the identity provider put together.
    Group,
    /// A program in the cluster: a GitOps agent.
    ServiceAccount,
}

impl SubjectKind {
    /// The word in role bindings.
    pub fn word(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::Group => "Group",
            Self::ServiceAccount => "ServiceAccount",
        }
    }
}

/// What the platform says of a hospital.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HospitalStatus {
    /// The generation of the spec that this status speaks of; -1 until anybody looked.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,

    /// What is true of the hospital, `Ready` first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// Its namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,

    /// What it has set aside, as its quota counts it; nothing where the quota sets no limit.
    #[serde(default)]
    pub used: Used,
}

/// What a hospital has set aside.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Used {
    /// Processor time set aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Amount>,

    /// Memory set aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Amount>,

    /// Disk set aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Amount>,

    /// Pods there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub pods: Option<i32>,
}

impl Default for HospitalStatus {
    fn default() -> Self {
        Self { observed_generation: unobserved(), conditions: Vec::new(), namespace: None, used: Used::default() }
    }
}
