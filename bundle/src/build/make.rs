//! One component: from the cache, or made, packed and kept.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::cache::remove_tree;
use super::{Cache, Event, From, Layer, Made, Options, Watch, pack};
use crate::component::{Component, Kind};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::product::{Context, Part, RecipeError};

/// Anything in the builder that changes the bytes of blobs; raise it to make everything anew.
const FORMAT: u32 = 1;

/// Makes components.
pub struct Maker<'a> {
    options: &'a Options<'a>,
    cache: &'a Cache,
    watch: Watch<'a>,
    timings: BTreeMap<String, f64>,
    fresh: Mutex<Vec<String>>,
    /// What recipes said their inputs are: asked once a build, since it may hash our sources.
    inputs: Mutex<BTreeMap<String, Vec<String>>>,
    /// Parts that are unpacked for reading, by name. Held while unpacking, so that none is unpacked twice.
    unpacked: Mutex<BTreeMap<String, (Digest, PathBuf)>>,
}

impl<'a> Maker<'a> {
    pub fn new(options: &'a Options<'a>, cache: &'a Cache, watch: Watch<'a>) -> Self {
        Self {
            options,
            cache,
            watch,
            timings: cache.timings(),
            fresh: Mutex::default(),
            inputs: Mutex::default(),
            unpacked: Mutex::default(),
        }
    }

    /// Components that were made now, not found.
    pub fn fresh(&self) -> Vec<String> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long a component took last time.
    pub fn expected(&self, component: &str) -> Option<Duration> {
        self.timings.get(component).map(|seconds| Duration::from_secs_f64(*seconds))
    }

    fn official(&self, component: &Component) -> bool {
        self.options.from == From::Official && component.official.is_some()
    }

