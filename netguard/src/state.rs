//! The vocabulary of the plan: each thing that netguard may put into the kernel, and how its own things are told from
//! those of others.
//!
//! Ownership never rests on memory. Routes and rules carry [`PROTOCOL`]; addresses, neighbours and forwarding entries
//! are ours when they sit on a link of ours; links are ours by name. So a netguard that was killed at any point finds
//! on its next start exactly what it had made, and nobody else's things.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

use crate::node::Family;

/// The routing protocol number that marks a route or a rule as ours (`ip route show proto 72`).
pub const PROTOCOL: u8 = 72;
/// The table with the routes to nodes behind a router; only packets that come from a pod look into it.
pub const TABLE: u32 = 7248;
/// The main table, where the routes to pod ranges go.
pub const MAIN: u32 = 254;
/// Where our rule stands among the others: after `local`, before `main`.
pub const RULE_PRIORITY: u32 = 7248;
/// The VXLAN network identifier of every hz cluster ("HZ" in ASCII).
pub const VNI: u32 = 0x485a;
/// The UDP port of the tunnels, the one the kernel and flannel settled on.
pub const VXLAN_PORT: u16 = 8472;

/// Name of the tunnel link of a family.
pub fn tunnel_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "hz-vxlan",
        Family::V6 => "hz-vxlan6",
    }
}

/// What a tunnel adds to each packet: outer IP, UDP, VXLAN and inner Ethernet headers.
pub fn tunnel_overhead(family: Family) -> u32 {
    match family {
        Family::V4 => 50,
        Family::V6 => 70,
    }
}

/// The metric of our routes. The kernel has no metric 0 in IPv6 and would put 1024 in its place.
pub fn metric(family: Family) -> u32 {
    match family {
        Family::V4 => 0,
        Family::V6 => 1024,
    }
}

/// A hardware address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The hardware address of a node's tunnel end.
    ///
    /// It follows from the node's own address, so that no node has to tell it to another and nothing is written to the
    /// API. `0a` marks it as locally administered.
    pub fn of_tunnel(address: IpAddr) -> Self {
        let [a, b, c, d] = match address {
            IpAddr::V4(v4) => v4.octets(),
            IpAddr::V6(v6) => fold(v6),
        };
        let family = if address.is_ipv4() { 4 } else { 6 };
        Self([0x0a, family, a, b, c, d])
    }
}

/// 128 bits into 32 (FNV-1a): the low bits alone would collide for nodes numbered alike on different subnets.
fn fold(address: Ipv6Addr) -> [u8; 4] {
    let hash =
        address.octets().iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    hash.to_be_bytes()
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A tunnel link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tunnel {
    /// Link name.
    pub name: String,
    /// Network identifier.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// The address outer packets are sent from.
    pub local: IpAddr,
    /// Whether the kernel learns forwarding entries from traffic. Ours never does: every entry is put there.
    pub learning: bool,
    /// Hardware address.
    pub mac: Mac,
    /// Largest packet.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
}

impl Tunnel {
    /// Whether `self` can become `other` in place; identifier, port, local address and learning are fixed at birth.
    pub fn becomes(&self, other: &Self) -> bool {
        let birth = |tunnel: &Self| (tunnel.vni, tunnel.port, tunnel.local, tunnel.learning, tunnel.mac);
        birth(self) == birth(other)
    }
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Through a gateway on a link.
    Via {
        /// The next hop.
        gateway: IpAddr,
        /// The link it is on.
        link: String,
        /// Send there although no route of the link covers the gateway.
        onlink: bool,
        /// The address this host uses when it is the sender itself.
        source: Option<IpAddr>,
    },
    /// Nowhere: senders are told at once instead of waiting.
    Unreachable,
    /// A route in a form we never make, so it always differs from ours.
    Other,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Routing table.
    pub table: u32,
    /// Destination.
    pub to: IpNet,
    /// Metric: of two routes to one destination the lower wins.
    pub metric: u32,
    /// Where it leads.
    pub target: Target,
}

/// One thing in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// A tunnel link.
    Tunnel(Tunnel),
    /// An address of a tunnel link.
    Address {
        /// Link name.
        link: String,
        /// Address with its prefix.
        net: IpNet,
    },
    /// Where the tunnel sends frames for a hardware address.
    Forward {
        /// Link name.
        link: String,
        /// Hardware address of the far tunnel end.
        mac: Mac,
        /// Address of the far node.
        to: IpAddr,
    },
    /// The hardware address of a far tunnel end.
    Neighbour {
        /// Link name.
        link: String,
        /// Address of the far tunnel end.
        address: IpAddr,
        /// Its hardware address.
        mac: Mac,
    },
    /// A route.
    Route(Route),
    /// Packets from a range look into a table first.
    Rule {
        /// Source range.
        from: IpNet,
        /// Table to look into.
        table: u32,
        /// Place among the rules.
        priority: u32,
    },
}

/// What makes an item the same item after its content changed. Keys sort in the order in which items need each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// By name.
    Tunnel(String),
    /// By link and address.
    Address(String, IpNet),
    /// By link and hardware address.
    Forward(String, Mac),
    /// By link and address.
    Neighbour(String, IpAddr),
    /// By table, destination and metric, as the kernel has it.
    Route(u32, IpNet, u32),
    /// By all of it: rules cannot be changed, only made and removed.
    Rule(u32, IpNet, u32),
}

impl Item {
    /// The key of this item.
    pub fn key(&self) -> Key {
        match self {
            Self::Tunnel(tunnel) => Key::Tunnel(tunnel.name.clone()),
            Self::Address { link, net } => Key::Address(link.clone(), *net),
            Self::Forward { link, mac, .. } => Key::Forward(link.clone(), *mac),
            Self::Neighbour { link, address, .. } => Key::Neighbour(link.clone(), *address),
            Self::Route(route) => Key::Route(route.table, route.to, route.metric),
            Self::Rule { from, table, priority } => Key::Rule(*priority, *from, *table),
        }
    }

    /// The link without which this item cannot be; when the link goes, the kernel takes the item with it.
    pub fn link(&self) -> Option<&str> {
        match self {
            Self::Tunnel(_) | Self::Rule { .. } => None,
            Self::Address { link, .. } | Self::Forward { link, .. } | Self::Neighbour { link, .. } => Some(link),
            Self::Route(route) => match &route.target {
                Target::Via { link, .. } => Some(link),
                Target::Unreachable | Target::Other => None,
            },
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tunnel(t) => write!(f, "tunnel {} (vni {}, local {}, mtu {})", t.name, t.vni, t.local, t.mtu),
            Self::Address { link, net } => write!(f, "address {net} on {link}"),
            Self::Forward { link, mac, to } => write!(f, "forwarding of {mac} to {to} on {link}"),
            Self::Neighbour { link, address, mac } => write!(f, "neighbour {address} at {mac} on {link}"),
            Self::Route(Route { table, to, target, .. }) => {
                write!(f, "route to {to}")?;
                match target {
                    Target::Via { gateway, link, .. } => write!(f, " via {gateway} on {link}")?,
                    Target::Unreachable => write!(f, " (unreachable)")?,
                    Target::Other => write!(f, " (of a form that is not ours)")?,
                }
                if *table == MAIN { Ok(()) } else { write!(f, " in table {table}") }
            }
            Self::Rule { from, table, .. } => write!(f, "rule from {from} into table {table}"),
        }
    }
}

/// The unspecified address of a family, for messages the kernel wants one in.
pub fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}
