//! The operator against a real API server: what the server takes and refuses, what the operator writes and leaves alone.
//!
//! There are no controllers and no kubelets here; the tests play them by writing the statuses that they would.

#![allow(clippy::unwrap_used)] // a test that cannot go on should say where

#[path = "../common/faults.rs"]
mod faults;
#[path = "../common/lab.rs"]
mod lab;
#[path = "../common/server.rs"]
mod server;
#[path = "../common/tool.rs"]
mod tool;

mod backups;
mod bench;
mod caches;
mod charts;
mod drift;
mod election;
mod encrypted;
mod limits;
mod malformed;
mod operations;
mod pooler;
mod process;
mod rules;
mod rules_of_backups;
mod rules_of_caches;
mod runbooks;
mod silence;
mod told;
mod torn;
mod upgrades;
