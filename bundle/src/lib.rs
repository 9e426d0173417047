//! The offline bundle: one archive with everything that bare hosts need to become a cluster.
//!
//! - [`component`]: the list that it is built from;
//! - [`manifest`]: `hz-bundle.json`, what is in it;
//! - [`Bundle`]: an opened bundle, archive or laid-out folder;
//! - [`verify`]: every byte checked, and what is wrong named;
//! - [`build`]: from the list to the signed archive.

pub mod archive;
pub mod build;
pub mod bundle;
pub mod component;
pub mod digest;
pub mod error;
mod lay_out;
pub mod manifest;
mod official;
pub mod product;
pub mod recipe;
pub mod signature;
pub mod verify;

pub use build::{Built, Event, Options, build};
pub use bundle::{BlobReader, Bundle};
pub use component::{Kind, Role};
pub use digest::Digest;
pub use error::{Error, Result};
pub use lay_out::LaidOut;
pub use manifest::{Descriptor, Entry, FileEntry, Manifest};
pub use signature::{SigningKey, VerifyingKey};
pub use verify::{Fault, Report, verify};
