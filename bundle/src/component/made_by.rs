//! The ways to make a component, one struct a recipe.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::is_false;

/// How a component is made. Exactly one recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Build {
    /// Go commands from the module proxy.
    Go(GoBuild),
    /// A minimal Debian root, or what packages add to one.
    DebianRoot(DebianRootBuild),
    /// Debian packages as they are.
    Debs(DebsBuild),
    /// Files out of Python wheels.
    Pypi(PypiBuild),
    /// Our own Rust binaries, from this source tree.
    Cargo(CargoBuild),
    /// A Helm chart of this source tree, packed.
    Chart(ChartBuild),
    /// Files of this source tree as they are.
    Files(FilesBuild),
    /// A container image put together from other components.
    Image(ImageBuild),
}

/// Go commands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GoBuild {
    /// Folder under `bundle/` with a go.mod of ours that pins everything; excludes `module`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// Module to fetch, at `version` or the component's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Version of the module where it differs from the component's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Install path → package to build.
    pub commands: BTreeMap<String, String>,
    /// Linker flags; `{version}` stands for the component's version.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ldflags: Vec<String>,
    /// Build tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Whether C is linked in.
    #[serde(skip_serializing_if = "is_false")]
    pub cgo: bool,
    /// Files to take out of the module's source: install path → path in the module.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
}

/// A Debian root made by mmdebstrap.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DebianRootBuild {
    /// Debian release, such as `trixie`.
    pub suite: String,
    /// Further releases to take packages from that `suite` does not have. Of what several have, the newest counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// Component whose root this one stands on: only what is added is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Packages, `name` or `name=version`.
    pub packages: Vec<String>,
    /// Paths to leave out (globs).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
    /// Users to add: name → uid.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub users: BTreeMap<String, u32>,
    /// Commands run inside the finished root.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub run: Vec<String>,
}

/// Debian packages for hosts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DebsBuild {
    /// Debian release of the hosts, such as `bookworm`.
    pub suite: String,
    /// Package names.
    pub packages: Vec<String>,
    /// Packages that every host already has, so that their dependencies stop there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub assume: Vec<String>,
}

/// Files out of Python wheels.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PypiBuild {
    /// Distribution name.
    pub package: String,
    /// Version where it differs from the component's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Install path → path inside the wheel.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// Install the package and what it needs as a tree at this path instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tree: Option<String>,
    /// Further requirements of a tree, pinned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
}

/// Our own Rust binaries.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CargoBuild {
    /// Cargo package.
    pub package: String,
    /// Install path → binary target.
    pub binaries: BTreeMap<String, String>,
    /// Linked without a dynamic C library, to run on any host.
    #[serde(skip_serializing_if = "is_false")]
    pub r#static: bool,
}

/// A Helm chart of ours.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ChartBuild {
    /// Folder in this source tree.
    pub path: String,
}

/// Files of this source tree.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FilesBuild {
    /// Install path → path in this source tree.
    pub files: BTreeMap<String, String>,
}

/// A container image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ImageBuild {
    /// Layer component the image stands on; none for an empty root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Further layer components, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
    /// Files of other components: path in the image → `component:install/path`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub binaries: BTreeMap<String, String>,
    /// Files of this source tree: path in the image → path in the tree.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// Symbolic links: path in the image → target.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<String, String>,
    /// Folders to make: path → `uid:gid:mode`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub directories: BTreeMap<String, String>,
    /// How the image starts.
    pub config: ImageConfig,
}

/// How a container of an image starts (the `config` of the OCI image).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ImageConfig {
    /// Program and fixed arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Arguments that a pod may replace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// `uid` or `uid:gid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Environment.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Ports, such as `8080/tcp`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Signal that ends the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
}
