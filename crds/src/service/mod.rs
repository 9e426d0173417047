//! A service a hospital runs: copies, bindings, routes.

mod desired;
mod network;
mod status;
mod trust;
mod types;

#[cfg(test)]
mod tests;

pub use desired::{APP, desired};
pub use status::{effective_class, status};
pub use types::*;

use std::collections::{BTreeMap, BTreeSet};

use crate::Outcome;
use crate::shared::{DataClass, PodSeen};

/// What the operator looks up before it decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// What each Secret in [`secrets`] holds, as a fingerprint ([`fingerprint`]); Secrets that are not there, or that the operator
    /// did not make, are left out.
    pub secrets: BTreeMap<String, String>,
    /// Class of the data behind each of those Secrets, from its label `hz.hospital/data-class`.
    pub classes: BTreeMap<String, DataClass>,
    /// Those of the Secrets that hold the certificate of an authority, `ca.crt`.
    pub authorities: BTreeSet<String>,
    /// The keys that each of those Secrets has.
    pub keys: BTreeMap<String, Vec<String>>,
    /// Domains of the hospital besides its own: `spec.domains` of the Hospital of this namespace.
    pub domains: Vec<String>,
}

impl Inputs {
    pub(crate) fn has(&self, secret: &str, key: &str) -> bool {
        self.keys.get(secret).is_some_and(|keys| keys.iter().any(|known| known == key))
    }
}

/// What the operator saw after it wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// How far the pass got.
    pub outcome: Outcome,
    /// The Deployment, once it exists.
    pub rollout: Option<Rollout>,
    /// Pods of the service.
    pub pods: Vec<PodSeen>,
    /// The `Accepted` condition of the HTTPRoute, as the gateway answered: true, or why not. Nothing until it has.
    pub route: Option<Result<(), String>>,
    /// Class of the data behind each bound Secret, as in [`Inputs::classes`].
    pub classes: BTreeMap<String, DataClass>,
}

/// How far a Deployment has rolled out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rollout {
    /// `metadata.generation == status.observedGeneration`: the numbers speak of what was last asked for.
    pub current: bool,
    /// `status.updatedReplicas`.
    pub updated: i32,
    /// `status.readyReplicas`.
    pub ready: i32,
    /// `status.availableReplicas`.
    pub available: i32,
    /// `status.replicas`.
    pub total: i32,
}

/// Secrets that the bindings of a service name, in their order.
pub fn secrets(service: &MedicalService) -> Vec<String> {
    service.spec.bindings.iter().filter_map(Binding::secret).collect()
}

impl Binding {
    /// Secret with the credentials this binding hands on.
    pub fn secret(&self) -> Option<String> {
        match (&self.database, &self.cache) {
            (Some(database), _) => Some(crate::postgres::database_secret(&database.instance, &database.name)),
            (None, Some(cache)) => {
                let user = cache.user.as_deref().unwrap_or(crate::cache::users::DEFAULT);
                Some(crate::cache::user_secret(&cache.instance, user))
            }
            (None, None) => None,
        }
    }
}

/// A short word that changes when what a Secret holds changes. It stands in pod templates, so it must not tell
/// what is inside: contents are passwords of 32 random letters, which no one guesses from sixteen hex digits.
pub fn fingerprint<'a>(data: impl IntoIterator<Item = (&'a String, &'a [u8])>) -> String {
    crate::shared::digest(data.into_iter().flat_map(|(key, value)| [key.as_bytes(), value]))[..16].to_owned()
}
