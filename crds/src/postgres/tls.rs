//! Connections to a database server are encrypted, with a certificate from an authority of its own.

use k8s_openapi::jiff::Timestamp;
use kube::core::ResourceExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{PostgresInstance, PostgresInstanceSpec, REPLICATION, REWIND, SUPERUSER, Settings};
use crate::certificates::{CA_CRT, TLS_CRT, TLS_KEY};
use crate::conditions::Verdict;
use crate::{CertificateSlot, KeyPair, Platform};

/// The condition that whoever speaks to the server does so encrypted, and can tell that it is the server.
pub const ENCRYPTED: &str = "Encrypted";
/// Where pods find their certificate, its key, and what to trust.
pub const FOLDER: &str = "/etc/hz/tls";
/// Label of pods that offer TLS. Those made before it was there lack it.
pub const OFFERED: &str = "hz.hospital/tls";
/// How a tenant's client is to look at the server: the name must be right, and the authority.
pub const SSLMODE: &str = "verify-full";

/// Whether connections must be encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Tls {
    /// Who does not encrypt is not let in.
    #[default]
    Required,
    /// TLS is offered, and clear text is let in too: for programs that cannot do better yet.
    Preferred,
    /// Copies made before there was TLS are being replaced. No manifest says this: see [`introducing`].
    #[serde(skip)]
    Introduced,
}

/// The instance as it is to be while pods run that were made before there was TLS: those cannot offer it, so nobody may
/// insist on it yet, and tenants are not told of it. When the last one is replaced, the instance is what its spec says.
pub fn introducing(instance: &PostgresInstance) -> PostgresInstance {
    let mut instance = instance.clone();
    instance.spec.tls = Tls::Introduced;
    instance
}

/// Secret with the certificate.
pub fn secret(instance: &str) -> String {
    format!("{instance}-tls")
}

/// The certificate that the copies show, and the poolers before them. Pods stand in it by a wildcard, so that one more
/// copy needs no other certificate.
pub fn certificate(instance: &PostgresInstance, platform: &Platform) -> CertificateSlot {
    let (name, namespace) = (instance.name_any(), instance.namespace().unwrap_or_default());
    let services = ["", "-ro", "-pooler", "-pooler-ro"].map(|end| format!("{name}{end}"));
    let mut dns_names: Vec<String> = services
        .iter()
        .flat_map(|service| {
            [
                platform.host(service, &namespace),
                format!("{service}.{namespace}.svc"),
                format!("{service}.{namespace}"),
                service.clone(),
            ]
        })
        .collect();
    let pods = format!("*.{name}-pods");
    dns_names.extend([
        platform.host(&pods, &namespace),
        format!("{pods}.{namespace}.svc"),
        format!("{pods}.{namespace}"),
    ]);
    CertificateSlot { secret: secret(&name), common_name: name, dns_names }
}

/// Settings of a copy that are its pod's and no hospital's: files that only a pod which mounts them can read.
pub fn parameters() -> Value {
    json!({
        "ssl": "on",
        "ssl_cert_file": format!("{FOLDER}/{TLS_CRT}"),
        "ssl_key_file": format!("{FOLDER}/{TLS_KEY}"),
        "ssl_ca_file": format!("{FOLDER}/{CA_CRT}"),
        "ssl_min_protocol_version": "TLSv1.2",
    })
}

/// How copies look at each other. By addresses, which no certificate bears, so it is the authority that counts: it has
/// issued nothing but this certificate.
pub(super) fn among_copies(tls: Tls) -> Value {
    let mode = if tls == Tls::Introduced { "prefer" } else { "verify-ca" };
    let look = json!({ "sslmode": mode, "sslrootcert": format!("{FOLDER}/{CA_CRT}") });
    json!({ "replication": look, "rewind": look })
}

