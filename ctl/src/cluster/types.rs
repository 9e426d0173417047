//! What a cluster is: the fields of cluster.yaml. The doc comments and limits here are what editors show
//! (`hzctl schema`) and what the reader checks, so each stands once.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::Ipv4Net;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The servers of a hospital cloud, and how it is laid out on them.
///
/// Secrets never stand in this file: it names the files that hold them. Paths are relative to this file;
/// `~/` is your home.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "Cluster")]
pub struct Cluster {
    /// The version of this format.
    pub api_version: ApiVersion,
    /// Always `Cluster`.
    pub kind: Kind,
    /// What the cluster is called.
    pub metadata: Metadata,
    /// What the cluster is made of.
    pub spec: Spec,
    /// The file it was read from; empty when read from memory.
    #[serde(skip)]
    #[schemars(skip)]
    pub source: PathBuf,
}

/// The versions of the format that this hzctl reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ApiVersion {
    /// The first one.
    #[serde(rename = "hz.hospital/v1alpha1")]
    V1alpha1,
}

/// The kinds of document that this hzctl reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Kind {
    /// A cluster and its hosts.
    Cluster,
}

/// What the cluster is called.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Name of the cluster: lower-case letters, digits and `-`, at most 63. `hzctl reset` asks for it.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}

/// What the cluster is made of.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// How hzctl reaches the hosts.
    pub ssh: Ssh,
    /// The servers: 3, 5 or 7 control planes, and workers; at least eight in all unless `minimumHosts` says less.
    #[schemars(length(min = 1, max = 500))]
    pub hosts: Vec<Host>,
    /// The fewest hosts this file may list. Eight is what a hospital needs to lose any one server and go on.
    /// Only a test site sets less; below 4 a single control plane will do.
    #[serde(default = "eight")]
    #[schemars(range(min = 2, max = 8))]
    pub minimum_hosts: u8,
    /// The offline bundle to install from, as `hzctl bundle build` makes it.
    #[schemars(length(min = 1, max = 4096))]
    pub bundle: PathBuf,
    /// Addresses inside the cluster.
    #[serde(default)]
    pub network: Network,
    /// Where volumes live on the hosts.
    #[serde(default)]
    pub storage: Storage,
    /// The door through which users reach the services.
    #[serde(default)]
    pub gateway: Gateway,
    /// Files with objects to apply once the platform runs: hospitals, databases, services.
    #[serde(default)]
    #[schemars(length(max = 100), inner(length(min = 1, max = 4096)))]
    pub manifests: Vec<PathBuf>,
    /// Checks before anything changes.
    #[serde(default)]
    pub preflight: Preflight,
}

/// How hzctl reaches the hosts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ssh {
    /// The user to log in as: root, or one who may use sudo without a password.
    #[serde(default = "root")]
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[a-z_][a-z0-9_-]*$"))]
    pub user: String,
    /// The port sshd listens on.
    #[serde(default = "ssh_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// The private key to log in with, readable by you alone. Only its path stands here, never the key.
    #[schemars(length(min = 1, max = 4096))]
    pub identity_file: PathBuf,
    /// The file with the hosts' public keys.
    #[serde(default = "known_hosts")]
    #[schemars(length(min = 1, max = 4096))]
    pub known_hosts_file: PathBuf,
    /// What to do with a host whose key is not in `knownHostsFile`.
    #[serde(default)]
    pub host_keys: HostKeys,
}

/// What to do with a host whose key is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum HostKeys {
    /// Refuse it. The right choice wherever the keys can be had beforehand.
    #[default]
    Strict,
    /// Take the key at first sight and remember it; a key that changed is still refused.
    AcceptNew,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Host {
    /// Its name, which becomes the node's name: lower-case letters, digits and `-`, at most 63.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Its IPv4 address, which the other hosts reach it by.
    pub address: Ipv4Addr,
    /// What it is for.
    pub role: Role,
    /// Labels for its node, such as the room or the rack.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,
    /// What is different about reaching this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<HostSsh>,
}

/// What is different about reaching one host; what is left out is as in `spec.ssh`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostSsh {
    /// The address SSH goes to, if not the host's own: behind a management network, for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// The user to log in as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[a-z_][a-z0-9_-]*$"))]
    pub user: Option<String>,
    /// The port sshd listens on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// The private key to log in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub identity_file: Option<PathBuf>,
}

/// What a host is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema)]
pub enum Role {
    /// Runs the API server, the scheduler and etcd.
    ControlPlane,
    /// Runs the hospital's services.
    Worker,
}

