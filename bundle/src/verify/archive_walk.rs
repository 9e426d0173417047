//! Checking an archive. Its headers follow from the manifest, so a damaged one can still be named.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{Fault, Problem, Progress, Report, blob_fault, fault, hashing, judge_head};
use crate::archive::{
    self, At, BLOCK, MANIFEST_NAME, OCI_INDEX_NAME, OCI_LAYOUT, OCI_LAYOUT_NAME, SIGNATURE_NAME, Slot, Stretch,
};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::signature::{self, VerifyingKey};

pub fn verify(path: &Path, key: &VerifyingKey, progress: Progress<'_>) -> Result<Report> {
    let open = |source| Error::Open { path: path.into(), source };
    let file = File::open(path).map_err(open)?;
    let length = file.metadata().map_err(open)?.len();
    let mut report = Report { path: path.into(), version: None, signed: None, blobs: 0, bytes: 0, faults: Vec::new() };

    let first = match read_first(path, &file, length)? {
        Ok(slot) => slot,
        Err(fault) => {
            report.faults.push(fault);
            return Ok(report);
        }
    };
    let manifest_bytes = read_whole(&file, &first).map_err(open)?;
    let signature = find_signature(&file, &first, &manifest_bytes, length).map_err(open)?;
    let signature_bytes = signature.as_ref().map(|slot| read_whole(&file, slot)).transpose().map_err(open)?;
    let head = judge_head(path, &manifest_bytes, signature_bytes.as_deref(), key)?;
    report.signed = head.signed;
    report.faults = head.faults;
    let Some(manifest) = head.manifest else {
        return Ok(report);
    };
    report.version = Some(manifest.version.clone());

    let signature_size = signature.map_or(0, |slot| slot.size);
    let expected = archive::expected_slots(&manifest, first.size, signature_size);
    let mut walk = Walk::new(&file, length, &manifest, &expected);
    walk.run().map_err(open)?;
    let (found, faults) = (walk.found, walk.faults);
    report.faults.extend(faults);

    let total = found.iter().map(|slot| slot.size).sum();
    let digests = hashing::hash_all(&found, total, progress, |slot| {
        Ok(Stretch { file: &file, at: slot.data_at, left: slot.size })
    })?;
    for (slot, digest) in found.iter().zip(digests) {
        let want = wanted(&manifest, slot);
        if want.as_ref().is_some_and(|want| *want != digest) {
            let want = want.map_or_else(String::new, |w| w.to_string());
            let detail = format!("its bytes were changed: expected {want}, found {digest}");
            report.faults.push(placed(named(&manifest, slot, Problem::WrongBytes, detail), slot));
        }
    }
    report.blobs = found.iter().filter(|slot| blob_of(slot).is_some()).count();
    report.bytes = total;
    // In the order of the archive; what is nowhere in it comes last.
    report.faults.sort_by_key(|fault| (fault.offset.is_none() && fault.problem == Problem::Missing, fault.offset));
    Ok(report)
}

/// The manifest's place: it is the one thing that must be found without knowing anything.
fn read_first(path: &Path, file: &File, length: u64) -> Result<Result<Slot, Fault>> {
    let open = |source| Error::Open { path: path.into(), source };
    let not_ours = |reason: &str| Err(Error::NotABundle { path: path.into(), reason: reason.into() });
    match archive::read_slot(file, 0, length).map_err(open)? {
        At::File(slot) if slot.name != MANIFEST_NAME => {
            not_ours(&format!("its first file is {}, not {MANIFEST_NAME}", slot.name))
        }
        At::File(slot) if slot.data_at.saturating_add(slot.size) > length => {
            let detail = format!("the archive ends inside it, at {length} bytes; nothing after it can be judged");
            Ok(Err(Fault { problem: Problem::Truncated, offset: Some(0), ..fault(MANIFEST_NAME, detail) }))
        }
        At::File(slot) => Ok(Ok(slot)),
        At::Garbage(reason) => {
            let mut block = [0; BLOCK as usize];
            file.read_exact_at(&mut block, 0).map_err(open)?;
            // One damaged byte leaves the name or the magic standing; a foreign file has neither.
            if !block.starts_with(MANIFEST_NAME.as_bytes()) && &block[257..262] != b"ustar" {
                return not_ours("it is not a tar archive");
            }
            let detail = format!("{reason}; nothing after it can be judged");
            Ok(Err(Fault { problem: Problem::WrongFrame, offset: Some(0), ..fault(MANIFEST_NAME, detail) }))
        }
        At::End => not_ours("it begins with zeros"),
        At::Short => not_ours("it is too short"),
    }
}

