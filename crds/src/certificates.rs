//! Certificates are issued by the operator, and kept in Secrets. A plan only says where, and for whom.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use crate::Unfit;
use crate::object::{DynamicObject, object};

/// Key of the authority's certificate: what whoever connects has to trust.
pub const CA_CRT: &str = "ca.crt";
/// Key of the authority's private key. No pod gets it.
pub const CA_KEY: &str = "ca.key";
/// Key of the certificate.
pub const TLS_CRT: &str = "tls.crt";
/// Key of the certificate's private key.
pub const TLS_KEY: &str = "tls.key";

/// Where a certificate is kept, and whom it speaks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CertificateSlot {
    /// Name of the Secret, in the namespace of the object that needs it.
    pub secret: String,
    /// Whom it names: how a client that shows it is known.
    pub common_name: String,
    /// Names of the servers that show it; `*.` stands for one part of a name.
    pub dns_names: Vec<String>,
}

/// A certificate, its private key, and the authority that issued it and issues nothing else. All are PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The authority's certificate.
    pub ca_crt: String,
    /// The authority's private key.
    pub ca_key: String,
    /// The certificate.
    pub tls_crt: String,
    /// Its private key.
    pub tls_key: String,
}

impl KeyPair {
    /// The pair as it is kept in the Secret of its slot.
    pub fn secret(&self, slot: &CertificateSlot) -> DynamicObject {
        let data = [(CA_CRT, &self.ca_crt), (CA_KEY, &self.ca_key), (TLS_CRT, &self.tls_crt), (TLS_KEY, &self.tls_key)]
            .map(|(key, pem)| (key, ByteString(pem.clone().into_bytes())));
        object::<Secret>(&slot.secret, json!({ "type": "Opaque", "data": BTreeMap::from(data) }))
    }
}

impl std::fmt::Debug for KeyPair {
    /// Says nothing of what is in it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyPair")
    }
}

/// A volume with a certificate, its key and what to trust; the authority's key stays out of pods. Only the pod's own
/// group may read it.
pub fn volume(name: &str, secret: &str) -> serde_json::Value {
    let items = [CA_CRT, TLS_CRT, TLS_KEY].map(|key| json!({ "key": key, "path": key }));
    json!({ "name": name, "secret": { "secretName": secret, "defaultMode": 0o440, "items": items } })
}

/// Certificates by the Secret that keeps them: what it holds, or, where that is missing or soon ends, what the operator
/// has just issued.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Certificates(BTreeMap<String, KeyPair>);

impl Certificates {
    /// Adds a certificate.
    #[must_use]
    pub fn with(mut self, slot: &CertificateSlot, pair: KeyPair) -> Self {
        self.0.insert(slot.secret.clone(), pair);
        self
    }

    /// The certificate kept there.
    pub fn get(&self, slot: &CertificateSlot) -> Result<&KeyPair, Unfit> {
        self.0
            .get(&slot.secret)
            .ok_or_else(|| Unfit::waiting("spec", format!("a certificate in Secret {}", slot.secret)))
    }
}

impl std::fmt::Debug for Certificates {
    /// Names the Secrets and never what is in them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> CertificateSlot {
        CertificateSlot { secret: "vault-tls".into(), common_name: "vault".into(), dns_names: vec!["vault".into()] }
    }

    fn pair() -> KeyPair {
        let pem = |what: &str| format!("hush {what}");
        KeyPair { ca_crt: pem("1"), ca_key: pem("2"), tls_crt: pem("3"), tls_key: pem("4") }
    }

    #[test]
    fn what_is_not_there_is_waited_for() {
        let certificates = Certificates::default();
        assert!(certificates.get(&slot()).unwrap_err().may_pass());
        assert_eq!(certificates.with(&slot(), pair()).get(&slot()), Ok(&pair()));
    }

    #[test]
    fn no_key_is_ever_printed() {
        let certificates = Certificates::default().with(&slot(), pair());
        assert_eq!(format!("{certificates:?} {:?}", pair()), "{\"vault-tls\"} KeyPair");
    }

    #[test]
    fn pods_do_not_get_the_key_of_the_authority() {
        let kept = pair().secret(&slot());
        assert_eq!(kept.data["data"].as_object().unwrap().len(), 4);
        assert!(!volume("tls", "vault-tls").to_string().contains(CA_KEY));
    }
}
