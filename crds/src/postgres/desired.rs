//! What it turns into.

use super::{Inputs, PostgresInstance};
use crate::{Plan, Platform, Unfit};

/// Everything it owns.
pub fn desired(owner: &PostgresInstance, _inputs: &Inputs, _platform: &Platform) -> Result<Plan, Unfit> {
    Ok(Plan::owned_by(owner, "postgres"))
}
