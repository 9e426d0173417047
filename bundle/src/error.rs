//! What can go wrong with a bundle, by the act that failed.

use std::io;
use std::path::PathBuf;

use crate::component::ListError;
use crate::digest::Digest;
use crate::manifest::ManifestError;
use crate::product::RecipeError;

/// Shorthand of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed act.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bundle is not there, or may not be read.
    #[error("failed to open the bundle {path}")]
    Open {
        /// The bundle.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file, but not one of ours.
    #[error("{path} is not a bundle: {reason}")]
    NotABundle {
        /// The file.
        path: PathBuf,
        /// What was found instead.
        reason: String,
    },
    /// The archive ends before it should, or its headers are damaged.
    #[error("the bundle {path} is damaged at byte {offset}: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What was found.
        reason: String,
    },
    /// The manifest inside cannot be used.
    #[error("the bundle {path} cannot be used")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ManifestError,
    },
    /// The manifest names a blob that is not there.
    #[error("blob {digest} is missing from {path}")]
    MissingBlob {
        /// The bundle.
        path: PathBuf,
        /// The blob.
        digest: Digest,
    },
    /// The bytes are not those that the manifest promises.
    #[error("{what} in {path} is damaged: {reason}")]
    WrongBytes {
        /// The bundle or file.
        path: PathBuf,
        /// Which part, with the component it belongs to.
        what: String,
        /// Expected and found.
        reason: String,
    },
    /// The bundle has no such component or file.
    #[error("the bundle has no {what}{hint}")]
    Unknown {
        /// What was asked for.
        what: String,
        /// The nearest that it has.
        hint: String,
    },
    /// A key or signature file could not be used.
    #[error("failed to {act}: {reason}")]
    Key {
        /// What was being done, with the path.
        act: String,
        /// Why.
        reason: String,
    },
    /// The component list cannot be used.
    #[error(transparent)]
    List(ListError),
    /// A component could not be made.
    #[error("failed to make component {component}")]
    Recipe {
        /// The component.
        component: String,
        /// Why.
        source: RecipeError,
    },
    /// A component cannot be had the way that was asked for.
    #[error("component {component} cannot be had from {from}: {reason}")]
    NoSource {
        /// The component.
        component: String,
        /// `official` or `registries`.
        from: &'static str,
        /// Why.
        reason: String,
    },
    /// A download failed for good.
    #[error("failed to download {url}: {reason}")]
    Download {
        /// Address.
        url: String,
        /// Why, after all attempts.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("failed to {act}")]
    Io {
        /// What was being done, with the path.
        act: String,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err` on file work.
    pub(crate) fn io(act: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { act: act.into(), source }
    }

    /// Whether the user gave us something wrong, rather than the machine failing.
    pub fn is_bad_input(&self) -> bool {
        match self {
            Self::Open { source, .. } => matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory),
            Self::Recipe { source, .. } => matches!(source, RecipeError::Missing { .. }),
            Self::Download { .. } | Self::Io { .. } => false,
            _ => true,
        }
    }
}
