//! `hzctl bundle`: Build, verify and look into the offline bundle.

use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

/// Arguments of `hzctl bundle`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Run it.
pub async fn run(_args: Args, _printer: &mut Printer) -> Result<ExitStatus, Failure> {
    Err(Failure::fault("`hzctl bundle` is not built yet"))
}
