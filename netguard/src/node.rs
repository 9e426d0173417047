//! What netguard needs to know of a node, and how it is read without ever failing on one malformed object.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// An address family; everything in the plan is kept once for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// Both families, in the order in which they are planned.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The family of a range.
    pub fn of_range(range: &IpNet) -> Self {
        Self::of(range.addr())
    }

    /// How many bits an address has.
    pub fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

/// A node, as far as its network goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Name of the Node object.
    pub name: String,
    /// Its internal addresses: at most one of each family counts, the first.
    pub addresses: Vec<IpAddr>,
    /// The ranges its pods take their addresses from.
    pub ranges: Vec<IpNet>,
    /// Text that was no address or no range; told, never fatal, since one bad object must not stop the rest.
    pub malformed: Vec<String>,
}

impl Node {
    /// Build a node from the text its object carries.
    pub fn parse<'a>(
        name: &str,
        addresses: impl IntoIterator<Item = &'a str>,
        ranges: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut node = Self { name: name.into(), addresses: vec![], ranges: vec![], malformed: vec![] };
        for text in addresses {
            match text.parse() {
                Ok(address) => node.addresses.push(address),
                Err(_) => node.malformed.push(format!("{text:?} is not an IP address")),
            }
        }
        for text in ranges {
            match text.parse::<IpNet>() {
                Ok(range) => node.ranges.push(range.trunc()),
                Err(_) => node.malformed.push(format!("{text:?} is not a pod range")),
            }
        }
        node
    }

    /// The address by which this node is reached in one family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| Family::of(*address) == family)
    }

    /// The pod range of this node in one family.
    pub fn range(&self, family: Family) -> Option<IpNet> {
        self.ranges.iter().copied().find(|range| Family::of_range(range) == family)
    }
}

/// One entry of a nodes file (`--nodes-from`): for sites that run netguard without a Kubernetes API, and for tests.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listed {
    /// Name of the node.
    pub name: String,
    /// Its internal addresses.
    pub addresses: Vec<String>,
    /// The ranges its pods take their addresses from.
    #[serde(default, rename = "podCIDRs")]
    pub pod_cidrs: Vec<String>,
}

impl From<&Listed> for Node {
    fn from(listed: &Listed) -> Self {
        Self::parse(
            &listed.name,
            listed.addresses.iter().map(String::as_str),
            listed.pod_cidrs.iter().map(String::as_str),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_kept_as_words_and_the_rest_still_counts() {
        let node = Node::parse("a", ["10.0.0.1", "ten"], ["10.244.1.7/24", "x/9"]);
        assert_eq!(node.address(Family::V4), "10.0.0.1".parse().ok());
        assert_eq!(node.range(Family::V4), "10.244.1.0/24".parse().ok());
        assert_eq!(node.malformed, [r#""ten" is not an IP address"#, r#""x/9" is not a pod range"#]);
    }

    #[test]
    fn each_family_has_its_own_address_and_range() {
        let node = Node::parse("a", ["fd00::1", "10.0.0.1", "10.0.0.2"], ["fd00:1::/64", "10.244.1.0/24"]);
        assert_eq!(node.address(Family::V4), "10.0.0.1".parse().ok());
        assert_eq!(node.address(Family::V6), "fd00::1".parse().ok());
        assert_eq!(node.range(Family::V6), "fd00:1::/64".parse().ok());
    }
}
