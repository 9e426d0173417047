//! `hzctl check`: Check hosts before the bootstrap, or a running cluster after it.

use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

/// Arguments of `hzctl check`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Run it.
pub async fn run(_args: Args, _printer: &mut Printer) -> Result<ExitStatus, Failure> {
    Err(Failure::fault("`hzctl check` is not built yet"))
}
