//! Checking every byte of a bundle, and naming what is wrong: which blob, where, and whose it is.

mod archive_walk;
mod folder_walk;
mod hashing;

pub(crate) use hashing::hash_all;

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::{Manifest, ManifestError, Use};
use crate::signature::{self, SignatureError, Signed, VerifyingKey};

/// What a check found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The bundle.
    pub path: PathBuf,
    /// Its version, if its manifest could be read.
    pub version: Option<String>,
    /// The signature, if it holds.
    pub signed: Option<Signed>,
    /// Blobs that were hashed.
    pub blobs: usize,
    /// Bytes that were hashed.
    pub bytes: u64,
    /// Everything that is wrong, in the order of the archive.
    pub faults: Vec<Fault>,
}

impl Report {
    /// Whether every byte is as it was signed.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty() && self.signed.is_some()
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// What sort of wrong.
    pub problem: Problem,
    /// Which part: `blob sha256:…`, `hz-bundle.json`, `index.json`, `the end of the archive`.
    pub subject: String,
    /// Where that part begins in the archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Its size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Components and files that need it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<Use>,
    /// Expected and found.
    pub detail: String,
}

/// Sorts of wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Problem {
    /// Signature missing, by another key, or not over these bytes.
    Signature,
    /// The manifest does not parse or does not add up.
    Manifest,
    /// Bytes differ from those that were signed.
    WrongBytes,
    /// The tar header or padding of a file differs from what it must be.
    WrongFrame,
    /// Named in the manifest, but not there.
    Missing,
    /// There, but not named in the manifest.
    Extra,
    /// The archive ends too early.
    Truncated,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.subject)?;
        if let Some(offset) = self.offset {
            write!(f, " at byte {offset}")?;
        }
        if let Some(size) = self.size {
            write!(f, " ({size} bytes)")?;
        }
        write!(f, ": {}", self.detail)?;
        if !self.users.is_empty() {
            const SHOWN: usize = 6;
            let names: Vec<_> = self.users.iter().take(SHOWN).map(Use::to_string).collect();
            write!(f, "; needed by {}", names.join(", "))?;
            if self.users.len() > SHOWN {
                write!(f, " and {} more", self.users.len() - SHOWN)?;
            }
        }
        Ok(())
    }
}

/// Tells how many bytes of how many are hashed. Called from several threads.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// Checks a bundle, archive or laid-out folder: the signature first, then every blob, then that
/// nothing is missing and nothing is extra. An `Err` means that it could not be looked at, or is no
/// bundle that we know; what is wrong with a bundle is in the report.
pub fn verify(path: impl AsRef<Path>, key: &VerifyingKey, progress: Progress<'_>) -> Result<Report> {
    let path = path.as_ref();
    let meta = fs::metadata(path).map_err(|source| Error::Open { path: path.into(), source })?;
    if meta.is_dir() { folder_walk::verify(path, key, progress) } else { archive_walk::verify(path, key, progress) }
}

/// What is known once the manifest and its signature are read.
struct Head {
    manifest: Option<Manifest>,
    signed: Option<Signed>,
    faults: Vec<Fault>,
}

/// Judges the manifest and its signature.
fn judge_head(path: &Path, bytes: &[u8], signature: Option<&[u8]>, key: &VerifyingKey) -> Result<Head> {
    let text = signature.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let verdict = key.verify(bytes, text.as_deref());
    let mut faults = Vec::new();
    let manifest = match Manifest::parse(bytes) {
        Ok(manifest) => Some(manifest),
        // Newer and well signed is not damage: the program is too old.
        Err(source @ ManifestError::Newer { .. }) if verdict.is_ok() => {
            return Err(Error::Manifest { path: path.into(), source });
        }
        Err(error) => {
            let detail = format!("{error}; nothing after it can be judged");
            faults.push(Fault { problem: Problem::Manifest, ..fault("hz-bundle.json", detail) });
            None
        }
    };
    let signed = match verdict {
        Ok(signed) => Some(signed),
        Err(error) => {
            let subject = match error {
                SignatureError::Wrong => "hz-bundle.json",
                _ => "hz-bundle.json.minisig",
            };
            faults.push(Fault { problem: Problem::Signature, ..fault(subject, error.to_string()) });
            None
        }
    };
    if signed.is_some() && !signature.is_some_and(signature::is_as_written) {
        let detail = "the part of it that is not signed was changed";
        faults.push(Fault { problem: Problem::Signature, ..fault("hz-bundle.json.minisig", detail) });
    }
    if let (Some(manifest), Some(good)) = (&manifest, &signed)
        && good.comment != signed_comment(&manifest.version)
    {
        let detail =
            format!("its signed comment is `{}`, the manifest is of version {}", good.comment, manifest.version);
        faults.push(Fault { problem: Problem::Signature, ..fault("hz-bundle.json.minisig", detail) });
    }
    Ok(Head { manifest, signed, faults })
}

/// The comment that is signed with the manifest.
pub(crate) fn signed_comment(version: &str) -> String {
    format!("hz-bundle {version}")
}

fn fault(subject: impl Into<String>, detail: impl Into<String>) -> Fault {
    Fault {
        problem: Problem::WrongBytes,
        subject: subject.into(),
        offset: None,
        size: None,
        users: Vec::new(),
        detail: detail.into(),
    }
}

fn blob_fault(manifest: &Manifest, digest: &Digest, problem: Problem, detail: impl Into<String>) -> Fault {
    Fault { problem, users: manifest.users_of(digest), ..fault(format!("blob {digest}"), detail) }
}
