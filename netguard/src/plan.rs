//! What a node's network must look like; pure.
//!
//! Three decisions carry the rest:
//!
//! * **A node on the same subnet gets a plain route, a node behind a router a tunnel.** The kernel's own answer to "how
//!   do you reach this address" decides, not arithmetic on prefixes: it knows of secondary addresses, point-to-point
//!   links and policy routes.
//! * **A packet of a pod keeps its source wherever it goes inside the cluster**, also to the address of a node behind a
//!   router: that router does not know pod addresses and would drop it, so packets from pods to such a node take the
//!   tunnel too (a rule that only looks at packets from our pod range, so that the tunnel's own packets never enter it).
//! * **Nothing has to be told to other nodes.** The far tunnel end's address is the first of its pod range, its hardware
//!   address follows from its node address.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use ipnet::IpNet;

use crate::{
    cni::CniConfig,
    diff::overlap,
    masquerade::Masquerade,
    node::{Family, Node},
    state::{
        Item, Key, MAIN, Mac, RULE_PRIORITY, Route, TABLE, Target, Tunnel, VNI, VXLAN_PORT, metric, tunnel_name,
        tunnel_overhead,
    },
};

/// When packets to other nodes travel in a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encapsulation {
    /// Only to nodes behind a router.
    #[default]
    Auto,
    /// To all nodes: for networks that drop packets with addresses they do not know, even between neighbours.
    Always,
    /// To none: the site's routers know the pod ranges.
    Never,
}

/// What the site chose.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Largest packet of a pod; measured when absent.
    pub mtu: Option<u32>,
    /// When to use tunnels.
    pub encapsulation: Encapsulation,
    /// The ranges all pods of the cluster are in, so that a pod of a node that we have not heard of yet is inside too.
    pub cluster_ranges: Vec<IpNet>,
    /// Whether packets that leave the cluster get the node's address.
    pub masquerade: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { mtu: None, encapsulation: Encapsulation::Auto, cluster_ranges: vec![], masquerade: true }
    }
}

/// The link that carries this node's own address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Link name.
    pub link: String,
    /// Largest packet.
    pub mtu: u32,
}

/// How the kernel would send a packet to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Path {
    /// Straight to it on a link.
    Direct {
        /// Link name.
        link: String,
    },
    /// Through a router.
    Routed {
        /// The router.
        gateway: IpAddr,
    },
    /// To itself: the address is this host's.
    Local,
    /// Not at all, in the kernel's words.
    None {
        /// Why.
        reason: String,
    },
}

/// What the kernel says about the surroundings of this node.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The link of each of this node's own addresses.
    pub uplinks: BTreeMap<IpAddr, Uplink>,
    /// The way to each address of each other node.
    pub paths: BTreeMap<IpAddr, Path>,
}

/// All that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Links, addresses, routes and what they need.
    pub items: BTreeMap<Key, Item>,
    /// The translation of packets that leave the cluster.
    pub masquerade: Option<Masquerade>,
    /// What the container runtime is told.
    pub cni: CniConfig,
    /// Nodes reached directly and by tunnel.
    pub peers: Peers,
    /// What could not be planned, and why; the rest of the plan holds all the same.
    pub problems: Vec<Problem>,
}

/// Counts for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// Reached by a plain route.
    pub direct: usize,
    /// Reached by a tunnel.
    pub tunnel: usize,
}

/// A node whose pods cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Name of the node.
    pub node: String,
    /// Why, in words an administrator can act on.
    pub why: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}: {}", self.node, self.why)
    }
}

/// Why nothing can be planned at all. What is in the kernel stays as it is until this passes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unplannable {
    /// The list does not have this node.
    #[error("this node, {0:?}, is not among the nodes; everything stays as it is")]
    NotListed(String),
    /// No pod range.
    #[error(
        "node {0:?} has no pod range yet; the controller manager gives it one (--allocate-node-cidrs, --cluster-cidr)"
    )]
    NoRange(String),
    /// No address in a family for which there is a range.
    #[error("node {node:?} has the pod range {range} but no internal address of that family")]
    NoAddress {
        /// This node.
        node: String,
        /// Its range.
        range: IpNet,
    },
    /// The address of the node is not this host's.
    #[error(
        "no link of this host has the address {0} of its node; give kubelet an address of this host with --node-ip"
    )]
    NoUplink(IpAddr),
    /// A pod range that swallows a node's address would send the tunnel into itself.
    #[error(
        "the pod range {range} of node {node:?} holds the address {address} of node {of:?}; choose another pod CIDR"
    )]
    RangeHoldsNode {
        /// Whose range.
        node: String,
        /// The range.
        range: IpNet,
        /// The address in it.
        address: IpAddr,
        /// Whose address.
        of: String,
    },
}

