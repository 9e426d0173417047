//! What it turns into.

use super::{Inputs, MedicalService};
use crate::{Plan, Platform, Unfit};

/// Everything it owns.
pub fn desired(owner: &MedicalService, _inputs: &Inputs, _platform: &Platform) -> Result<Plan, Unfit> {
    Ok(Plan::owned_by(owner, "service"))
}
