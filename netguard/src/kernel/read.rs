//! What the kernel holds, and how it would send a packet.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use futures::{Stream, TryStreamExt};
use rtnetlink::{
    IpVersion,
    packet_route::{
        AddressFamily,
        link::LinkAttribute,
        route::{RouteAttribute, RouteMessage, RouteType},
    },
};

use super::{Error, Kernel, Links, messages};
use crate::{
    diff::Actual,
    node::{Family, Node},
    plan::{Path, Surroundings, Uplink},
    state::{Item, MAIN, TABLE},
};

/// ENETUNREACH, EHOSTUNREACH, EACCES (a "prohibit" route) and EINVAL (a "blackhole" route): no way there, and no fault.
const NO_WAY: [i32; 4] = [101, 113, 13, 22];

impl Kernel {
    /// Read all that is ours, and the routes of others that could stand in its place.
    pub async fn actual(&self) -> Result<Actual, Error> {
        let links = self.link_numbers().await?;
        let mut actual = Actual::default();
        let mut own = |item: Item| {
            actual.own.insert(item.key(), item);
        };
        let tunnels = self.tunnels(&mut own).await?;
        for family in Family::ALL {
            self.rules(family, &mut own).await?;
        }
        if !tunnels.is_empty() {
            self.on_tunnels(&tunnels, &links, &mut own).await?;
        }
        for family in Family::ALL {
            let mut query = RouteMessage::default();
            query.header.address_family = messages::family_number(family);
            let mut found = self.handle.route().get(query).execute();
            while let Some(message) = next(&mut found, "routes").await? {
                match messages::route_from(&message, &links) {
                    Some((route, true)) => {
                        let item = Item::Route(route);
                        actual.own.insert(item.key(), item);
                    }
                    Some((route, false)) if [MAIN, TABLE].contains(&route.table) => actual.foreign.push(route),
                    _ => {}
                }
            }
        }
        Ok(actual)
    }

    /// Ask the kernel about this node's own addresses and the ways to all others.
    pub async fn surroundings(&self, nodes: &[Node], me: &str) -> Result<Surroundings, Error> {
        let mut around = Surroundings::default();
        let links = self.link_numbers().await?;
        let (own, others): (Vec<&Node>, Vec<&Node>) = nodes.iter().partition(|node| node.name == me);
        let own: BTreeSet<IpAddr> = own.iter().flat_map(|node| node.addresses.iter().copied()).collect();
        let sizes = self.sizes().await?;
        let mut found = self.handle.address().get().execute();
        while let Some(message) = next(&mut found, "addresses").await? {
            let number = message.header.index;
            if let Some(address) = messages::address_of(&message).filter(|address| own.contains(address)) {
                let mtu = sizes.get(&number).copied().unwrap_or(1500);
                around.uplinks.insert(address, Uplink { link: links.name(number), mtu });
            }
        }
        for node in others {
            for family in Family::ALL {
                if let Some(address) = node.address(family)
                    && node.range(family).is_some()
                {
                    around.paths.insert(address, self.path(address, &links).await?);
                }
            }
        }
        Ok(around)
    }

    async fn sizes(&self) -> Result<BTreeMap<u32, u32>, Error> {
        let mut sizes = BTreeMap::new();
        let mut found = self.handle.link().get().execute();
        while let Some(link) = next(&mut found, "links").await? {
            for attribute in &link.attributes {
                if let LinkAttribute::Mtu(mtu) = attribute {
                    sizes.insert(link.header.index, *mtu);
                }
            }
        }
        Ok(sizes)
    }

    /// The kernel's own answer, so that every rule and route of the host counts.
    async fn path(&self, to: IpAddr, links: &Links) -> Result<Path, Error> {
        let family = Family::of(to);
        let mut query = RouteMessage::default();
        query.header.address_family = messages::family_number(family);
        query.header.destination_prefix_length = family.bits();
        query.attributes.push(RouteAttribute::Destination(to.into()));
        let mut found = self.handle.route().get(query).execute();
        let answer = match found.try_next().await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Ok(Path::None { reason: "the kernel gave no answer".into() }),
            Err(error) if super::is_errno(&error, &NO_WAY) => {
                let reason = match &error {
                    rtnetlink::Error::NetlinkError(message) => message.to_io().to_string(),
                    other => other.to_string(),
                };
                return Ok(Path::None { reason });
            }
            Err(source) => return Err(Error::Read { what: "the way to a node", source }),
        };
        let parts = messages::route_parts(&answer);
        Ok(match (answer.header.kind, parts.gateway, parts.link) {
            (RouteType::Local, ..) => Path::Local,
            (RouteType::Unicast, Some(gateway), _) => Path::Routed { gateway },
            (RouteType::Unicast, None, Some(link)) => Path::Direct { link: links.name(link) },
            (kind, ..) => Path::None { reason: format!("{kind:?}") },
        })
    }

    async fn tunnels(&self, own: &mut impl FnMut(Item)) -> Result<BTreeSet<u32>, Error> {
        let mut numbers = BTreeSet::new();
        let mut found = self.handle.link().get().execute();
        while let Some(message) = next(&mut found, "links").await? {
            if let Some(tunnel) = messages::tunnel_from(&message) {
                numbers.insert(message.header.index);
                own(Item::Tunnel(tunnel));
            }
        }
        Ok(numbers)
    }

    async fn on_tunnels(
        &self,
        tunnels: &BTreeSet<u32>,
        links: &Links,
        own: &mut impl FnMut(Item),
    ) -> Result<(), Error> {
        let mut found = self.handle.address().get().execute();
        while let Some(message) = next(&mut found, "addresses").await? {
            if tunnels.contains(&message.header.index)
                && let Some(item) = messages::address_from(&message, links)
            {
                own(item);
            }
        }
        for family in [AddressFamily::Inet, AddressFamily::Inet6, AddressFamily::Bridge] {
            let mut found = self.handle.neighbours().get().set_address_family(family).execute();
            while let Some(message) = next(&mut found, "neighbours").await? {
                if tunnels.contains(&message.header.ifindex)
                    && let Some(item) = messages::neighbour_from(&message, links)
                {
                    own(item);
                }
            }
        }
        Ok(())
    }

    async fn rules(&self, family: Family, own: &mut impl FnMut(Item)) -> Result<(), Error> {
        let version = match family {
            Family::V4 => IpVersion::V4,
            Family::V6 => IpVersion::V6,
        };
        let mut found = self.handle.rule().get(version).execute();
        loop {
            match found.try_next().await {
                Ok(Some(message)) => {
                    if let Some(item) = messages::rule_from(&message) {
                        own(item);
                    }
                }
                Ok(None) => return Ok(()),
                // A host without IPv6 has no rules of it (EAFNOSUPPORT, EOPNOTSUPP).
                Err(error) if super::is_errno(&error, &[97, 95]) => return Ok(()),
                Err(source) => return Err(Error::Read { what: "rules", source }),
            }
        }
    }
}

async fn next<T>(
    found: &mut (impl Stream<Item = Result<T, rtnetlink::Error>> + Unpin),
    what: &'static str,
) -> Result<Option<T>, Error> {
    found.try_next().await.map_err(|source| Error::Read { what, source })
}
