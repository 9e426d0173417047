//! What travels between hzctl and `hzctl node`: requests in, facts and reports out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What to look at on a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FactsRequest {
    /// Files whose hash is wanted.
    pub files: Vec<String>,
    /// Packages whose version is wanted.
    pub packages: Vec<String>,
    /// Paths whose file system is wanted; the nearest parent that exists stands for one that does not.
    pub disks: Vec<String>,
    /// TCP ports that we need.
    pub ports: Vec<u16>,
    /// Whether the blobs of a laid-out bundle are wanted.
    pub blobs: bool,
}

/// Everything there is to know about a host before a decision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Facts {
    /// Host name.
    pub hostname: String,
    /// Contents of /etc/machine-id.
    pub machine_id: String,
    /// Changes with each boot.
    pub boot_id: String,
    /// `ID` of os-release.
    pub os: String,
    /// `VERSION_ID` of os-release.
    pub os_version: String,
    /// `PRETTY_NAME` of os-release.
    pub os_name: String,
    /// Machine, as uname says.
    pub arch: String,
    /// Kernel release.
    pub kernel: String,
    /// Whether systemd is PID 1.
    pub systemd: bool,
    /// Milliseconds since 1970 on the host's clock.
    pub clock_ms: i64,
    /// Processors.
    pub cpus: usize,
    /// Main memory in bytes, as the kernel says.
    pub memory_bytes: u64,
    /// Swap in use, in bytes.
    pub swap_bytes: u64,
    /// 1 or 2.
    pub cgroup: u8,
    /// Whether the host may exceed resource limits (CAP_SYS_RESOURCE).
    pub cap_sys_resource: bool,
    /// Whether a process may lower its own OOM score.
    pub oom_score_free: bool,
    /// Whether connection-tracking limits may be set.
    pub conntrack_writable: bool,
    /// File system of `/`.
    pub root_fs: String,
    /// Name servers of /etc/resolv.conf.
    pub nameservers: Vec<String>,
    /// File systems of the paths asked for.
    pub disks: Vec<Disk>,
    /// Addresses of the host.
    pub addresses: Vec<Address>,
    /// Kernel features, tried out.
    pub features: Vec<Feature>,
    /// Programs that we call and that are missing.
    pub missing_tools: Vec<String>,
    /// Ports of those asked for that somebody listens on.
    pub listening: Vec<u16>,
    /// Hashes of the files asked for that exist.
    pub files: BTreeMap<String, String>,
    /// Versions of the packages asked for that are installed.
    pub packages: BTreeMap<String, String>,
    /// Units of ours that are active.
    pub active_units: Vec<String>,
    /// Units of ours that start at boot.
    pub enabled_units: Vec<String>,
    /// Images in the container runtime, name → manifest digest.
    pub images: BTreeMap<String, String>,
    /// Blobs of a laid-out bundle, hexadecimal digests.
    pub blobs: Vec<String>,
    /// SHA-256 of the laid-out bundle's manifest.
    pub bundle_manifest: String,
    /// What an earlier cluster, ours or not, left here.
    pub leftovers: Leftovers,
    /// Milliseconds it took to find all this out.
    pub took_ms: u64,
}

/// A file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Disk {
    /// The path asked for.
    pub path: String,
    /// Identity of the file system: paths with the same one share their space.
    pub device: u64,
    /// Bytes in all.
    pub total: u64,
    /// Bytes free for us.
    pub free: u64,
    /// Inodes in all; 0 where the file system has no fixed number.
    pub inodes: u64,
    /// Inodes free.
    pub inodes_free: u64,
}

/// An address on an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Address {
    /// Interface.
    pub interface: String,
    /// IPv4 address.
    pub address: String,
    /// Length of the network part.
    pub prefix: u8,
    /// Largest packet.
    pub mtu: u32,
}

/// A kernel feature, tried out in a network and mount namespace of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Feature {
    /// `nftables`, `vxlan`, `bridge`, `veth`, `overlay`.
    pub name: String,
    /// Whether it worked.
    pub works: bool,
    /// What went wrong.
    pub detail: String,
}

