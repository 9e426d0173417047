//! Which hosts the lab has, and where: pure data. `examples/eight-node-cluster/cluster.yaml` names the same addresses.

use std::net::Ipv4Addr;

/// First three octets of every host address.
const NET: [u8; 3] = [10, 77, 0];
/// The machine's own address on the lab network; no host has a route beyond it.
pub const MACHINE: &str = "10.77.0.1/24";
/// Directories that a lab host keeps on a real file system: overlay does not stack on overlay, etcd and PostgreSQL
/// want honest fsync, and kubelet measures the disk below it.
pub const VOLUMES: [&str; 5] =
    ["/var/lib/containerd", "/var/lib/kubelet", "/var/lib/etcd", "/var/lib/hzctl", "/var/log/pods"];

/// One bare server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// `cp-1` … `cp-3`, `worker-1` … `worker-5`.
    pub name: String,
    /// Address on the lab network.
    pub address: Ipv4Addr,
}

impl Host {
    /// The machine's end of this host's cable: an interface name has 15 characters at most.
    pub fn cable(&self) -> String {
        format!("hz-{}", self.name)
    }
}

/// All eight, control planes first.
pub fn hosts() -> Vec<Host> {
    let host = |role: &str, n: u8, base: u8| Host {
        name: format!("{role}-{n}"),
        address: Ipv4Addr::new(NET[0], NET[1], NET[2], base + n),
    };
    (1..=3).map(|n| host("cp", n, 10)).chain((1..=5).map(|n| host("worker", n, 20))).collect()
}

/// The host of that name, or a message with the names there are.
pub fn find(name: &str) -> anyhow::Result<Host> {
    let all = hosts();
    let names = all.iter().map(|h| h.name.clone()).collect::<Vec<_>>().join(", ");
    all.into_iter()
        .find(|h| h.name == name)
        .ok_or_else(|| anyhow::anyhow!("there is no lab host `{name}`; there are {names}"))
}

/// `/etc/hosts` of a host. A server room without DNS: each knows itself alone.
pub fn etc_hosts(host: &Host) -> String {
    format!("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{} {}\n", host.address, host.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lab_has_three_control_planes_and_five_workers_at_their_addresses() {
        let all: Vec<String> = hosts().iter().map(|h| format!("{}={}", h.name, h.address)).collect();
        assert_eq!(
            all.join(" "),
            "cp-1=10.77.0.11 cp-2=10.77.0.12 cp-3=10.77.0.13 worker-1=10.77.0.21 worker-2=10.77.0.22 \
             worker-3=10.77.0.23 worker-4=10.77.0.24 worker-5=10.77.0.25"
        );
    }

    #[test]
    fn a_cable_name_fits_an_interface() {
        assert!(hosts().iter().all(|h| h.cable().len() <= 15));
    }

    #[test]
    fn an_unknown_host_is_answered_with_the_known_ones() {
        assert!(find("cp-9").unwrap_err().to_string().contains("worker-5"));
    }
}
