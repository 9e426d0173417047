//! A bundle as a folder: `hz-bundle.json`, its signature, and the blobs that a role needs.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use crate::archive::{MANIFEST_NAME, SIGNATURE_NAME};
use crate::bundle::Bundle;
use crate::component::Role;
use crate::digest::{Digest, HashingWriter};
use crate::error::{Error, Result};
use crate::manifest::Descriptor;

/// What laying out did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LaidOut {
    /// Blobs that were written.
    pub written: usize,
    /// Blobs that were there already, with the right bytes.
    pub kept: usize,
    /// Bytes that were written.
    pub bytes: u64,
}

impl Bundle {
    /// Writes the blobs that a role needs (all without a role) into a folder, checking each on its
    /// way. Goes on with what is there: right blobs are kept, wrong ones replaced. The manifest
    /// comes last, so a folder that has one is complete.
    pub fn lay_out(&self, folder: &Path, role: Option<Role>, progress: &dyn Fn(u64, u64)) -> Result<LaidOut> {
        let act = || format!("lay the bundle out in {}", folder.display());
        fs::create_dir_all(folder.join("blobs/sha256")).map_err(Error::io(act()))?;
        let blobs = match role {
            Some(role) => self.manifest().blobs_for(role),
            None => self.manifest().blobs(),
        };
        let total = blobs.iter().map(|blob| blob.size).sum();
        let mut done = 0;
        let mut result = LaidOut::default();
        for blob in blobs {
            if is_there(folder, blob) {
                result.kept += 1;
            } else {
                self.lay_out_blob(folder, blob)?;
                result.written += 1;
                result.bytes += blob.size;
            }
            done += blob.size;
            progress(done, total);
        }
        if let Some(signature) = self.signature() {
            put(&folder.join(SIGNATURE_NAME), signature.as_bytes()).map_err(Error::io(act()))?;
        }
        put(&folder.join(MANIFEST_NAME), self.manifest_bytes()).map_err(Error::io(act()))?;
        Ok(result)
    }

    fn lay_out_blob(&self, folder: &Path, blob: &Descriptor) -> Result<()> {
        let target = folder.join(blob.digest.blob_path());
        let part = target.with_extension("part");
        let act = || format!("write {}", target.display());
        let mut reader = self.blob(&blob.digest)?;
        let mut out = HashingWriter::new(File::create(&part).map_err(Error::io(act()))?);
        io::copy(&mut reader, &mut out).map_err(Error::io(act()))?;
        let (file, digest, _) = out.finish();
        if digest != blob.digest {
            let _ = fs::remove_file(&part); // the damage is what gets told
            let users: Vec<_> = self.manifest().users_of(&blob.digest).iter().map(ToString::to_string).collect();
            return Err(Error::WrongBytes {
                path: self.path().into(),
                what: format!("blob {} of {}", blob.digest, users.join(", ")),
                reason: format!("its bytes hash to {digest}"),
            });
        }
        file.sync_all().and_then(|()| fs::rename(&part, &target)).map_err(Error::io(act()))
    }
}

fn is_there(folder: &Path, blob: &Descriptor) -> bool {
    let Ok(file) = File::open(folder.join(blob.digest.blob_path())) else {
        return false;
    };
    file.metadata().is_ok_and(|meta| meta.len() == blob.size)
        && Digest::of_reader(file).is_ok_and(|(digest, _)| digest == blob.digest)
}

/// A small file, whole or not at all.
fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut file = File::create(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&part, path)
}