/// The signature's place. If its header is damaged, it is still where and as long as ours always are.
fn find_signature(file: &File, first: &Slot, manifest: &[u8], length: u64) -> io::Result<Option<Slot>> {
    let slot = match archive::read_slot(file, first.end(), length)? {
        At::File(slot) if slot.name == SIGNATURE_NAME => slot,
        At::Garbage(_) => {
            let Ok(manifest) = Manifest::parse(manifest) else {
                return Ok(None);
            };
            let size = signature::size_of(&super::signed_comment(&manifest.version));
            let header_at = first.end();
            Slot { name: SIGNATURE_NAME.into(), header_at, data_at: header_at + BLOCK, size }
        }
        _ => return Ok(None),
    };
    Ok((slot.data_at.saturating_add(slot.size) <= length).then_some(slot))
}

struct Walk<'a> {
    file: &'a File,
    length: u64,
    manifest: &'a Manifest,
    expected: BTreeMap<&'a str, &'a Slot>,
    by_place: BTreeMap<u64, &'a Slot>,
    /// Where the last file ends.
    due_end: u64,
    found: Vec<Slot>,
    seen: BTreeMap<String, u64>,
    faults: Vec<Fault>,
}

impl<'a> Walk<'a> {
    fn new(file: &'a File, length: u64, manifest: &'a Manifest, expected: &'a [Slot]) -> Self {
        Self {
            file,
            length,
            manifest,
            expected: expected.iter().map(|slot| (slot.name.as_str(), slot)).collect(),
            by_place: expected.iter().map(|slot| (slot.header_at, slot)).collect(),
            due_end: expected.last().map_or(0, Slot::end),
            found: Vec::new(),
            seen: BTreeMap::new(),
            faults: Vec::new(),
        }
    }

    fn run(&mut self) -> io::Result<()> {
        let mut at = 0;
        let cut = loop {
            let due = self.by_place.get(&at).copied().filter(|slot| !self.seen.contains_key(&slot.name));
            match archive::read_slot(self.file, at, self.length)? {
                At::File(slot) => {
                    at = slot.end();
                    self.take(&slot)?;
                    if slot.data_at.saturating_add(slot.size) > self.length {
                        break true;
                    }
                }
                At::Short => break true,
                At::Garbage(_) | At::End if due.is_some() => {
                    let slot = due.expect("the guard saw it").clone();
                    let detail = "its tar header was changed";
                    self.faults.push(placed(named(self.manifest, &slot, Problem::WrongFrame, detail), &slot));
                    at = slot.end();
                    self.take_body(&slot)?;
                    if slot.data_at.saturating_add(slot.size) > self.length {
                        break true;
                    }
                }
                At::Garbage(_) if at == self.due_end => {
                    self.check_end(at)?;
                    break false;
                }
                At::Garbage(reason) => {
                    let detail = format!("{reason}; nothing after it can be found");
                    let broken =
                        Fault { problem: Problem::WrongFrame, offset: Some(at), ..fault("the archive", detail) };
                    self.faults.push(broken);
                    break false;
                }
                At::End => {
                    self.check_end(at)?;
                    break false;
                }
            }
        };
        self.check_missing(cut);
        Ok(())
    }

    /// A file whose header is sound.
    fn take(&mut self, slot: &Slot) -> io::Result<()> {
        let mut block = [0; BLOCK as usize];
        self.file.read_exact_at(&mut block, slot.header_at)?;
        let Some(want) = self.expected.get(slot.name.as_str()).copied() else {
            let detail = "it is not named in hz-bundle.json";
            let subject = blob_of(slot).map_or_else(|| slot.name.clone(), |digest| format!("blob {digest}"));
            self.faults.push(placed(Fault { problem: Problem::Extra, ..fault(subject, detail) }, slot));
            return Ok(());
        };
        if self.seen.contains_key(&slot.name) {
            let detail = "it is in the archive twice";
            self.faults.push(placed(named(self.manifest, slot, Problem::Extra, detail), slot));
            return Ok(());
        }
        if want.size != slot.size {
            let detail = format!("it has {} bytes, expected {}", slot.size, want.size);
            self.faults.push(placed(named(self.manifest, slot, Problem::WrongBytes, detail), slot));
            self.seen.insert(slot.name.clone(), slot.header_at);
            return Ok(());
        }
        if block != archive::header(&slot.name, slot.size) {
            let detail = "its tar header was changed";
            self.faults.push(placed(named(self.manifest, slot, Problem::WrongFrame, detail), slot));
        }
        self.take_body(slot)
    }

