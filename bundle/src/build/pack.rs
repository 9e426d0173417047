//! From what a recipe made to blobs: compressed, hashed while they are written, described in OCI's words.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::tree;
use crate::component::{Component, ImageConfig, Kind};
use crate::digest::{Digest, HashingWriter};
use crate::error::{Error, Result};
use crate::manifest::{self, Descriptor, FileEntry};
use crate::product::{ImageLayer, ProducedFile, ProducedImage, Product, Tree};

/// Level of compression: higher ones cost minutes and win a few percent.
const LEVEL: i32 = 3;

/// A packed component: everything that `hz-bundle.json` says of it, but for its roles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Packed {
    /// Digest of its OCI manifest; none for a layer.
    pub manifest: Option<Digest>,
    /// Its blobs, shared ones too.
    pub blobs: Vec<Descriptor>,
    /// Its files, for kinds other than image and layer.
    pub files: Vec<FileEntry>,
    /// The layer, for kind layer.
    pub layer: Option<Layer>,
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    /// The compressed blob.
    pub blob: Descriptor,
    /// Digest of the tar stream inside.
    pub diff_id: Digest,
}

/// Packs a product into a folder of blobs.
pub fn pack(component: &Component, product: Product, shared: &BTreeMap<String, Layer>, blobs: &Path) -> Result<Packed> {
    let store = Store { folder: blobs, what: component.name.clone() };
    match (product, component.kind) {
        (Product::Files(files), Kind::Binary | Kind::Deb | Kind::Chart) => store.artefact(component, files),
        (Product::Layer(tree), Kind::Layer) => {
            let layer = store.layer(&tree)?;
            Ok(Packed { manifest: None, blobs: vec![layer.blob.clone()], files: Vec::new(), layer: Some(layer) })
        }
        (Product::Image(image), Kind::Image) => store.image(component, image, shared),
        (product, kind) => {
            let made = match product {
                Product::Files(_) => "files",
                Product::Layer(_) => "a layer",
                Product::Image(_) => "an image",
            };
            Err(store.failed(io::Error::other(format!("its kind is {kind}, but its recipe made {made}"))))
        }
    }
}

struct Store<'a> {
    folder: &'a Path,
    what: String,
}

