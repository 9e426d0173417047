//! What the container runtime is told: one configuration list for the standard plugins.
//!
//! `ptp` and not `bridge`: each pod hangs on a link of its own and every packet, also between two pods of one node, is
//! routed by the host and passes its filters. A bridge would need br_netfilter (a module that may not load) so that
//! Services work between pods of one node, hairpin mode so that a pod reaches itself through a Service, and would let
//! pods of one node see each other's frames. Between two pods of one node the two cost the same within the noise of a busy
//! machine (latency and throughput, taken in turns), so robustness decided.
//!
//! The loopback link is not in the list: container runtimes bring it up by themselves (with the `loopback` plugin, which
//! therefore has to be installed).

use std::path::Path;

use ipnet::IpNet;
use serde_json::{Value, json};

/// The file name; the runtime takes the first of the directory.
pub const FILE: &str = "10-hz.conflist";
/// Name of the network, under which the runtime and host-local keep their records.
pub const NETWORK: &str = "hz";

/// What goes into the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniConfig {
    /// Where pods of this node take their addresses from, at most one of each family.
    pub ranges: Vec<IpNet>,
    /// Largest packet of a pod.
    pub mtu: u32,
}

impl CniConfig {
    /// The text of the file.
    pub fn render(&self) -> String {
        let ranges: Vec<Value> = self.ranges.iter().map(|range| json!([{ "subnet": range.to_string() }])).collect();
        let routes: Vec<Value> = self.ranges.iter().map(|range| json!({ "dst": everywhere(range) })).collect();
        let config = json!({
            "cniVersion": "1.0.0",
            "name": NETWORK,
            "plugins": [
                {
                    "type": "ptp",
                    "mtu": self.mtu,
                    // Ours to do, in one place for all pods.
                    "ipMasq": false,
                    "ipam": { "type": "host-local", "ranges": ranges, "routes": routes },
                },
                {
                    "type": "portmap",
                    "capabilities": { "portMappings": true },
                    // No "backend": the plugin takes iptables where the host has it, and nftables otherwise. To insist on
                    // nftables fails on Debian 12, whose nft crashes over the tables of a kube-proxy with a newer one.
                    "snat": true,
                },
            ],
        });
        format!("{config:#}\n")
    }
}

fn everywhere(range: &IpNet) -> &'static str {
    if range.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" }
}

/// The file among `names` that the runtime would take before ours.
pub fn shadowing<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let counts = |name: &&str| {
        Path::new(name).extension().is_some_and(|kind| ["conf", "conflist", "json"].iter().any(|known| kind == *known))
    };
    names.into_iter().filter(counts).min().filter(|first| *first < FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_names_range_size_and_plugins() {
        let config = CniConfig { ranges: vec!["10.244.3.0/24".parse().unwrap()], mtu: 1450 };
        let value: Value = serde_json::from_str(&config.render()).unwrap();
        assert_eq!(value["name"], "hz");
        assert_eq!(value["plugins"][0]["type"], "ptp");
        assert_eq!(value["plugins"][0]["mtu"], 1450);
        assert_eq!(value["plugins"][0]["ipam"]["ranges"][0][0]["subnet"], "10.244.3.0/24");
        assert_eq!(value["plugins"][0]["ipam"]["routes"][0]["dst"], "0.0.0.0/0");
        assert_eq!(value["plugins"][1]["type"], "portmap");
    }

    #[test]
    fn two_families_give_two_ranges_and_two_default_routes() {
        let config =
            CniConfig { ranges: vec!["10.244.3.0/24".parse().unwrap(), "fd00:3::/64".parse().unwrap()], mtu: 1430 };
        let value: Value = serde_json::from_str(&config.render()).unwrap();
        assert_eq!(value["plugins"][0]["ipam"]["ranges"][1][0]["subnet"], "fd00:3::/64");
        assert_eq!(value["plugins"][0]["ipam"]["routes"][1]["dst"], "::/0");
    }

    #[test]
    fn a_configuration_that_sorts_before_ours_is_named() {
        assert_eq!(shadowing(["10-hz.conflist", "99-loopback.conf"]), None);
        assert_eq!(
            shadowing(["README", "10-hz.conflist", "10-containerd-net.conflist"]),
            Some("10-containerd-net.conflist")
        );
        assert_eq!(shadowing(["05-old.conflist.bak", "10-hz.conflist"]), None);
    }
}
