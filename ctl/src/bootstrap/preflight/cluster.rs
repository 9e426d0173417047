//! What hosts must be like among each other.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;

use super::{ADDRESS, CIDR, CLOCK, Check, Finding, HOSTNAME, MACHINE_ID, MTU, PORT_CLOSED, ports};
use crate::cluster::{Cluster, Host};
use crate::node::types::{Dialled, Facts};

/// How far clocks may differ, in milliseconds.
const SKEW_MS: i64 = 2_000;

/// A host with what was found on it, and how far its clock is from ours in milliseconds.
pub struct Seen<'a> {
    /// The host.
    pub host: &'a Host,
    /// What was found.
    pub facts: &'a Facts,
    /// Its clock less ours.
    pub offset_ms: i64,
}

/// All checks among hosts.
pub fn check(cluster: &Cluster, seen: &[Seen]) -> Vec<Finding> {
    let mut found = clocks(seen);
    found.extend(twins(
        seen,
        MACHINE_ID,
        "machine id",
        |facts| &facts.machine_id,
        "`rm /etc/machine-id && systemd-machine-id-setup`, then reboot, on all but one: they are copies of one disk",
    ));
    found.extend(twins(
        seen,
        HOSTNAME,
        "host name",
        |facts| &facts.hostname,
        "`hostnamectl set-hostname` on all but one",
    ));
    found.extend(addresses(seen));
    found.extend(mtus(cluster, seen));
    found.extend(ranges(cluster, seen));
    found
}

fn clocks(seen: &[Seen]) -> Vec<Finding> {
    let mut offsets: Vec<i64> = seen.iter().map(|one| one.offset_ms).collect();
    offsets.sort_unstable();
    let Some(middle) = offsets.get(offsets.len() / 2).copied() else { return Vec::new() };
    let far = |one: &&Seen| (one.offset_ms - middle).abs() > SKEW_MS;
    seen.iter()
        .filter(far)
        .map(|one| {
            let seconds = (one.offset_ms - middle) as f64 / 1000.0;
            let way = if seconds > 0.0 { "ahead of" } else { "behind" };
            let what = format!("the clock is {:.1} seconds {way} the other hosts'", seconds.abs());
            Finding::error(
                CLOCK,
                &one.host.name,
                what,
                "run chrony or systemd-timesyncd against the same server on all hosts",
            )
        })
        .collect()
}

fn twins(seen: &[Seen], check: Check, what: &str, of: impl Fn(&Facts) -> &String, fix: &str) -> Vec<Finding> {
    let mut by: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for one in seen.iter().filter(|one| !of(one.facts).is_empty()) {
        by.entry(of(one.facts)).or_default().push(&one.host.name);
    }
    by.into_iter()
        .filter(|(_, hosts)| hosts.len() > 1)
        .map(|(value, hosts)| Finding::error(check, &hosts.join(", "), format!("they share the {what} {value}"), fix))
        .collect()
}

fn addresses(seen: &[Seen]) -> Vec<Finding> {
    let has = |facts: &Facts, address: &str| facts.addresses.iter().any(|own| own.address == address);
    let mut found = Vec::new();
    for one in seen {
        let address = one.host.address.to_string();
        if !has(one.facts, &address) {
            let own: Vec<&str> = one
                .facts
                .addresses
                .iter()
                .filter(|own| own.interface != "lo")
                .map(|own| own.address.as_str())
                .collect();
            let what = format!("{address} is not on the host; it has {}", own.join(", "));
            found.push(Finding::error(
                ADDRESS,
                &one.host.name,
                what,
                "write one of the host's own addresses into cluster.yaml",
            ));
        }
        let others = seen.iter().filter(|other| other.host.name != one.host.name && has(other.facts, &address));
        for other in others {
            let what = format!("{address} of {} is on {} as well", one.host.name, other.host.name);
            found.push(Finding::error(ADDRESS, &other.host.name, what, "give each host an address of its own"));
        }
    }
    found
}

