//! What the platform says of a service.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;

use super::{MedicalService, MedicalServiceStatus, Observed, Rollout, network, secrets};
use crate::Platform;
use crate::conditions::{Conditions, Verdict};
use crate::shared::{DataClass, trouble, unobserved};

/// The condition that at least one copy takes requests.
pub const AVAILABLE: &str = "Available";

/// The status after a pass.
pub fn status(
    service: &MedicalService,
    observed: &Observed,
    platform: &Platform,
    now: Timestamp,
) -> MedicalServiceStatus {
    let held = service.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let generation = service.metadata.generation.unwrap_or_else(unobserved);
    let rollout = observed.rollout.clone().unwrap_or_default();
    let conditions = Conditions::from(held, generation, now)
        .ready(&observed.outcome, || serves(service, observed, &rollout))
        .with(AVAILABLE, available(service, &rollout));
    MedicalServiceStatus {
        observed_generation: generation,
        conditions: conditions.into_vec(),
        replicas: Some(format!("{}/{}", rollout.ready, wanted(service))),
        ready_replicas: rollout.ready,
        url: Some(network::url(service, platform)),
        data_class: Some(effective_class(service, &observed.classes)),
    }
}

/// The class that counts: the strictest of the service's own and of everything it is bound to. A binding of which
/// nothing is known counts as Clinical, so that not knowing is safe.
pub fn effective_class(service: &MedicalService, classes: &BTreeMap<String, DataClass>) -> DataClass {
    let bound = secrets(service).into_iter().map(|secret| classes.get(&secret).copied().unwrap_or_default());
    bound.fold(service.spec.data_class, DataClass::max)
}

fn wanted(service: &MedicalService) -> i32 {
    if service.spec.suspend { 0 } else { service.spec.replicas }
}

fn serves(service: &MedicalService, observed: &Observed, rollout: &Rollout) -> Verdict {
    let wanted = wanted(service);
    if service.spec.suspend {
        return Verdict::no("Suspended", "all copies are stopped; set spec.suspend to false to start");
    }
    if !rollout.current || rollout.updated < wanted || rollout.available < wanted || rollout.total > wanted {
        let ready =
            format!("{} of {wanted} copies of the wanted version are ready", rollout.updated.min(rollout.available));
        return match trouble(&observed.pods) {
            Some(trouble) => Verdict::no("PodsNotRunning", format!("{ready}; {trouble}")),
            None => Verdict::no("RollingOut", ready),
        };
    }
    match &observed.route {
        _ if service.spec.routes.is_empty() => Verdict::yes("Serving", format!("all {wanted} copies are ready")),
        Some(Ok(())) => Verdict::yes("Serving", format!("all {wanted} copies are ready and the gateway leads to them")),
        Some(Err(why)) => Verdict::no("RouteRefused", format!("the gateway does not take the route: {why}")),
        None => Verdict::no("RoutePending", "the gateway has not answered for the route yet"),
    }
}

fn available(service: &MedicalService, rollout: &Rollout) -> Verdict {
    match rollout.available {
        0 if service.spec.suspend => Verdict::no("Suspended", "all copies are stopped"),
        0 => Verdict::no("NoCopies", "no copy takes requests"),
        some => Verdict::yes("CopiesReady", format!("{some} copies take requests")),
    }
}
