//! Databases and owners, as SQL that may be run any number of times.

use super::{Inputs, PostgresInstance};
use crate::Unfit;

/// A statement, and where and when to run it.
#[derive(Clone, PartialEq, Eq)]
pub struct Statement {
    /// Database to be connected to.
    pub database: String,
    /// Skip the statement when this query gives a row.
    pub unless: Option<String>,
    /// The statement; it may hold a password, so it belongs into no log.
    pub sql: String,
}

/// Everything that makes databases and owners what the spec says.
#[derive(Clone, PartialEq, Eq)]
pub struct Provision {
    /// To be run in this order, each in a transaction of its own, as the superuser on the primary.
    pub statements: Vec<Statement>,
    /// Stands for all of it. The same as in the status: nothing needs to be run.
    pub fingerprint: String,
}

/// What to run so that databases and owners are as the spec says.
pub fn provision(_instance: &PostgresInstance, _inputs: &Inputs) -> Result<Provision, Unfit> {
    Ok(Provision { statements: Vec::new(), fingerprint: String::new() })
}
