//! The translation of packets that leave the cluster, as one nftables table that is ours alone.

use std::{collections::BTreeSet, fmt::Write, net::IpAddr};

use ipnet::IpNet;

use crate::node::{Family, Node};

/// Name of our table (family `inet`). We read and replace this one and no other.
pub const TABLE: &str = "hz-netguard";

/// Which packets get the node's address on their way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masquerade {
    /// Our pods: the senders.
    own: BTreeSet<IpNet>,
    /// The inside: all pods, all nodes, and multicast, which has no far side to hide from.
    inside: BTreeSet<IpNet>,
}

impl Masquerade {
    /// From the pod ranges of this node, all nodes, and the ranges of the whole cluster.
    pub fn new(own: impl IntoIterator<Item = IpNet>, nodes: &[Node], cluster: &[IpNet]) -> Self {
        let pods = nodes.iter().flat_map(|node| node.ranges.iter().copied());
        let hosts = nodes.iter().flat_map(|node| node.addresses.iter().copied().map(IpNet::from));
        let multicast = [IpNet::new_assert([224, 0, 0, 0].into(), 4), IpNet::new_assert(ff00(), 8)];
        Self {
            own: own.into_iter().collect(),
            inside: IpNet::aggregate(&pods.chain(hosts).chain(multicast).chain(cluster.iter().copied()).collect())
                .into_iter()
                .collect(),
        }
    }

    /// The script for `nft -f`: it replaces the table in one transaction, so there is no moment without it.
    pub fn script(&self) -> String {
        let mut script = removal();
        let _ = writeln!(script, "table inet {TABLE} {{");
        for family in Family::ALL {
            // `typeof`, not `type`: a set that the nft of Debian 13 declares by type makes the nft of Debian 12 crash when
            // it reads any table of the host, its own too.
            let Words { ip, set } = words(family);
            let inside = list(self.inside.iter().filter(|range| Family::of_range(range) == family));
            let _ = writeln!(
                script,
                "\tset {set} {{\n\t\ttypeof {ip} daddr\n\t\tflags interval\n\t\telements = {{ {inside} }}\n\t}}"
            );
        }
        let _ = writeln!(script, "\tchain leaving {{\n\t\ttype nat hook postrouting priority srcnat; policy accept;");
        for own in &self.own {
            let Words { ip, set } = words(Family::of_range(own));
            let _ = writeln!(script, "\t\t{ip} saddr {own} {ip} daddr != @{set} masquerade");
        }
        script.push_str("\t}\n}\n");
        script
    }
}

/// The script that removes the table, whether it is there or not.
pub fn removal() -> String {
    // `add` makes sure that there is something to delete; `destroy` is younger than the nft of Debian 12.
    format!("add table inet {TABLE}\ndelete table inet {TABLE}\n")
}

struct Words {
    ip: &'static str,
    set: &'static str,
}

fn words(family: Family) -> Words {
    match family {
        Family::V4 => Words { ip: "ip", set: "inside4" },
        Family::V6 => Words { ip: "ip6", set: "inside6" },
    }
}

fn list<'a>(ranges: impl Iterator<Item = &'a IpNet>) -> String {
    ranges.map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn ff00() -> IpAddr {
    std::net::Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masquerade() -> Masquerade {
        let nodes =
            [Node::parse("a", ["10.77.0.11"], ["10.244.0.0/24"]), Node::parse("b", ["10.77.0.12"], ["10.244.1.0/24"])];
        Masquerade::new(["10.244.0.0/24".parse().unwrap()], &nodes, &["10.244.0.0/16".parse().unwrap()])
    }

    #[test]
    fn only_packets_of_our_pods_to_the_outside_are_translated() {
        assert_eq!(
            masquerade().script(),
            "add table inet hz-netguard\n\
             delete table inet hz-netguard\n\
             table inet hz-netguard {\n\
             \tset inside4 {\n\t\ttypeof ip daddr\n\t\tflags interval\n\
             \t\telements = { 10.77.0.11/32, 10.77.0.12/32, 10.244.0.0/16, 224.0.0.0/4 }\n\t}\n\
             \tset inside6 {\n\t\ttypeof ip6 daddr\n\t\tflags interval\n\t\telements = { ff00::/8 }\n\t}\n\
             \tchain leaving {\n\t\ttype nat hook postrouting priority srcnat; policy accept;\n\
             \t\tip saddr 10.244.0.0/24 ip daddr != @inside4 masquerade\n\t}\n}\n"
        );
    }

    #[test]
    fn ranges_inside_others_are_folded_since_nftables_refuses_overlaps() {
        let script = masquerade().script();
        assert!(!script.contains("10.244.1.0/24"), "{script}");
    }
}
