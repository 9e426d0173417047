//! Issues certificates, and keeps those that will do.
//!
//! Every Secret has an authority of its own, so to trust one says nothing of any other. The authority outlives many
//! certificates: whoever trusts it notices no renewal.

use std::time::Duration;

use hz_crds::certificates::{CA_CRT, CA_KEY, TLS_CRT, TLS_KEY};
use hz_crds::{CertificateSlot, KeyPair, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair as Key, KeyUsagePurpose,
};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::{Pem, parse_x509_pem};

use super::secrets::Contents;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long an authority lasts.
const AUTHORITY_LASTS: Duration = DAY.saturating_mul(3650);
/// How long a certificate lasts. In its last third it is renewed.
const LEAF_LASTS: Duration = DAY.saturating_mul(365);
/// Clocks of servers differ: what is issued now is good a little earlier.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60 * 60);
/// The longest common name X.509 takes.
const LONGEST_NAME: usize = 64;

/// What the Secret holds if it will do; otherwise a new certificate, from the authority that is kept if there is one.
pub fn keep_or_issue(slot: &CertificateSlot, kept: Option<&Contents>, now: Timestamp) -> Result<KeyPair, rcgen::Error> {
    let kept = kept.and_then(pair);
    if let Some(pair) = kept.as_ref().filter(|pair| will_do(pair, slot, now).unwrap_or(false)) {
        return Ok(pair.clone());
    }
    let authority = match kept.filter(|pair| authority_lasts(pair, now).unwrap_or(false)) {
        Some(pair) => (pair.ca_crt, pair.ca_key),
        None => authority(slot, now)?,
    };
    leaf(slot, authority, now)
}

/// What the Secret holds. An authority alone is enough to go on with.
fn pair(secret: &Contents) -> Option<KeyPair> {
    let text = |key: &str| secret.data.get(key).cloned();
    Some(KeyPair {
        ca_crt: text(CA_CRT)?,
        ca_key: text(CA_KEY)?,
        tls_crt: text(TLS_CRT).unwrap_or_default(),
        tls_key: text(TLS_KEY).unwrap_or_default(),
    })
}

/// True when the certificate speaks for everybody in the slot, fits its key and authority, and lasts. Nothing if
/// something in it cannot be read.
fn will_do(pair: &KeyPair, slot: &CertificateSlot, now: Timestamp) -> Option<bool> {
    let (authority, certificate) = (read(&pair.ca_crt)?, read(&pair.tls_crt)?);
    let (authority, certificate) = (authority.parse_x509().ok()?, certificate.parse_x509().ok()?);
    let key = Key::from_pem(&pair.tls_key).ok()?;
    let names = names(&certificate);
    let named = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    Some(
        slot.dns_names.iter().all(|name| names.contains(&name.as_str()))
            && named.eq([common_name(slot)])
            && certificate.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
            && certificate.verify_signature(Some(authority.public_key())).is_ok()
            && left(&certificate, now) > lasts(&certificate) / 3
            && left(&authority, now) >= left(&certificate, now),
    )
}

/// True when the authority fits its key and outlasts what it would issue now.
fn authority_lasts(pair: &KeyPair, now: Timestamp) -> Option<bool> {
    let authority = read(&pair.ca_crt)?;
    let authority = authority.parse_x509().ok()?;
    let key = Key::from_pem(&pair.ca_key).ok()?;
    let fits = authority.public_key().subject_public_key.data.as_ref() == key.public_key_raw();
    Some(fits && authority.is_ca() && left(&authority, now) > seconds(LEAF_LASTS))
}

/// A certificate as servers show it.
pub fn der(pem: &str) -> Option<Vec<u8>> {
    read(pem).map(|pem| pem.contents)
}

/// Until when a certificate holds.
pub fn ends(pem: &str) -> Option<Timestamp> {
    let pem = read(pem)?;
    let certificate = pem.parse_x509().ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

fn read(pem: &str) -> Option<Pem> {
    parse_x509_pem(pem.as_bytes()).ok().map(|(_, pem)| pem)
}

fn names<'a>(certificate: &'a X509Certificate<'_>) -> Vec<&'a str> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = names.value.general_names.iter();
    names.filter_map(|name| if let GeneralName::DNSName(name) = name { Some(*name) } else { None }).collect()
}

/// Seconds until it ends, negative when it has ended.
fn left(certificate: &X509Certificate<'_>, now: Timestamp) -> i64 {
    certificate.validity().not_after.timestamp() - now.as_second()
}

fn lasts(certificate: &X509Certificate<'_>) -> i64 {
    certificate.validity().not_after.timestamp() - certificate.validity().not_before.timestamp()
}

fn authority(slot: &CertificateSlot, now: Timestamp) -> Result<(String, String), rcgen::Error> {
    let key = Key::generate()?;
    let mut params = params(&shortened(&format!("authority of {}", slot.common_name)), &[], AUTHORITY_LASTS, now)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn leaf(slot: &CertificateSlot, (ca_crt, ca_key): (String, String), now: Timestamp) -> Result<KeyPair, rcgen::Error> {
    let issuer = Issuer::from_ca_cert_pem(&ca_crt, Key::from_pem(&ca_key)?)?;
    let key = Key::generate()?;
    let mut params = params(common_name(slot), &slot.dns_names, LEAF_LASTS, now)?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let tls_crt = params.signed_by(&key, &issuer)?.pem();
    Ok(KeyPair { ca_crt, ca_key, tls_crt, tls_key: key.serialize_pem() })
}

fn params(name: &str, dns: &[String], last: Duration, now: Timestamp) -> Result<CertificateParams, rcgen::Error> {
    let at = |second: i64| OffsetDateTime::from_unix_timestamp(second).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut params = CertificateParams::new(dns)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = at(now.as_second() - seconds(CLOCKS_DIFFER));
    params.not_after = at(now.as_second() + seconds(last));
    Ok(params)
}

fn common_name(slot: &CertificateSlot) -> &str {
    &slot.common_name[..slot.common_name.floor_char_boundary(LONGEST_NAME)]
}

fn shortened(name: &str) -> String {
    name[..name.floor_char_boundary(LONGEST_NAME)].to_owned()
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "certificates_tests.rs"]
mod tests;