/// Plan the network of node `me` among `nodes`.
pub fn plan(nodes: &[Node], me: &str, around: &Surroundings, settings: &Settings) -> Result<Desired, Unplannable> {
    let own = nodes.iter().find(|node| node.name == me).ok_or_else(|| Unplannable::NotListed(me.into()))?;
    let mut families = vec![];
    for family in Family::ALL {
        if let Some(range) = own.range(family) {
            families.push(Footing::of(own, family, range, around, settings)?);
        }
    }
    if families.is_empty() {
        return Err(Unplannable::NoRange(me.into()));
    }
    refuse_swallowed_nodes(nodes)?;

    let mut draft = Draft::default();
    for footing in &families {
        draft.unreachable(footing);
        for node in nodes.iter().filter(|node| node.name != me) {
            draft.peer(node, nodes, footing, around, settings);
        }
    }
    draft.problems.extend(
        nodes
            .iter()
            .flat_map(|node| node.malformed.iter().map(|why| Problem { node: node.name.clone(), why: why.clone() })),
    );
    Ok(Desired {
        masquerade: settings
            .masquerade
            .then(|| Masquerade::new(families.iter().map(|footing| footing.range), nodes, &settings.cluster_ranges)),
        cni: CniConfig {
            ranges: families.iter().map(|footing| footing.range).collect(),
            // Both families share the pod's one link.
            mtu: families.iter().map(|footing| footing.pod_mtu).min().unwrap_or(1280),
        },
        items: draft.items.into_iter().map(|item| (item.key(), item)).collect(),
        peers: Peers { direct: draft.direct.len(), tunnel: draft.tunnel.len() },
        problems: draft.problems,
    })
}

/// What this node stands on in one family.
struct Footing {
    family: Family,
    address: IpAddr,
    range: IpNet,
    tunnel_mtu: u32,
    pod_mtu: u32,
}

impl Footing {
    fn of(
        own: &Node,
        family: Family,
        range: IpNet,
        around: &Surroundings,
        settings: &Settings,
    ) -> Result<Self, Unplannable> {
        let address = own.address(family).ok_or_else(|| Unplannable::NoAddress { node: own.name.clone(), range })?;
        let uplink = around.uplinks.get(&address).ok_or(Unplannable::NoUplink(address))?;
        let tunnel_mtu = uplink.mtu.saturating_sub(tunnel_overhead(family));
        let pod_mtu = settings.mtu.unwrap_or(match settings.encapsulation {
            Encapsulation::Never => uplink.mtu,
            // Room for the tunnel even while every node is a neighbour: a pod keeps the size it was born with, and a
            // node behind a router may join any day.
            Encapsulation::Auto | Encapsulation::Always => tunnel_mtu,
        });
        Ok(Self { family, address, range, tunnel_mtu, pod_mtu })
    }

    /// Its end of the tunnel: the first address of its range, which host-local never gives to a pod.
    fn tunnel_end(&self) -> IpNet {
        tunnel_end(&self.range)
    }
}

fn tunnel_end(range: &IpNet) -> IpNet {
    IpNet::from(range.network())
}

/// Grows one peer at a time.
#[derive(Default)]
struct Draft<'a> {
    items: BTreeSet<Item>,
    direct: BTreeSet<&'a str>,
    tunnel: BTreeSet<&'a str>,
    problems: Vec<Problem>,
}

impl<'a> Draft<'a> {
    /// Pods have routes of their own; an address of our range without one must not follow the default route out.
    fn unreachable(&mut self, footing: &Footing) {
        self.route(MAIN, footing.range, footing.family, Target::Unreachable);
    }

