//! A small source tree with recipes that count how often they are asked.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use hz_bundle::build::{self, Built, Event, From, Options, Recipes};
use hz_bundle::component::{Build, Component, ImageConfig};
use hz_bundle::product::{
    Context, Entry, EntryKind, ImageLayer, ProducedFile, ProducedImage, Product, RecipeError, Tree,
};
use hz_bundle::{Error, Kind, SigningKey};
use tempfile::TempDir;

pub const LIST: &str = "
components:
- { name: base, version: '13', license: GPL-2.0, kind: layer, build: { debianRoot: { suite: trixie, packages: [] } } }
- { name: program, version: v1, license: MIT, kind: binary, internal: true, build: { files: { files: { usr/local/bin/program: x } } } }
- name: kubelet
  version: v1.36.3
  license: Apache-2.0
  kind: binary
  roles: [control-plane, worker]
  build: { files: { files: { usr/local/bin/kubelet: x } } }
- name: haproxy
  version: '2.6'
  license: GPL-2.0
  kind: deb
  roles: [control-plane]
  build: { files: { files: { debs/haproxy.deb: x } } }
- name: records
  version: '17.5'
  license: PostgreSQL
  kind: image
  roles: [worker]
  build: { image: { from: base, binaries: { usr/bin/program: 'program:usr/local/bin/program' } } }
- name: imaging
  version: 1.12.7
  license: GPL-3.0
  kind: image
  roles: [worker]
  build: { image: { from: base } }
";

/// Recipes whose bytes follow from the component's name and a salt.
#[derive(Default)]
pub struct Made {
    pub salts: Mutex<BTreeMap<String, String>>,
    pub inputs: Mutex<BTreeMap<String, String>>,
    pub asked: Mutex<Vec<String>>,
}

impl Made {
    fn bytes(&self, name: &str, size: usize) -> Vec<u8> {
        let salt = self.salts.lock().unwrap().get(name).cloned().unwrap_or_default();
        // Bytes that do not compress, so that blobs have some length.
        let mut state = name
            .bytes()
            .chain(salt.bytes())
            .fold(0x9e37_79b9_7f4a_7c15_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        (0..size)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect()
    }
}

impl Recipes for Made {
    fn inputs(&self, component: &Component, _repo: &Path) -> Result<Vec<String>, RecipeError> {
        Ok(self.inputs.lock().unwrap().get(&component.name).cloned().into_iter().collect())
    }

    fn produce(&self, component: &Component, context: &Context<'_>) -> Result<Product, RecipeError> {
        self.asked.lock().unwrap().push(component.name.clone());
        (context.log)("making");
        if component.name == "broken" {
            return Err(RecipeError::failed("compile broken", "syntax error"));
        }
        let entry = |path: &str, what| Entry { path: path.into(), what, mode: 0o755, uid: 0, gid: 0 };
        Ok(match (&component.build, component.kind) {
            (_, Kind::Layer) => Product::Layer(Tree::Entries(vec![
                entry("etc/os-release", EntryKind::Bytes(self.bytes(&component.name, 40_000))),
                entry("bin", EntryKind::Symlink("usr/bin".into())),
                entry("tmp", EntryKind::Directory),
            ])),
            (Some(Build::Image(image)), _) => {
                let mut own = vec![entry("opt/own", EntryKind::Bytes(self.bytes(&component.name, 3_000)))];
                for (path, of) in &image.binaries {
                    let (part, file) = of.split_once(':').unwrap();
                    own.push(entry(path, EntryKind::File(context.parts[part].root.join(file))));
                }
                let config = ImageConfig {
                    user: Some("10001".into()),
                    entrypoint: vec!["/opt/own".into()],
                    ..ImageConfig::default()
                };
                let layers = vec![ImageLayer::Shared("base".into()), ImageLayer::Own(Tree::Entries(own))];
                Product::Image(ProducedImage { layers, config })
            }
            (Some(Build::Files(files)), _) => {
                let made = files.files.keys().map(|path| {
                    let source = context.work.join(path.replace('/', "_"));
                    fs::write(&source, self.bytes(&component.name, 10_000)).unwrap();
                    ProducedFile { path: path.clone(), mode: 0o755, source }
                });
                Product::Files(made.collect())
            }
            other => panic!("no test makes {other:?}"),
        })
    }
}

/// A source tree, a cache and an output folder of a test's own.
pub struct Bench {
    pub folder: TempDir,
    pub recipes: Made,
    pub key: SigningKey,
    pub from: From,
    pub events: Mutex<Vec<String>>,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(LIST)
    }

    pub fn with(list: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bench = Self {
            folder,
            recipes: Made::default(),
            key: SigningKey::ephemeral().unwrap(),
            from: From::Registries,
            events: Mutex::default(),
        };
        bench.list(list);
        bench
    }

    pub fn list(&self, list: &str) {
        fs::write(self.folder.path().join("components.yaml"), list).unwrap();
    }

    pub fn archive(&self) -> PathBuf {
        self.folder.path().join("dist/bundle.tar")
    }

    pub fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    pub fn try_build(&self) -> Result<Built, Error> {
        let options = Options {
            list: self.folder.path().join("components.yaml"),
            repo: self.folder.path().into(),
            cache: self.cache(),
            output: self.archive(),
            version: "0.1.0".into(),
            from: self.from,
            key: &self.key,
            recipes: &self.recipes,
        };
        build::build(&options, &|event| {
            if let Event::Evicted { component, reason } = event {
                self.events.lock().unwrap().push(format!("evicted {component}: {reason}"));
            }
        })
    }

    pub fn build(&self) -> Built {
        self.try_build().unwrap()
    }

    /// Components that recipes made since the last call.
    pub fn asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut *self.recipes.asked.lock().unwrap());
        asked.sort();
        asked
    }

    /// Files of the cache that hold blobs, with the component each belongs to.
    pub fn cached_blobs(&self, component: &str) -> Vec<PathBuf> {
        let mut blobs = Vec::new();
        for entry in fs::read_dir(self.cache().join("components")).unwrap().flatten() {
            let text = fs::read_to_string(entry.path().join("entry.json")).unwrap();
            if text.contains(&format!("\"component\": \"{component}\"")) {
                blobs.extend(fs::read_dir(entry.path().join("blobs")).unwrap().flatten().map(|blob| blob.path()));
            }
        }
        assert!(!blobs.is_empty(), "{component} is in the cache");
        blobs
    }
}
