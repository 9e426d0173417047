//! What the platform says of a cache.

use k8s_openapi::jiff::Timestamp;
use kube::core::ResourceExt;

use super::{CacheInstance, CacheInstanceStatus, Observed, auth_secret};
use crate::Platform;
use crate::conditions::{Conditions, Verdict};
use crate::shared::{CONFIGURED, Member, Probe, trouble, unobserved};

/// The condition that every server is there.
pub const REDUNDANT: &str = "Redundant";

/// The status after a pass.
pub fn status(cache: &CacheInstance, observed: &Observed, platform: &Platform, now: Timestamp) -> CacheInstanceStatus {
    let held = cache.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let generation = cache.metadata.generation.unwrap_or_else(unobserved);
    let ready = i32::try_from(observed.pods.iter().filter(|pod| pod.ready).count()).unwrap_or(i32::MAX);
    let conditions = Conditions::from(held, generation, now)
        .ready(&observed.outcome, || answers(cache, observed))
        .with(REDUNDANT, redundant(cache, observed, ready));
    let conditions = match observed.settings.verdict() {
        Some(verdict) => conditions.with(CONFIGURED, verdict),
        None => conditions,
    };
    let name = cache.name_any();
    let namespace = cache.namespace().unwrap_or_default();
    let endpoint = |service: &str| Some(format!("{}:6379", platform.host(service, &namespace)));
    let mut members: Vec<Member> = observed.pods.iter().map(Member::from).collect();
    members.sort_by(|one, other| one.name.cmp(&other.name));
    CacheInstanceStatus {
        observed_generation: generation,
        conditions: conditions.into_vec(),
        master: master(observed),
        replicas: Some(format!("{ready}/{}", cache.spec.replicas)),
        ready_replicas: ready,
        members,
        endpoint: endpoint(&name),
        read_only_endpoint: endpoint(&format!("{name}-ro")),
        secret: Some(auth_secret(&name)),
        operation: observed.operation.clone(),
    }
}

/// The pod that is the master. Right after a failover two pods may say so; then nobody is named.
fn master(observed: &Observed) -> Option<String> {
    let mut masters = observed.pods.iter().filter(|pod| pod.role.as_deref() == Some("master"));
    let first = masters.next()?;
    masters.next().is_none().then(|| first.name.clone())
}

fn answers(cache: &CacheInstance, observed: &Observed) -> Verdict {
    if cache.spec.suspend {
        return Verdict::no("Suspended", "all servers are stopped; set spec.suspend to false to start");
    }
    match (&observed.probe, trouble(&observed.pods)) {
        (Probe::Answered, _) => Verdict::yes("Answering", "a PING through the Service was answered"),
        (Probe::Failed(what), Some(trouble)) => Verdict::no("PodsNotRunning", format!("{what}; {trouble}")),
        (Probe::Failed(what), None) => {
            Verdict::no("NotAnswering", format!("a PING through the Service failed: {what}"))
        }
        (Probe::NotAsked, Some(trouble)) => Verdict::no("PodsNotRunning", trouble),
        (Probe::NotAsked, None) => Verdict::no("Starting", "no master yet"),
    }
}

fn redundant(cache: &CacheInstance, observed: &Observed, ready: i32) -> Verdict {
    let wanted = cache.spec.replicas;
    if cache.spec.suspend {
        return Verdict::no("Suspended", "all servers are stopped");
    }
    if wanted == 1 {
        return Verdict::no("SingleServer", "one server was asked for; its loss empties the cache");
    }
    if ready >= wanted {
        return Verdict::yes("AllReady", format!("all {wanted} servers are ready"));
    }
    let missing = trouble(&observed.pods).map_or_else(String::new, |trouble| format!("; {trouble}"));
    Verdict::no("ServersMissing", format!("{ready} of {wanted} servers are ready{missing}"))
}
