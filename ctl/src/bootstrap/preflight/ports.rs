//! Which ports a host needs, and who must reach them.

use crate::cluster::{Cluster, Role};
use crate::node::types::Dial;

/// Port for the copy of the bundle between hosts; open only while a bootstrap runs.
pub const COPY: u16 = 16444;

/// Ports that a host of this role listens on.
pub fn needed(role: Role, http_port: u16) -> Vec<u16> {
    match role {
        Role::ControlPlane => vec![6443, 2379, 2380, 10250, 10257, 10259, 16443, COPY],
        Role::Worker => vec![10250, 16443, http_port],
    }
}

/// What a port is for, in words.
pub fn purpose(port: u16) -> &'static str {
    match port {
        6443 => "the API server",
        2379 => "clients of etcd",
        2380 => "members of etcd",
        10250 => "the kubelet",
        10257 => "the controller manager",
        10259 => "the scheduler",
        16443 => "the balancer to the API servers",
        COPY => "the copy of the bundle",
        _ => "the gateway",
    }
}

/// What a host must reach on the others.
pub fn dials(cluster: &Cluster, from: &str) -> Vec<Dial> {
    let Some(own) = cluster.spec.hosts.iter().find(|host| host.name == from) else { return Vec::new() };
    let mut dials = Vec::new();
    for host in cluster.spec.hosts.iter().filter(|host| host.name != from) {
        let ports: &[u16] = match (own.role, host.role) {
            (Role::ControlPlane, Role::ControlPlane) => &[6443, 2379, 2380, 10250, COPY],
            (Role::Worker, Role::ControlPlane) => &[6443, COPY],
            // The API server asks kubelets for logs and metrics.
            (Role::ControlPlane, Role::Worker) => &[10250],
            (Role::Worker, Role::Worker) => &[10250],
        };
        let dial = |port: &u16| Dial { host: host.name.clone(), address: host.address.to_string(), port: *port };
        dials.extend(ports.iter().map(dial));
    }
    dials
}
