//! `components.yaml`: the one list of what goes into a bundle, and how each part is had.
//!
//! The types are strict: an unknown field, a name used twice or a reference to nothing is an
//! error that names the component, before a minute is spent on building.

mod made_by;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use made_by::*;

/// The whole list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ComponentList {
    /// Components, in the order in which they appear in the bundle.
    pub components: Vec<Component>,
}

/// One thing that goes into the bundle, or that others are made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Component {
    /// Unique name: lower-case letters, digits and `-`.
    pub name: String,
    /// Upstream version; ours is the workspace version.
    pub version: String,
    /// SPDX expression.
    pub license: String,
    /// What hosts get.
    pub kind: Kind,
    /// Roles of the hosts that need it. Empty only for a `layer` or an internal part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Role>,
    /// One line for people who read `hzctl bundle list`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Full image name; by default `hz.hospital/<name>:<version>`.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Only a part of others: built and cached, but not in the bundle by itself.
    #[serde(default, skip_serializing_if = "is_false")]
    pub internal: bool,
    /// The artefact as upstream publishes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub official: Option<Official>,
    /// How it is made from package registries alone.
    // YAML would otherwise want the recipe's name as a tag, `!go`.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "serde_yaml::with::singleton_map_recursive")]
    pub build: Option<Build>,
}

/// What a component is to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A container image.
    Image,
    /// Files put at their install paths.
    Binary,
    /// Debian packages for hosts that lack them.
    Deb,
    /// A Helm chart archive, or other manifests.
    Chart,
    /// A root file system that images stand on. Never in the bundle by itself.
    Layer,
}

/// The role of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Runs the API server and etcd.
    ControlPlane,
    /// Runs workloads.
    Worker,
}

/// Where upstream publishes the artefact. Exactly one of `url` and `image`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Official {
    /// Address of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Its SHA-256, 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Image name in a container registry, without a tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Manifest digest of that image, `sha256:…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What to take out of the file: install path → path inside the archive.
    /// Empty: the file itself, at `install`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extract: BTreeMap<String, String>,
    /// Install path of a file that is not an archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install: Option<String>,
}

/// Why a component list cannot be used. Every one of these is for the author of the list to mend.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The file is not there or not readable.
    #[error("cannot read the component list {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not the YAML that we know.
    #[error("{path}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Message of the parser, with line and column.
        message: String,
    },
    /// Well-formed, but does not add up.
    #[error("{path}: component {component}: {message}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The component at fault.
        component: String,
        /// What is wrong, and what would be right.
        message: String,
    },
}

impl ComponentList {
    /// Reads and checks a list.
    pub fn load(path: &Path) -> Result<Self, ListError> {
        let text = std::fs::read_to_string(path).map_err(|source| ListError::Read { path: path.into(), source })?;
        Self::parse(path, &text)
    }

    /// Checks a list that is already read; `path` is for messages.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ListError> {
        let list: Self =
            serde_yaml::from_str(text).map_err(|e| ListError::Parse { path: path.into(), message: e.to_string() })?;
        list.check().map_err(|(component, message)| ListError::Invalid { path: path.into(), component, message })?;
        Ok(list)
    }

    /// The component of a name.
    pub fn get(&self, name: &str) -> Option<&Component> {
        self.components.iter().find(|c| c.name == name)
    }

    /// Components so that each comes after what it is made from; the order of the list otherwise.
    /// A list that passed `parse` has no rings.
    pub fn in_build_order(&self) -> Vec<&Component> {
        let mut done = BTreeSet::new();
        let mut order = Vec::with_capacity(self.components.len());
        while order.len() < self.components.len() {
            let before = order.len();
            for component in &self.components {
                let ready = component.parts().iter().all(|part| done.contains(*part));
                if ready && done.insert(component.name.as_str()) {
                    order.push(component);
                }
            }
            if order.len() == before {
                break;
            }
        }
        order
    }

    fn check(&self) -> Result<(), (String, String)> {
        let names: BTreeSet<&str> = self.components.iter().map(|c| c.name.as_str()).collect();
        let mut seen = BTreeSet::new();
        for component in &self.components {
            let fail = |message: String| Err((component.name.clone(), message));
            if !seen.insert(component.name.as_str()) {
                return fail("is listed twice".into());
            }
            if let Err(message) = component.check() {
                return fail(message);
            }
            for part in component.parts() {
                if !names.contains(part) {
                    return fail(format!("is made from {part}, which is not in the list{}", nearest(part, &names)));
                }
            }
        }
        let order = self.in_build_order();
        if let Some(stuck) = self.components.iter().find(|c| !order.iter().any(|o| o.name == c.name)) {
            return Err((stuck.name.clone(), "is, in the end, made from itself".into()));
        }
        Ok(())
    }
}

