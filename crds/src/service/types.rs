//! A service that a hospital runs, as it orders it.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::quantity::Amount;
use crate::shared::{DataClass, Resources, unobserved};

/// What a service should be.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "hz.hospital",
    version = "v1alpha1",
    kind = "MedicalService",
    namespaced,
    shortname = "msvc",
    category = "hz",
    doc = "A service a hospital runs: its copies, the databases and caches it uses, and the names under which people reach it.",
    status = "MedicalServiceStatus",
    derive = "PartialEq",
    validation = (
        "self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "the name becomes part of host names and of names of pods: at most 40 lower-case letters, digits and hyphens, a letter first"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Replicas", type_ = "string", json_path = ".status.replicas"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url"),
    printcolumn(name = "Audience", type_ = "string", json_path = ".spec.audience"),
    printcolumn(name = "Class", type_ = "string", json_path = ".status.dataClass", priority = 1),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.image", priority = 1),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[cfg_attr(test, kube(cel))]
#[x_kube(
    validation = (
        "!has(self.bindings) || self.bindings.all(a, self.bindings.exists_one(b, (has(a.prefix) ? a.prefix : has(a.database) ? 'DATABASE' : 'CACHE') == (has(b.prefix) ? b.prefix : has(b.database) ? 'DATABASE' : 'CACHE')))",
        "two bindings share a prefix, so one would hide the other: give one of them another prefix"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct MedicalServiceSpec {
    /// Image to run, with a tag or, better, a digest: `hz.hospital/orthanc:1.12.7`.
    #[schemars(length(min = 3, max = 512))]
    #[x_kube(validation = (
        "self.matches('^[a-z0-9]([-._a-z0-9]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([-._]+[a-z0-9]+)*)*(:[A-Za-z0-9_][-._A-Za-z0-9]{0,127})?(@sha256:[a-f0-9]{64})?$')",
        "not the name of an image: expected registry/name:tag or registry/name@sha256:digest"
    ))]
    #[x_kube(validation = (
        "self.matches('@sha256:') || self.matches(':[^/]+$')",
        "say which version: add a tag or a digest, or two servers may run two versions"
    ))]
    #[x_kube(validation = ("!self.endsWith(':latest')", "the tag latest changes under a running service: name a version or a digest"))]
    pub image: String,

    /// Who the service is for: `Staff` inside the hospital, or `Patients` from outside.
    #[serde(default)]
    pub audience: Audience,

    /// How strictly its data is kept. What it is bound to counts too: the strictest wins and stands in the status.
    #[serde(default)]
    pub data_class: DataClass,

    /// Copies to keep running, 1 to 50, spread over the servers. A single copy does not survive the loss of its
    /// server without a pause.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 50))]
    pub replicas: i32,

    /// Port on which the program listens. Programs run without privileges, so it must be 1024 or more.
    #[serde(default = "port_8080")]
    #[schemars(range(min = 1024, max = 65535))]
    pub port: i32,

    /// Program to start instead of the image's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 1024)))]
    pub command: Vec<String>,

    /// Arguments for the program.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    pub args: Vec<String>,

    /// Settings given to the program as environment variables. Passwords come by bindings, never from here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<Variable>,

    /// Databases and caches of the same hospital that the service uses. Their credentials are put into its environment,
    /// and the network lets it through to them and to nothing else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub bindings: Vec<Binding>,

    /// Names under which people reach the service through the hospital's gateway. None: only services of the
    /// same hospital reach it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub routes: Vec<Route>,

    /// How the platform sees that a copy works.
    #[serde(default)]
    pub probes: Probes,

    /// Processor and memory of each copy.
    #[serde(default)]
    pub resources: Resources,

    /// Folders the program may write to; what is in them goes with the copy. All else is read-only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["path".into()]))]
    pub scratch: Vec<Scratch>,

    /// Stop all copies; set to false to start them again.
    #[serde(default)]
    pub suspend: bool,
}

/// Who a service is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Audience {
    /// People who work in the hospital.
    #[default]
    Staff,
    /// Patients and their families, from outside.
    Patients,
}

