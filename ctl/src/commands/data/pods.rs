//! Which pod is meant.

use hz_crds::labels;
use hz_crds::shared::PodSeen;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use super::Sort;
use crate::cluster::nearest::{nearest, one_of};
use crate::commands::reach::{Place, refused};
use crate::exit::{ExitStatus, Failure};

/// Role label of a pod that follows the leader.
const REPLICA: &str = "replica";

/// Pods of an instance, in the order of their names.
pub async fn of(client: &Client, sort: &Sort, place: &Place) -> Result<Vec<PodSeen>, Failure> {
    let wanted = format!("{}={},{}={}", labels::NAME, sort.app, labels::INSTANCE, place.name);
    let pods: Api<Pod> = Api::namespaced(client.clone(), &place.namespace);
    let listed = pods.list(&ListParams::default().labels(&wanted)).await;
    let listed = listed.map_err(|error| refused(format!("failed to list the pods of {}", place.name), &error))?;
    let mut seen: Vec<PodSeen> = listed.iter().map(see).collect();
    seen.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(seen)
}

fn see(pod: &Pod) -> PodSeen {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    // A pod on its way out still answers for a moment, and is gone in the next.
    let leaving = pod.metadata.deletion_timestamp.is_some();
    PodSeen {
        name: pod.name_any(),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        role: pod.labels().get(labels::ROLE).cloned(),
        ready: !leaving && conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        ..PodSeen::default()
    }
}

/// The pod that takes writes.
pub fn leader<'a>(sort: &Sort, name: &str, pods: &'a [PodSeen]) -> Result<&'a PodSeen, Failure> {
    with_role(pods, sort.leader).ok_or_else(|| {
        Failure::new(ExitStatus::Degraded, format!("{name} has no {} right now", sort.leader))
            .hint(format!("a new one is chosen within seconds; `hzctl {} list` tells how it is", sort.command))
    })
}

/// A pod that only follows.
pub fn replica<'a>(sort: &Sort, name: &str, pods: &'a [PodSeen]) -> Result<&'a PodSeen, Failure> {
    with_role(pods, REPLICA).filter(|pod| pod.ready).ok_or_else(|| {
        Failure::new(ExitStatus::Degraded, format!("{name} has no copy that is ready besides its {}", sort.leader))
            .hint("leave out --read-only, or see `hzctl db list`")
    })
}

/// While work is handed over two pods may carry the same label: the one that is ready is meant.
fn with_role<'a>(pods: &'a [PodSeen], role: &str) -> Option<&'a PodSeen> {
    let mut fitting = pods.iter().filter(|pod| pod.role.as_deref() == Some(role));
    fitting.clone().find(|pod| pod.ready).or_else(|| fitting.next())
}

/// The pod of this name.
pub fn member<'a>(name: &str, member: &str, pods: &'a [PodSeen]) -> Result<&'a PodSeen, Failure> {
    if let Some(pod) = pods.iter().find(|pod| pod.name == member) {
        return Ok(pod);
    }
    let names = || pods.iter().map(|pod| pod.name.as_str());
    let failure = Failure::input(format!("{name} has no copy `{member}`"));
    Err(match nearest(member, names()) {
        _ if pods.is_empty() => failure.hint("it has no pods at all: is it suspended?"),
        Some(near) => failure.hint(format!("did you mean `{near}`? copies are {}", one_of(names()))),
        None => failure.hint(format!("copies are {}", one_of(names()))),
    })
}

#[cfg(test)]
pub mod tests {
    use super::super::DATABASE;
    use super::*;

    /// A pod of this name, role and readiness.
    pub fn pod(name: &str, role: Option<&str>, ready: bool) -> PodSeen {
        PodSeen { name: name.into(), role: role.map(Into::into), ready, ..PodSeen::default() }
    }

    #[test]
    fn while_work_is_handed_over_the_ready_primary_is_meant() {
        let pods = [
            pod("records-0", Some("primary"), false),
            pod("records-1", Some("primary"), true),
            pod("records-2", None, false),
        ];
        assert_eq!(leader(&DATABASE, "records", &pods).unwrap().name, "records-1");
        assert_eq!(leader(&DATABASE, "records", &pods[..1]).unwrap().name, "records-0");
        let none = leader(&DATABASE, "records", &pods[2..]).unwrap_err();
        assert_eq!((none.code, none.message.as_str()), (ExitStatus::Degraded, "records has no primary right now"));
    }

    #[test]
    fn reading_only_needs_a_copy_that_is_ready() {
        let pods = [pod("records-0", Some("primary"), true), pod("records-1", Some("replica"), false)];
        assert!(replica(&DATABASE, "records", &pods).is_err());
        let pods = [pod("records-1", Some("replica"), false), pod("records-2", Some("replica"), true)];
        assert_eq!(replica(&DATABASE, "records", &pods).unwrap().name, "records-2");
    }

    #[test]
    fn a_copy_that_is_not_there_is_answered_with_the_nearest() {
        let pods = [pod("records-0", None, true), pod("records-1", None, true)];
        let failure = member("records", "record-1", &pods).unwrap_err();
        assert_eq!(failure.message, "records has no copy `record-1`");
        assert_eq!(failure.hint.as_deref(), Some("did you mean `records-1`? copies are `records-0` or `records-1`"));
        assert!(member("records", "records-1", &[]).unwrap_err().hint.is_some_and(|hint| hint.contains("suspended")));
    }
}
