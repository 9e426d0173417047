//! What it turns into.

use super::{Inputs, CacheInstance};
use crate::{Plan, Platform, Unfit};

/// Everything it owns.
pub fn desired(owner: &CacheInstance, _inputs: &Inputs, _platform: &Platform) -> Result<Plan, Unfit> {
    Ok(Plan::owned_by(owner, "cache"))
}
