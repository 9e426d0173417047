//! Encryption: one authority and one certificate for all servers and sentinels of a cache.

use kube::core::ResourceExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::CacheInstance;
use crate::{CertificateSlot, Platform, Unfit};

/// Where pods find the certificate, its key and the authority.
pub(super) const FOLDER: &str = "/etc/hz-tls";
/// Label of the pods that says how they were started: the value is the word in the spec.
pub const LABEL: &str = "hz.hospital/tls";

/// Whether what goes over the network is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Tls {
    /// Everything is: clients, copies, sentinels, the platform's own questions. Clear text is refused.
    #[default]
    Required,
    /// Nothing is. Whoever can listen on the network reads keys, values and passwords.
    Disabled,
}

impl Tls {
    /// The word in manifests and labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::Required => "Required",
            Self::Disabled => "Disabled",
        }
    }

    /// How pods with this label were started. Pods from before there was a choice have none.
    pub fn of_label(label: Option<&str>) -> Self {
        if label == Some(Self::Required.word()) { Self::Required } else { Self::Disabled }
    }

    pub(super) fn is_required(self) -> bool {
        self == Self::Required
    }
}

/// The certificate that all servers and sentinels show: for the Services, for each pod, and for what asks within a pod.
pub fn certificate(cache: &CacheInstance, platform: &Platform) -> CertificateSlot {
    let (name, namespace) = (cache.name_any(), cache.namespace().unwrap_or_default());
    let read_only = format!("{name}-ro");
    let mut dns_names = vec![platform.host(&format!("*.{name}-pods"), &namespace)];
    for service in [&name, &read_only] {
        dns_names.extend([
            platform.host(service, &namespace),
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}"),
            service.clone(),
        ]);
    }
    dns_names.push("localhost".into());
    CertificateSlot { secret: format!("{name}-tls"), common_name: name, dns_names }
}

/// Servers that speak in clear text and servers that do not cannot find each other, so all of them stop in between.
pub(super) fn stays(cache: &CacheInstance, running: Option<Tls>) -> Result<(), Unfit> {
    let wanted = cache.spec.tls;
    match running {
        Some(running) if running != wanted && !cache.spec.suspend => Err(Unfit::refused(
            "spec.tls",
            wanted.word(),
            format!(
                "the servers that run were started as {}, and servers of both sorts do not find each other",
                running.word()
            ),
            "set spec.suspend to true, wait until status.members is empty, and set it to false again: what is not \
             persistent is gone then",
        )),
        _ => Ok(()),
    }
}
