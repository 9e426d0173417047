//! One piece of work on a database or cache, from its request to its end.

pub mod decide;
pub mod moves;
mod refuse;
mod status;
mod types;
pub mod upgrade;
mod upgrade_terms;
#[cfg(test)]
mod upgrade_tests;

#[cfg(test)]
mod tests;

pub use status::{expires, status};
pub use types::*;

use kube::core::ResourceExt;

/// The operation on a target that is at work, or else the one whose turn is next: what runs goes on, then the oldest.
pub fn first<'a>(operations: &'a [DataOperation], target: &Target) -> Option<&'a DataOperation> {
    let phase =
        |operation: &DataOperation| operation.status.as_ref().and_then(|status| status.phase).unwrap_or_default();
    let open = operations.iter().filter(|operation| operation.spec.target == *target && !phase(operation).is_final());
    open.min_by_key(|operation| {
        let waits = phase(operation) != Phase::Running;
        let created = operation.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (waits, created, operation.name_any())
    })
}
