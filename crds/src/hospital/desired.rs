//! What it turns into.

use super::{Inputs, Hospital};
use crate::{Plan, Platform, Unfit};

/// Everything it owns.
pub fn desired(owner: &Hospital, _inputs: &Inputs, _platform: &Platform) -> Result<Plan, Unfit> {
    Ok(Plan::owned_by(owner, "hospital"))
}
