//! The example patient-facing service, in five parts: [`config`] from the environment, [`appointment`]
//! with its rules, [`store`] in PostgreSQL, [`cache`] in Valkey, and the API in [`api`].
//!
//! PostgreSQL holds the truth. The cache may be away: reads then go to the database, and nothing fails.

mod api;
mod appointment;
mod cache;
mod config;
mod problem;
mod store;
mod tls;

pub use api::App;
pub use config::Config;
