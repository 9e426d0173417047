//! `hzctl bootstrap`: Turn the hosts of a cluster.yaml into a running hospital cloud.

use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

/// Arguments of `hzctl bootstrap`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Run it.
pub async fn run(_args: Args, _printer: &mut Printer) -> Result<ExitStatus, Failure> {
    Err(Failure::fault("`hzctl bootstrap` is not built yet"))
}
