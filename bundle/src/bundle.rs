//! A bundle, opened for reading: the archive, or a folder it was laid out in.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::archive::{self, At, MANIFEST_NAME, SIGNATURE_NAME, Slot};
use crate::component::Role;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::manifest::{Descriptor, Entry, FileEntry, Manifest};

/// A bundle that can be read from. Cheap to clone; readers do not disturb each other.
#[derive(Debug, Clone)]
pub struct Bundle {
    path: PathBuf,
    store: Store,
    manifest: Arc<Manifest>,
    manifest_bytes: Arc<[u8]>,
    signature: Option<Arc<str>>,
}

#[derive(Debug, Clone)]
enum Store {
    Archive { file: Arc<File>, slots: Arc<BTreeMap<String, Slot>> },
    Folder(PathBuf),
}

impl Bundle {
    /// Opens an archive or a laid-out folder. Reads the manifest and the places of the blobs;
    /// unpacks nothing and checks no blob (see [`crate::verify`]).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let open = |source| Error::Open { path: path.into(), source };
        if fs::metadata(path).map_err(open)?.is_dir() {
            return Self::open_folder(path);
        }
        let file = File::open(path).map_err(open)?;
        let slots = index(path, &file)?;
        let whole = |slot: &Slot| -> Result<Vec<u8>> {
            let mut bytes = vec![0; usize::try_from(slot.size).unwrap_or(usize::MAX)];
            file.read_exact_at(&mut bytes, slot.data_at).map_err(open)?;
            Ok(bytes)
        };
        let Some(slot) = slots.get(MANIFEST_NAME) else {
            return Err(not_a_bundle(path, format!("it has no {MANIFEST_NAME}")));
        };
        let manifest_bytes = whole(slot)?;
        let signature = slots.get(SIGNATURE_NAME).map(whole).transpose()?;
        let store = Store::Archive { file: Arc::new(file), slots: Arc::new(slots) };
        Self::assemble(path, store, manifest_bytes, signature)
    }

    fn open_folder(path: &Path) -> Result<Self> {
        let read = |name: &str| match fs::read(path.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Open { path: path.join(name), source }),
        };
        let Some(manifest_bytes) = read(MANIFEST_NAME)? else {
            return Err(not_a_bundle(path, format!("the folder has no {MANIFEST_NAME}")));
        };
        Self::assemble(path, Store::Folder(path.into()), manifest_bytes, read(SIGNATURE_NAME)?)
    }

    fn assemble(path: &Path, store: Store, manifest_bytes: Vec<u8>, signature: Option<Vec<u8>>) -> Result<Self> {
        let manifest =
            Manifest::parse(&manifest_bytes).map_err(|source| Error::Manifest { path: path.into(), source })?;
        Ok(Self {
            path: path.into(),
            store,
            manifest: Arc::new(manifest),
            manifest_bytes: manifest_bytes.into(),
            signature: signature.map(|bytes| String::from_utf8_lossy(&bytes).into()),
        })
    }

    /// What is in it.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The very bytes of `hz-bundle.json`, which are what is signed.
    pub fn manifest_bytes(&self) -> &[u8] {
        &self.manifest_bytes
    }

    /// Text of `hz-bundle.json.minisig`, if there is one.
    pub fn signature(&self) -> Option<&str> {
        self.signature.as_deref()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What hosts of a role need, every blob once.
    pub fn blobs_for(&self, role: Role) -> Vec<Descriptor> {
        self.manifest.blobs_for(role).into_iter().cloned().collect()
    }

    /// A blob's bytes, as they are stored.
    pub fn blob(&self, digest: &Digest) -> Result<BlobReader> {
        self.blob_from(digest, 0)
    }

    /// A blob's bytes from an offset on, to go on with a transfer that was cut.
    pub fn blob_from(&self, digest: &Digest, offset: u64) -> Result<BlobReader> {
        let missing = || Error::MissingBlob { path: self.path.clone(), digest: digest.clone() };
        match &self.store {
            Store::Archive { file, slots } => {
                let slot = slots.get(&digest.blob_path()).ok_or_else(missing)?;
                let at = slot.data_at + offset.min(slot.size);
                Ok(BlobReader { file: file.clone(), at, end: slot.data_at + slot.size })
            }
            Store::Folder(root) => {
                let path = root.join(digest.blob_path());
                let file = File::open(&path).map_err(|source| match source.kind() {
                    io::ErrorKind::NotFound => missing(),
                    _ => Error::Open { path: path.clone(), source },
                })?;
                let end = file.metadata().map_err(|source| Error::Open { path, source })?.len();
                Ok(BlobReader { file: Arc::new(file), at: offset.min(end), end })
            }
        }
    }

    /// The blobs, among these, that are not there or not of the right size. Quick: no hashing.
    pub fn missing<'a>(&self, blobs: impl IntoIterator<Item = &'a Descriptor>) -> Vec<&'a Descriptor> {
        let there = |blob: &Descriptor| self.blob(&blob.digest).is_ok_and(|reader| reader.left() == blob.size);
        blobs.into_iter().filter(|blob| !there(blob)).collect()
    }

    /// A file of a component, unpacked while it is read. The read fails at the end if the bytes are
    /// not those that the manifest promises.
    pub fn file(&self, component: &str, path: &str) -> Result<impl Read + use<>> {
        let entry = self.component(component)?;
        let file = entry.files.iter().find(|f| f.path == path).ok_or_else(|| Error::Unknown {
            what: format!("file {path} in component {component}"),
            hint: nearest(path, entry.files.iter().map(|f| f.path.as_str())),
        })?;
        self.unpacked(component, file)
    }

    /// The component of a name, or an error with the nearest name.
    pub fn component(&self, name: &str) -> Result<&Entry> {
        self.manifest.get(name).ok_or_else(|| Error::Unknown {
            what: format!("component {name}"),
            hint: nearest(name, self.manifest.components.iter().map(|c| c.name.as_str())),
        })
    }

    /// Puts all files of a component under a folder: `usr/local/bin/kubelet` under `/` is
    /// `/usr/local/bin/kubelet`. Each file appears whole or not at all; one that is already there
    /// with the right bytes and mode is left alone. Gives back the paths that were written.
    pub fn install(&self, component: &str, root: &Path) -> Result<Vec<PathBuf>> {
        let mut written = Vec::new();
        for file in &self.component(component)?.files {
            let target = root.join(&file.path);
            if !is_installed(&target, file) {
                self.install_file(component, file, &target)?;
                written.push(target);
            }
        }
        Ok(written)
    }

    fn install_file(&self, component: &str, file: &FileEntry, target: &Path) -> Result<()> {
        let act = || format!("install {}", target.display());
        let folder = target.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder).map_err(Error::io(act()))?;
        let mode = file.permissions().unwrap_or(0o644);
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let part = folder.join(format!(".{name}.hz-part"));
        let mut reader = self.unpacked(component, file)?;
        let copied = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part).and_then(
            |mut out| {
                io::copy(&mut reader, &mut out)?;
                out.set_permissions(fs::Permissions::from_mode(mode))?;
                out.sync_all()?;
                fs::rename(&part, target)
            },
        );
        copied.map_err(|source| {
            let _ = fs::remove_file(&part); // the copy failed already; that is what gets told
            Error::Io { act: act(), source }
        })
    }

    fn unpacked(&self, component: &str, file: &FileEntry) -> Result<Checked<impl Read + use<>>> {
        let what = format!("{} of {component} (blob {})", file.path, file.blob);
        let blob = self.blob(&file.blob)?;
        let inner = zstd::stream::read::Decoder::new(blob).map_err(Error::io(format!("unpack {what}")))?;
        Ok(Checked { inner, hasher: Some(Hasher::default()), want: format!("sha256:{}", file.sha256), what })
    }

    /// Writes an OCI archive of some components, as `ctr images import` takes it, without a copy on disk.
    pub fn write_oci_archive<'a>(
        &'a self,
        components: impl IntoIterator<Item = &'a Entry>,
        out: impl Write,
    ) -> Result<()> {
        let components: Vec<&Entry> = components.into_iter().collect();
        let mut writer = archive::Writer::new(out);
        let act = || "write an OCI archive".to_string();
        writer.add(archive::OCI_LAYOUT_NAME, archive::OCI_LAYOUT).map_err(Error::io(act()))?;
        let index = self.manifest.oci_index(components.iter().copied());
        writer.add(archive::OCI_INDEX_NAME, &index).map_err(Error::io(act()))?;
        let mut seen = std::collections::BTreeSet::new();
        for blob in components.iter().flat_map(|c| &c.blobs).filter(|b| seen.insert(&b.digest)) {
            let reader = self.blob(&blob.digest)?;
            writer.add_from(&blob.digest.blob_path(), blob.size, reader).map_err(Error::io(act()))?;
        }
        writer.finish().map_err(Error::io(act()))?;
        Ok(())
    }
}

