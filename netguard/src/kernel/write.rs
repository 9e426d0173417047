//! Making the changes that [`crate::diff`] asked for.

use super::{Error, Kernel, Links, is_errno, messages};
use crate::{
    diff::Change,
    state::{Item, Target},
};

/// ENOENT, ESRCH, ENODEV and EADDRNOTAVAIL: what was to be removed is gone already.
const GONE: [i32; 4] = [2, 3, 19, 99];

impl Kernel {
    /// Make one change.
    pub async fn make(&self, change: &Change) -> Result<(), Error> {
        // Numbers are asked for anew each time: a link that was made a moment ago has one only now.
        let links = self.link_numbers().await?;
        match change {
            Change::Add(item) | Change::Set { to: item, .. } => self.put(item, &links).await,
            Change::Recreate { from, to } => {
                self.remove(from, &links).await?;
                self.put(to, &links).await
            }
            Change::Remove(item) => self.remove(item, &links).await,
        }
    }

    async fn put(&self, item: &Item, links: &Links) -> Result<(), Error> {
        let number = number_of(item, links, "make")?;
        let done = match item {
            Item::Tunnel(tunnel) => match links.number(&tunnel.name) {
                // Of the right birth (the diff saw to that): only what can change is set.
                Some(number) => self.handle.link().change(messages::tunnel_set(tunnel, number)).execute().await,
                None => self.handle.link().add(messages::tunnel_to(tunnel)).execute().await,
            },
            Item::Address { net, .. } => {
                self.handle.address().add(number, net.addr(), net.prefix_len()).replace().execute().await
            }
            Item::Forward { mac, to, .. } => {
                let mut request = self.handle.neighbours().add_bridge(number, &mac.0).replace();
                *request.message_mut() = messages::forward_to(*mac, *to, number);
                request.execute().await
            }
            Item::Neighbour { address, mac, .. } => {
                let mut request = self.handle.neighbours().add(number, *address).replace();
                *request.message_mut() = messages::neighbour_to(*address, *mac, number);
                request.execute().await
            }
            Item::Route(route) => {
                self.handle.route().add(messages::route_to(route, Some(number))).replace().execute().await
            }
            Item::Rule { from, table, priority } => {
                let mut request = self.handle.rule().add();
                *request.message_mut() = messages::rule_to(from, *table, *priority);
                request.execute().await
            }
        };
        done.map_err(|source| Error::Write { act: "make", what: item.to_string(), source })
    }

    async fn remove(&self, item: &Item, links: &Links) -> Result<(), Error> {
        let Ok(number) = number_of(item, links, "remove") else {
            return Ok(()); // its link is gone, and it went with it
        };
        let done = match item {
            Item::Tunnel(tunnel) => match links.number(&tunnel.name) {
                Some(number) => self.handle.link().del(number).execute().await,
                None => Ok(()),
            },
            Item::Address { net, .. } => self.remove_address(number, net).await,
            Item::Forward { mac, to, .. } => {
                self.handle.neighbours().del(messages::forward_to(*mac, *to, number)).execute().await
            }
            Item::Neighbour { address, mac, .. } => {
                self.handle.neighbours().del(messages::neighbour_to(*address, *mac, number)).execute().await
            }
            Item::Route(route) => {
                let link = matches!(route.target, Target::Via { .. }).then_some(number);
                self.handle.route().del(messages::route_to(route, link)).execute().await
            }
            Item::Rule { from, table, priority } => {
                self.handle.rule().del(messages::rule_to(from, *table, *priority)).execute().await
            }
        };
        match done {
            Err(error) if is_errno(&error, &GONE) => Ok(()),
            other => other.map_err(|source| Error::Write { act: "remove", what: item.to_string(), source }),
        }
    }

    async fn remove_address(&self, number: u32, net: &ipnet::IpNet) -> Result<(), rtnetlink::Error> {
        use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
        let mut message = AddressMessage::default();
        message.header.family = messages::family_number(crate::node::Family::of_range(net));
        message.header.index = number;
        message.header.prefix_len = net.prefix_len();
        message.attributes = vec![AddressAttribute::Local(net.addr()), AddressAttribute::Address(net.addr())];
        self.handle.address().del(message).execute().await
    }
}

/// The number of the link an item hangs on; 0 where it hangs on none.
fn number_of(item: &Item, links: &Links, act: &'static str) -> Result<u32, Error> {
    match item.link() {
        None => Ok(0),
        Some(link) => {
            links.number(link).ok_or_else(|| Error::NoLink { act, what: item.to_string(), link: link.into() })
        }
    }
}
