//! Between our words and netlink's, in both directions and without a socket.

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressMessage},
    link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
    route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType, RouteVia},
    rule::{RuleAction, RuleAttribute, RuleMessage},
};

use super::Links;
use crate::{
    node::Family,
    state::{Item, MAIN, Mac, PROTOCOL, Route, Target, Tunnel, unspecified},
};

/// netlink's number for a family.
pub fn family_number(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

fn family_of(number: AddressFamily) -> Option<Family> {
    match number {
        AddressFamily::Inet => Some(Family::V4),
        AddressFamily::Inet6 => Some(Family::V6),
        _ => None,
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

/// What a route message says, before anyone asks whose it is.
#[derive(Debug, Default)]
pub struct RouteParts {
    to: Option<IpAddr>,
    table: Option<u32>,
    metric: u32,
    /// The next hop.
    pub gateway: Option<IpAddr>,
    /// Number of the outgoing link.
    pub link: Option<u32>,
    source: Option<IpAddr>,
    /// Something we never set: several next hops, an encapsulation.
    strange: bool,
}

/// Pick a route message apart.
pub fn route_parts(message: &RouteMessage) -> RouteParts {
    let mut parts = RouteParts::default();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => parts.to = ip(address),
            RouteAttribute::Gateway(address) => parts.gateway = ip(address),
            RouteAttribute::Via(RouteVia::Inet(v4)) => parts.gateway = Some((*v4).into()),
            RouteAttribute::Via(RouteVia::Inet6(v6)) => parts.gateway = Some((*v6).into()),
            RouteAttribute::PrefSource(address) => parts.source = ip(address),
            RouteAttribute::Oif(number) => parts.link = Some(*number),
            RouteAttribute::Priority(metric) => parts.metric = *metric,
            RouteAttribute::Table(table) => parts.table = Some(*table),
            RouteAttribute::MultiPath(_) | RouteAttribute::Encap(_) => parts.strange = true,
            _ => {}
        }
    }
    parts
}

/// A route as we speak of it, and whether it is ours. `None` for the kernel's own bookkeeping (local, multicast...).
pub fn route_from(message: &RouteMessage, links: &Links) -> Option<(Route, bool)> {
    let family = family_of(message.header.address_family)?;
    let parts = route_parts(message);
    let target = match message.header.kind {
        RouteType::Unicast if !parts.strange => match (parts.gateway, parts.link) {
            (Some(gateway), Some(link)) => Target::Via {
                gateway,
                link: links.name(link),
                onlink: message.header.flags.contains(RouteFlags::Onlink),
                source: parts.source,
            },
            _ => Target::Other,
        },
        RouteType::Unreachable => Target::Unreachable,
        RouteType::Unicast | RouteType::BlackHole | RouteType::Prohibit | RouteType::Throw => Target::Other,
        _ => return None,
    };
    let to =
        IpNet::new(parts.to.unwrap_or_else(|| unspecified(family)), message.header.destination_prefix_length).ok()?;
    let table = parts.table.unwrap_or(u32::from(message.header.table));
    let own = message.header.protocol == RouteProtocol::Other(PROTOCOL);
    Some((Route { table, to, metric: parts.metric, target }, own))
}

/// The message that stands for a route of ours. `link` is the number of its link.
pub fn route_to(route: &Route, link: Option<u32>) -> RouteMessage {
    let mut message = RouteMessage::default();
    let family = Family::of_range(&route.to);
    message.header.address_family = family_number(family);
    message.header.destination_prefix_length = route.to.prefix_len();
    message.header.protocol = RouteProtocol::Other(PROTOCOL);
    message.header.scope = RouteScope::Universe;
    message.attributes.push(RouteAttribute::Destination(route.to.network().into()));
    // The header has room for 8 bits only; the attribute holds for all.
    message.header.table = u8::try_from(route.table).unwrap_or(0);
    message.attributes.push(RouteAttribute::Table(route.table));
    if route.metric != 0 {
        message.attributes.push(RouteAttribute::Priority(route.metric));
    }
    message.header.kind = RouteType::Unicast;
    match &route.target {
        Target::Via { gateway, onlink, source, .. } => {
            message.attributes.push(RouteAttribute::Gateway((*gateway).into()));
            if let Some(source) = source {
                message.attributes.push(RouteAttribute::PrefSource((*source).into()));
            }
            if *onlink {
                message.header.flags.insert(RouteFlags::Onlink);
            }
            message.attributes.extend(link.map(RouteAttribute::Oif));
        }
        Target::Unreachable => message.header.kind = RouteType::Unreachable,
        // Ours by its mark, but made by something else: named only to be removed, so its place is enough.
        Target::Other => message.header.kind = RouteType::Unspec,
    }
    message
}

/// The tunnel a link message tells of, if it tells of one.
pub fn tunnel_from(message: &LinkMessage) -> Option<Tunnel> {
    let mut tunnel = Tunnel {
        name: String::new(),
        vni: 0,
        port: 0,
        local: unspecified(Family::V4),
        learning: true,
        mac: Mac([0; 6]),
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => tunnel.name = name.clone(),
            LinkAttribute::Mtu(mtu) => tunnel.mtu = *mtu,
            LinkAttribute::Address(bytes) => {
                if let Ok(mac) = <[u8; 6]>::try_from(bytes.as_slice()) {
                    tunnel.mac = Mac(mac);
                }
            }
            LinkAttribute::LinkInfo(infos) => infos.iter().for_each(|info| tunnel_details(info, &mut tunnel)),
            _ => {}
        }
    }
    // A link of another kind under our name keeps the zeros, differs in everything, and is made anew.
    Family::ALL.map(crate::state::tunnel_name).contains(&tunnel.name.as_str()).then_some(tunnel)
}

