//! An S3 store inside a hospital, made with SeaweedFS.

mod desired;
mod status;
mod types;

#[cfg(test)]
mod tests;

pub use desired::{APP, PORT, REGION, desired};
pub use status::status;
pub use types::*;

use kube::core::ResourceExt;

use crate::shared::{PodSeen, Probe};
use crate::{CertificateSlot, Certificates, Outcome, Passwords, Platform, Slot};

/// What the operator looks up before it decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// A password for each of [`slots`].
    pub passwords: Passwords,
    /// The certificate of [`certificate`].
    pub certificates: Certificates,
    /// Secrets of these names that exist and do not carry this store's labels, with whom they belong to.
    pub foreign: Vec<(String, String)>,
}

/// What the operator saw after it wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// How far the pass got.
    pub outcome: Outcome,
    /// Pods of the store.
    pub pods: Vec<PodSeen>,
    /// An authenticated request through the store's Service, over TLS.
    pub probe: Probe,
}

/// Key of the name by which a client signs.
pub const ACCESS_KEY: &str = "access-key-id";
/// Key of the secret with which it signs.
pub const SECRET_KEY: &str = "secret-access-key";

/// Secret with what a client needs to know.
pub fn client_secret(store: &str) -> String {
    format!("{store}-s3")
}

/// Passwords this store needs: one pair of keys that may do everything in it.
pub fn slots(store: &ObjectStore) -> [Slot; 2] {
    [ACCESS_KEY, SECRET_KEY].map(|key| Slot::new(client_secret(&store.name_any()), key))
}

/// The certificate its servers show, under every name of the Service.
pub fn certificate(store: &ObjectStore, platform: &Platform) -> CertificateSlot {
    let (name, namespace) = (store.name_any(), store.namespace().unwrap_or_default());
    CertificateSlot {
        secret: format!("{name}-tls"),
        dns_names: vec![
            platform.host(&name, &namespace),
            format!("{name}.{namespace}.svc"),
            format!("{name}.{namespace}"),
            name.clone(),
        ],
        common_name: name,
    }
}
