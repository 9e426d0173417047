//! From the list of components to the signed archive.
//!
//! Every component is made at most once for what it is made from, kept in a cache, and used from
//! there. A build that finds all of them made and the archive whole changes nothing.

mod cache;
mod make;
mod pack;
mod schedule;
mod tree;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

pub use cache::{Cache, Made};
pub(crate) use pack::pack as pack_product;
pub use pack::{Layer, Packed};

use crate::component::{Component, ComponentList};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::{Entry, Manifest, SCHEMA_VERSION};
use crate::product::{Context, Product, RecipeError};
use crate::signature::SigningKey;

/// How long a component stays in the cache that no build used.
const KEEP_DAYS: u64 = 30;

/// Where components come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum From {
    /// Built from package registries alone.
    #[default]
    Registries,
    /// Downloaded as upstream publishes them, wherever upstream does; our own are built.
    Official,
}

/// How recipes are called; tests bring their own.
pub trait Recipes: Sync {
    /// See [`crate::recipe::inputs`].
    fn inputs(&self, component: &Component, repo: &Path) -> Result<Vec<String>, RecipeError>;
    /// See [`crate::recipe::produce`].
    fn produce(&self, component: &Component, context: &Context<'_>) -> Result<Product, RecipeError>;
}

/// The recipes of this crate.
pub struct Registries;

impl Recipes for Registries {
    fn inputs(&self, component: &Component, repo: &Path) -> Result<Vec<String>, RecipeError> {
        crate::recipe::inputs(component, repo)
    }
    fn produce(&self, component: &Component, context: &Context<'_>) -> Result<Product, RecipeError> {
        crate::recipe::produce(component, context)
    }
}

/// What to build, and where.
pub struct Options<'a> {
    /// The component list.
    pub list: PathBuf,
    /// Root of the source tree.
    pub repo: PathBuf,
    /// Root of the cache; see [`Cache::default_root`].
    pub cache: PathBuf,
    /// The archive to write.
    pub output: PathBuf,
    /// Version of the bundle.
    pub version: String,
    /// Where components come from.
    pub from: From,
    /// Signs the manifest.
    pub key: &'a SigningKey,
    /// Makes components.
    pub recipes: &'a dyn Recipes,
}

