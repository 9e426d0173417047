//! Whether a store keeps what was written: an object is written as backups are and then attacked over S3, with the key of the
//! backups and the rights that it has. Only what can be read afterwards counts; what the store answers to an attack does not.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hz_crds::Timestamp;
use hz_crds::backup::conf::Access;
use hz_crds::backup::{Kept, UriStyle};
use reqwest::{Certificate, Client, StatusCode};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};

use super::Silent;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
const SIGNED_FOR: Duration = Duration::from_secs(300);
const WRITTEN: &str = "hz-operator wrote this to see whether it is kept\n";
const OVER: &str = "written over\n";
/// The header by which a key with the right to do so deletes what is locked in mode GOVERNANCE.
const BYPASS: &str = "x-amz-bypass-governance-retention";

/// A store under attack.
struct Attack {
    client: Client,
    bucket: Bucket,
    credentials: Credentials,
    key: String,
}

/// Tries; `address` is where the store is if its name need not be asked for.
pub async fn prove(access: &Access, address: Option<IpAddr>) -> Result<(Kept, String), Silent> {
    let attack = Attack {
        client: client(access, address)?,
        bucket: bucket(access)?,
        credentials: Credentials::new(&*access.key, &*access.secret),
        key: format!(".hz-operator/kept-{}", Timestamp::now().as_millisecond()),
    };
    let bucket = &access.bucket;
    let no = |what: &str| {
        let how = "give the bucket object lock with a default retention in mode COMPLIANCE";
        Ok((Kept::NotEnforced, format!("{what} in bucket {bucket}, with the key of the backups: {how}")))
    };
    let Some(version) = attack.write(WRITTEN).await? else {
        attack.delete(None, false).await?; // nothing is to be left of it
        return no("what is written over or deleted is gone, since no versions are kept");
    };
    for (what, bypass) in [("an object could be deleted", false), ("the lock of an object could be bypassed", true)] {
        attack.delete(Some(&version), bypass).await?;
        if !attack.is_whole(&version).await? {
            return no(what);
        }
    }
    let over = attack.write(OVER).await?;
    attack.delete(None, false).await?;
    if over.as_deref() == Some(version.as_str()) || !attack.is_whole(&version).await? {
        return no("an object could be written over");
    }
    let kept = "could not be deleted, nor its lock bypassed, nor be written over, with the key of the backups";
    Ok((Kept::Enforced, format!("an object written to bucket {bucket} {kept}")))
}

impl Attack {
    /// Writes the object as backups are written: without a lock of its own. Says under which version.
    async fn write(&self, body: &'static str) -> Result<Option<String>, Silent> {
        let url = self.bucket.put_object(Some(&self.credentials), &self.key).sign(SIGNED_FOR);
        let answer = self.client.put(url).body(body).send().await.map_err(|error| lost(&error))?;
        let version = answer.headers().get("x-amz-version-id").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let status = answer.status();
        let text = answer.text().await.unwrap_or_default();
        match status.is_success() {
            // A bucket whose versions are suspended gives all of them this one.
            true => Ok(version.filter(|version| version != "null")),
            false => Err(refused("write an object", status, &text)),
        }
    }

    /// Deletes a version, or puts a mark in front of all. What the store says to it does not count, unless it is busy.
    async fn delete(&self, version: Option<&str>, bypass: bool) -> Result<(), Silent> {
        let mut action = self.bucket.delete_object(Some(&self.credentials), &self.key);
        if let Some(version) = version {
            action.query_mut().insert("versionId", version.to_owned());
        }
        if bypass {
            action.headers_mut().insert(BYPASS, "true");
        }
        let request = self.client.delete(action.sign(SIGNED_FOR));
        let request = if bypass { request.header(BYPASS, "true") } else { request };
        let answer = request.send().await.map_err(|error| lost(&error))?;
        let status = answer.status();
        match status.is_server_error() {
            // An attack that was not made proves nothing.
            true => Err(refused("delete an object", status, &answer.text().await.unwrap_or_default())),
            false => Ok(()),
        }
    }

    /// Whether what was written can still be read.
    async fn is_whole(&self, version: &str) -> Result<bool, Silent> {
        let mut action = self.bucket.get_object(Some(&self.credentials), &self.key);
        action.query_mut().insert("versionId", version.to_owned());
        let answer = self.client.get(action.sign(SIGNED_FOR)).send().await.map_err(|error| lost(&error))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| lost(&error))?;
        match status {
            status if status.is_success() => Ok(text == WRITTEN),
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Ok(false),
            status => Err(refused("read an object", status, &text)),
        }
    }
}

fn bucket(access: &Access) -> Result<Bucket, Silent> {
    let wrong = |error: String| Silent::Refused(format!("{access:?} is no address of a store: {error}"));
    let endpoint = format!("https://{}:{}", access.host, access.port);
    let endpoint = endpoint.parse().map_err(|_| wrong("it cannot be read".to_owned()))?;
    let style = match access.uri_style {
        UriStyle::Path => UrlStyle::Path,
        UriStyle::Host => UrlStyle::VirtualHost,
    };
    Bucket::new(endpoint, style, access.bucket.clone(), access.region.clone()).map_err(|error| wrong(error.to_string()))
}

/// Trusts the store's own authority and no other, if the plan names one.
fn client(access: &Access, address: Option<IpAddr>) -> Result<Client, Silent> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_WITHIN)
        .timeout(ANSWER_WITHIN);
    if let Some(authority) = &access.ca {
        let authority = Certificate::from_pem_bundle(authority.as_bytes()).map_err(|error| lost(&error))?;
        builder = authority
            .into_iter()
            .fold(builder.tls_built_in_root_certs(false), reqwest::ClientBuilder::add_root_certificate);
    }
    if let Some(address) = address {
        builder = builder.resolve(&access.host, SocketAddr::from((address, access.port)));
    }
    builder.build().map_err(|error| lost(&error))
}

/// The URL holds the signature, so it stays out of what is told; the last cause says most.
fn lost(error: &reqwest::Error) -> Silent {
    fn root_of(error: &dyn std::error::Error) -> String {
        error.source().map_or_else(|| error.to_string(), root_of)
    }
    Silent::Unreachable(match std::error::Error::source(error) {
        Some(source) => root_of(source),
        None => "the store did not answer as HTTP does".to_owned(),
    })
}

fn refused(act: &str, status: StatusCode, text: &str) -> Silent {
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map_or("", |(code, _)| code);
    Silent::Refused(format!("failed to {act}: the store says {}: {code}", status.as_u16()))
}
