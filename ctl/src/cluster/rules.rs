//! What a schema cannot say: how fields must fit each other. Each rule looks only at what can be read, so one
//! mistake does not hide the next.

mod network;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::{Component, Path};

use super::problem::Problem;
use super::yaml::{Node, Value};
use network::{addresses, mtu, ports};

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
    let Some(list) = root.at(&["spec", "hosts"]) else {
        return;
    };
    let Value::List(items) = &list.value else {
        return;
    };
    let minimum = root.at(&["spec", "minimumHosts"]).and_then(Node::integer).unwrap_or(8);
    // Out of range is told by the schema; counting against it would tell it twice.
    let minimum = if (2..=8).contains(&minimum) { minimum } else { 2 };
    // The list's own place is its first dash; one character of it is mark enough.
    let place = list.span.start..list.span.start + 1;
    let tell = |message: String, label: String| Problem::at(place.clone(), message).path("spec.hosts").label(label);
    if !items.is_empty() && (items.len() as i128) < minimum {
        let given = items.len();
        problems.push(
            tell(format!("{given} hosts; at least {minimum} are needed"), format!("{} more", minimum - given as i128))
                .hint(
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
        problems.push(
            tell("no host is a worker".into(), "these hosts".into())
                .hint("services run on workers; give at least one host `role: Worker`"),
        );
        return;
    }
    let planes = roles.iter().filter(|role| **role == "ControlPlane").count();
    let single = planes == 1 && minimum < 4;
    let possible = [3, 5, 7].contains(&planes) || single;
    if !roles.is_empty() && !possible {
        let why = match planes {
            0..=2 => "three are the fewest that can lose one and go on",
            4 | 6 => "an even number bears no more losses than one less, and splits in halves",
            _ => "more than seven make every write slower and nothing safer",
        };
        let are = if planes == 1 { "is" } else { "are" };
        let allowed = if minimum < 4 { "1, 3, 5 or 7" } else { "3, 5 or 7" };
        problems.push(
            tell(
                format!("{planes} of the {} hosts {are} control planes; {allowed} are possible", roles.len()),
                "these hosts".into(),
            )
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
        let target =
            own.and_then(Node::text).and_then(|text| text.parse().ok()).or(address.map(|(address, _)| address));
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

fn names(hosts: &[Seen<'_>], problems: &mut Vec<Problem>) {
    for host in hosts {
        if let Some(("localhost", node)) = host.text("name") {
            problems.push(
                Problem::at(
                    node.span.clone(),
                    "`localhost` means every host to itself; a host needs a name of its own",
                )
                .path(host.path("name")),
            );
        }
    }
}

fn labels(root: &Node, problems: &mut Vec<Problem>) {
    for host in hosts(root) {
        let Some(Value::Map(entries)) = host.node.get("labels").map(|node| &node.value) else {
            continue;
        };
        for entry in entries {
            let path = host.path(&format!("labels.{}", entry.key));
            let (domain, name) = entry.key.rsplit_once('/').unwrap_or(("", &entry.key));
            let owner = ["kubernetes.io", "k8s.io", "hz.hospital"];
            if owner.iter().any(|owner| domain == *owner || domain.ends_with(&format!(".{owner}"))) {
                let problem =
                    Problem::at(entry.key_span.clone(), format!("labels of {domain} are set by the platform"));
                problems.push(problem.path(path).label("reserved").hint("use a domain of your own, or none"));
            } else if !label_word(name) || name.is_empty() || domain.len() > 253 || domain.contains('/') {
                let problem =
                    Problem::at(entry.key_span.clone(), format!("`{}` is not the name of a label", entry.key));
                problems.push(
                    problem
                        .path(path)
                        .hint("letters, digits, `-`, `_` and `.`, at most 63, after an optional domain and `/`"),
                );
            } else if entry.node.text().is_some_and(|value| !label_word(value)) {
                let problem = Problem::at(entry.node.span.clone(), "not the value of a label");
                problems.push(
                    problem.path(path).hint(
                        "letters, digits, `-`, `_` and `.`, starting and ending with a letter or digit, at most 63",
                    ),
                );
            }
        }
    }
}

fn label_word(word: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let edge = |c: char| c.is_ascii_alphanumeric();
    word.is_empty() || word.len() <= 63 && word.chars().all(inner) && word.starts_with(edge) && word.ends_with(edge)
}

fn storage(root: &Node, problems: &mut Vec<Problem>) {
    let Some(node) = root.at(&["spec", "storage", "path"]) else {
        return;
    };
    let Some(text) = node.text().filter(|text| text.starts_with('/')) else {
        return;
    };
    let path = Path::new(text);
    let problem = |message: String| Problem::at(node.span.clone(), message).path("spec.storage.path");
    if path.components().any(|part| part == Component::ParentDir) {
        problems.push(problem("`..` in the path".into()).hint("write the path it ends at"));
        return;
    }
    let system =
        ["/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/tmp", "/usr"];
    let owned =
        ["/var/lib/etcd", "/var/lib/kubelet", "/var/lib/containerd", "/var/lib/hzctl/bundle", "/var/lib/hzctl/bin"];
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
            problems
                .push(Problem::at(node.span.clone(), "waived twice").path(format!("spec.preflight.waive[{index}]")));
        }
    }
}
