//! The outer file: a plain tar whose every header follows from the manifest, so that a reader can
//! jump to any blob, and a checker can say what a damaged stretch should have been.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use crate::manifest::Manifest;

/// The first file of the archive.
pub const MANIFEST_NAME: &str = "hz-bundle.json";
/// Its signature, the second.
pub const SIGNATURE_NAME: &str = "hz-bundle.json.minisig";
/// Marker of an OCI layout.
pub const OCI_LAYOUT_NAME: &str = "oci-layout";
/// Index of an OCI layout.
pub const OCI_INDEX_NAME: &str = "index.json";
/// Content of the marker.
pub const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Tar works in blocks of this size.
pub const BLOCK: u64 = 512;

/// The header of one file. Nothing in it depends on when, where or by whom it is written.
pub fn header(name: &str, size: u64) -> [u8; BLOCK as usize] {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).expect("names in the archive are short and relative");
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    *header.as_bytes()
}

/// Bytes that fill the last block.
pub fn padding(size: u64) -> u64 {
    (BLOCK - size % BLOCK) % BLOCK
}

/// One file as it stands in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Where its header is.
    pub header_at: u64,
    /// Where its bytes begin.
    pub data_at: u64,
    /// How many there are.
    pub size: u64,
}

impl Slot {
    /// Where the next header is.
    pub fn end(&self) -> u64 {
        self.data_at + self.size + padding(self.size)
    }
}

/// The files that an archive of this manifest has, in order, with their places.
pub fn expected_slots(manifest: &Manifest, manifest_size: u64, signature_size: u64) -> Vec<Slot> {
    let mut slots = Vec::new();
    let mut at = 0;
    let mut add = |name: String, size: u64| {
        let slot = Slot { name, header_at: at, data_at: at + BLOCK, size };
        at = slot.end();
        slots.push(slot);
    };
    add(MANIFEST_NAME.into(), manifest_size);
    add(SIGNATURE_NAME.into(), signature_size);
    add(OCI_LAYOUT_NAME.into(), OCI_LAYOUT.len() as u64);
    add(OCI_INDEX_NAME.into(), manifest.oci_index(manifest.components.iter()).len() as u64);
    for blob in manifest.blobs() {
        add(blob.digest.blob_path(), blob.size);
    }
    slots
}

/// What stands at a header's place.
#[derive(Debug)]
pub enum At {
    /// A file.
    File(Slot),
    /// Only zeros: the end of the archive.
    End,
    /// The file ends inside the header.
    Short,
    /// Bytes that are no header.
    Garbage(String),
}

/// Reads the header at a place.
pub fn read_slot(file: &File, at: u64, length: u64) -> io::Result<At> {
    if at + BLOCK > length {
        return Ok(At::Short);
    }
    let mut block = [0; BLOCK as usize];
    file.read_exact_at(&mut block, at)?;
    if block.iter().all(|byte| *byte == 0) {
        return Ok(At::End);
    }
    let header = tar::Header::from_byte_slice(&block);
    let sum: u32 =
        block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum();
    if header.cksum().ok() != Some(sum) {
        return Ok(At::Garbage("the checksum of the header is wrong".into()));
    }
    let (Ok(path), Ok(size)) = (header.path(), header.entry_size()) else {
        return Ok(At::Garbage("the header has no name or size".into()));
    };
    let name = path.to_string_lossy().into_owned();
    Ok(At::File(Slot { name, header_at: at, data_at: at + BLOCK, size }))
}

/// Writes an archive file by file.
pub struct Writer<W> {
    inner: W,
}

impl<W: Write> Writer<W> {
    /// Starts an archive.
    pub fn new(inner: W) -> Self {
        Self { inner }
    }

    /// Adds a file from memory.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.add_from(name, bytes.len() as u64, bytes)
    }

    /// Adds a file of a known size.
    pub fn add_from(&mut self, name: &str, size: u64, mut bytes: impl Read) -> io::Result<()> {
        self.inner.write_all(&header(name, size))?;
        let mut left = size;
        let mut buffer = vec![0; usize::try_from(size.clamp(1, 1 << 20)).unwrap_or(1)];
        while left > 0 {
            let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let n = bytes.read(&mut buffer[..want])?;
            if n == 0 {
                let text = format!("{name} ended after {} of {size} bytes", size - left);
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
            self.inner.write_all(&buffer[..n])?;
            left -= n as u64;
        }
        self.pad(padding(size))
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<W> {
        self.pad(2 * BLOCK)?;
        self.inner.flush()?;
        Ok(self.inner)
    }

    fn pad(&mut self, n: u64) -> io::Result<()> {
        io::copy(&mut io::repeat(0).take(n), &mut self.inner).map(|_| ())
    }
}

/// A stretch of a file, read without moving anybody else's place in it.
pub(crate) struct Stretch<'a> {
    pub file: &'a File,
    pub at: u64,
    pub left: u64,
}

impl Read for Stretch<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.file.read_at(&mut buffer[..want], self.at)?;
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}