    fn take_body(&mut self, slot: &Slot) -> io::Result<()> {
        self.seen.insert(slot.name.clone(), slot.header_at);
        let end = slot.data_at.saturating_add(slot.size);
        if end > self.length {
            let detail = format!("the archive ends inside it, at byte {}", self.length);
            self.faults.push(placed(named(self.manifest, slot, Problem::Truncated, detail), slot));
            return Ok(());
        }
        let mut rest = vec![0; usize::try_from(archive::padding(slot.size)).unwrap_or_default()];
        let there = usize::try_from((self.length - end).min(rest.len() as u64)).unwrap_or_default();
        self.file.read_exact_at(&mut rest[..there], end)?;
        if rest.iter().any(|byte| *byte != 0) {
            let detail = "the padding after it was changed";
            self.faults.push(placed(named(self.manifest, slot, Problem::WrongFrame, detail), slot));
        }
        self.found.push(slot.clone());
        Ok(())
    }

    fn check_end(&mut self, at: u64) -> io::Result<()> {
        let mut left = Stretch { file: self.file, at, left: self.length - at };
        let mut rest = Vec::new();
        left.by_ref().take(4 * BLOCK).read_to_end(&mut rest)?;
        let whole = self.length - at == 2 * BLOCK && rest.iter().all(|byte| *byte == 0);
        if !whole {
            let detail = format!("{} bytes after the last file, expected {} zeros", self.length - at, 2 * BLOCK);
            let wrong =
                Fault { problem: Problem::WrongFrame, offset: Some(at), ..fault("the end of the archive", detail) };
            self.faults.push(wrong);
        }
        Ok(())
    }

    fn check_missing(&mut self, cut: bool) {
        let missing: Vec<&Slot> =
            self.expected.values().copied().filter(|slot| !self.seen.contains_key(&slot.name)).collect();
        if cut {
            let whole = self.due_end + 2 * BLOCK;
            let detail =
                format!("it ends at byte {} of {whole}; {} files after that are missing", self.length, missing.len());
            let offset = Some(self.length);
            self.faults.push(Fault { problem: Problem::Truncated, offset, ..fault("the archive", detail) });
        }
        for slot in missing {
            // A missing signature is told by the judge of the head.
            if slot.name != SIGNATURE_NAME {
                self.faults.push(named(self.manifest, slot, Problem::Missing, "it is missing"));
            }
        }
    }
}

/// What the bytes of a slot must hash to; the head has its own judge.
fn wanted(manifest: &Manifest, slot: &Slot) -> Option<Digest> {
    match slot.name.as_str() {
        MANIFEST_NAME | SIGNATURE_NAME => None,
        OCI_LAYOUT_NAME => Some(Digest::of(OCI_LAYOUT)),
        OCI_INDEX_NAME => Some(Digest::of(&manifest.oci_index(manifest.components.iter()))),
        _ => blob_of(slot),
    }
}

fn blob_of(slot: &Slot) -> Option<Digest> {
    Digest::from_hex(slot.name.strip_prefix("blobs/sha256/")?)
}

fn named(manifest: &Manifest, slot: &Slot, problem: Problem, detail: impl Into<String>) -> Fault {
    match blob_of(slot) {
        Some(digest) => blob_fault(manifest, &digest, problem, detail),
        None => Fault { problem, ..fault(&slot.name, detail) },
    }
}

fn placed(fault: Fault, slot: &Slot) -> Fault {
    Fault { offset: Some(slot.data_at), size: Some(slot.size), ..fault }
}

fn read_whole(file: &File, slot: &Slot) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(slot.size).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, slot.data_at)?;
    Ok(bytes)
}