fn mtu_of(one: &Seen) -> Option<u32> {
    let address = one.host.address.to_string();
    one.facts.addresses.iter().find(|own| own.address == address).map(|own| own.mtu)
}

fn mtus(cluster: &Cluster, seen: &[Seen]) -> Vec<Finding> {
    let all: Vec<u32> = seen.iter().filter_map(mtu_of).collect();
    let (Some(least), Some(most)) = (all.iter().min(), all.iter().max()) else { return Vec::new() };
    let mut found = Vec::new();
    if least != most {
        let parts: Vec<String> =
            seen.iter().filter_map(|one| Some(format!("{} {}", one.host.name, mtu_of(one)?))).collect();
        let what = format!("hosts send packets of different sizes: {}", parts.join(", "));
        found.push(Finding::error(MTU, "", what, "set the same MTU on the interfaces of all hosts"));
    }
    let wanted = u32::from(cluster.spec.network.mtu);
    if wanted > *least {
        let what = format!("spec.network.mtu is {wanted}, and a host sends no more than {least}");
        found.push(Finding::error(MTU, "", what, format!("set it to 0 to have it measured, or to {least} at most")));
    }
    found
}

fn ranges(cluster: &Cluster, seen: &[Seen]) -> Vec<Finding> {
    let network = &cluster.spec.network;
    let overlap = |a: &Ipv4Net, b: &Ipv4Net| a.contains(&b.network()) || b.contains(&a.network());
    let mut found = Vec::new();
    let mut error = |host: &str, what: String| {
        found.push(Finding::error(
            CIDR,
            host,
            what,
            "choose other ranges in spec.network: they must be unused in the house",
        ));
    };
    if overlap(&network.pod_cidr, &network.service_cidr) {
        error("", format!("podCIDR {} and serviceCIDR {} overlap", network.pod_cidr, network.service_cidr));
    }
    let nodes = 1u64 << (24u8.saturating_sub(network.pod_cidr.prefix_len()));
    if (seen.len() as u64) > nodes {
        error(
            "",
            format!(
                "podCIDR {} has {nodes} ranges of 256 addresses, {} hosts need one each",
                network.pod_cidr,
                seen.len()
            ),
        );
    }
    // Interfaces of our own network hold addresses of the pod range on a cluster that runs.
    let ours = |name: &str| {
        name == "lo" || name == "cni0" || name.starts_with("hz") || name.starts_with("veth") || name.starts_with("kube")
    };
    for one in seen {
        for own in one.facts.addresses.iter().filter(|own| !ours(&own.interface)) {
            let Ok(net) = format!("{}/{}", own.address, own.prefix).parse::<Ipv4Net>() else { continue };
            for (name, range) in [("podCIDR", &network.pod_cidr), ("serviceCIDR", &network.service_cidr)] {
                if overlap(range, &net.trunc()) {
                    error(&one.host.name, format!("{name} {range} covers {} of {}", own.address, own.interface));
                }
            }
        }
    }
    found
}

/// Connections between pairs of hosts that did not work. One finding a pair and cause, with its ports.
pub fn connections(results: &[(String, Vec<Dialled>)]) -> Vec<Finding> {
    let mut by: BTreeMap<(String, String, String), Vec<u16>> = BTreeMap::new();
    for (from, dialled) in results {
        for one in dialled.iter().filter(|one| !one.error.is_empty()) {
            let key = (from.clone(), one.dial.host.clone(), one.error.clone());
            by.entry(key).or_default().push(one.dial.port);
        }
    }
    by.into_iter()
        .map(|((from, to, error), mut list)| {
            list.sort_unstable();
            let shown: Vec<String> = list.iter().map(|port| format!("{port} ({})", ports::purpose(*port))).collect();
            let what = format!("{from} does not reach {to} on {}: {error}", shown.join(", "));
            let fix = format!("let TCP through from {from} to {to} in the firewalls of both and between them");
            Finding::error(PORT_CLOSED, &format!("{from} → {to}"), what, fix)
        })
        .collect()
}
