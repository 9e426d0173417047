//! The archive: written beside its place, signed, and moved there whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{Cache, Event, Made, Options, Watch};
use crate::archive::{MANIFEST_NAME, OCI_INDEX_NAME, OCI_LAYOUT, OCI_LAYOUT_NAME, SIGNATURE_NAME, Writer};
use crate::bundle::Bundle;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::verify;

/// Whether the archive that is there holds exactly this manifest, signed by our key, with every byte right.
pub fn is_current(options: &Options<'_>, manifest: &Manifest, watch: Watch<'_>) -> Result<bool> {
    let Ok(bundle) = Bundle::open(&options.output) else {
        return Ok(false);
    };
    if bundle.manifest_bytes() != manifest.to_bytes() {
        return Ok(false);
    }
    let progress = |done, total| watch(Event::Check { done, total });
    let report = verify::verify(&options.output, &options.key.verifying(), &progress);
    Ok(report.is_ok_and(|report| report.is_sound()))
}

/// Writes the archive.
pub fn archive(
    options: &Options<'_>,
    manifest: &Manifest,
    cache: &Cache,
    made: &BTreeMap<String, Made>,
    watch: Watch<'_>,
) -> Result<()> {
    let bytes = manifest.to_bytes();
    let signature = options.key.sign(&bytes, &verify::signed_comment(&manifest.version))?;
    let places = places(cache, made);
    let act = || format!("write {}", options.output.display());
    let part = beside(&options.output);
    if let Some(folder) = options.output.parent().filter(|f| !f.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(Error::io(act()))?;
    }
    let write = || -> io::Result<()> {
        let mut writer = Writer::new(File::create(&part)?);
        writer.add(MANIFEST_NAME, &bytes)?;
        writer.add(SIGNATURE_NAME, signature.as_bytes())?;
        writer.add(OCI_LAYOUT_NAME, OCI_LAYOUT)?;
        writer.add(OCI_INDEX_NAME, &manifest.oci_index(manifest.components.iter()))?;
        let mut done = 0;
        for blob in manifest.blobs() {
            let place = places.get(&blob.digest).ok_or_else(|| {
                io::Error::new(io::ErrorKind::NotFound, format!("blob {} is in no cache entry", blob.digest))
            })?;
            let told = Told { inner: File::open(place)?, done: &mut done, total: manifest.total_size, watch };
            writer.add_from(&blob.digest.blob_path(), blob.size, told)?;
        }
        writer.finish()?.sync_all()?;
        fs::rename(&part, &options.output)
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&part); // the write failed already; that is what gets told
        Error::Io { act: act(), source }
    })
}

/// The public key, beside the archive.
pub fn public_key(options: &Options<'_>) -> Result<PathBuf> {
    let path = options.output.with_file_name("hz-bundle.pub");
    let text = options.key.verifying().to_text();
    if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
        fs::write(&path, text).map_err(Error::io(format!("write {}", path.display())))?;
    }
    Ok(path)
}

fn places(cache: &Cache, made: &BTreeMap<String, Made>) -> BTreeMap<Digest, PathBuf> {
    made.values().flat_map(|made| made.own.iter().map(|blob| (blob.clone(), cache.blob(&made.key, blob)))).collect()
}

fn beside(output: &Path) -> PathBuf {
    let name = output.file_name().unwrap_or_default().to_string_lossy();
    output.with_file_name(format!(".{name}.part"))
}

/// Tells how far the writing is.
struct Told<'a> {
    inner: File,
    done: &'a mut u64,
    total: u64,
    watch: Watch<'a>,
}

impl Read for Told<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        *self.done += n as u64;
        if n > 0 {
            (self.watch)(Event::Write { done: *self.done, total: self.total });
        }
        Ok(n)
    }
}