/// What happened, for whoever watches. Called from several threads.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// Another build holds the cache; this one goes on after it.
    Waiting,
    /// What lies ahead, as far as it can be seen.
    Plan {
        /// Components in all.
        components: usize,
        /// Those that must be made.
        to_make: &'a [ToMake],
    },
    /// A component is being made.
    Start {
        /// Its name.
        component: &'a str,
        /// What works on it: `compile` or `assemble`.
        lane: &'static str,
    },
    /// A recipe says something.
    Log {
        /// Its component.
        component: &'a str,
        /// One line.
        line: &'a str,
    },
    /// A component is there.
    Finish {
        /// Its name.
        component: &'a str,
        /// Whether it was in the cache.
        cached: bool,
        /// How long it took now.
        took: Duration,
        /// Bytes of its blobs.
        size: u64,
    },
    /// An entry of the cache was thrown away.
    Evicted {
        /// Its component.
        component: &'a str,
        /// What was wrong with it.
        reason: &'a str,
    },
    /// The archive that is there is being checked.
    Check {
        /// Bytes hashed.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The archive is being written.
    Write {
        /// Bytes written.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
}

/// A component that must be made.
#[derive(Debug, Clone)]
pub struct ToMake {
    /// Its name.
    pub component: String,
    /// What will work on it: `compile` or `assemble`.
    pub lane: &'static str,
    /// How long it took last time, or is thought to take.
    pub expected: Duration,
}

/// Takes events.
pub type Watch<'a> = &'a (dyn Fn(Event<'_>) + Sync);

/// A bundle that is there.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Built {
    /// The archive.
    pub path: PathBuf,
    /// The public key beside it.
    pub public_key: PathBuf,
    /// Id of that key.
    pub key_id: String,
    /// Version of the bundle.
    pub version: String,
    /// Components in it.
    pub components: usize,
    /// Those that were made now.
    pub made: Vec<String>,
    /// Whether the archive was already as it should be.
    pub unchanged: bool,
    /// Bytes of the archive.
    pub size: u64,
    /// How long it all took.
    pub seconds: f64,
}

/// Builds a bundle.
pub fn build(options: &Options<'_>, watch: Watch<'_>) -> Result<Built> {
    let begun = Instant::now();
    let list = ComponentList::load(&options.list).map_err(Error::List)?;
    check_sources(&list, options.from)?;
    let (cache, _lock) = Cache::open(&options.cache, || watch(Event::Waiting))?;

    // A first look believes sizes. Only if bytes are needed from the cache are they hashed.
    let maker = make::Maker::new(options, &cache, watch);
    let mut made = schedule::run(&list, &maker, watch)?;
    let mut manifest = assemble(&list, &made, options);
    let mut unchanged = write::is_current(options, &manifest, watch)?;
    if !unchanged && evict_damaged(&cache, &made, watch)? {
        made = schedule::run(&list, &maker, watch)?;
        manifest = assemble(&list, &made, options);
        unchanged = write::is_current(options, &manifest, watch)?;
    }
    if !unchanged {
        write::archive(options, &manifest, &cache, &made, watch)?;
    }
    let public_key = write::public_key(options)?;
    cache.prune(made.values(), KEEP_DAYS);
    let size =
        std::fs::metadata(&options.output).map_err(Error::io(format!("read {}", options.output.display())))?.len();
    Ok(Built {
        path: options.output.clone(),
        public_key,
        key_id: options.key.verifying().id(),
        version: options.version.clone(),
        components: manifest.components.len(),
        made: maker.fresh(),
        unchanged,
        size,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

/// Whether each component can be had the way that is asked for; told before anything is made.
fn check_sources(list: &ComponentList, from: From) -> Result<()> {
    for component in &list.components {
        if component.build.is_none() && from == From::Registries {
            return Err(Error::NoSource {
                component: component.name.clone(),
                from: "registries",
                reason: "it has no `build`; try --from official".into(),
            });
        }
    }
    Ok(())
}

/// The manifest of what was made.
fn assemble(list: &ComponentList, made: &BTreeMap<String, Made>, options: &Options<'_>) -> Manifest {
    let mut components = Vec::new();
    let mut sizes = BTreeMap::new();
    for component in list.components.iter().filter(|c| c.shipped()) {
        let Some(Made { packed: Packed { manifest: Some(manifest), blobs, files, .. }, .. }) =
            made.get(&component.name)
        else {
            continue;
        };
        sizes.extend(blobs.iter().map(|blob| (blob.digest.clone(), blob.size)));
        components.push(Entry {
            name: component.name.clone(),
            version: component.version.clone(),
            license: component.license.clone(),
            kind: component.kind,
            roles: component.roles.clone(),
            description: component.description.clone(),
            reference: (component.kind == crate::Kind::Image).then(|| component.image_name()),
            manifest: manifest.clone(),
            blobs: blobs.clone(),
            files: files.clone(),
        });
    }
    let origin: Vec<_> = list.components.iter().map(|c| (&c.name, made.get(&c.name).map(Made::content))).collect();
    Manifest {
        schema_version: SCHEMA_VERSION,
        version: options.version.clone(),
        architecture: "amd64".into(),
        created_from: Digest::of(&serde_json::to_vec(&(list, origin)).expect("lists have only string keys")),
        components,
        total_size: sizes.values().sum(),
    }
}

/// Hashes every entry that will be read; throws away what is damaged. Tells whether anything was.
fn evict_damaged(cache: &Cache, made: &BTreeMap<String, Made>, watch: Watch<'_>) -> Result<bool> {
    let mut any = false;
    for (component, made) in made {
        if let Err(reason) = cache.load(&made.key, true) {
            watch(Event::Evicted { component, reason: &reason });
            cache.evict(&made.key)?;
            any = true;
        }
    }
    Ok(any)
}
