use std::io::{Read as _, Write as _};
use std::sync::Arc;

use hz_crds::certificates::{CA_CRT, CA_KEY, TLS_CRT, TLS_KEY};
use hz_crds::{CertificateSlot, KeyPair, Timestamp};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use super::{Contents, keep_or_issue};

fn at(date: &str) -> Timestamp {
    format!("{date}T08:00:00Z").parse().unwrap()
}

fn slot(names: &[&str]) -> CertificateSlot {
    CertificateSlot {
        secret: "vault-tls".into(),
        common_name: "vault".into(),
        dns_names: names.iter().map(|name| (*name).to_owned()).collect(),
    }
}

fn kept(pair: &KeyPair) -> Contents {
    let data = [(CA_CRT, &pair.ca_crt), (CA_KEY, &pair.ca_key), (TLS_CRT, &pair.tls_crt), (TLS_KEY, &pair.tls_key)]
        .map(|(key, pem)| (key.to_owned(), pem.clone()));
    Contents { data: data.into(), ..Contents::default() }
}

#[test]
fn what_is_kept_stays_until_the_last_third_of_its_life() {
    let slot = slot(&["vault", "*.vault-pods"]);
    let first = keep_or_issue(&slot, None, at("2026-01-01")).unwrap();
    assert_eq!(keep_or_issue(&slot, Some(&kept(&first)), at("2026-08-30")).unwrap(), first);
    let renewed = keep_or_issue(&slot, Some(&kept(&first)), at("2026-09-03")).unwrap();
    assert_ne!(renewed.tls_crt, first.tls_crt);
    assert_ne!(renewed.tls_key, first.tls_key);
    assert_eq!((&renewed.ca_crt, &renewed.ca_key), (&first.ca_crt, &first.ca_key), "who trusts it notices nothing");
    // Nobody looked for years.
    let late = keep_or_issue(&slot, Some(&kept(&first)), at("2030-01-01")).unwrap();
    assert_eq!(late.ca_crt, first.ca_crt);
}

#[test]
fn an_authority_that_would_end_first_is_replaced() {
    let slot = slot(&["vault"]);
    let first = keep_or_issue(&slot, None, at("2026-01-01")).unwrap();
    let last = keep_or_issue(&slot, Some(&kept(&first)), at("2034-12-20")).unwrap();
    assert_eq!(last.ca_crt, first.ca_crt);
    let next = keep_or_issue(&slot, Some(&kept(&last)), at("2035-09-01")).unwrap();
    assert_ne!(next.ca_crt, first.ca_crt);
}

#[test]
fn new_names_need_a_new_certificate() {
    let first = keep_or_issue(&slot(&["vault"]), None, at("2026-01-01")).unwrap();
    let more = slot(&["vault", "vault.hospital-st-anna.svc"]);
    let next = keep_or_issue(&more, Some(&kept(&first)), at("2026-01-02")).unwrap();
    assert_ne!(next.tls_crt, first.tls_crt);
    assert_eq!(next.ca_crt, first.ca_crt);
    let renamed = CertificateSlot { common_name: "safe".into(), ..slot(&["vault"]) };
    assert_ne!(keep_or_issue(&renamed, Some(&kept(&first)), at("2026-01-02")).unwrap().tls_crt, first.tls_crt);
}

#[test]
fn what_cannot_be_read_or_does_not_fit_is_replaced() {
    let (slot, now) = (slot(&["vault"]), at("2026-01-01"));
    let (good, other) = (keep_or_issue(&slot, None, now).unwrap(), keep_or_issue(&slot, None, now).unwrap());
    let spoiled = |spoil: &dyn Fn(&mut KeyPair)| {
        let mut pair = good.clone();
        spoil(&mut pair);
        keep_or_issue(&slot, Some(&kept(&pair)), now).unwrap()
    };
    for spoil in [
        &(|pair: &mut KeyPair| pair.tls_key = other.tls_key.clone()) as &dyn Fn(&mut KeyPair),
        &|pair| pair.tls_crt = other.tls_crt.clone(),
        &|pair| pair.tls_crt = "no certificate".into(),
        &|pair| pair.tls_key.clear(),
    ] {
        let mended = spoiled(spoil);
        assert_eq!(mended.ca_crt, good.ca_crt);
        assert!(shakes_hands(&mended, "vault"));
    }
    for spoil in [&(|pair: &mut KeyPair| pair.ca_key = other.ca_key.clone()) as &dyn Fn(&mut KeyPair), &|pair| {
        pair.ca_crt = "no certificate".into();
        pair.tls_crt.clear();
    }] {
        // A leaf that is good stays good although nothing more can be issued; else all is made anew.
        assert!(shakes_hands(&spoiled(spoil), "vault"));
    }
    assert!(shakes_hands(&keep_or_issue(&slot, Some(&Contents::default()), now).unwrap(), "vault"));
}

#[test]
fn client_and_server_believe_each_other_and_no_stranger() {
    let name = "a-rather-long-name-of-a-store.hospital-with-a-long-name-too.svc.cluster.local";
    let slot = CertificateSlot {
        common_name: name.into(),
        ..slot(&["vault.hospital-st-anna.svc", "*.vault-pods.hospital-st-anna.svc", name])
    };
    let pair = keep_or_issue(&slot, None, Timestamp::now()).unwrap();
    assert!(shakes_hands(&pair, "vault.hospital-st-anna.svc"));
    assert!(shakes_hands(&pair, "vault-0.vault-pods.hospital-st-anna.svc"));
    assert!(shakes_hands(&pair, name));
    assert!(!shakes_hands(&pair, "safe.hospital-st-anna.svc"));
    let other = keep_or_issue(&slot, None, Timestamp::now()).unwrap();
    assert!(!shakes_hands(
        &KeyPair { ca_crt: other.ca_crt, ..pair.clone() },
        "vault-0.vault-pods.hospital-st-anna.svc"
    ));
    let again = keep_or_issue(&slot, Some(&kept(&pair)), Timestamp::now()).unwrap();
    assert_eq!(again, pair, "a name that had to be cut is no reason to issue again");
}

/// True when a server and a client that both show this certificate believe each other.
fn shakes_hands(pair: &KeyPair, name: &str) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pair.ca_crt.as_bytes()).unwrap()).unwrap();
    let roots = Arc::new(roots);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = || vec![CertificateDer::from_pem_slice(pair.tls_crt.as_bytes()).unwrap()];
    let key = || PrivateKeyDer::from_pem_slice(pair.tls_key.as_bytes()).unwrap();
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider)).build().unwrap();
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(chain(), key())
        .unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain(), key())
        .unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    client.writer().write_all(b"hello").unwrap();
    for _ in 0..4 {
        let (mut there, mut back) = (Vec::new(), Vec::new());
        while client.wants_write() {
            client.write_tls(&mut there).unwrap();
        }
        let mut there = there.as_slice();
        while !there.is_empty() {
            server.read_tls(&mut there).unwrap();
            if server.process_new_packets().is_err() {
                return false;
            }
        }
        while server.wants_write() {
            server.write_tls(&mut back).unwrap();
        }
        let mut back = back.as_slice();
        while !back.is_empty() {
            client.read_tls(&mut back).unwrap();
            if client.process_new_packets().is_err() {
                return false;
            }
        }
    }
    let mut said = [0; 5];
    server.reader().read_exact(&mut said).is_ok() && &said == b"hello"
}
