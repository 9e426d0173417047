//! The seam between the builder and the recipes: what a recipe is given, and what it hands back.
//!
//! A recipe only puts files somewhere and says what they are. Packing, compressing, hashing,
//! caching and signing are the builder's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::component::{Component, ImageConfig};

/// What a recipe may use.
pub struct Context<'a> {
    /// Root of this source tree.
    pub repo: &'a Path,
    /// An empty folder for this component alone, removed when the product is packed.
    pub work: &'a Path,
    /// A folder kept between builds (downloads, module caches). Shared by all components.
    pub cache: &'a Path,
    /// The components this one is made from, by name (see `Component::parts`).
    pub parts: &'a BTreeMap<String, Part>,
    /// Tells what is going on, one short line at a time.
    pub log: &'a (dyn Fn(&str) + Sync),
}

/// A component that is already made, unpacked for reading.
#[derive(Debug, Clone)]
pub struct Part {
    /// What it is.
    pub component: Component,
    /// Its files at their install paths, or for a layer its tree. Not to be written to.
    pub root: PathBuf,
}

/// What a recipe made.
#[derive(Debug, Clone)]
pub enum Product {
    /// Files for hosts: kinds binary, deb and chart.
    Files(Vec<ProducedFile>),
    /// A root file system, or what is added to one: kind layer.
    Layer(Tree),
    /// A container image: kind image.
    Image(ProducedImage),
}

/// One file for hosts.
#[derive(Debug, Clone)]
pub struct ProducedFile {
    /// Install path, relative: `usr/local/bin/kubelet`.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Where its bytes are now.
    pub source: PathBuf,
}

/// A file tree that becomes one layer.
#[derive(Debug, Clone)]
pub enum Tree {
    /// A folder; owners, modes and links are taken as they are, times are set to zero.
    Directory(PathBuf),
    /// A tar file (not compressed), for trees whose owners the builder's user cannot make on disk.
    /// It is repacked in a fixed order.
    Tar(PathBuf),
    /// Entries made up one by one.
    Entries(Vec<Entry>),
}

/// One entry of a made-up layer.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Path in the image, without a leading `/`.
    pub path: String,
    /// What it is.
    pub what: EntryKind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What an entry is.
#[derive(Debug, Clone)]
pub enum EntryKind {
    /// A file, copied from here.
    File(PathBuf),
    /// A file with these bytes.
    Bytes(Vec<u8>),
    /// A folder. Parent folders are made by themselves as 0755 root.
    Directory,
    /// A symbolic link to a target.
    Symlink(String),
}

/// One layer of an image.
#[derive(Debug, Clone)]
pub enum ImageLayer {
    /// The layer of another component, stored once however many images use it.
    Shared(String),
    /// A layer of this image's own.
    Own(Tree),
}

/// A container image.
#[derive(Debug, Clone)]
pub struct ProducedImage {
    /// From the bottom up.
    pub layers: Vec<ImageLayer>,
    /// How it starts.
    pub config: ImageConfig,
}

/// A recipe could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// A program failed.
    #[error("failed to {act}: {message}")]
    Failed {
        /// What was being done: `build k8s.io/kubernetes/cmd/kubelet`.
        act: String,
        /// The end of what the program said.
        message: String,
    },
    /// A program that the recipe needs is not on this machine.
    #[error("{program} is needed to {act}; {hint}")]
    Missing {
        /// The program.
        program: String,
        /// What for.
        act: String,
        /// How to get it.
        hint: String,
    },
    /// A file could not be read or written.
    #[error("failed to {act}")]
    Io {
        /// What was being done, with the path.
        act: String,
        /// Why.
        source: std::io::Error,
    },
}

impl RecipeError {
    /// A failed act, in one line.
    pub fn failed(act: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Failed { act: act.into(), message: message.into() }
    }

    /// For `map_err` on file work.
    pub fn io(act: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { act: act.into(), source }
    }
}
