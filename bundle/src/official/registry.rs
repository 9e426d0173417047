//! Images out of a container registry, as they are: same digest, same bytes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::{Downloader, link_or_copy};
use crate::build::Packed;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::Descriptor;

const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// A manifest or an index, as far as it matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    media_type: Option<String>,
    #[serde(default)]
    manifests: Vec<Child>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Child {
    digest: Digest,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

/// Pulls an image by digest into a folder of blobs.
pub fn pull(downloader: &Downloader, image: &str, digest: &Digest, blobs: &Path, say: &dyn Fn(&str)) -> Result<Packed> {
    let base = base_url(image);
    say(&format!("pull {image}@{digest}"));
    let mut source = Source { downloader, base, token: None };
    let (mut digest, mut bytes) = (digest.clone(), source.manifest(digest)?);
    let mut document = parse(image, &bytes)?;
    if !document.manifests.is_empty() {
        let ours =
            |child: &&Child| child.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture == "amd64");
        let Some(child) = document.manifests.iter().find(ours) else {
            return Err(failed(image, "it has no manifest for linux/amd64"));
        };
        digest = child.digest.clone();
        bytes = source.manifest(&digest)?;
        document = parse(image, &bytes)?;
    }
    let Some(config) = document.config else {
        return Err(failed(image, "its manifest has no configuration"));
    };
    let media_type = document.media_type.unwrap_or_else(|| crate::manifest::MEDIA_MANIFEST.into());
    let mut all = vec![Descriptor { digest: digest.clone(), size: bytes.len() as u64, media_type }];
    let keep = |digest: &Digest| blobs.join(digest.hex());
    fs::write(keep(&digest), &bytes).map_err(Error::io(format!("keep the manifest of {image}")))?;
    for blob in std::iter::once(config).chain(document.layers) {
        if all.iter().any(|known| known.digest == blob.digest) {
            continue;
        }
        let file = source.blob(&blob.digest, say)?;
        let found = fs::metadata(&file).map_err(Error::io(format!("read {}", file.display())))?.len();
        if found != blob.size {
            return Err(failed(
                image,
                &format!("blob {} has {found} bytes, its manifest says {}", blob.digest, blob.size),
            ));
        }
        link_or_copy(&file, &keep(&blob.digest)).map_err(Error::io(format!("keep blob {} of {image}", blob.digest)))?;
        all.push(blob);
    }
    Ok(Packed { manifest: Some(digest), blobs: all, files: Vec::new(), layer: None })
}

struct Source<'a> {
    downloader: &'a Downloader,
    base: String,
    token: Option<String>,
}

impl Source<'_> {
    fn manifest(&mut self, digest: &Digest) -> Result<Vec<u8>> {
        let url = format!("{}/manifests/{digest}", self.base);
        let bytes = match self.downloader.text(&url, ACCEPT, self.token.as_deref())? {
            Ok(bytes) => bytes,
            Err(challenge) => {
                let token = self.login(&url, &challenge)?;
                let bytes = self
                    .downloader
                    .text(&url, ACCEPT, Some(&token))?
                    .map_err(|_| failed(&url, "it takes no anonymous token"))?;
                self.token = Some(token);
                bytes
            }
        };
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(failed(&url, &format!("its checksum is wrong: expected {digest}, found {found}")));
        }
        Ok(bytes)
    }

    fn blob(&self, digest: &Digest, say: &dyn Fn(&str)) -> Result<std::path::PathBuf> {
        let url = format!("{}/blobs/{digest}", self.base);
        self.downloader.get(&url, digest, self.token.as_deref(), say)
    }

    /// An anonymous token, the way the server's challenge asks for it.
    fn login(&self, url: &str, challenge: &str) -> Result<String> {
        #[derive(Deserialize)]
        struct Token {
            #[serde(alias = "access_token")]
            token: String,
        }
        let fields = challenge_fields(challenge);
        let realm = fields.get("realm").ok_or_else(|| failed(url, "it wants a login that is not by token"))?;
        let query: Vec<String> =
            ["service", "scope"].iter().filter_map(|name| Some(format!("{name}={}", fields.get(*name)?))).collect();
        let login = format!("{realm}?{}", query.join("&"));
        let bytes = self
            .downloader
            .text(&login, "application/json", None)?
            .map_err(|_| failed(&login, "it wants a password"))?;
        let token: Token = serde_json::from_slice(&bytes).map_err(|e| failed(&login, &e.to_string()))?;
        Ok(token.token)
    }
}

/// `Bearer realm="…",service="…"` as a map.
fn challenge_fields(challenge: &str) -> BTreeMap<String, String> {
    let Some(rest) = challenge.strip_prefix("Bearer ") else {
        return BTreeMap::new();
    };
    rest.split("\",")
        .filter_map(|field| field.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().trim_matches('"').to_owned()))
        .collect()
}

/// `host/a/b` → `https://host/v2/a/b`; a registry on this machine may speak plain HTTP.
fn base_url(image: &str) -> String {
    let (host, repository) = image.split_once('/').unwrap_or((image, ""));
    let scheme = if host.starts_with("127.0.0.1:") || host.starts_with("localhost:") { "http" } else { "https" };
    format!("{scheme}://{host}/v2/{repository}")
}

fn parse(image: &str, bytes: &[u8]) -> Result<Document> {
    serde_json::from_slice(bytes).map_err(|e| failed(image, &format!("its manifest does not parse: {e}")))
}

fn failed(url: &str, reason: &str) -> Error {
    Error::Download { url: url.into(), reason: reason.into() }
}
