//! Rules of addresses, ports and packets.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::Seen;
use crate::cluster::problem::Problem;
use crate::cluster::yaml::Node;
use crate::cluster::{Gateway, Network};

/// Ranges that no host or cluster network can have.
const RESERVED: [(&str, &str); 5] = [
    ("0.0.0.0/8", "stands for this very machine"),
    ("127.0.0.0/8", "never leaves a machine"),
    ("169.254.0.0/16", "is link-local"),
    ("224.0.0.0/4", "is multicast"),
    ("240.0.0.0/4", "is reserved"),
];

fn reserved(range: Ipv4Net) -> Option<(&'static str, &'static str)> {
    let meets = |text: &str| text.parse::<Ipv4Net>().is_ok_and(|other| overlap(other, range));
    RESERVED.into_iter().find(|(text, _)| meets(text))
}

fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// Addresses of hosts, pods and services must not meet.
pub(super) fn addresses(root: &Node, hosts: &[Seen<'_>], problems: &mut Vec<Problem>) {
    let default = Network::default();
    let range = |field: &str, default: Ipv4Net| match root.at(&["spec", "network", field]) {
        None => Some((default, None)),
        Some(node) => node.text().and_then(|text| text.parse().ok()).map(|range| (range, Some(node))),
    };
    let pods = range("podCIDR", default.pod_cidr);
    let services = range("serviceCIDR", default.service_cidr);
    if let (Some((pods, pod_node)), Some((services, service_node))) = (pods, services)
        && overlap(pods, services)
        && let Some(node) = service_node.or(pod_node)
    {
        let field = if service_node.is_some() { "serviceCIDR" } else { "podCIDR" };
        problems.push(
            Problem::at(node.span.clone(), format!("pods ({pods}) and services ({services}) share addresses"))
                .path(format!("spec.network.{field}"))
                .label("overlaps")
                .hint("give each a range of its own, such as 10.244.0.0/16 and 10.96.0.0/16"),
        );
    }
    for (field, range, fewest, most) in [("podCIDR", pods, 8, 24), ("serviceCIDR", services, 12, 24)] {
        if let Some((range, Some(node))) = range {
            size(field, range, node, fewest, most, hosts.len(), problems);
        }
    }
    for host in hosts {
        let Some((address, node)) = host.address() else {
            continue;
        };
        let problem = |message: String| Problem::at(node.span.clone(), message).path(host.path("address"));
        if let Some((range, why)) = reserved(Ipv4Net::from(address)) {
            problems.push(
                problem(format!("{address} cannot be a host's address: {range} {why}")).label("not a host's address"),
            );
        }
    }
    for (field, what, range) in [("podCIDR", "pods", pods), ("serviceCIDR", "services", services)] {
        if let Some((range, node)) = range {
            meets_hosts(field, what, range, node, hosts, problems);
        }
    }
}

/// One mistake in the range is told once, at the range; where the range is the default one, at the first host in it.
fn meets_hosts(
    field: &str,
    what: &str,
    range: Ipv4Net,
    node: Option<&Node>,
    hosts: &[Seen<'_>],
    problems: &mut Vec<Problem>,
) {
    let within: Vec<(Ipv4Addr, &Seen<'_>, &Node)> = hosts
        .iter()
        .filter_map(|host| host.address().map(|(address, node)| (address, host, node)))
        .filter(|(address, ..)| range.contains(address))
        .collect();
    let Some((address, host, host_node)) = within.first() else {
        return;
    };
    let more = match within.len() {
        1 => String::new(),
        count => format!(" and {} more hosts", count - 1),
    };
    let hint = format!("set `spec.network.{field}` to a range that the hospital does not use");
    let (span, path, label) = match node {
        Some(node) => (&node.span, format!("spec.network.{field}"), "holds addresses of hosts".to_owned()),
        None => (&host_node.span, host.path("address"), format!("inside spec.network.{field}")),
    };
    problems.push(
        Problem::at(span.clone(), format!("the range of the {what} ({range}) holds {address}{more}"))
            .path(path)
            .label(label)
            .hint(hint),
    );
}

fn size(field: &str, range: Ipv4Net, node: &Node, fewest: u8, most: u8, hosts: usize, problems: &mut Vec<Problem>) {
    let problem = |message: String| Problem::at(node.span.clone(), message).path(format!("spec.network.{field}"));
    if let Some((other, why)) = reserved(range) {
        problems.push(problem(format!("{range} cannot be used: {other} {why}")));
        return;
    }
    let length = range.prefix_len();
    if !(fewest..=most).contains(&length) {
        let word = if length < fewest { "large" } else { "small" };
        problems.push(problem(format!("{range} is too {word}")).label(format!("allowed: /{fewest} to /{most}")));
        return;
    }
    let room = 1usize << (24 - length.min(24));
    if field == "podCIDR" && hosts > room {
        problems.push(
            problem(format!("{range} has room for {room} hosts, and there are {hosts}"))
                .label("too small")
                .hint("each host takes a /24; a /16 has room for 256"),
        );
    }
}

/// Ports that the platform itself listens on.
const TAKEN: [(std::ops::RangeInclusive<u16>, &str); 6] = [
    (6443..=6443, "the API server"),
    (16443..=16443, "the API balancer of each host"),
    (2379..=2381, "etcd"),
    (10248..=10260, "Kubernetes"),
    (30000..=32767, "node ports"),
    (4789..=4789, "the pod network"),
];

/// Nobody may listen where the platform does.
pub(super) fn ports(root: &Node, problems: &mut Vec<Problem>) {
    let main = root.at(&["spec", "ssh", "port"]);
    let ssh_port = main.and_then(Node::integer).unwrap_or(22);
    let gateway = root.at(&["spec", "gateway", "httpPort"]);
    let taken =
        |port: i128| TAKEN.iter().find(|(range, _)| u16::try_from(port).is_ok_and(|port| range.contains(&port)));
    let port = gateway.and_then(Node::integer).unwrap_or(i128::from(Gateway::default().http_port));
    let by = if port == ssh_port { Some("SSH") } else { taken(port).map(|(_, by)| *by) };
    if let (Some(by), Some(node)) = (by, gateway.or(main)) {
        let path = if gateway.is_some() { "spec.gateway.httpPort" } else { "spec.ssh.port" };
        problems.push(
            Problem::at(node.span.clone(), format!("port {port} of the gateway is taken by {by}"))
                .path(path)
                .label("taken"),
        );
    }
    if let (Some(node), Some((_, by))) = (main, taken(ssh_port)) {
        problems.push(
            Problem::at(node.span.clone(), format!("port {ssh_port} of SSH is taken by {by}"))
                .path("spec.ssh.port")
                .label("taken"),
        );
    }
}

/// 0 is measured; what is smaller than IPv6 asks for breaks things far away.
pub(super) fn mtu(root: &Node, problems: &mut Vec<Problem>) {
    let Some(node) = root.at(&["spec", "network", "mtu"]) else {
        return;
    };
    if node.integer().is_some_and(|mtu| (1..1280).contains(&mtu)) {
        problems.push(
            Problem::at(node.span.clone(), "smaller than any network of ours may be")
                .path("spec.network.mtu")
                .label("allowed: 0 (measured), or 1280 to 9216"),
        );
    }
}
