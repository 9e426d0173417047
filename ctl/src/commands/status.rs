//! `hzctl status`: Tell how the cluster is.

use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

/// Arguments of `hzctl status`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Run it.
pub async fn run(_args: Args, _printer: &mut Printer) -> Result<ExitStatus, Failure> {
    Err(Failure::fault("`hzctl status` is not built yet"))
}
