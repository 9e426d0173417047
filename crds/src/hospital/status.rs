//! What the platform says of a hospital.

use k8s_openapi::jiff::Timestamp;
use kube::core::ResourceExt;

use super::{Hospital, HospitalStatus, Observed, Used};
use crate::conditions::{Conditions, Verdict};
use crate::labels::namespace_of;
use crate::quantity::Amount;
use crate::shared::unobserved;

/// The status after a pass.
pub fn status(hospital: &Hospital, observed: &Observed, now: Timestamp) -> HospitalStatus {
    let held = hospital.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let generation = hospital.metadata.generation.unwrap_or_else(unobserved);
    let namespace = namespace_of(&hospital.name_any());
    let conditions = Conditions::from(held, generation, now).ready(&observed.outcome, || {
        if observed.terminating {
            return Verdict::no("Terminating", format!("namespace {namespace} is being deleted"));
        }
        Verdict::yes("Ready", format!("namespace {namespace} stands, with its quota, people and walls"))
    });
    HospitalStatus {
        observed_generation: generation,
        conditions: conditions.into_vec(),
        namespace: Some(namespace),
        used: used(observed),
    }
}

fn used(observed: &Observed) -> Used {
    let amount = |key: &str| observed.used.get(key).map(|amount| Amount::from(amount.as_str()));
    Used {
        cpu: amount("requests.cpu"),
        memory: amount("requests.memory"),
        storage: amount("requests.storage"),
        pods: observed.used.get("pods").and_then(|pods| pods.parse().ok()),
    }
}