impl Store<'_> {
    fn failed(&self, source: io::Error) -> Error {
        Error::Io { act: format!("pack {}", self.what), source }
    }

    fn artefact(&self, component: &Component, mut files: Vec<ProducedFile>) -> Result<Packed> {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        if files.is_empty() {
            return Err(self.failed(io::Error::other("its recipe made no files")));
        }
        let empty = self.bytes(b"{}", manifest::MEDIA_EMPTY)?;
        let mut blobs = Vec::new();
        let mut entries = Vec::new();
        let mut layers = Vec::new();
        for file in &files {
            let (blob, entry) = self.file(file)?;
            layers.push(json!({
                "mediaType": blob.media_type, "digest": blob.digest, "size": blob.size,
                "annotations": {
                    "org.opencontainers.image.title": entry.path,
                    "hospital.hz.mode": entry.mode,
                    "hospital.hz.size": entry.size.to_string(),
                    "hospital.hz.sha256": entry.sha256,
                },
            }));
            blobs.push(blob);
            entries.push(entry);
        }
        let text = json!({
            "schemaVersion": 2,
            "mediaType": manifest::MEDIA_MANIFEST,
            "artifactType": manifest::ARTIFACT_TYPE,
            "config": { "mediaType": empty.media_type, "digest": empty.digest, "size": empty.size },
            "layers": layers,
            "annotations": labels(component),
        });
        self.described(text, vec![empty], blobs, entries)
    }

    fn image(&self, component: &Component, image: ProducedImage, shared: &BTreeMap<String, Layer>) -> Result<Packed> {
        let mut layers = Vec::new();
        for layer in &image.layers {
            layers.push(match layer {
                ImageLayer::Own(tree) => self.layer(tree)?,
                ImageLayer::Shared(name) => shared.get(name).cloned().ok_or_else(|| {
                    self.failed(io::Error::other(format!(
                        "it stands on {name}, which is not a layer component among its parts"
                    )))
                })?,
            });
        }
        let config =
            self.bytes(config_json(component, &image.config, &layers).to_string().as_bytes(), manifest::MEDIA_CONFIG)?;
        let of = |d: &Descriptor| json!({ "mediaType": d.media_type, "digest": d.digest, "size": d.size });
        let text = json!({
            "schemaVersion": 2,
            "mediaType": manifest::MEDIA_MANIFEST,
            "config": of(&config),
            "layers": layers.iter().map(|l| of(&l.blob)).collect::<Vec<_>>(),
            "annotations": labels(component),
        });
        self.described(text, vec![config], layers.into_iter().map(|l| l.blob).collect(), Vec::new())
    }

    fn described(
        &self,
        text: Value,
        head: Vec<Descriptor>,
        mut rest: Vec<Descriptor>,
        files: Vec<FileEntry>,
    ) -> Result<Packed> {
        let manifest = self.bytes(text.to_string().as_bytes(), manifest::MEDIA_MANIFEST)?;
        let digest = manifest.digest.clone();
        let mut blobs = vec![manifest];
        blobs.extend(head);
        blobs.append(&mut rest);
        let mut seen = std::collections::BTreeSet::new();
        blobs.retain(|blob| seen.insert(blob.digest.clone()));
        Ok(Packed { manifest: Some(digest), blobs, files, layer: None })
    }

    fn layer(&self, tree: &Tree) -> Result<Layer> {
        let (blob, diff_id, _) = self.compressed(manifest::MEDIA_LAYER, |out| tree::write(tree, out))?;
        Ok(Layer { blob, diff_id })
    }

    fn file(&self, file: &ProducedFile) -> Result<(Descriptor, FileEntry)> {
        if !manifest::is_safe(&file.path) {
            return Err(self.failed(io::Error::other(format!("`{}` is no relative install path", file.path))));
        }
        let act = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", file.source.display()));
        let (blob, digest, size) = self.compressed(manifest::MEDIA_FILE, |mut out| {
            io::copy(&mut File::open(&file.source).map_err(act)?, &mut out).map(|_| ())
        })?;
        let entry = FileEntry {
            path: file.path.clone(),
            mode: format!("{:04o}", file.mode & 0o7777),
            size,
            sha256: digest.hex().into(),
            blob: blob.digest.clone(),
        };
        Ok((blob, entry))
    }

    /// Compresses what `fill` writes; gives the blob, and digest and size of what went in.
    fn compressed(
        &self,
        media_type: &str,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(Descriptor, Digest, u64)> {
        let temporary = self.folder.join(".packing");
        let work = || -> io::Result<_> {
            let file = HashingWriter::new(BufWriter::with_capacity(1 << 20, File::create(&temporary)?));
            let mut encoder = zstd::stream::write::Encoder::new(file, LEVEL)?;
            // From one worker on, the output does not depend on how many there are.
            let workers = std::thread::available_parallelism().map_or(1, usize::from);
            encoder.multithread(u32::try_from(workers).unwrap_or(1))?;
            encoder.include_checksum(true)?;
            let mut plain = HashingWriter::new(BufWriter::with_capacity(1 << 17, encoder));
            fill(&mut plain)?;
            plain.flush()?;
            let (buffered, plain_digest, plain_size) = plain.finish();
            let encoder = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
            let (mut out, digest, size) = encoder.finish()?.finish();
            out.flush()?;
            Ok((digest, size, plain_digest, plain_size))
        };
        let (digest, size, plain_digest, plain_size) = work().map_err(|e| self.failed(e))?;
        fs::rename(&temporary, self.path(&digest)).map_err(|e| self.failed(e))?;
        Ok((Descriptor { digest, size, media_type: media_type.into() }, plain_digest, plain_size))
    }

    fn bytes(&self, bytes: &[u8], media_type: &str) -> Result<Descriptor> {
        let digest = Digest::of(bytes);
        fs::write(self.path(&digest), bytes).map_err(|e| self.failed(e))?;
        Ok(Descriptor { digest, size: bytes.len() as u64, media_type: media_type.into() })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.hex())
    }
}

fn labels(component: &Component) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("org.opencontainers.image.title", component.name.clone()),
        ("org.opencontainers.image.version", component.version.clone()),
        ("org.opencontainers.image.licenses", component.license.clone()),
    ])
}

fn config_json(component: &Component, config: &ImageConfig, layers: &[Layer]) -> Value {
    let mut env = config.env.clone();
    env.entry("PATH".into()).or_insert_with(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    let env: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut all: BTreeMap<String, String> = labels(component).into_iter().map(|(k, v)| (k.into(), v)).collect();
    all.extend(config.labels.clone());
    let mut run = json!({ "Env": env, "Labels": all });
    let mut set = |key: &str, value: Value| {
        run[key] = value;
    };
    if !config.entrypoint.is_empty() {
        set("Entrypoint", json!(config.entrypoint));
    }
    if !config.cmd.is_empty() {
        set("Cmd", json!(config.cmd));
    }
    if let Some(user) = &config.user {
        set("User", json!(user));
    }
    if let Some(workdir) = &config.workdir {
        set("WorkingDir", json!(workdir));
    }
    if let Some(signal) = &config.stop_signal {
        set("StopSignal", json!(signal));
    }
    if !config.ports.is_empty() {
        let ports: BTreeMap<&String, Value> = config.ports.iter().map(|port| (port, json!({}))).collect();
        set("ExposedPorts", json!(ports));
    }
    json!({
        "architecture": "amd64",
        "os": "linux",
        "config": run,
        "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|l| &l.diff_id).collect::<Vec<_>>() },
    })
}
