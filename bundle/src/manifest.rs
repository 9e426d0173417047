//! `hz-bundle.json`: what is in a bundle, which hosts need which blob, and what each blob is for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::component::{Kind, Role};
use crate::digest::Digest;

/// The schema that this program writes, and the newest that it reads.
pub const SCHEMA_VERSION: u32 = 1;
/// Media type of an OCI image manifest; artefacts use it too.
pub const MEDIA_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an OCI image configuration.
pub const MEDIA_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of a layer.
pub const MEDIA_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Media type of one compressed file of an artefact.
pub const MEDIA_FILE: &str = "application/vnd.hzctl.file.v1+zstd";
/// Media type of the empty configuration of an artefact.
pub const MEDIA_EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Artefact type of what is not an image.
pub const ARTIFACT_TYPE: &str = "application/vnd.hzctl.component.v1";

/// The list of everything in a bundle. It is what gets signed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Schema of this file.
    pub schema_version: u32,
    /// Version of the bundle.
    pub version: String,
    /// Machine architecture that it is for, as Go writes it.
    pub architecture: String,
    /// Digest of the list of components, with the keys of all that they were made from.
    pub created_from: Digest,
    /// Components in a fixed order.
    pub components: Vec<Entry>,
    /// Bytes of all blobs, each once.
    pub total_size: u64,
}

/// One component of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Name, unique in the bundle.
    pub name: String,
    /// Upstream version.
    pub version: String,
    /// SPDX expression.
    pub license: String,
    /// What it is to a host.
    pub kind: Kind,
    /// Roles of the hosts that need it.
    pub roles: Vec<Role>,
    /// One line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Full image name, for images.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Digest of its OCI manifest, itself one of `blobs`.
    pub manifest: Digest,
    /// All blobs that it takes: manifest, configuration, layers or files.
    pub blobs: Vec<Descriptor>,
    /// Files at their install paths; empty for images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileEntry>,
}

/// A blob: by what name, how long, what for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Digest of its bytes, which is its name.
    pub digest: Digest,
    /// Number of bytes.
    pub size: u64,
    /// OCI media type.
    pub media_type: String,
}

/// One file of a component that is not an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileEntry {
    /// Install path, relative to the component: `usr/local/bin/kubelet`.
    pub path: String,
    /// Permission bits, octal: `0755`.
    pub mode: String,
    /// Bytes when unpacked.
    pub size: u64,
    /// SHA-256 when unpacked, 64 hexadecimal digits.
    pub sha256: String,
    /// The blob that holds it, compressed with zstd.
    pub blob: Digest,
}

/// Why `hz-bundle.json` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not the JSON that we know.
    #[error("hz-bundle.json does not parse: {0}")]
    Parse(String),
    /// Made by a newer program.
    #[error("hz-bundle.json has schemaVersion {found}, and this program reads up to {SCHEMA_VERSION}")]
    Newer {
        /// Schema of the file.
        found: u64,
    },
    /// The parts contradict each other.
    #[error("hz-bundle.json does not add up: {0}")]
    Inconsistent(String),
}

