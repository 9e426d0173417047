//! What the platform says of a cache.

use k8s_openapi::jiff::Timestamp;
use kube::core::ResourceExt;

use super::durable::{DURABLE, durable};
use super::{CacheInstance, CacheInstanceStatus, Given, Observed, Tls, auth_secret};
use crate::conditions::{Conditions, Verdict};
use crate::shared::{CONFIGURED, Member, Probe, trouble, unobserved};
use crate::{Outcome, Platform};

/// The condition that every server is there.
pub const REDUNDANT: &str = "Redundant";

/// The condition that nothing goes over the network in the clear.
pub const ENCRYPTED: &str = "Encrypted";
/// The condition that every server knows users and passwords as they are now.
pub const CREDENTIALS_APPLIED: &str = "CredentialsApplied";

/// The status after a pass.
pub fn status(cache: &CacheInstance, observed: &Observed, platform: &Platform, now: Timestamp) -> CacheInstanceStatus {
    let held = cache.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let generation = cache.metadata.generation.unwrap_or_else(unobserved);
    let ready = i32::try_from(observed.pods.iter().filter(|pod| pod.ready).count()).unwrap_or(i32::MAX);
    let conditions = Conditions::from(held, generation, now)
        .ready(&observed.outcome, || answers(cache, observed))
        .with(REDUNDANT, redundant(cache, observed, ready))
        .with(DURABLE, durable(&cache.spec));
    let more = [
        (CONFIGURED, observed.settings.verdict()),
        (ENCRYPTED, encrypted(cache, observed)),
        (CREDENTIALS_APPLIED, applied(cache, observed)),
    ];
    let conditions = more.into_iter().fold(conditions, |conditions, (type_, verdict)| match verdict {
        Some(verdict) => conditions.with(type_, verdict),
        None => conditions,
    });
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

/// By what a PING over TLS found; nothing while nobody could ask.
fn encrypted(cache: &CacheInstance, observed: &Observed) -> Option<Verdict> {
    if observed.outcome != Outcome::Applied {
        return None;
    }
    match (cache.spec.tls, &observed.probe) {
        (Tls::Disabled, _) => Some(Verdict::no(
            "Disabled",
            "spec.tls is Disabled: keys, values and passwords go over the network in the clear",
        )),
        (Tls::Required, Probe::Answered) => Some(Verdict::yes(
            "Required",
            "servers, copies and sentinels speak TLS alone, with a certificate of this cache's own authority",
        )),
        (Tls::Required, _) => None,
    }
}

fn applied(cache: &CacheInstance, observed: &Observed) -> Option<Verdict> {
    if !observed.wrong.is_empty() {
        let rest = "everybody else is let in as before, and so are these users, if they were before";
        return Some(Verdict::no("SecretWrong", format!("{}; {rest}", observed.wrong.join("; "))));
    }
    if cache.spec.suspend && observed.outcome == Outcome::Applied {
        return Some(Verdict::no(
            "Suspended",
            "all servers are stopped; they start with users and passwords as they are",
        ));
    }
    match (&observed.given, observed.old_until) {
        (Given::NotSeen, _) => None,
        (Given::Short(why), _) => Some(Verdict::no("Applying", why.clone())),
        (Given::Everywhere(servers), None) => {
            Some(Verdict::yes("Applied", format!("all {servers} servers that are ready know users and passwords")))
        }
        (Given::Everywhere(servers), Some(until)) => {
            let until = Timestamp::from_second(until).map_or_else(|_| "later".to_owned(), |until| until.to_string());
            Some(Verdict::yes(
                "OldStillAccepted",
                format!(
                    "all {servers} servers that are ready know the new passwords; old ones are accepted until {until}"
                ),
            ))
        }
    }
}
