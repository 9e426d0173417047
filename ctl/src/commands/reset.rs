//! `hzctl reset`: Take a cluster off its hosts again.

use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

/// Arguments of `hzctl reset`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Run it.
pub async fn run(_args: Args, _printer: &mut Printer) -> Result<ExitStatus, Failure> {
    Err(Failure::fault("`hzctl reset` is not built yet"))
}