fn tunnel_details(info: &LinkInfo, tunnel: &mut Tunnel) {
    let LinkInfo::Data(InfoData::Vxlan(details)) = info else { return };
    for detail in details {
        match detail {
            InfoVxlan::Id(vni) => tunnel.vni = *vni,
            InfoVxlan::Port(port) => tunnel.port = *port,
            InfoVxlan::Local(v4) => tunnel.local = (*v4).into(),
            InfoVxlan::Local6(v6) => tunnel.local = (*v6).into(),
            InfoVxlan::Learning(learning) => tunnel.learning = *learning,
            _ => {}
        }
    }
}

/// The message that makes a tunnel.
pub fn tunnel_to(tunnel: &Tunnel) -> LinkMessage {
    let local = match tunnel.local {
        IpAddr::V4(v4) => InfoVxlan::Local(v4),
        IpAddr::V6(v6) => InfoVxlan::Local6(v6),
    };
    let details =
        vec![InfoVxlan::Id(tunnel.vni), local, InfoVxlan::Port(tunnel.port), InfoVxlan::Learning(tunnel.learning)];
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(tunnel.name.clone()),
        LinkAttribute::Address(tunnel.mac.0.to_vec()),
        LinkAttribute::Mtu(tunnel.mtu),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vxlan), LinkInfo::Data(InfoData::Vxlan(details))]),
    ];
    message.header.flags |= LinkFlags::Up;
    message.header.change_mask |= LinkFlags::Up;
    message
}

/// The message that sets what a tunnel can change.
pub fn tunnel_set(tunnel: &Tunnel, number: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = number;
    message.header.flags |= LinkFlags::Up;
    message.header.change_mask |= LinkFlags::Up;
    message.attributes.push(LinkAttribute::Mtu(tunnel.mtu));
    message
}

/// An address on a link of ours. Link-local ones are the kernel's.
pub fn address_from(message: &AddressMessage, links: &Links) -> Option<Item> {
    let address = address_of(message)?;
    if matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        return None;
    }
    let net = IpNet::new(address, message.header.prefix_len).ok()?;
    Some(Item::Address { link: links.name(message.header.index), net })
}

/// The local address in a message.
pub fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    let mut far = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => return Some(*address),
            AddressAttribute::Address(address) => far = Some(*address),
            _ => {}
        }
    }
    far
}

/// A neighbour or a forwarding entry on a link of ours. What the kernel learned by itself does not count.
pub fn neighbour_from(message: &NeighbourMessage, links: &Links) -> Option<Item> {
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let link = links.name(message.header.ifindex);
    let mut mac = None;
    let mut to = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac),
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => to = Some(IpAddr::from(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => to = Some(IpAddr::from(*v6)),
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => to = bytes_to_ip(bytes),
            _ => {}
        }
    }
    match (message.header.family, mac?, to?) {
        (AddressFamily::Bridge, mac, to) => Some(Item::Forward { link, mac, to }),
        (_, mac, address) => Some(Item::Neighbour { link, address, mac }),
    }
}

/// Forwarding entries come under the family of bridges, so netlink leaves their far address as bytes.
fn bytes_to_ip(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// The message for a neighbour.
pub fn neighbour_to(address: IpAddr, mac: Mac, number: u32) -> NeighbourMessage {
    let mut message = permanent(number, mac);
    message.header.family = family_number(Family::of(address));
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    message
}

/// The message for a forwarding entry.
pub fn forward_to(mac: Mac, to: IpAddr, number: u32) -> NeighbourMessage {
    let mut message = permanent(number, mac);
    message.header.family = AddressFamily::Bridge;
    message.header.flags = NeighbourFlags::Own;
    message.attributes.push(NeighbourAttribute::Destination(to.into()));
    message
}

fn permanent(number: u32, mac: Mac) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = number;
    message.header.state = NeighbourState::Permanent;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    message
}

/// A rule of ours.
pub fn rule_from(message: &RuleMessage) -> Option<Item> {
    let mut ours = false;
    let mut from = None;
    let mut table = u32::from(message.header.table);
    let mut priority = 0;
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Protocol(protocol) => ours = *protocol == RouteProtocol::Other(PROTOCOL),
            RuleAttribute::Source(address) => from = Some(*address),
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::Priority(number) => priority = *number,
            _ => {}
        }
    }
    let family = family_of(message.header.family)?;
    let from = IpNet::new(from.unwrap_or_else(|| unspecified(family)), message.header.src_len).ok()?;
    ours.then_some(Item::Rule { from, table, priority })
}

/// The message for a rule.
pub fn rule_to(from: &IpNet, table: u32, priority: u32) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family_number(Family::of_range(from));
    message.header.src_len = from.prefix_len();
    message.header.action = RuleAction::ToTable;
    message.header.table = u8::try_from(table).unwrap_or(0);
    message.attributes = vec![
        RuleAttribute::Source(from.network()),
        RuleAttribute::Table(table),
        RuleAttribute::Priority(priority),
        RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)),
    ];
    message
}

/// Whether a route is of a kind that can bear on ours: not a single host, not of the kernel's local table.
pub fn concerns_us(message: &RouteMessage) -> bool {
    let parts = route_parts(message);
    let table = parts.table.unwrap_or(u32::from(message.header.table));
    let whole = family_of(message.header.address_family).map(Family::bits);
    message.header.protocol == RouteProtocol::Other(PROTOCOL)
        || (table == MAIN && Some(message.header.destination_prefix_length) != whole)
}
