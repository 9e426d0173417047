//! pgBackRest's configuration (<https://pgbackrest.org/configuration.html>): one for the copies, one for the Job that
//! makes a backup, one for instances that are restored.

use std::fmt::Write as _;

use super::{S3, UriStyle};
use crate::Unfit;
use crate::postgres::patroni::VOLUME;

/// Where a copy and a Job find their configuration and certificates.
pub const FOLDER: &str = "/etc/pgbackrest";
/// Where an instance that is restored finds those of the plan that it comes from.
pub const SOURCE_FOLDER: &str = "/etc/pgbackrest-source";
/// Port on which a copy serves its backups.
pub const PORT: u16 = 8432;
/// Certificate of the authority that signed the store's, in both folders.
pub const STORE_CA: &str = "store-ca.crt";

/// A store and the key to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Access {
    /// Host and port, with TLS.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Bucket.
    pub bucket: String,
    /// Region that requests are signed for.
    pub region: String,
    /// How the bucket is named.
    pub uri_style: UriStyle,
    /// Access key.
    pub key: String,
    /// Its secret.
    pub secret: String,
    /// Certificates (PEM) of the authority that signed the store's; none for those that everybody trusts.
    pub ca: Option<String>,
}

impl std::fmt::Debug for Access {
    /// Never the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "https://{}:{}/{}", self.host, self.port, self.bucket)
    }
}

/// Keys of a Secret with access to a store.
pub const KEY_ID: &str = "access-key-id";
pub(crate) const KEY_SECRET: &str = "secret-access-key";

impl Access {
    /// Access to an external store, from its Secret.
    pub fn external(s3: &S3, secret: &std::collections::BTreeMap<String, String>) -> Result<Self, Unfit> {
        let (host, port) = split(&s3.endpoint).map_err(|possible| {
            Unfit::refused("spec.destination.s3.endpoint", &s3.endpoint, "this is no address of a store", possible)
        })?;
        let field = "spec.destination.s3.secret";
        Ok(Self {
            host,
            port,
            bucket: s3.bucket.clone(),
            region: s3.region.clone(),
            uri_style: s3.uri_style,
            key: needed(secret, KEY_ID, field, &s3.secret)?,
            secret: needed(secret, KEY_SECRET, field, &s3.secret)?,
            ca: secret.get("ca.crt").cloned(),
        })
    }

    /// Access to a store of ours, from the Secret that it made.
    pub fn own(bucket: &str, name: &str, secret: &std::collections::BTreeMap<String, String>) -> Result<Self, Unfit> {
        let field = "spec.destination.objectStore.name";
        let endpoint = needed(secret, "endpoint", field, name)?;
        let (host, port) = split(&endpoint).map_err(|_| Unfit::waiting(field, "the address of the store"))?;
        Ok(Self {
            host,
            port,
            bucket: bucket.to_owned(),
            region: needed(secret, "region", field, name)?,
            uri_style: UriStyle::Path,
            key: needed(secret, KEY_ID, field, name)?,
            secret: needed(secret, KEY_SECRET, field, name)?,
            ca: secret.get("ca.crt").cloned(),
        })
    }
}

fn split(endpoint: &str) -> Result<(String, u16), &'static str> {
    let possible = "write https://host or https://host:port";
    let rest = endpoint.strip_prefix("https://").ok_or(possible)?;
    match rest.split_once(':') {
        None => Ok((rest.to_owned(), 443)),
        Some((host, port)) => Ok((host.to_owned(), port.parse().map_err(|_| possible)?)),
    }
}

fn needed(
    secret: &std::collections::BTreeMap<String, String>,
    key: &str,
    field: &str,
    name: &str,
) -> Result<String, Unfit> {
    let found = secret.get(key).filter(|value| !value.is_empty() && !value.contains(['\n', '\r']));
    found.cloned().ok_or_else(|| {
        let there: Vec<&str> = secret.keys().map(String::as_str).collect();
        let there = if there.is_empty() { "nothing".to_owned() } else { there.join(", ") };
        Unfit::refused(
            field,
            name,
            format!("the Secret has no usable {key}; it has {there}"),
            format!("put {key} into it, on one line"),
        )
    })
}

/// What the three configurations have in common.
pub struct Repository<'a> {
    /// The store.
    pub access: &'a Access,
    /// Folder in the bucket.
    pub path: &'a str,
    /// Passphrase that everything is encrypted with before it leaves the pod.
    pub passphrase: &'a str,
    /// Full backups that are kept.
    pub full: i32,
}

impl Repository<'_> {
    fn global(&self, folder: &str) -> String {
        let Self { access, path, passphrase, full } = self;
        let Access { host, port, bucket, region, uri_style, key, secret, ca } = access;
        let style = uri_style.word();
        let mut text = format!(
            "# Written by hz-operator from a BackupPlan.\n\
             [global]\nrepo1-type=s3\nrepo1-path={path}\nrepo1-s3-endpoint={host}\nrepo1-storage-port={port}\n\
             repo1-s3-bucket={bucket}\nrepo1-s3-region={region}\nrepo1-s3-uri-style={style}\nrepo1-s3-key={key}\n\
             repo1-s3-key-secret={secret}\nrepo1-cipher-type=aes-256-cbc\nrepo1-cipher-pass={passphrase}\n\
             repo1-retention-full={full}\nrepo1-bundle=y\nrepo1-block=y\n\
             compress-type=zst\nlog-level-console=info\nlog-level-file=off\nlock-path=/tmp/pgbackrest\n"
        );
        if ca.is_some() {
            let _ = writeln!(text, "repo1-storage-ca-file={folder}/{STORE_CA}");
        }
        text
    }

    /// For the copies: they send their log, and serve what a backup copies to whoever has a certificate of the plan.
    pub fn for_copies(&self, common_name: &str) -> String {
        let global = self.global(FOLDER);
        format!(
            "{global}tls-server-address=0.0.0.0\ntls-server-port={PORT}\ntls-server-auth={common_name}=main\n\
             tls-server-cert-file={FOLDER}/tls.crt\ntls-server-key-file={FOLDER}/tls.key\n\
             tls-server-ca-file={FOLDER}/ca.crt\n\n\
             [main]\npg1-path={VOLUME}/pgdata\npg1-socket-path=/var/run/postgresql\n"
        )
    }

    /// For the Job: it asks the copies, a replica for the data if there is one.
    pub fn for_job(&self, hosts: &[String]) -> String {
        let mut text = self.global(FOLDER);
        text.push_str("start-fast=y\nbackup-standby=prefer\nprocess-max=2\n\n[main]\n");
        for (number, host) in (1..).zip(hosts) {
            let _ = write!(
                text,
                "pg{number}-host={host}\npg{number}-host-type=tls\npg{number}-host-port={PORT}\n\
                 pg{number}-host-cert-file={FOLDER}/tls.crt\npg{number}-host-key-file={FOLDER}/tls.key\n\
                 pg{number}-host-ca-file={FOLDER}/ca.crt\npg{number}-path={VOLUME}/pgdata\n\
                 pg{number}-socket-path=/var/run/postgresql\n"
            );
        }
        text
    }

    /// For an instance that is restored: it only reads.
    pub fn for_restore(&self) -> String {
        let global = self.global(SOURCE_FOLDER);
        // A restore is many small requests, and mostly waits for the answers.
        format!("{global}process-max=4\n\n[main]\npg1-path={VOLUME}/pgdata\n")
    }
}