    fn peer(&mut self, node: &'a Node, nodes: &[Node], footing: &Footing, around: &Surroundings, settings: &Settings) {
        let Some(range) = node.range(footing.family) else { return };
        let Some(address) = node.address(footing.family) else {
            return self.problem(node, format!("has the pod range {range} but no internal address of that family"));
        };
        if let Some(other) = claims_first(node, &range, nodes) {
            return self.problem(node, format!("its pod range {range} overlaps that of node {other:?}"));
        }
        match (around.paths.get(&address), settings.encapsulation) {
            (Some(Path::Direct { link }), Encapsulation::Auto | Encapsulation::Never) => {
                self.direct.insert(&node.name);
                self.route(
                    MAIN,
                    range,
                    footing.family,
                    Target::Via {
                        gateway: address,
                        link: link.clone(),
                        onlink: false,
                        // Other nodes know this host by this address; with several on the link the kernel may choose
                        // another.
                        source: Some(footing.address),
                    },
                );
            }
            (Some(Path::Routed { gateway }), Encapsulation::Never) => self.problem(
                node,
                format!(
                    "is behind the router {gateway} and tunnels are off; no route of ours leads to {range}, \
                     so that router must know it (or set encapsulation to auto)"
                ),
            ),
            (Some(Path::Direct { .. } | Path::Routed { .. }), _) => {
                self.tunnel.insert(&node.name);
                self.tunnel(footing, address, range);
            }
            (Some(Path::Local), _) => {
                self.problem(node, format!("its address {address} is this host's own; two nodes share it"));
            }
            (Some(Path::None { reason }), _) => {
                self.problem(node, format!("this host has no route to its address {address} ({reason})"));
            }
            (None, _) => self.problem(node, format!("the way to its address {address} is not known yet")),
        }
    }

    fn tunnel(&mut self, footing: &Footing, address: IpAddr, range: IpNet) {
        let family = footing.family;
        let link = tunnel_name(family).to_string();
        let mac = Mac::of_tunnel(address);
        let end = tunnel_end(&range);
        let through = Target::Via { gateway: end.addr(), link: link.clone(), onlink: true, source: None };
        self.items.insert(Item::Tunnel(Tunnel {
            name: link.clone(),
            vni: VNI,
            port: VXLAN_PORT,
            local: footing.address,
            learning: false,
            mac: Mac::of_tunnel(footing.address),
            mtu: footing.tunnel_mtu,
            up: true,
        }));
        self.items.insert(Item::Address { link: link.clone(), net: footing.tunnel_end() });
        self.items.insert(Item::Forward { link: link.clone(), mac, to: address });
        self.items.insert(Item::Neighbour { link, address: end.addr(), mac });
        self.route(MAIN, range, family, through.clone());
        self.route(TABLE, IpNet::from(address), family, through);
        self.items.insert(Item::Rule { from: footing.range, table: TABLE, priority: RULE_PRIORITY });
    }

    fn route(&mut self, table: u32, to: IpNet, family: Family, target: Target) {
        self.items.insert(Item::Route(Route { table, to, metric: metric(family), target }));
    }

    fn problem(&mut self, node: &Node, why: String) {
        self.problems.push(Problem { node: node.name.clone(), why });
    }
}

/// Of two nodes with one range the first by name keeps it, so that all nodes decide alike.
fn claims_first<'a>(node: &Node, range: &IpNet, nodes: &'a [Node]) -> Option<&'a str> {
    nodes
        .iter()
        .filter(|other| other.name < node.name)
        .find(|other| other.ranges.iter().any(|held| overlap(held, range)))
        .map(|other| other.name.as_str())
}

fn refuse_swallowed_nodes(nodes: &[Node]) -> Result<(), Unplannable> {
    for node in nodes {
        for range in &node.ranges {
            for of in nodes {
                if let Some(address) = of.addresses.iter().find(|address| range.contains(*address)) {
                    return Err(Unplannable::RangeHoldsNode {
                        node: node.name.clone(),
                        range: *range,
                        address: *address,
                        of: of.name.clone(),
                    });
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
