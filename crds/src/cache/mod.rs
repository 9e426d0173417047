//! A Valkey cache with copies, kept by its sentinels.

mod desired;
mod status;
mod types;

#[cfg(test)]
mod tests;

pub use desired::{APP, SENTINEL_PORT, desired};
pub use status::status;
pub use types::*;

use kube::core::ResourceExt;

use crate::shared::{PodSeen, Probe, Settings};
use crate::{Outcome, Passwords, Slot};

/// What the operator looks up before it decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// A password for each of [`slots`].
    pub passwords: Passwords,
    /// Secrets of the names in [`slots`] that exist and do not carry this cache's labels, with whom they belong to.
    pub foreign: Vec<(String, String)>,
}

/// What the operator saw after it wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// How far the pass got.
    pub outcome: Outcome,
    /// Pods of the cache.
    pub pods: Vec<PodSeen>,
    /// `PING` through the cache's Service with its password.
    pub probe: Probe,
    /// How far what the spec says has come.
    pub settings: Settings,
    /// The operation that is at work on it.
    pub operation: Option<String>,
}

/// Key of the password in the `<instance>-auth` Secret.
pub const PASSWORD_KEY: &str = "password";

/// Secret with the cache's credentials.
pub fn auth_secret(instance: &str) -> String {
    format!("{instance}-auth")
}

/// Passwords this cache needs. The operator keeps those that exist and makes those that do not.
pub fn slots(instance: &CacheInstance) -> Vec<Slot> {
    vec![Slot::new(auth_secret(&instance.name_any()), PASSWORD_KEY)]
}
