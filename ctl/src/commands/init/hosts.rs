//! A list of hosts: `ADDRESS [NAME] [ROLE]` a line.

use std::net::Ipv4Addr;

use crate::cluster::{Role, nearest};
use crate::exit::Failure;

/// A host of the list, with a name and a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its name, as given or made from its role.
    pub name: String,
    /// Its role, as given or by its place in the list.
    pub role: Role,
}

struct Line {
    address: Ipv4Addr,
    name: Option<String>,
    role: Option<Role>,
}

/// Read a list.
pub fn read(text: &str) -> Result<Vec<Host>, Failure> {
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split([' ', '\t', ',']).filter(|word| !word.is_empty()).collect();
        if !words.is_empty() {
            lines.extend(
                host(&words).map_err(|wrong| Failure::input(format!("line {} of the list: {wrong}", index + 1)))?,
            );
        }
    }
    if lines.is_empty() {
        return Err(Failure::input("the list has no hosts").hint("one host a line: ADDRESS [NAME] [ROLE]"));
    }
    Ok(complete(lines))
}

fn host(words: &[&str]) -> Result<Vec<Line>, String> {
    let (addresses, rest) = (addresses(words[0])?, &words[1..]);
    let (mut name, mut role) = (None, None);
    for word in rest {
        match role_of(word) {
            Some(given) if role.is_none() => role = Some(given),
            _ if name.is_none() => name = Some((*word).to_owned()),
            _ => {
                let near = nearest(word, ["ControlPlane", "Worker"]);
                let near = near.map(|role| format!("; did you mean the role `{role}`?")).unwrap_or_default();
                return Err(format!("`{word}` is one word too many: a line is ADDRESS [NAME] [ROLE]{near}"));
            }
        }
    }
    if addresses.len() > 1 && name.is_some() {
        return Err(format!("a range of {} hosts cannot have one name", addresses.len()));
    }
    Ok(addresses.into_iter().map(|address| Line { address, name: name.clone(), role }).collect())
}

fn role_of(word: &str) -> Option<Role> {
    match word.to_lowercase().replace(['-', '_'], "").as_str() {
        "controlplane" | "cp" | "master" => Some(Role::ControlPlane),
        "worker" | "node" | "agent" => Some(Role::Worker),
        _ => None,
    }
}

/// One address, or a range: `10.0.0.11-18`, `10.0.0.250-10.0.1.5`.
fn addresses(word: &str) -> Result<Vec<Ipv4Addr>, String> {
    let one = |text: &str| text.parse::<Ipv4Addr>().map_err(|_| format!("`{text}` is not an IPv4 address"));
    let Some((from, to)) = word.split_once('-') else {
        return Ok(vec![one(word)?]);
    };
    let first = one(from)?;
    let last = match to.parse::<u8>() {
        Ok(end) => {
            let [a, b, c, _] = first.octets();
            Ipv4Addr::new(a, b, c, end)
        }
        Err(_) => one(to)?,
    };
    if last < first {
        return Err(format!("the range `{word}` ends before it begins"));
    }
    let count = u32::from(last) - u32::from(first) + 1;
    if count > 500 {
        return Err(format!("the range `{word}` has {count} addresses; a cluster has at most 500 hosts"));
    }
    Ok((u32::from(first)..=u32::from(last)).map(Ipv4Addr::from).collect())
}

/// Roles and names for those that have none: the first three are control planes if no line says who is.
fn complete(lines: Vec<Line>) -> Vec<Host> {
    let chosen = lines.iter().any(|line| line.role == Some(Role::ControlPlane));
    let mut planes = 0;
    let mut hosts: Vec<Host> = Vec::with_capacity(lines.len());
    let taken: Vec<String> = lines.iter().filter_map(|line| line.name.clone()).collect();
    let mut next = [1, 1];
    for line in lines {
        let role = line.role.unwrap_or_else(|| {
            let plane = !chosen && planes < 3;
            planes += usize::from(plane);
            if plane { Role::ControlPlane } else { Role::Worker }
        });
        let name = line.name.unwrap_or_else(|| free_name(role, &mut next, &taken));
        hosts.push(Host { address: line.address, name, role });
    }
    hosts
}

fn free_name(role: Role, next: &mut [usize; 2], taken: &[String]) -> String {
    let (word, count) = match role {
        Role::ControlPlane => ("cp", &mut next[0]),
        Role::Worker => ("worker", &mut next[1]),
    };
    loop {
        let name = format!("{word}-{count}");
        *count += 1;
        if !taken.contains(&name) {
            return name;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        read(text).unwrap().into_iter().map(|host| format!("{} {:?} {}", host.name, host.role, host.address)).collect()
    }

    #[test]
    fn a_range_becomes_three_control_planes_and_five_workers() {
        let hosts = read("10.0.0.11-18").unwrap();
        assert_eq!(hosts.len(), 8);
        assert_eq!(hosts.iter().filter(|host| host.role == Role::ControlPlane).count(), 3);
        assert_eq!(hosts[7].name, "worker-5");
    }

    #[test]
    fn names_and_roles_stand_in_any_order_and_what_is_left_out_is_filled_in() {
        let text =
            "# servers\n10.0.0.1 cp-2 ControlPlane # rack 1\n10.0.0.2 control-plane\n10.0.0.3 worker lab\n\n10.0.0.9\n";
        assert_eq!(
            names(text),
            [
                "cp-2 ControlPlane 10.0.0.1",
                "cp-1 ControlPlane 10.0.0.2",
                "lab Worker 10.0.0.3",
                "worker-1 Worker 10.0.0.9"
            ]
        );
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, wrong) in [
            ("10.0.0.1\n10.0.0.300 x", "line 2 of the list: `10.0.0.300` is not an IPv4 address"),
            ("10.0.0.9-3", "ends before it begins"),
            ("10.0.0.1-10.9.0.1", "at most 500 hosts"),
            ("10.0.0.1 a Worker b", "one word too many"),
            ("10.0.0.1-4 same", "cannot have one name"),
            ("# nobody", "no hosts"),
        ] {
            let message = read(text).unwrap_err().message;
            assert!(message.contains(wrong), "{text}: {message}");
        }
    }
}
