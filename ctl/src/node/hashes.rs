//! Hashes of files, remembered by inode, size and times of change: a file that was not touched since is not read
//! again. The change time cannot be set back without root, who could change our memory as well.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha256};

/// A power cut can lose bytes whose inode was written, so the memory is where a boot forgets it.
const MEMORY: &str = "/run/hzctl-hashes.json";

/// Path → what the file looked like, and its hash.
type Memory = BTreeMap<String, (String, String)>;

fn load() -> Memory {
    fs::read(MEMORY).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn store(memory: &Memory) {
    // Beside and then in place: two of us may write at once.
    let temporary = format!("{MEMORY}.{}", std::process::id());
    let written = serde_json::to_vec(memory).map(|bytes| fs::write(&temporary, bytes));
    if matches!(written, Ok(Ok(()))) {
        let _ = fs::rename(&temporary, MEMORY);
    }
}

fn seal(path: &str) -> Option<String> {
    let meta = fs::metadata(path).ok()?;
    let (written, changed) = ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
    Some(format!("{} {} {written:?} {changed:?}", meta.ino(), meta.len()))
}

/// Hashes of those of the files that exist.
pub fn hashes(paths: &[String]) -> BTreeMap<String, String> {
    let known = load();
    let mut next = Memory::new();
    for path in paths {
        let Some(seal) = seal(path) else { continue };
        let hash = match known.get(path) {
            Some((old, hash)) if *old == seal => Some(hash.clone()),
            _ => hash_file(Path::new(path)).ok(),
        };
        if let Some(hash) = hash {
            next.insert(path.clone(), (seal, hash));
        }
    }
    if next.iter().any(|(path, entry)| known.get(path) != Some(entry)) {
        store(&known.into_iter().chain(next.clone()).collect());
    }
    next.into_iter().map(|(path, (_, hash))| (path, hash)).collect()
}

/// Remember hashes of files that were just written.
pub fn remember<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) {
    let mut memory = load();
    for (path, hash) in files {
        if let Some(seal) = seal(path) {
            memory.insert(path.to_owned(), (seal, hash.to_owned()));
        }
    }
    store(&memory);
}

/// SHA-256 of a file.
pub fn hash_file(path: &Path) -> std::io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        use std::fmt::Write;
        let _ = write!(text, "{byte:02x}");
        text
    })
}