/// Addresses inside the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Network {
    /// Who joins the pods of all hosts into one network.
    pub provider: NetworkProvider,
    /// The range pods get their addresses from; each host takes a /24 of it.
    #[serde(rename = "podCIDR")]
    #[schemars(with = "String", length(min = 9, max = 18), regex(pattern = r"^[0-9]+(\.[0-9]+){3}/[0-9]+$"))]
    pub pod_cidr: Ipv4Net,
    /// The range services get their addresses from.
    #[serde(rename = "serviceCIDR")]
    #[schemars(with = "String", length(min = 9, max = 18), regex(pattern = r"^[0-9]+(\.[0-9]+){3}/[0-9]+$"))]
    pub service_cidr: Ipv4Net,
    /// The largest packet between pods in bytes; 0 has it measured. Else 1280 to 9216.
    #[schemars(range(min = 0, max = 9216))]
    pub mtu: u16,
}

/// Who joins the pods of all hosts into one network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum NetworkProvider {
    /// The network agent that comes with the platform.
    #[default]
    Netguard,
    /// Nobody: you bring Cilium, Calico or another one yourself.
    None,
}

/// Where volumes live on the hosts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Storage {
    /// The directory for volumes on each host: absolute, best on a disk of its own.
    #[schemars(length(min = 2, max = 1024), regex(pattern = "^/"))]
    pub path: PathBuf,
}

/// The door through which users reach the services.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Gateway {
    /// The port for HTTP on every worker.
    #[schemars(range(min = 1, max = 65535))]
    pub http_port: u16,
}

/// Checks before anything changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Preflight {
    /// Ids of checks that may fail: what they find is told, and does not stop the bootstrap.
    #[schemars(schema_with = "ids_of_checks")]
    pub waive: Vec<String>,
}

impl Default for Network {
    fn default() -> Self {
        Network {
            provider: NetworkProvider::default(),
            pod_cidr: Ipv4Net::new_assert(Ipv4Addr::new(10, 244, 0, 0), 16),
            service_cidr: Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 16),
            mtu: 0,
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Storage { path: PathBuf::from("/var/lib/hzctl/volumes") }
    }
}

impl Default for Gateway {
    fn default() -> Self {
        Gateway { http_port: 80 }
    }
}

/// The checks there are, so that editors offer them and a misspelt one is found before it waives nothing.
fn ids_of_checks(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let ids: Vec<&str> = crate::bootstrap::preflight::ALL.iter().map(|check| check.id).collect();
    schemars::json_schema!({ "type": "array", "maxItems": 100, "items": { "type": "string", "enum": ids } })
}

fn eight() -> u8 {
    8
}

fn root() -> String {
    "root".to_owned()
}

fn ssh_port() -> u16 {
    22
}

fn known_hosts() -> PathBuf {
    PathBuf::from("~/.ssh/known_hosts")
}

/// How one host is reached: `spec.ssh` with the host's own differences laid over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The address SSH goes to.
    pub address: Ipv4Addr,
    /// The port sshd listens on.
    pub port: u16,
    /// The user to log in as.
    pub user: String,
    /// The private key.
    pub identity_file: PathBuf,
    /// The file with the hosts' public keys.
    pub known_hosts_file: PathBuf,
    /// What to do with an unknown key.
    pub host_keys: HostKeys,
}

impl Cluster {
    /// How this host is reached.
    pub fn target(&self, host: &Host) -> Target {
        let ssh = &self.spec.ssh;
        let own = host.ssh.clone().unwrap_or_default();
        Target {
            address: own.address.unwrap_or(host.address),
            port: own.port.unwrap_or(ssh.port),
            user: own.user.unwrap_or_else(|| ssh.user.clone()),
            identity_file: own.identity_file.unwrap_or_else(|| ssh.identity_file.clone()),
            known_hosts_file: ssh.known_hosts_file.clone(),
            host_keys: ssh.host_keys,
        }
    }

    /// The hosts of one role, in the order of the file.
    pub fn with_role(&self, role: Role) -> impl Iterator<Item = &Host> {
        self.spec.hosts.iter().filter(move |host| host.role == role)
    }

    /// The control planes; the first is the one that starts the cluster.
    pub fn control_planes(&self) -> impl Iterator<Item = &Host> {
        self.with_role(Role::ControlPlane)
    }

    /// The workers.
    pub fn workers(&self) -> impl Iterator<Item = &Host> {
        self.with_role(Role::Worker)
    }
}
