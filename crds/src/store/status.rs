//! What the platform says of a store.

use k8s_openapi::jiff::Timestamp;
use kube::core::ResourceExt;

use super::desired::endpoint;
use super::{ObjectStore, ObjectStoreStatus, Observed, client_secret};
use crate::Platform;
use crate::conditions::{Conditions, Verdict};
use crate::shared::{Member, Probe, trouble, unobserved};

/// The condition that every server is there.
pub const REDUNDANT: &str = "Redundant";

/// The status after a pass.
pub fn status(store: &ObjectStore, observed: &Observed, platform: &Platform, now: Timestamp) -> ObjectStoreStatus {
    let held = store.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let generation = store.metadata.generation.unwrap_or_else(unobserved);
    let ready = i32::try_from(observed.pods.iter().filter(|pod| pod.ready).count()).unwrap_or(i32::MAX);
    let conditions = Conditions::from(held, generation, now)
        .ready(&observed.outcome, || answers(store, observed))
        .with(REDUNDANT, redundant(store, observed, ready));
    let name = store.name_any();
    let mut members: Vec<Member> = observed.pods.iter().map(Member::from).collect();
    members.sort_by(|one, other| one.name.cmp(&other.name));
    ObjectStoreStatus {
        observed_generation: generation,
        conditions: conditions.into_vec(),
        instances: Some(format!("{ready}/{}", store.spec.instances)),
        ready_instances: ready,
        members,
        endpoint: Some(endpoint(&name, &store.namespace().unwrap_or_default(), platform)),
        secret: Some(client_secret(&name)),
    }
}

fn answers(store: &ObjectStore, observed: &Observed) -> Verdict {
    if store.spec.suspend {
        return Verdict::no("Suspended", "all servers are stopped; set spec.suspend to false to start");
    }
    match (&observed.probe, trouble(&observed.pods)) {
        (Probe::Answered, _) => Verdict::yes("Answering", "a signed request through the Service was answered"),
        (Probe::Failed(what), Some(trouble)) => Verdict::no("PodsNotRunning", format!("{what}; {trouble}")),
        (Probe::Failed(what), None) => {
            Verdict::no("NotAnswering", format!("a signed request through the Service failed: {what}"))
        }
        (Probe::NotAsked, Some(trouble)) => Verdict::no("PodsNotRunning", trouble),
        (Probe::NotAsked, None) => Verdict::no("Starting", "no server is ready yet"),
    }
}

fn redundant(store: &ObjectStore, observed: &Observed, ready: i32) -> Verdict {
    let wanted = store.spec.instances;
    if store.spec.suspend {
        return Verdict::no("Suspended", "all servers are stopped");
    }
    if wanted == 1 {
        return Verdict::no("SingleServer", "one server was asked for; its loss is the loss of all objects");
    }
    if ready >= wanted {
        return Verdict::yes("AllReady", format!("all {wanted} servers are ready"));
    }
    let missing = trouble(&observed.pods).map_or_else(String::new, |trouble| format!("; {trouble}"));
    Verdict::no("ServersMissing", format!("{ready} of {wanted} servers are ready{missing}"))
}
