//! The kinds of the hospital cloud, and what each of them turns into.
//!
//! Everything here is pure: no client, clock, randomness or environment. The operator gathers what a
//! decision needs (`Inputs`, `Observed`, `Platform`), asks `desired` and `status`, and does the writing.

pub mod backup;
pub mod cache;
pub mod certificates;
pub mod conditions;
pub mod crd;
pub mod hospital;
pub mod labels;
pub mod network;
pub mod object;
pub mod operation;
pub mod outcome;
pub mod passwords;
pub mod plan;
pub mod platform;
pub mod pod;
pub mod postgres;
pub mod quantity;
pub mod rbac;
pub mod reference;
pub mod runbooks;
pub mod service;
pub mod shared;
pub mod store;
pub mod unfit;

#[cfg(test)]
mod testing;

pub use certificates::{CertificateSlot, Certificates, KeyPair};
pub use k8s_openapi::jiff::Timestamp;
pub use object::DynamicObject;
pub use outcome::Outcome;
pub use passwords::{Passwords, Slot};
pub use plan::Plan;
pub use platform::Platform;
pub use unfit::Unfit;