/// Who is let in, from where, and how. Patroni itself, and whoever is in the pod, comes by the loopback. Into a sealed
/// instance come those alone whose passwords nobody but the operator has: what was restored knows the passwords of the
/// original, and its users must not get in with them, whatever the network lets through.
pub(super) fn pg_hba(spec: &PostgresInstanceSpec) -> Value {
    let host = if spec.tls == Tls::Required { "hostssl" } else { "host" };
    let owners = spec.databases.iter().map(|database| database.name.as_str());
    let who = match spec.sealed {
        // Quoted, so that no name is taken for a word of the file, such as `all`.
        true => [SUPERUSER, REWIND]
            .into_iter()
            .chain(owners)
            .map(|user| format!("\"{user}\""))
            .collect::<Vec<_>>()
            .join(","),
        false => "all".to_owned(),
    };
    let mut lines = vec![
        format!("local all {SUPERUSER} peer"),
        format!("host replication {REPLICATION} 127.0.0.1/32 scram-sha-256"),
        "host all all 127.0.0.1/32 scram-sha-256".to_owned(),
        format!("{host} replication {REPLICATION} all scram-sha-256"),
        format!("{host} all {who} all scram-sha-256"),
    ];
    if spec.tls == Tls::Required {
        // Refused in any case; this way the server says why.
        lines.push("hostnossl all all all reject".to_owned());
    }
    json!(lines)
}

/// What a tenant needs to know, beside its password; nothing while not every copy offers TLS.
pub(super) fn for_tenants(tls: Tls, pair: &KeyPair) -> Vec<(&'static str, String)> {
    match tls {
        Tls::Introduced => Vec::new(),
        Tls::Required | Tls::Preferred => vec![(CA_CRT, pair.ca_crt.clone()), ("sslmode", SSLMODE.to_owned())],
    }
}

/// The end of a tenant's URI.
pub(super) fn query(tls: Tls) -> String {
    if tls == Tls::Introduced { String::new() } else { format!("?sslmode={SSLMODE}") }
}

/// What was seen of the certificate that the copies show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Encryption {
    /// Nobody looked in this pass; what the status says stays.
    #[default]
    NotSeen,
    /// There are copies that were made before there was TLS.
    Introducing(Vec<String>),
    /// Every copy shows the certificate that is kept, which holds until then.
    Kept(Timestamp),
    /// A copy shows another one, or none.
    Other(String),
    /// A copy could not be looked at.
    Unreached(String),
}

impl Encryption {
    /// The verdict of [`ENCRYPTED`]; nothing if what the status says stays.
    pub fn verdict(&self, instance: &PostgresInstance, settings: &Settings) -> Option<Verdict> {
        if instance.spec.suspend {
            return Some(Verdict::unknown("Suspended", "all copies are stopped"));
        }
        Some(match self {
            Self::NotSeen => return None,
            Self::Introducing(pods) => Verdict::no(
                "Introducing",
                format!("copies made before there was TLS are being replaced: {}", pods.join(", ")),
            ),
            Self::Other(what) => Verdict::no("OtherCertificate", what.clone()),
            Self::Unreached(what) => Verdict::unknown("NotSeen", what.clone()),
            Self::Kept(end) => {
                let end = end.strftime("%Y-%m-%d");
                let kept = format!("the certificate in Secret {} holds until {end}", secret(&instance.name_any()));
                let (reason, verdict) = match instance.spec.tls {
                    Tls::Preferred => {
                        let said = format!("clear text is let in, as spec.tls says; {kept}");
                        ("Preferred", Verdict::no("Preferred", said))
                    }
                    Tls::Required | Tls::Introduced => {
                        ("Required", Verdict::yes("Required", format!("who does not encrypt is not let in; {kept}")))
                    }
                };
                // Who is let in is a setting: it is told when it is in force, and stays told while others are changed.
                if *settings != Settings::InForce && !is_told(instance, reason) {
                    return None;
                }
                verdict
            }
        })
    }
}

/// Whether the status says this of the spec as it is now.
fn is_told(instance: &PostgresInstance, reason: &str) -> bool {
    instance.status.iter().flat_map(|status| &status.conditions).any(|condition| {
        condition.type_ == ENCRYPTED
            && condition.reason == reason
            && condition.observed_generation == instance.metadata.generation
    })
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
