//! Components as upstream publishes them: files by address and checksum, images by digest.

mod download;
mod registry;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::build::{Packed, pack_product};
use crate::component::{Component, Kind, Official};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::product::{ProducedFile, Product};

pub use download::Downloader;

/// Gets a component and packs it. `kept` keeps downloads between builds.
pub fn obtain(component: &Component, work: &Path, kept: &Path, blobs: &Path, say: &dyn Fn(&str)) -> Result<Packed> {
    let Some(official) = &component.official else {
        return Err(no_source(component, "it has no `official`"));
    };
    let downloader = Downloader::new(&kept.join("downloads"))?;
    if let (Some(image), Some(digest)) = (&official.image, official.digest.as_deref().and_then(Digest::parse)) {
        if component.kind != Kind::Image {
            return Err(no_source(component, "`official.image` is for kind image"));
        }
        return registry::pull(&downloader, image, &digest, blobs, say);
    }
    let (Some(url), Some(sum)) = (&official.url, official.sha256.as_deref().and_then(Digest::from_hex)) else {
        return Err(no_source(component, "`official` needs url and sha256, or image and digest (lower-case)"));
    };
    say(&format!("download {url}"));
    let file = downloader.get(url, &sum, None, say)?;
    let files = take_out(component, official, &file, url, work)?;
    pack_product(component, Product::Files(files), &BTreeMap::new(), blobs)
}

fn no_source(component: &Component, reason: &str) -> Error {
    Error::NoSource { component: component.name.clone(), from: "official", reason: reason.into() }
}

/// The files that the list names, out of a download.
fn take_out(
    component: &Component,
    official: &Official,
    file: &Path,
    url: &str,
    work: &Path,
) -> Result<Vec<ProducedFile>> {
    let mode = if component.kind == Kind::Binary { 0o755 } else { 0o644 };
    if official.extract.is_empty() {
        let name = url.rsplit('/').next().unwrap_or_default();
        let path = official.install.clone().unwrap_or_else(|| match component.kind {
            Kind::Deb => format!("debs/{name}"),
            Kind::Chart => format!("charts/{name}"),
            _ => format!("usr/local/bin/{}", component.name),
        });
        return Ok(vec![ProducedFile { path, mode, source: file.into() }]);
    }
    let act = || format!("take files out of {url}");
    let found = untar_some(file, &official.extract, work).map_err(Error::io(act()))?;
    official
        .extract
        .iter()
        .map(|(install, inside)| {
            let source = found
                .get(inside)
                .cloned()
                .ok_or_else(|| no_source(component, &format!("{url} has no file {inside}")))?;
            Ok(ProducedFile { path: install.clone(), mode, source })
        })
        .collect()
}

/// Takes the wanted files out of a tar archive, plain or compressed with gzip or zstd.
fn untar_some(archive: &Path, wanted: &BTreeMap<String, String>, work: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let mut magic = [0; 4];
    File::open(archive)?.read_exact(&mut magic)?;
    let file = File::open(archive)?;
    let stream: Box<dyn Read> = match magic {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::stream::read::Decoder::new(file)?),
        _ => Box::new(file),
    };
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(stream).entries()? {
        let mut entry = entry?;
        let name = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
        if entry.header().entry_type().is_file() && wanted.values().any(|inside| *inside == name) {
            let target = work.join(format!("file-{}", found.len()));
            io::copy(&mut entry, &mut File::create(&target)?)?;
            found.insert(name, target);
        }
    }
    Ok(found)
}

/// Hashes a file; `None` if it is not there.
fn digest_of(path: &Path) -> Result<Option<Digest>> {
    match File::open(path) {
        Ok(file) => {
            let (digest, _) = Digest::of_reader(file).map_err(Error::io(format!("read {}", path.display())))?;
            Ok(Some(digest))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { act: format!("read {}", path.display()), source }),
    }
}

/// Puts a file under another name too, without a copy where the file system can.
fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(|_| ()))
}
