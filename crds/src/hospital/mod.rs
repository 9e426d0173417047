//! A hospital: namespace, quota, people, walls.

mod desired;
mod status;
mod types;

#[cfg(test)]
mod tests;

pub use desired::{APP, desired};
pub use status::status;
pub use types::*;

use crate::Outcome;

/// What the operator looks up before it decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Value of the label `hz.hospital/hospital` of the namespace, if that exists; the inner nothing is a namespace
    /// that somebody else made.
    pub namespace: Option<Option<String>>,
}

/// What the operator saw after it wrote.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// How far the pass got.
    pub outcome: Outcome,
    /// `status.used` of the hospital's ResourceQuota by key: `requests.cpu`, `requests.memory`, `requests.storage`, `pods`.
    pub used: std::collections::BTreeMap<String, String>,
    /// The namespace is being deleted.
    pub terminating: bool,
}