impl Manifest {
    /// Reads and checks a manifest.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Schema {
            schema_version: u64,
        }
        let parse = |e: serde_json::Error| ManifestError::Parse(e.to_string());
        // The schema first: a newer file may not parse as ours, and that is not what is wrong with it.
        let Schema { schema_version } = serde_json::from_slice(bytes).map_err(parse)?;
        if schema_version > u64::from(SCHEMA_VERSION) {
            return Err(ManifestError::Newer { found: schema_version });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(parse)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The bytes that are written and signed: the same manifest gives the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a manifest has only string keys");
        bytes.push(b'\n');
        bytes
    }

    /// Every blob once, in the order of first use.
    pub fn blobs(&self) -> Vec<&Descriptor> {
        unique(self.components.iter())
    }

    /// What hosts of a role need, every blob once.
    pub fn blobs_for(&self, role: Role) -> Vec<&Descriptor> {
        unique(self.components.iter().filter(|c| c.roles.contains(&role)))
    }

    /// Components that hosts of a role need.
    pub fn components_for(&self, role: Role) -> impl Iterator<Item = &Entry> {
        self.components.iter().filter(move |c| c.roles.contains(&role))
    }

    /// Container images that hosts of a role need.
    pub fn images_for(&self, role: Role) -> impl Iterator<Item = &Entry> {
        self.components_for(role).filter(|c| c.kind == Kind::Image)
    }

    /// The component of a name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.components.iter().find(|c| c.name == name)
    }

    /// A file by component and install path.
    pub fn file(&self, component: &str, path: &str) -> Option<&FileEntry> {
        self.get(component)?.files.iter().find(|f| f.path == path)
    }

    /// Who uses a blob, and as what: `kubelet (usr/local/bin/kubelet)`.
    pub fn users_of(&self, blob: &Digest) -> Vec<Use> {
        let mut users = Vec::new();
        for component in &self.components {
            if !component.blobs.iter().any(|b| b.digest == *blob) {
                continue;
            }
            let files: Vec<_> = component.files.iter().filter(|f| f.blob == *blob).collect();
            if files.is_empty() {
                let media = component.blobs.iter().find(|b| b.digest == *blob).map_or("", |b| &b.media_type);
                users.push(Use { component: component.name.clone(), part: part_name(media).into() });
            }
            users.extend(files.iter().map(|f| Use { component: component.name.clone(), part: f.path.clone() }));
        }
        users
    }

    /// The OCI `index.json` of some components: all of them, or only the images of a role.
    pub fn oci_index<'a>(&'a self, components: impl Iterator<Item = &'a Entry>) -> Vec<u8> {
        let manifests: Vec<_> = components.map(Entry::oci_descriptor).collect();
        let index = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": manifests,
        });
        index.to_string().into_bytes()
    }

    fn check(&self) -> Result<(), ManifestError> {
        let mut sizes: BTreeMap<&Digest, u64> = BTreeMap::new();
        for component in &self.components {
            let wrong = |what: String| ManifestError::Inconsistent(format!("component {}: {what}", component.name));
            for blob in &component.blobs {
                if *sizes.entry(&blob.digest).or_insert(blob.size) != blob.size {
                    return Err(wrong(format!("blob {} has two sizes", blob.digest)));
                }
            }
            let holds = |digest: &Digest| component.blobs.iter().any(|b| b.digest == *digest);
            if !holds(&component.manifest) {
                return Err(wrong(format!("its manifest {} is not among its blobs", component.manifest)));
            }
            for file in &component.files {
                if !holds(&file.blob) {
                    return Err(wrong(format!("blob {} of {} is not among its blobs", file.blob, file.path)));
                }
                if !is_safe(&file.path) {
                    return Err(wrong(format!("path `{}` leaves its folder", file.path)));
                }
                if file.permissions().is_none() {
                    return Err(wrong(format!("mode `{}` of {} is not octal", file.mode, file.path)));
                }
            }
        }
        let total: u64 = sizes.values().sum();
        if total != self.total_size {
            return Err(ManifestError::Inconsistent(format!(
                "totalSize is {}, the blobs have {total}",
                self.total_size
            )));
        }
        Ok(())
    }
}

/// One use of a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// The component.
    pub component: String,
    /// The file it holds, or which part of an image it is.
    pub part: String,
}

impl std::fmt::Display for Use {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.component, self.part)
    }
}

impl Entry {
    /// Bytes of all its blobs, also those it shares.
    pub fn size(&self) -> u64 {
        self.blobs.iter().map(|b| b.size).sum()
    }

    fn oci_descriptor(&self) -> serde_json::Value {
        let size = self.blobs.iter().find(|b| b.digest == self.manifest).map_or(0, |b| b.size);
        let mut annotations = BTreeMap::from([("hospital.hz.roles", roles_csv(&self.roles))]);
        if let Some(name) = &self.reference {
            annotations.insert("org.opencontainers.image.ref.name", name.clone());
            annotations.insert("io.containerd.image.name", name.clone());
        } else {
            annotations.insert("org.opencontainers.image.title", self.name.clone());
            annotations.insert("org.opencontainers.image.version", self.version.clone());
        }
        let mut descriptor = serde_json::json!({
            "mediaType": MEDIA_MANIFEST, "digest": self.manifest, "size": size, "annotations": annotations,
        });
        if self.kind == Kind::Image {
            descriptor["platform"] = serde_json::json!({ "architecture": "amd64", "os": "linux" });
        } else {
            descriptor["artifactType"] = ARTIFACT_TYPE.into();
        }
        descriptor
    }
}

impl FileEntry {
    /// Permission bits; `None` if they are not octal.
    pub fn permissions(&self) -> Option<u32> {
        u32::from_str_radix(&self.mode, 8).ok().filter(|mode| *mode <= 0o7777)
    }
}

/// `control-plane,worker`.
pub fn roles_csv(roles: &[Role]) -> String {
    roles.iter().map(Role::to_string).collect::<Vec<_>>().join(",")
}

/// Whether a path stays where it is put: relative, without `..`.
pub fn is_safe(path: &str) -> bool {
    !path.is_empty() && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

fn part_name(media_type: &str) -> &'static str {
    match media_type {
        MEDIA_MANIFEST => "manifest",
        MEDIA_CONFIG | MEDIA_EMPTY => "configuration",
        MEDIA_LAYER => "layer",
        // Images as others publish them.
        other if other.contains("layer") || other.contains("rootfs") => "layer",
        other if other.contains("container.image") => "configuration",
        _ => "blob",
    }
}

fn unique<'a>(components: impl Iterator<Item = &'a Entry>) -> Vec<&'a Descriptor> {
    let mut seen = std::collections::BTreeSet::new();
    components.flat_map(|c| &c.blobs).filter(|blob| seen.insert(&blob.digest)).collect()
}