/// A setting for the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Variable {
    /// Its name.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,

    /// Its value, taken as it stands.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// Something a service uses. Exactly one of the kinds is named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = ("has(self.database) != has(self.cache)", "a binding names either a database or a cache"))]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    /// A database: gives `DATABASE_HOST`, `_PORT`, `_NAME`, `_USER`, `_PASSWORD` and `_URI`; with TLS also
    /// `_CA_FILE`, a file with the authority to trust, and `_SSLMODE`, how to look at the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseBinding>,

    /// A cache: gives `CACHE_HOST`, `_PORT`, `_USER`, `_PASSWORD` and `_URI`; with TLS also `_CA_FILE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheBinding>,

    /// Beginning of the variables' names, instead of `DATABASE` or `CACHE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[A-Z][A-Z0-9_]*$"))]
    pub prefix: Option<String>,
}

/// A database of a PostgresInstance in the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseBinding {
    /// Name of the PostgresInstance.
    #[schemars(length(min = 1, max = 40))]
    pub instance: String,

    /// Name of the database on it.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,

    /// Which way: straight to the server, or through its pooler. `_HOST` and `_URI` say it to the program.
    #[serde(default)]
    pub via: Via,
}

/// The way to a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Via {
    /// Straight to the server.
    #[default]
    Direct,
    /// Through the pooler of the instance (`spec.pooler`).
    Pooler,
    /// Through its pooler for reads (`spec.pooler.readOnly`); data there may be a moment old.
    PoolerReadOnly,
}

/// A CacheInstance in the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CacheBinding {
    /// Name of the CacheInstance.
    #[schemars(length(min = 1, max = 40))]
    pub instance: String,

    /// One of its users, by `spec.users` of the CacheInstance. Default: the user `default`, who may touch all keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    #[x_kube(validation = (
        "!(self in ['auth', 'system', 'tls']) && !self.startsWith('hz-')",
        "no user of a cache has this name"
    ))]
    pub user: Option<String>,
}

/// A name under which people reach a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Host name, within the hospital's domains. Default: `<service>.<hospital>.<platform domain>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 3, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+$")
    )]
    pub host: Option<String>,

    /// Paths that begin with this come here.
    #[serde(default = "root")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^/[-A-Za-z0-9/._~]*$"))]
    pub path: String,
}

/// How the platform sees that a copy works. What is left out asks whether the port takes connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Probes {
    /// Path that answers 2xx when a copy can take requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^/"))]
    pub ready: Option<String>,

    /// Path that answers 2xx while a copy is alive; a copy that stops answering is started again. It must not ask the
    /// database, or a pause there restarts every copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^/"))]
    pub alive: Option<String>,

    /// Seconds a copy may take to start before it is started again.
    #[serde(default = "two_minutes")]
    #[schemars(range(min = 5, max = 3600))]
    pub start_seconds: i32,
}

/// A folder the program may write to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scratch {
    /// Absolute path.
    #[schemars(length(min = 2, max = 255), regex(pattern = r"^(/[-A-Za-z0-9._]+)+$"))]
    #[x_kube(validation = (
        "!self.contains('/..') && ['/proc', '/sys', '/dev', '/etc', '/usr', '/bin', '/sbin', '/lib', '/var/run/secrets', '/run/secrets'].all(p, self != p && !self.startsWith(p + '/'))",
        "folders of the system cannot be written to"
    ))]
    pub path: String,

    /// The most it may hold; a copy that goes beyond is stopped and started again.
    #[serde(default = "sixty_four_mebibytes")]
    pub size: Amount,
}

/// What the platform says of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MedicalServiceStatus {
    /// The generation of the spec that this status speaks of; -1 until anybody looked.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,

    /// What is true of the service: `Ready` (every copy of the wanted version takes requests and its routes stand),
    /// `Available` (at least one copy takes requests).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// Copies that are ready, of those wanted: `2/2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub replicas: Option<String>,

    /// Copies that are ready.
    #[serde(default)]
    pub ready_replicas: i32,

    /// Where people reach it: its first route, or its name inside the hospital.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1400))]
    pub url: Option<String>,

    /// How strictly its data is kept, with what it is bound to counted in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::shared::optional_class")]
    pub data_class: Option<DataClass>,
}

impl Default for Probes {
    fn default() -> Self {
        Self { ready: None, alive: None, start_seconds: two_minutes() }
    }
}

impl Default for MedicalServiceStatus {
    fn default() -> Self {
        Self {
            observed_generation: unobserved(),
            conditions: Vec::new(),
            replicas: None,
            ready_replicas: 0,
            url: None,
            data_class: None,
        }
    }
}

fn two() -> i32 {
    2
}

fn port_8080() -> i32 {
    8080
}

fn root() -> String {
    "/".to_owned()
}

fn two_minutes() -> i32 {
    120
}

fn sixty_four_mebibytes() -> Amount {
    Amount::from("64Mi")
}