    /// Names of the components that this one needs to be made first.
    pub fn parts<'c>(&self, component: &'c Component) -> Vec<&'c str> {
        if self.official(component) { Vec::new() } else { component.parts() }
    }

    /// What a component is made from, as one digest.
    pub fn key(&self, component: &Component, parts: &BTreeMap<String, Made>) -> Result<Digest> {
        let official = self.official(component);
        let inputs = if official { Vec::new() } else { self.inputs(component)? };
        let parts: BTreeMap<&String, Digest> = parts.iter().map(|(name, made)| (name, made.content())).collect();
        let how = if official { serde_json::json!(component.official) } else { serde_json::json!(component.build) };
        // Not the roles nor the description: they change the manifest, not the blobs.
        let text = serde_json::json!({
            "format": FORMAT,
            "zstd": zstd::zstd_safe::version_number(),
            "name": component.name, "version": component.version, "license": component.license,
            "kind": component.kind, "how": how, "inputs": inputs, "parts": parts,
        });
        Ok(Digest::of(text.to_string().as_bytes()))
    }

    fn inputs(&self, component: &Component) -> Result<Vec<String>> {
        let mut known = self.inputs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inputs) = known.get(&component.name) {
            return Ok(inputs.clone());
        }
        let inputs =
            self.options.recipes.inputs(component, &self.options.repo).map_err(|source| failed(component, source))?;
        known.insert(component.name.clone(), inputs.clone());
        Ok(inputs)
    }

    /// The entry of the cache, if there is one that can be trusted; `None` if it must be made.
    pub fn find(&self, component: &Component, key: &Digest) -> Result<Option<Made>> {
        match self.cache.load(key, false) {
            Ok(found) => Ok(found),
            Err(reason) => {
                (self.watch)(Event::Evicted { component: &component.name, reason: &reason });
                self.cache.evict(key)?;
                Ok(None)
            }
        }
    }

    /// Makes a component and keeps it.
    pub fn make(
        &self,
        component: &Component,
        key: Digest,
        parts: &BTreeMap<String, (Component, Made)>,
    ) -> Result<Made> {
        let begun = Instant::now();
        let scratch = self.cache.tmp().join(&component.name);
        let blobs = scratch.join("blobs");
        let work = scratch.join("work");
        let act = || format!("make room for {} in {}", component.name, scratch.display());
        remove_tree(&scratch).map_err(Error::io(act()))?;
        fs::create_dir_all(&blobs).and_then(|()| fs::create_dir_all(&work)).map_err(Error::io(act()))?;

        let log = Mutex::new(File::create(self.cache.log(&component.name)).map_err(Error::io(act()))?);
        let say = |line: &str| {
            // The log on disk is for looking into failures; not being able to write it is not one.
            let _ = writeln!(log.lock().unwrap_or_else(PoisonError::into_inner), "{line}");
            (self.watch)(Event::Log { component: &component.name, line });
        };
        let packed = if self.official(component) {
            crate::official::obtain(component, &work, &self.cache.kept(), &blobs, &say)?
        } else {
            let parts = self.unpack_all(parts)?;
            let context = Context {
                repo: &self.options.repo,
                work: &work,
                cache: &self.cache.kept(),
                parts: &parts.0,
                log: &say,
            };
            let product =
                self.options.recipes.produce(component, &context).map_err(|source| failed(component, source))?;
            say("packing");
            pack::pack(component, product, &parts.1, &blobs)?
        };
        let own = fs::read_dir(&blobs)
            .map_err(Error::io(act()))?
            .flatten()
            .filter_map(|item| Digest::from_hex(&item.file_name().to_string_lossy()))
            .collect();
        let seconds = begun.elapsed().as_secs_f64();
        let made = Made { component: component.name.clone(), key, seconds, packed, own };
        self.cache.store(&made, &blobs)?;
        remove_tree(&scratch).map_err(Error::io(act()))?;
        self.cache.remember_timing(&component.name, seconds);
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).push(component.name.clone());
        Ok(made)
    }

    fn unpack_all(
        &self,
        parts: &BTreeMap<String, (Component, Made)>,
    ) -> Result<(BTreeMap<String, Part>, BTreeMap<String, Layer>)> {
        let mut roots = BTreeMap::new();
        let mut layers = BTreeMap::new();
        for (name, (component, made)) in parts {
            let root = self.unpack(component, made)?;
            roots.insert(name.clone(), Part { component: component.clone(), root });
            if let Some(layer) = &made.packed.layer {
                layers.insert(name.clone(), layer.clone());
            }
        }
        Ok((roots, layers))
    }

    /// Unpacks a part for reading, checking all its bytes.
    fn unpack(&self, component: &Component, made: &Made) -> Result<PathBuf> {
        let mut unpacked = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((key, root)) = unpacked.get(&component.name)
            && *key == made.key
        {
            return Ok(root.clone());
        }
        let root = self.cache.tmp().join("parts").join(&component.name);
        let act = || format!("unpack {} for the components that are made from it", component.name);
        self.cache
            .load(&made.key, true)
            .map_err(|reason| Error::Io { act: act(), source: io::Error::other(format!("{reason}; build again")) })?;
        let work = || -> io::Result<()> {
            remove_tree(&root)?;
            fs::create_dir_all(&root)?;
            if let (Kind::Layer, Some(layer)) = (component.kind, &made.packed.layer) {
                return untar(&self.cache.blob(&made.key, &layer.blob.digest), &root);
            }
            for file in &made.packed.files {
                let target = root.join(&file.path);
                fs::create_dir_all(target.parent().unwrap_or(&root))?;
                let blob = File::open(self.cache.blob(&made.key, &file.blob))?;
                zstd::stream::copy_decode(blob, File::create(&target)?)?;
                fs::set_permissions(&target, fs::Permissions::from_mode(file.permissions().unwrap_or(0o644)))?;
            }
            Ok(())
        };
        work().map_err(Error::io(act()))?;
        unpacked.insert(component.name.clone(), (made.key.clone(), root.clone()));
        Ok(root)
    }
}

fn untar(blob: &Path, root: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(zstd::stream::read::Decoder::new(File::open(blob)?)?);
    archive.set_preserve_permissions(true);
    // Only root can give files away; anybody else reads the owners from the layer when they matter.
    archive.set_preserve_ownerships(is_root());
    archive.set_preserve_mtime(false);
    archive.unpack(root)
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

fn failed(component: &Component, source: RecipeError) -> Error {
    Error::Recipe { component: component.name.clone(), source }
}
