//! What state kubeadm's work is in on a host, and what follows. Pure: the part that must never wipe what lives.

use super::api::Look;
use crate::cluster::{Host, Role};
use crate::node::types::{Facts, Member};

/// What is to be done to have a cluster at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// It is there and complete.
    Done,
    /// Nothing is there: start one.
    Fresh,
    /// It was begun on the first control plane: go through the same steps again, keeping what is there.
    Again(Vec<String>),
}

/// How the cluster is to be started.
pub fn start(first: &Facts, look: Option<&Look>) -> Start {
    match look {
        Some(look) if look.unfinished.is_empty() => Start::Done,
        Some(look) => Start::Again(look.unfinished.clone()),
        None if first.leftovers.any() => Start::Again(vec!["the API server does not answer yet".into()]),
        None => Start::Fresh,
    }
}

/// What is to be done to have a host in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Join {
    /// It is in, and its node is known.
    Done,
    /// It has joined; its kubelet has to be started or waited for.
    Wake,
    /// It has not joined.
    Fresh,
    /// A join was cut off before the host was part of the cluster: undo it on this host, then join.
    Redo(String),
    /// A control plane that votes in etcd already: only the last steps are missing.
    Finish,
}

/// How a host is to be brought in.
///
/// `members` is what a serving control plane says of etcd. A host that votes there is part of the cluster and
/// nothing of it is ever undone; one that does not vote holds nothing that others do not have.
pub fn join(host: &Host, facts: &Facts, look: &Look) -> Join {
    let left = &facts.leftovers;
    let known = look.nodes.contains_key(&host.name);
    let has_identity = left.kubelet_conf && left.kubelet_certificate;
    match host.role {
        Role::Worker if has_identity && known && left.kubelet_running => Join::Done,
        Role::Worker if has_identity => Join::Wake,
        Role::Worker if left.kubelet_conf || left.any() => Join::Redo("its join was cut off".into()),
        Role::Worker => Join::Fresh,
        Role::ControlPlane => join_control_plane(host, facts, look, known, has_identity),
    }
}

fn join_control_plane(host: &Host, facts: &Facts, look: &Look, known: bool, has_identity: bool) -> Join {
    let left = &facts.leftovers;
    let member = member_of(&look.members, host);
    let votes = member.is_some_and(|member| !member.learner && !member.name.is_empty());
    let labelled = look.nodes.get(&host.name).is_some_and(|node| node.labels.contains_key(CONTROL_PLANE_LABEL));
    if votes && left.etcd_data {
        let whole = left.manifests.len() >= 4 && left.admin_conf && has_identity;
        return match (whole, known && labelled) {
            (true, true) if left.kubelet_running => Join::Done,
            (true, true) => Join::Wake,
            _ => Join::Finish,
        };
    }
    if let Some(member) = member {
        // The trap: a learner that never came up blocks every later join until it is taken out.
        let state = if member.name.is_empty() { "never came up" } else { "does not vote or has lost its data" };
        return Join::Redo(format!("its member of etcd {state}"));
    }
    if left.any() { Join::Redo("its join was cut off".into()) } else { Join::Fresh }
}

/// Label of the nodes of control planes.
pub const CONTROL_PLANE_LABEL: &str = "node-role.kubernetes.io/control-plane";

/// The member of etcd on a host.
pub fn member_of<'a>(members: &'a [Member], host: &Host) -> Option<&'a Member> {
    let url = peer_url(host);
    members.iter().find(|member| member.peer_urls.contains(&url))
}