/// Bytes of one blob.
#[derive(Debug)]
pub struct BlobReader {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl BlobReader {
    /// Bytes not read yet.
    pub fn left(&self) -> u64 {
        self.end - self.at
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.left()).unwrap_or(usize::MAX));
        let n = self.file.read_at(&mut buffer[..want], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// Hashes what passes, and turns the end of the stream into an error if the sum is wrong.
struct Checked<R> {
    inner: R,
    hasher: Option<Hasher>,
    want: String,
    what: String,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        if n > 0 {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&buffer[..n]);
            }
        } else if !buffer.is_empty()
            && let Some(hasher) = self.hasher.take()
        {
            let found = hasher.finish();
            if found.as_str() != self.want {
                let text = format!("{} is damaged: expected {}, found {found}", self.what, self.want);
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
        Ok(n)
    }
}

fn index(path: &Path, file: &File) -> Result<BTreeMap<String, Slot>> {
    let read = |source| Error::Open { path: path.into(), source };
    let length = file.metadata().map_err(read)?.len();
    let mut slots = BTreeMap::new();
    let mut at = 0;
    loop {
        let damaged = |offset: u64, reason: String| Error::Damaged { path: path.into(), offset, reason };
        match archive::read_slot(file, at, length).map_err(read)? {
            At::File(slot) => {
                if at == 0 && slot.name != MANIFEST_NAME {
                    return Err(not_a_bundle(path, format!("its first file is {}, not {MANIFEST_NAME}", slot.name)));
                }
                if slot.data_at.saturating_add(slot.size) > length {
                    let reason = format!("the file ends inside {}, at {length} bytes", slot.name);
                    return Err(damaged(slot.header_at, reason));
                }
                at = slot.end();
                slots.insert(slot.name.clone(), slot);
            }
            At::End => return Ok(slots),
            At::Short | At::Garbage(_) if at == 0 => {
                return Err(not_a_bundle(path, "it is not a tar archive".into()));
            }
            At::Short => {
                return Err(damaged(at, format!("the file ends too early, at {length} bytes")));
            }
            At::Garbage(reason) => return Err(damaged(at, reason)),
        }
    }
}

fn is_installed(target: &Path, file: &FileEntry) -> bool {
    let Ok(found) = File::open(target) else {
        return false;
    };
    let Ok(meta) = found.metadata() else {
        return false;
    };
    meta.len() == file.size
        && Some(meta.permissions().mode() & 0o7777) == file.permissions()
        && Digest::of_reader(found).is_ok_and(|(digest, _)| digest.hex() == file.sha256)
}

fn not_a_bundle(path: &Path, reason: String) -> Error {
    Error::NotABundle { path: path.into(), reason }
}

pub(crate) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> String {
    names
        .map(|n| (strsim::levenshtein(n, name), n))
        .filter(|(distance, n)| *distance <= 4 || n.contains(name))
        .min()
        .map(|(_, n)| format!("; did you mean {n}?"))
        .unwrap_or_default()
}