impl Component {
    /// Names of the components that this one is made from.
    pub fn parts(&self) -> Vec<&str> {
        let mut parts: Vec<&str> = match &self.build {
            Some(Build::DebianRoot(root)) => root.base.iter().map(String::as_str).collect(),
            Some(Build::Image(image)) => image
                .from
                .iter()
                .map(String::as_str)
                .chain(image.layers.iter().map(String::as_str))
                .chain(image.binaries.values().map(|of| of.split(':').next().unwrap_or(of)))
                .collect(),
            _ => Vec::new(),
        };
        parts.sort_unstable();
        parts.dedup();
        parts
    }

    /// Full image name.
    pub fn image_name(&self) -> String {
        self.reference.clone().unwrap_or_else(|| format!("hz.hospital/{}:{}", self.name, self.version))
    }

    /// Whether it is in the bundle by itself.
    pub fn shipped(&self) -> bool {
        !self.internal && self.kind != Kind::Layer
    }

    fn check(&self) -> Result<(), String> {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || self.name.len() > 63 || !self.name.chars().all(good) {
            return Err("name must be 1 to 63 lower-case letters, digits and '-'".into());
        }
        if self.version.trim().is_empty() {
            return Err("version is empty".into());
        }
        if self.license.trim().is_empty() {
            return Err("license is empty; give an SPDX expression".into());
        }
        if self.shipped() && self.roles.is_empty() {
            return Err("roles is empty; name control-plane, worker or both, or say internal: true".into());
        }
        if self.build.is_none() && self.official.is_none() {
            return Err("has neither `build` nor `official`: there is no way to get it".into());
        }
        if let Some(official) = &self.official {
            official.check()?;
        }
        if let Some(Build::Image(image)) = &self.build {
            if self.kind != Kind::Image {
                return Err("is built as an image, so its kind must be image".into());
            }
            if let Some((at, of)) = image.binaries.iter().find(|(_, of)| !of.contains(':')) {
                return Err(format!("build.image.binaries[{at}] is `{of}`; write component:install/path"));
            }
        }
        Ok(())
    }
}

impl Official {
    fn check(&self) -> Result<(), String> {
        match (&self.url, &self.image) {
            (Some(_), Some(_)) => return Err("official has both url and image; keep one".into()),
            (None, None) => return Err("official has neither url nor image".into()),
            (Some(url), None) => {
                if !url.starts_with("https://") && !url.starts_with("http://127.0.0.1:") {
                    return Err(format!("official.url {url} must be https"));
                }
                let sum = self.sha256.as_deref().unwrap_or_default();
                if sum.len() != 64 || !sum.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err("official.sha256 must be 64 hexadecimal digits".into());
                }
            }
            (None, Some(_)) => {
                let digest = self.digest.as_deref().unwrap_or_default();
                if crate::digest::Digest::parse(digest).is_none() {
                    return Err("official.digest must be sha256: and 64 hexadecimal digits".into());
                }
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Image => "image",
            Self::Binary => "binary",
            Self::Deb => "deb",
            Self::Chart => "chart",
            Self::Layer => "layer",
        })
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ControlPlane => "control-plane",
            Self::Worker => "worker",
        })
    }
}

fn nearest(name: &str, names: &BTreeSet<&str>) -> String {
    names
        .iter()
        .map(|n| (strsim::levenshtein(n, name), n))
        .filter(|(distance, _)| *distance <= 3)
        .min()
        .map(|(_, n)| format!("; did you mean {n}?"))
        .unwrap_or_default()
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature serde asks for
fn is_false(value: &bool) -> bool {
    !*value
}
