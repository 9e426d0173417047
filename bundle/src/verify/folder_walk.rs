//! Checking a folder that a bundle was laid out in, such as `/var/lib/hzctl/bundle`.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::{Fault, Problem, Progress, Report, blob_fault, fault, hashing, judge_head};
use crate::archive::{MANIFEST_NAME, SIGNATURE_NAME};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::Descriptor;
use crate::signature::VerifyingKey;

pub fn verify(root: &Path, key: &VerifyingKey, progress: Progress<'_>) -> Result<Report> {
    let read = |name: &str| match fs::read(root.join(name)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Open { path: root.join(name), source }),
    };
    let Some(bytes) = read(MANIFEST_NAME)? else {
        return Err(Error::NotABundle { path: root.into(), reason: format!("the folder has no {MANIFEST_NAME}") });
    };
    let signature = read(SIGNATURE_NAME)?;
    let head = judge_head(root, &bytes, signature.as_deref(), key)?;
    let mut report =
        Report { path: root.into(), version: None, signed: head.signed, blobs: 0, bytes: 0, faults: head.faults };
    let Some(manifest) = head.manifest else {
        return Ok(report);
    };
    report.version = Some(manifest.version.clone());

    let mut there: Vec<&Descriptor> = Vec::new();
    for blob in manifest.blobs() {
        match fs::metadata(root.join(blob.digest.blob_path())) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                report.faults.push(blob_fault(&manifest, &blob.digest, Problem::Missing, "it is missing"));
            }
            Err(source) => {
                return Err(Error::Open { path: root.join(blob.digest.blob_path()), source });
            }
            Ok(meta) if meta.len() != blob.size => {
                let detail = format!("it has {} bytes, expected {}", meta.len(), blob.size);
                report.faults.push(blob_fault(&manifest, &blob.digest, Problem::WrongBytes, detail));
            }
            Ok(_) => there.push(blob),
        }
    }
    report.faults.extend(extra(root, &manifest.blobs())?);

    let total = there.iter().map(|blob| blob.size).sum();
    let digests = hashing::hash_all(&there, total, progress, |blob| {
        let path = root.join(blob.digest.blob_path());
        File::open(&path).map_err(|source| Error::Open { path, source })
    })?;
    for (blob, digest) in there.iter().zip(digests) {
        if blob.digest != digest {
            let detail = format!("its bytes were changed: expected {}, found {digest}", blob.digest);
            report.faults.push(blob_fault(&manifest, &blob.digest, Problem::WrongBytes, detail));
        }
    }
    report.blobs = there.len();
    report.bytes = total;
    Ok(report)
}

/// Files among the blobs that no component needs.
fn extra(root: &Path, wanted: &[&Descriptor]) -> Result<Vec<Fault>> {
    let folder = root.join("blobs/sha256");
    let listing = match fs::read_dir(&folder) {
        Ok(listing) => listing,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => {
            return Err(Error::Open { path: folder, source });
        }
    };
    let mut faults = Vec::new();
    for item in listing {
        let name = item.map_err(|source| Error::Open { path: folder.clone(), source })?.file_name();
        let name = name.to_string_lossy();
        let known = Digest::from_hex(&name).is_some_and(|digest| wanted.iter().any(|blob| blob.digest == digest));
        // Unfinished transfers carry a suffix and are nobody's fault.
        if !known && !name.starts_with('.') && !name.contains('.') {
            let subject = format!("blob sha256:{name}");
            let detail = "it is not named in hz-bundle.json";
            faults.push(Fault { problem: Problem::Extra, ..fault(subject, detail) });
        }
    }
    faults.sort_by(|a, b| a.subject.cmp(&b.subject));
    Ok(faults)
}
