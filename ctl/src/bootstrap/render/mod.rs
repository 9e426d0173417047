//! Every file that hzctl writes on a host, from cluster.yaml, the bundle and the host's facts. Pure.

pub mod balancer;
pub mod host;
pub mod kubeadm;
pub mod runtime;

#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

use hz_bundle::Manifest;

use crate::cluster::{Cluster, Role};
use crate::node::types::Facts;

/// Port of the balancer on every host.
pub const BALANCER_PORT: u16 = 16443;
/// Port of the API servers.
pub const API_PORT: u16 = 6443;
/// Socket of the container runtime.
pub const SOCKET: &str = "unix:///run/containerd/containerd.sock";

/// Versions that configuration must name, taken from the bundle: it and nothing else decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Such as `v1.36.3`.
    pub kubernetes: String,
    /// Tag of etcd's image.
    pub etcd: String,
    /// Tag of CoreDNS' image.
    pub coredns: String,
    /// Full name of the pause image.
    pub pause: String,
    /// Where images are named after.
    pub repository: String,
}

impl Versions {
    /// Read them off the bundle's images; the error names what the bundle lacks.
    pub fn of(manifest: &Manifest) -> Result<Self, String> {
        let image = |name: &str| -> Result<(String, String), String> {
            let names = manifest.components.iter().filter_map(|entry| entry.reference.as_deref());
            let found =
                names.filter_map(|full| full.rsplit_once(':')).find(|(path, _)| path.rsplit('/').next() == Some(name));
            found.map(|(path, tag)| (path.to_owned(), tag.to_owned())).ok_or_else(|| format!("image {name}"))
        };
        let (apiserver, kubernetes) = image("kube-apiserver")?;
        let (pause, pause_tag) = image("pause")?;
        Ok(Versions {
            kubernetes,
            etcd: image("etcd")?.1,
            coredns: image("coredns")?.1,
            pause: format!("{pause}:{pause_tag}"),
            repository: apiserver.rsplit_once('/').map(|(path, _)| path.to_owned()).unwrap_or_default(),
        })
    }
}

/// What a host cannot do, read off its facts. Configuration gives way only where it must.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Control groups of the first version.
    pub cgroup_v1: bool,
    /// No right to exceed resource limits.
    pub no_resource_rights: bool,
    /// No right to lower OOM scores as far as the kubelet wants.
    pub no_oom_score: bool,
    /// Connection-tracking limits cannot be set.
    pub no_conntrack: bool,
    /// The root file system is a layered one, whose use the kubelet cannot measure.
    pub layered_root: bool,
}

impl Limits {
    /// From what was found on the host.
    pub fn of(facts: &Facts) -> Self {
        Limits {
            cgroup_v1: facts.cgroup == 1,
            no_resource_rights: !facts.cap_sys_resource,
            no_oom_score: !facts.oom_score_free,
            no_conntrack: !facts.conntrack_writable,
            layered_root: facts.root_fs == "overlay",
        }
    }

    /// Whether the kubelet must be told that it may not do everything.
    pub fn restricted(self) -> bool {
        self.no_resource_rights || self.no_oom_score
    }
}

/// Addresses of the control planes, in the order of cluster.yaml.
pub fn control_planes(cluster: &Cluster) -> Vec<(String, Ipv4Addr)> {
    cluster.with_role(Role::ControlPlane).map(|host| (host.name.clone(), host.address)).collect()
}

/// The cluster's DNS server: the tenth address of the service range, as kubeadm counts.
pub fn dns_address(cluster: &Cluster) -> Ipv4Addr {
    let base = u32::from(cluster.spec.network.service_cidr.network());
    Ipv4Addr::from(base.saturating_add(10))
}

/// Note at the head of every file.
pub const NOTE: &str = "Written by hzctl; a bootstrap writes it again where it differs.";
