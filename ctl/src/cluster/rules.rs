//! What a schema cannot say: how fields must fit each other. Each rule looks only at what can be read, so one
//! mistake does not hide the next.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::{Component, Path};

use ipnet::Ipv4Net;

use super::problem::Problem;
use super::yaml::{Node, Value};
use super::{Gateway, Network};

/// Everything that does not fit.
pub fn check(root: &Node) -> Vec<Problem> {
    let mut problems = Vec::new();
    let hosts = hosts(root);
    counts(root, &hosts, &mut problems);
    duplicates(&hosts, &mut problems);
    addresses(root, &hosts, &mut problems);
    names(&hosts, &mut problems);
    labels(root, &mut problems);
    ports(root, &mut problems);
    mtu(root, &mut problems);
    storage(root, &mut problems);
    waivers(root, &mut problems);
    problems
}

/// What can be read of a host.
struct Seen<'a> {
    index: usize,
    node: &'a Node,
}

impl Seen<'_> {
    fn text(&self, field: &str) -> Option<(&str, &Node)> {
        let node = self.node.get(field)?;
        Some((node.text()?, node))
    }

    fn address(&self) -> Option<(Ipv4Addr, &Node)> {
        let (text, node) = self.text("address")?;
        Some((text.parse().ok()?, node))
    }

    fn path(&self, field: &str) -> String {
        format!("spec.hosts[{}].{field}", self.index)
    }
}

fn hosts(root: &Node) -> Vec<Seen<'_>> {
    let list = root.at(&["spec", "hosts"]).map(Node::items).unwrap_or_default();
    list.iter().enumerate().map(|(index, node)| Seen { index, node }).collect()
}