/// Where other members reach the one on this host.
pub fn peer_url(host: &Host) -> String {
    format!("https://{}:2380", host.address)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::api::NodeLook;
    use super::*;
    use crate::node::types::Leftovers;

    fn host(role: Role) -> Host {
        Host { name: "h".into(), address: [10, 0, 0, 2].into(), role, labels: BTreeMap::new(), ssh: None }
    }

    fn facts(change: impl FnOnce(&mut Leftovers)) -> Facts {
        let mut facts = Facts::default();
        change(&mut facts.leftovers);
        facts
    }

    fn joined(left: &mut Leftovers) {
        left.kubelet_conf = true;
        left.kubelet_certificate = true;
        left.kubelet_running = true;
    }

    fn control_plane(left: &mut Leftovers) {
        joined(left);
        left.admin_conf = true;
        left.etcd_data = true;
        left.manifests = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
    }

    fn look(member: Option<Member>) -> Look {
        let labels = BTreeMap::from([(CONTROL_PLANE_LABEL.to_owned(), String::new())]);
        let node = NodeLook { ready: true, labels, ..NodeLook::default() };
        Look { nodes: BTreeMap::from([("h".into(), node)]), members: member.into_iter().collect(), ..Look::default() }
    }

    fn member(name: &str, learner: bool) -> Member {
        Member { id: "1".into(), name: name.into(), peer_urls: vec!["https://10.0.0.2:2380".into()], learner }
    }

    #[test]
    fn a_bare_first_host_starts_the_cluster() {
        assert_eq!(start(&Facts::default(), None), Start::Fresh);
    }

    #[test]
    fn an_interrupted_start_is_gone_through_again_and_never_undone() {
        let begun = facts(|left| left.etcd_data = true);
        assert!(matches!(start(&begun, None), Start::Again(_)));
        let half = Look { unfinished: vec!["CoreDNS".into()], ..Look::default() };
        assert_eq!(start(&begun, Some(&half)), Start::Again(vec!["CoreDNS".into()]));
        assert_eq!(start(&begun, Some(&Look::default())), Start::Done);
    }

    #[test]
    fn a_bare_worker_joins_and_a_joined_one_is_left_alone() {
        assert_eq!(join(&host(Role::Worker), &Facts::default(), &Look::default()), Join::Fresh);
        assert_eq!(join(&host(Role::Worker), &facts(joined), &look(None)), Join::Done);
    }

    #[test]
    fn a_worker_that_was_rebooted_is_only_woken() {
        let asleep = facts(|left| {
            joined(left);
            left.kubelet_running = false;
        });
        assert_eq!(join(&host(Role::Worker), &asleep, &look(None)), Join::Wake);
    }

    #[test]
    fn a_worker_cut_off_in_its_join_begins_again() {
        let half = facts(|left| left.ca_hash = "x".into());
        assert!(matches!(join(&host(Role::Worker), &half, &Look::default()), Join::Redo(_)));
    }

    #[test]
    fn a_control_plane_that_votes_is_never_undone() {
        let whole = facts(control_plane);
        assert_eq!(join(&host(Role::ControlPlane), &whole, &look(Some(member("h", false)))), Join::Done);
        let torn = facts(|left| {
            control_plane(left);
            left.manifests.pop();
        });
        assert_eq!(join(&host(Role::ControlPlane), &torn, &look(Some(member("h", false)))), Join::Finish);
    }

    #[test]
    fn a_learner_that_never_came_up_is_taken_out_first() {
        let half = facts(|left| left.kubelet_conf = true);
        let Join::Redo(why) = join(&host(Role::ControlPlane), &half, &look(Some(member("", true)))) else {
            panic!("the learner stays");
        };
        assert!(why.contains("never came up"), "{why}");
    }

    #[test]
    fn a_control_plane_with_certificates_but_no_member_begins_again() {
        let half = facts(|left| left.ca_hash = "x".into());
        assert!(matches!(join(&host(Role::ControlPlane), &half, &Look::default()), Join::Redo(_)));
    }

    #[test]
    fn a_new_machine_in_place_of_a_lost_control_plane_takes_the_old_member_out() {
        let bare = Facts::default();
        let found = join(&host(Role::ControlPlane), &bare, &look(Some(member("h", false))));
        assert!(matches!(found, Join::Redo(_)), "{found:?}");
    }
}
