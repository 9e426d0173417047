//! Stores: requests that S3 clients sign, over TLS, trusting this store's own authority and no other.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::{Certificate, Client, RequestBuilder, StatusCode};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};

use super::{Silent, Store};

const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// A bucket is made by three servers together, and by the disks under them.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// An object that is written to see whether one can be.
const PROBE: &str = ".hz-operator/probe";
/// How long a signature is good; clocks of servers differ.
const SIGNED_FOR: Duration = Duration::from_secs(300);

pub async fn buckets(target: &Store, wanted: &[String]) -> Result<(), Silent> {
    let client = client(target)?;
    let credentials = Credentials::new(&*target.access_key, &*target.secret_key);
    for name in wanted {
        let bucket = bucket(target, name)?;
        let look = client.head(bucket.head_bucket(Some(&credentials)).sign(SIGNED_FOR));
        match said(look).await.map_err(|silent| silent.during(&format!("look for bucket {name}")))? {
            StatusCode::NOT_FOUND => {}
            _ => continue,
        }
        let make = client.put(bucket.create_bucket(&credentials).sign(SIGNED_FOR));
        match said(make).await.map_err(|silent| silent.during(&format!("make bucket {name}")))? {
            StatusCode::NOT_FOUND => return Err(Silent::Refused(format!("bucket {name} cannot be made"))),
            _ => tracing::info!(?target, bucket = name, "made a bucket"),
        }
    }
    match wanted.first() {
        Some(name) => write(&client, &bucket(target, name)?, &credentials).await,
        None => Ok(()),
    }
}

/// A store that answers and has no room, or not the servers for its copies, takes no backup: only a write tells.
async fn write(client: &Client, bucket: &Bucket, credentials: &Credentials) -> Result<(), Silent> {
    let put = client.put(bucket.put_object(Some(credentials), PROBE).sign(SIGNED_FOR)).body("written by hz-operator");
    match said(put).await.map_err(|silent| silent.during("write an object"))? {
        StatusCode::NOT_FOUND => Err(Silent::Refused(format!("bucket {} is gone", bucket.name()))),
        _ => Ok(()),
    }
}

fn bucket(target: &Store, name: &str) -> Result<Bucket, Silent> {
    let wrong = |error: String| Silent::Refused(format!("{name} is no name for a bucket: {error}"));
    let endpoint = format!("https://{}:{}", target.host, target.port);
    let endpoint = endpoint.parse().map_err(|_| wrong(format!("{endpoint} is no address")))?;
    Bucket::new(endpoint, UrlStyle::Path, name.to_owned(), target.region.clone())
        .map_err(|error| wrong(error.to_string()))
}

/// Every store has its own authority, so none shares a client with another.
fn client(target: &Store) -> Result<Client, Silent> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let broken = |error: reqwest::Error| Silent::Unreachable(root_of(&error));
    Client::builder()
        .no_proxy()
        .tls_built_in_root_certs(false)
        .add_root_certificate(Certificate::from_pem(target.authority.as_bytes()).map_err(broken)?)
        .resolve(&target.host, SocketAddr::from((target.address, target.port)))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_WITHIN)
        .timeout(ANSWER_WITHIN)
        .build()
        .map_err(broken)
}

/// What was answered, if it is an answer to go on with: done, there already, or not there.
async fn said(request: RequestBuilder) -> Result<StatusCode, Silent> {
    // The URL holds the signature, so it stays out of what is told.
    let answer = request.send().await.map_err(|error| Silent::Unreachable(root_of(&error)))?;
    let status = answer.status();
    let text = answer.text().await.unwrap_or_default();
    let code = between(&text, "<Code>", "</Code>").unwrap_or_default();
    match status {
        status if status.is_success() => Ok(status),
        StatusCode::NOT_FOUND => Ok(status),
        StatusCode::CONFLICT if code == "BucketAlreadyOwnedByYou" => Ok(StatusCode::OK),
        StatusCode::FORBIDDEN => Err(Silent::NotProvisioned(format!("the store does not take our keys: {code}"))),
        StatusCode::SERVICE_UNAVAILABLE => Err(Silent::Unreachable(format!("the store is not ready: {code}"))),
        status => Err(Silent::Refused(format!("the store says {}: {code}", status.as_u16()))),
    }
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split_once(after).map(|(inner, _)| inner)
}

/// The last cause says most: `invalid peer certificate: UnknownIssuer`.
fn root_of(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), root_of)
}

#[cfg(test)]
mod tests {
    use super::between;

    #[test]
    fn the_code_is_taken_out_of_what_the_store_says() {
        let said = "<Error><Code>InvalidAccessKeyId</Code><Message>hush</Message></Error>";
        assert_eq!(between(said, "<Code>", "</Code>"), Some("InvalidAccessKeyId"));
        assert_eq!(between("", "<Code>", "</Code>"), None);
    }
}