fn counts(root: &Node, hosts: &[Seen<'_>], problems: &mut Vec<Problem>) {
    let Some(list) = root.at(&["spec", "hosts"]) else { return };
    let Value::List(items) = &list.value else { return };
    let minimum = root.at(&["spec", "minimumHosts"]).and_then(Node::integer).unwrap_or(8);
    // Out of range is told by the schema; counting against it would tell it twice.
    let minimum = if (2..=8).contains(&minimum) { minimum } else { 2 };
    // The list's own place is its first dash; one character of it is mark enough.
    let place = list.span.start..list.span.start + 1;
    let tell = |message: String, label: String| Problem::at(place.clone(), message).path("spec.hosts").label(label);
    if (items.len() as i128) < minimum && !items.is_empty() {
        let given = items.len();
        problems.push(
            tell(format!("{given} hosts; at least {minimum} are needed"), format!("{} more", minimum - given as i128)).hint(
                "a hospital needs 3 control planes and 5 workers to lose any one server and go on; \
                 a test site may say `minimumHosts: 2` (to 8) in `spec`",
            ),
        );
    }
    let roles: Option<Vec<&str>> = hosts.iter().map(|host| host.text("role").map(|(role, _)| role)).collect();
    let Some(roles) = roles.filter(|roles| roles.iter().all(|role| ["ControlPlane", "Worker"].contains(role))) else {
        return;
    };
    if !roles.is_empty() && !roles.contains(&"Worker") {
        problems.push(tell("no host is a worker".into(), "these hosts".into()).hint("services run on workers; give at least one host `role: Worker`"));
        return;
    }
    let planes = roles.iter().filter(|role| **role == "ControlPlane").count();
    let single = planes == 1 && minimum < 4;
    if !roles.is_empty() && !([3, 5, 7].contains(&planes) || single) {
        let why = match planes {
            0..=2 => "three are the fewest that can lose one and go on",
            4 | 6 => "an even number bears no more losses than one less, and splits in halves",
            _ => "more than seven make every write slower and nothing safer",
        };
        let are = if planes == 1 { "is" } else { "are" };
        let possible = if minimum < 4 { "1, 3, 5 or 7" } else { "3, 5 or 7" };
        problems.push(
            tell(format!("{planes} of the {} hosts {are} control planes; {possible} are possible", roles.len()), "these hosts".into())
                .hint(why),
        );
    }
}

fn duplicates(hosts: &[Seen<'_>], problems: &mut Vec<Problem>) {
    let mut names: HashMap<&str, usize> = HashMap::new();
    let mut addresses: HashMap<Ipv4Addr, usize> = HashMap::new();
    let mut ssh: HashMap<(Ipv4Addr, i128), usize> = HashMap::new();
    for host in hosts {
        if let Some((name, node)) = host.text("name") {
            if let Some(first) = names.get(name) {
                problems.push(again(host, "name", node, &format!("`{name}`"), *first));
            }
            names.entry(name).or_insert(host.index);
        }
        let address = host.address();
        if let Some((address, node)) = address {
            if let Some(first) = addresses.get(&address) {
                problems.push(again(host, "address", node, &address.to_string(), *first));
                continue;
            }
            addresses.insert(address, host.index);
        }
        let own = host.node.at(&["ssh", "address"]);
        let target = own.and_then(Node::text).and_then(|text| text.parse().ok()).or(address.map(|(address, _)| address));
        let port = host.node.at(&["ssh", "port"]).and_then(Node::integer).unwrap_or(0);
        if let Some(target) = target {
            if let (Some(first), Some(node)) = (ssh.get(&(target, port)), own) {
                problems.push(again(host, "ssh.address", node, &target.to_string(), *first));
            }
            ssh.entry((target, port)).or_insert(host.index);
        }
    }
}

fn again(host: &Seen<'_>, field: &str, node: &Node, value: &str, first: usize) -> Problem {
    Problem::at(node.span.clone(), format!("{value} is already used by spec.hosts[{first}]"))
        .path(host.path(field))
        .label("used twice")
}

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

fn addresses(root: &Node, hosts: &[Seen<'_>], problems: &mut Vec<Problem>) {
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
        let Some((address, node)) = host.address() else { continue };
        let problem = |message: String| Problem::at(node.span.clone(), message).path(host.path("address"));
        if let Some((range, why)) = reserved(Ipv4Net::from(address)) {
            problems.push(problem(format!("{address} cannot be a host's address: {range} {why}")).label("not a host's address"));
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
    let Some((address, host, host_node)) = within.first() else { return };
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
        Problem::at(span.clone(), format!("the range of the {what} ({range}) holds {address}{more}")).path(path).label(label).hint(hint),
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

fn names(hosts: &[Seen<'_>], problems: &mut Vec<Problem>) {
    for host in hosts {
        if let Some(("localhost", node)) = host.text("name") {
            problems.push(
                Problem::at(node.span.clone(), "`localhost` means every host to itself; a host needs a name of its own")
                    .path(host.path("name")),
            );
        }
    }
}

fn labels(root: &Node, problems: &mut Vec<Problem>) {
    for host in hosts(root) {
        let Some(Value::Map(entries)) = host.node.get("labels").map(|node| &node.value) else { continue };
        for entry in entries {
            let path = host.path(&format!("labels.{}", entry.key));
            let (domain, name) = entry.key.rsplit_once('/').unwrap_or(("", &entry.key));
            let owner = ["kubernetes.io", "k8s.io", "hz.hospital"];
            if owner.iter().any(|owner| domain == *owner || domain.ends_with(&format!(".{owner}"))) {
                let problem = Problem::at(entry.key_span.clone(), format!("labels of {domain} are set by the platform"));
                problems.push(problem.path(path).label("reserved").hint("use a domain of your own, or none"));
            } else if !label_word(name) || name.is_empty() || domain.len() > 253 || domain.contains('/') {
                let problem = Problem::at(entry.key_span.clone(), format!("`{}` is not the name of a label", entry.key));
                problems.push(problem.path(path).hint("letters, digits, `-`, `_` and `.`, at most 63, after an optional domain and `/`"));
            } else if entry.node.text().is_some_and(|value| !label_word(value)) {
                let problem = Problem::at(entry.node.span.clone(), "not the value of a label");
                problems.push(problem.path(path).hint("letters, digits, `-`, `_` and `.`, starting and ending with a letter or digit, at most 63"));
            }
        }
    }
}

fn label_word(word: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let edge = |c: char| c.is_ascii_alphanumeric();
    word.is_empty() || word.len() <= 63 && word.chars().all(inner) && word.starts_with(edge) && word.ends_with(edge)
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

fn ports(root: &Node, problems: &mut Vec<Problem>) {
    let main = root.at(&["spec", "ssh", "port"]);
    let ssh_port = main.and_then(Node::integer).unwrap_or(22);
    let gateway = root.at(&["spec", "gateway", "httpPort"]);
    let taken = |port: i128| TAKEN.iter().find(|(range, _)| u16::try_from(port).is_ok_and(|port| range.contains(&port)));
    let port = gateway.and_then(Node::integer).unwrap_or(i128::from(Gateway::default().http_port));
    let by = if port == ssh_port { Some("SSH") } else { taken(port).map(|(_, by)| *by) };
    if let (Some(by), Some(node)) = (by, gateway.or(main)) {
        let path = if gateway.is_some() { "spec.gateway.httpPort" } else { "spec.ssh.port" };
        problems.push(Problem::at(node.span.clone(), format!("port {port} of the gateway is taken by {by}")).path(path).label("taken"));
    }
    if let (Some(node), Some((_, by))) = (main, taken(ssh_port)) {
        problems.push(Problem::at(node.span.clone(), format!("port {ssh_port} of SSH is taken by {by}")).path("spec.ssh.port").label("taken"));
    }
}

fn mtu(root: &Node, problems: &mut Vec<Problem>) {
    let Some(node) = root.at(&["spec", "network", "mtu"]) else { return };
    if node.integer().is_some_and(|mtu| (1..1280).contains(&mtu)) {
        problems.push(
            Problem::at(node.span.clone(), "smaller than any network of ours may be")
                .path("spec.network.mtu")
                .label("allowed: 0 (measured), or 1280 to 9216"),
        );
    }
}

fn storage(root: &Node, problems: &mut Vec<Problem>) {
    let Some(node) = root.at(&["spec", "storage", "path"]) else { return };
    let Some(text) = node.text().filter(|text| text.starts_with('/')) else { return };
    let path = Path::new(text);
    let problem = |message: String| Problem::at(node.span.clone(), message).path("spec.storage.path");
    if path.components().any(|part| part == Component::ParentDir) {
        problems.push(problem("`..` in the path".into()).hint("write the path it ends at"));
        return;
    }
    let system = ["/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/tmp", "/usr"];
    let owned = ["/var/lib/etcd", "/var/lib/kubelet", "/var/lib/containerd", "/var/lib/hzctl/bundle", "/var/lib/hzctl/bin"];
    let within = system.iter().chain(&owned).find(|system| path.starts_with(system));
    let above = ["/", "/var", "/var/lib", "/var/lib/hzctl"].iter().find(|above| path == Path::new(above));
    if let Some(place) = within.or(above) {
        problems.push(
            problem(format!("{place} belongs to the system, not to volumes"))
                .label("not for volumes")
                .hint("take a directory of its own, such as /var/lib/hzctl/volumes or a disk mounted at /srv/volumes"),
        );
    }
}

fn waivers(root: &Node, problems: &mut Vec<Problem>) {
    let list = root.at(&["spec", "preflight", "waive"]).map(Node::items).unwrap_or_default();
    for (index, node) in list.iter().enumerate() {
        if list[..index].contains(node) {
            problems.push(Problem::at(node.span.clone(), "waived twice").path(format!("spec.preflight.waive[{index}]")));
        }
    }
}
