//! Hearing of changes that others make: someone flushes routes, an uplink changes, a tunnel is deleted.

use futures::{StreamExt, channel::mpsc::UnboundedReceiver};
use rtnetlink::{
    MulticastGroup,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{RouteNetlinkMessage, address::AddressMessage, link::LinkAttribute, link::LinkMessage},
    sys::SocketAddr,
};

use super::{Error, messages};

const GROUPS: [MulticastGroup; 7] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv6Rule,
];

/// News from the kernel.
pub struct Watch {
    messages: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
}

/// Begin to listen in the network namespace of the calling thread.
pub fn watch() -> Result<Watch, Error> {
    let (connection, _, messages) = rtnetlink::new_multicast_connection(&GROUPS).map_err(Error::Open)?;
    tokio::spawn(connection);
    Ok(Watch { messages })
}

impl Watch {
    /// Wait for something that may bear on us. Pods that come and go do not: each brings a link, an address and a host
    /// route, which would wake us for nothing. `None` when the kernel will tell no more.
    pub async fn news(&mut self) -> Option<()> {
        loop {
            let (message, _) = self.messages.next().await?;
            let relevant = match &message.payload {
                NetlinkPayload::InnerMessage(message) => concerns_us(message),
                // An overrun: some news was lost, so look.
                _ => true,
            };
            if relevant {
                return Some(());
            }
        }
    }

    /// Drop news that piled up, since a look at everything is about to follow.
    pub fn forget(&mut self) {
        while self.messages.try_recv().is_ok() {}
    }
}

fn concerns_us(message: &RouteNetlinkMessage) -> bool {
    use RouteNetlinkMessage as M;
    match message {
        M::NewRoute(route) | M::DelRoute(route) => messages::concerns_us(route),
        M::NewAddress(address) | M::DelAddress(address) => !single_host(address),
        M::NewLink(link) | M::DelLink(link) => !of_a_pod(link),
        M::NewRule(_) | M::DelRule(_) => true,
        _ => false,
    }
}

fn single_host(address: &AddressMessage) -> bool {
    address.header.prefix_len == 32 || address.header.prefix_len == 128
}

fn of_a_pod(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::IfName(name) if name.starts_with("veth")))
}
