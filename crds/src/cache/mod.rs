//! A Valkey cache with copies, kept by its sentinels.

mod commands;
pub mod credentials;
mod desired;
mod durable;
mod live;
pub mod metrics;
pub mod parameters;
mod status;
mod tls;
mod types;
pub mod users;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_users;

pub use credentials::Credentials;
pub use desired::{APP, PORT as SERVER_PORT, SENTINEL_PORT, desired};
pub use durable::DURABLE;
pub use live::{Given, Live, live};
pub use status::{CREDENTIALS_APPLIED, ENCRYPTED, status};
pub use tls::{LABEL as TLS_LABEL, Tls, certificate};
pub use types::*;
pub use users::{Access, CacheUser, SecretRef, user_secret};

use kube::core::ResourceExt;

use crate::shared::{PodSeen, Probe, Settings};
use crate::{Certificates, Outcome, Passwords, Slot};

/// What the operator looks up before it decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// A password for each of [`slots`].
    pub passwords: Passwords,
    /// The certificate of [`certificate`].
    pub certificates: Certificates,
    /// Passwords of the users.
    pub credentials: Credentials,
    /// Secrets of names that this cache needs, that exist and do not carry its labels, with whom they belong to.
    pub foreign: Vec<(String, String)>,
    /// How the servers that run were started, if any runs.
    pub running: Option<Tls>,
}

impl Inputs {
    /// Inputs of a cache that starts, with made-up passwords and a certificate that is none: to see what comes of it.
    pub fn made_up(cache: &CacheInstance, platform: &crate::Platform) -> Self {
        let password = |of: &str| format!("made-up-{of}");
        let pem = |what: &str| format!("made-up {what}");
        let pair = crate::KeyPair {
            ca_crt: pem("authority"),
            ca_key: pem("key of the authority"),
            tls_crt: pem("certificate"),
            tls_key: pem("key"),
        };
        let users = users::names(cache).into_iter().map(|name| {
            (name.to_owned(), credentials::Held { password: password(name), ..credentials::Held::default() })
        });
        Self {
            passwords: slots(cache).into_iter().map(|slot| (slot, password("system"))).collect(),
            certificates: Certificates::default().with(&certificate(cache, platform), pair),
            credentials: Credentials { generation: cache.spec.credentials_generation, users: users.collect() },
            ..Self::default()
        }
    }
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
    /// How far users and passwords have come.
    pub given: Given,
    /// What is wrong with Secrets that users name.
    pub wrong: Vec<String>,
    /// Second at which an old password is given up, while there is one.
    pub old_until: Option<i64>,
    /// The operation that is at work on it.
    pub operation: Option<String>,
}

/// Key of the password in the Secrets of users.
pub const PASSWORD_KEY: &str = "password";

/// Where pods find what only the platform knows.
const SYSTEM_FOLDER: &str = "/etc/hz-system";
/// Key of the users' passwords in the `<cache>-system` Secret.
pub const CREDENTIALS_KEY: &str = "credentials";

/// Secret with what the `default` user needs to connect.
pub fn auth_secret(instance: &str) -> String {
    format!("{instance}-auth")
}

/// Secret with what only the platform knows: no tenant's, and bound to no service.
pub fn system_secret(instance: &str) -> String {
    format!("{instance}-system")
}

/// Where the password of the platform's user is kept.
pub fn system_slot(instance: &CacheInstance) -> Slot {
    Slot::new(system_secret(&instance.name_any()), PASSWORD_KEY)
}

/// Passwords this cache needs besides those of its users. The operator keeps those that exist and makes those that do
/// not.
pub fn slots(instance: &CacheInstance) -> Vec<Slot> {
    vec![system_slot(instance)]
}