/// What an earlier cluster left on a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Leftovers {
    /// Our own mark.
    pub marker: Option<Marker>,
    /// SHA-256 of /etc/kubernetes/pki/ca.crt.
    pub ca_hash: String,
    /// Whether a kubelet runs.
    pub kubelet_running: bool,
    /// Whether /etc/kubernetes/kubelet.conf is there.
    pub kubelet_conf: bool,
    /// Whether the kubelet has its own certificate.
    pub kubelet_certificate: bool,
    /// Whether /etc/kubernetes/admin.conf is there.
    pub admin_conf: bool,
    /// Whether /etc/kubernetes/super-admin.conf is there.
    pub super_admin_conf: bool,
    /// Static pods in /etc/kubernetes/manifests.
    pub manifests: Vec<String>,
    /// Whether /var/lib/etcd has a member's data.
    pub etcd_data: bool,
    /// Whether the API server of this very host says that it is alive.
    pub apiserver_alive: bool,
    /// Network configurations in /etc/cni/net.d.
    pub cni: Vec<String>,
    /// Programs of other distributions that would fight over the host: k3s, rke2, microk8s.
    pub others: Vec<String>,
}

impl Leftovers {
    /// Whether there is anything of Kubernetes at all.
    pub fn any(&self) -> bool {
        self.kubelet_running
            || self.kubelet_conf
            || self.admin_conf
            || self.etcd_data
            || !self.manifests.is_empty()
            || !self.ca_hash.is_empty()
            || !self.others.is_empty()
    }
}

/// The mark written before the first change: whose host this is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Marker {
    /// Name of the cluster.
    pub cluster: String,
    /// Identity of the cluster, made at its first bootstrap.
    pub id: String,
    /// Name of the host.
    pub host: String,
    /// `ControlPlane` or `Worker`.
    pub role: String,
    /// Whether a whole cluster was seen to be served from here. From then on nothing here is ever begun anew.
    pub served: bool,
}

/// Files to have on a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FileWrite {
    /// Absolute path.
    pub path: String,
    /// Contents.
    pub content: String,
    /// Permission bits.
    pub mode: u32,
}

/// Where blobs come from: the host's own store first, then other hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Source {
    /// `address:port` of hosts that serve, best first.
    pub peers: Vec<String>,
    /// What they ask for.
    pub token: String,
}

/// A file of a component to install.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FileTask {
    /// Absolute path.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// SHA-256 when unpacked.
    pub sha256: String,
    /// Hexadecimal digest of the blob, compressed with zstd.
    pub blob: String,
}

/// What to install.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InstallRequest {
    /// Where blobs come from.
    pub source: Source,
    /// Files, first things first.
    pub files: Vec<FileTask>,
    /// Packages to install from [`super::DEB_DIR`], all in one go.
    pub debs: Vec<FileTask>,
}

/// An image to have in the container runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageTask {
    /// Full name.
    pub name: String,
    /// Hexadecimal digest of its manifest.
    pub manifest: String,
    /// Hexadecimal digests and sizes of all its blobs, the manifest among them.
    pub blobs: Vec<(String, u64)>,
    /// Unpack it now: it is sure to run here.
    pub unpack: bool,
}

/// Images to import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImportRequest {
    /// Where blobs come from.
    pub source: Source,
    /// Images, first things first.
    pub images: Vec<ImageTask>,
}

/// Blobs to copy into the host's own store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FetchRequest {
    /// Where blobs come from.
    pub source: Source,
    /// Hexadecimal digests and sizes, first things first.
    pub blobs: Vec<(String, u64)>,
}

/// What a verb did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// What was changed, by name.
    pub changed: Vec<String>,
    /// Bytes moved.
    pub bytes: u64,
}

/// A connection to try.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Dial {
    /// Name of the other host.
    pub host: String,
    /// Its address.
    pub address: String,
    /// TCP port.
    pub port: u16,
}

/// How a connection went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Dialled {
    /// What was tried.
    pub dial: Dial,
    /// Why it did not work; empty if it did.
    pub error: String,
}

/// How long it takes to make a write durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FsyncReport {
    /// Writes made.
    pub writes: u32,
    /// Median in milliseconds.
    pub median_ms: f64,
    /// 99th percentile in milliseconds.
    pub p99_ms: f64,
}

/// A member of etcd.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Member {
    /// Identity.
    pub id: String,
    /// Name; empty for one that never started.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Whether it does not vote yet.
    pub learner: bool,
}
