//! Components that are already made. An entry is a folder that appears whole or not at all, and that
//! is believed only as far as its checksums go.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::pack::Packed;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::verify::hash_all;

/// The folder of entries, and what is kept beside it.
pub struct Cache {
    root: PathBuf,
}

/// One component, made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Made {
    /// Name of the component.
    pub component: String,
    /// What it was made from.
    pub key: Digest,
    /// How long it took.
    pub seconds: f64,
    /// What came out.
    pub packed: Packed,
    /// Blobs kept in this entry; the others belong to its parts.
    pub own: Vec<Digest>,
}

impl Made {
    /// Digest of what came out. Others build on this, not on the key: a component that was made again
    /// and came out the same costs them nothing.
    pub fn content(&self) -> Digest {
        Digest::of(&serde_json::to_vec(&self.packed).expect("packed components have only string keys"))
    }
}

impl Cache {
    /// `HZCTL_CACHE`, or `hzctl` under the user's cache folder.
    pub fn default_root() -> PathBuf {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        set("HZCTL_CACHE").unwrap_or_else(|| {
            set("XDG_CACHE_HOME")
                .unwrap_or_else(|| set("HOME").unwrap_or_else(|| "/root".into()).join(".cache"))
                .join("hzctl")
        })
    }

    /// Opens a cache, making it at the first use, and clears what a killed build left behind.
    /// One build at a time: the lock is held as long as the returned file lives, and `waiting` is
    /// called if somebody else holds it.
    pub fn open(root: &Path, waiting: impl FnOnce()) -> Result<(Self, File)> {
        let act = || format!("open the cache {}", root.display());
        for folder in ["components", "kept", "tmp", "logs"] {
            fs::create_dir_all(root.join(folder)).map_err(Error::io(act()))?;
        }
        let lock = File::create(root.join("lock")).map_err(Error::io(act()))?;
        if lock.try_lock().is_err() {
            waiting();
            lock.lock().map_err(Error::io(act()))?;
        }
        let cache = Self { root: root.into() };
        for item in fs::read_dir(cache.tmp()).map_err(Error::io(act()))?.flatten() {
            let _ = remove_tree(&item.path()); // what cannot be removed now costs space, nothing else
        }
        Ok((cache, lock))
    }

    /// Where builds keep downloads and module caches.
    pub fn kept(&self) -> PathBuf {
        self.root.join("kept")
    }

    /// Where a build works. Emptied by the next one.
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Where a recipe's talk is kept.
    pub fn log(&self, component: &str) -> PathBuf {
        self.root.join("logs").join(format!("{component}.log"))
    }

    fn entry(&self, key: &Digest) -> PathBuf {
        self.root.join("components").join(key.hex())
    }

    /// Where a blob of an entry is.
    pub fn blob(&self, key: &Digest, blob: &Digest) -> PathBuf {
        self.entry(key).join("blobs").join(blob.hex())
    }

    /// The entry of a key. `Ok(None)`: there is none. `Err`: there is one, but it cannot be trusted;
    /// the text says why. `deep` hashes every blob, otherwise only sizes are looked at.
    pub fn load(&self, key: &Digest, deep: bool) -> Result<Option<Made>, String> {
        let folder = self.entry(key);
        let text = match fs::read(folder.join("entry.json")) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound && !folder.exists() => return Ok(None),
            Err(e) => return Err(format!("entry.json: {e}")),
        };
        let sum = fs::read_to_string(folder.join("entry.sha256")).map_err(|e| format!("entry.sha256: {e}"))?;
        if sum.trim() != Digest::of(&text).as_str() {
            return Err("entry.json is not as it was written".into());
        }
        let made: Made = serde_json::from_slice(&text).map_err(|e| format!("entry.json: {e}"))?;
        if made.key != *key {
            return Err("it is the entry of another key".into());
        }
        let sizes: BTreeMap<_, _> = made.packed.blobs.iter().map(|b| (&b.digest, b.size)).collect();
        for digest in &made.own {
            let size = fs::metadata(self.blob(key, digest)).map_err(|e| format!("blob {digest}: {e}"))?.len();
            if sizes.get(digest) != Some(&size) {
                return Err(format!("blob {digest} has {size} bytes"));
            }
        }
        if deep {
            let open =
                |digest: &Digest| File::open(self.blob(key, digest)).map_err(Error::io(format!("read blob {digest}")));
            let found = hash_all(&made.own, 0, &|_, _| (), open).map_err(|e| e.to_string())?;
            if let Some((wrong, _)) = made.own.iter().zip(&found).find(|(want, found)| want != found) {
                return Err(format!("blob {wrong} is damaged"));
            }
        }
        Ok(Some(made))
    }

    /// Keeps what was made. `blobs` is a folder in [`Cache::tmp`], which becomes part of the entry.
    pub fn store(&self, made: &Made, blobs: &Path) -> Result<()> {
        let act = || format!("keep {} in the cache", made.component);
        let staged = self.tmp().join(format!("entry-{}", made.key.hex()));
        let text = serde_json::to_vec_pretty(made).expect("entries have only string keys");
        let work = || -> io::Result<()> {
            remove_tree(&staged)?;
            fs::create_dir_all(&staged)?;
            fs::rename(blobs, staged.join("blobs"))?;
            fs::write(staged.join("entry.json"), &text)?;
            fs::write(staged.join("entry.sha256"), Digest::of(&text).as_str())?;
            remove_tree(&self.entry(&made.key))?;
            fs::rename(&staged, self.entry(&made.key))
        };
        work().map_err(Error::io(act()))
    }

    /// Forgets an entry.
    pub fn evict(&self, key: &Digest) -> Result<()> {
        remove_tree(&self.entry(key)).map_err(Error::io(format!("remove cache entry {}", key.short())))
    }

    /// Marks entries as used now, and throws away those that no build used for `days`.
    pub fn prune<'a>(&self, used: impl Iterator<Item = &'a Made>, days: u64) {
        let now = std::time::SystemTime::now();
        for made in used {
            let _ = File::open(self.entry(&made.key)).and_then(|folder| folder.set_modified(now));
        }
        let limit = std::time::Duration::from_secs(days * 24 * 3600);
        let Ok(entries) = fs::read_dir(self.root.join("components")) else {
            return;
        };
        for entry in entries.flatten() {
            let age = entry.metadata().and_then(|meta| meta.modified()).ok().and_then(|at| now.duration_since(at).ok());
            if age.is_some_and(|age| age > limit) {
                let _ = remove_tree(&entry.path()); // old entries cost space, nothing else
            }
        }
    }

    /// How long each component took when it was last made, by name.
    pub fn timings(&self) -> BTreeMap<String, f64> {
        fs::read(self.root.join("timings.json"))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    /// Remembers how long a component took. Only a help for the next estimate, so failing is no failure.
    pub fn remember_timing(&self, component: &str, seconds: f64) {
        let mut timings = self.timings();
        timings.insert(component.into(), seconds);
        if let Ok(text) = serde_json::to_vec_pretty(&timings) {
            let _ = fs::write(self.root.join("timings.json"), text);
        }
    }
}

/// Removes a tree, also one with folders that may not be written to (Go's module cache makes such).
pub fn remove_tree(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            let mut folders = vec![path.to_path_buf()];
            while let Some(folder) = folders.pop() {
                let _ = fs::set_permissions(&folder, fs::Permissions::from_mode(0o700));
                for item in fs::read_dir(&folder)?.flatten() {
                    if item.file_type().is_ok_and(|t| t.is_dir()) {
                        folders.push(item.path());
                    }
                }
            }
            fs::remove_dir_all(path)
        }
        result => result,
    }
}
