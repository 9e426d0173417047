//! `hzctl operation list`: List operations, the newest last.

use hz_crds::Timestamp;
use hz_crds::operation::DataOperation;

use super::row::{rows, table};
use crate::commands::reach::{Everywhere, list};
use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

/// Arguments of `hzctl operation list`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    reach: Everywhere,
}

/// Run it.
pub async fn run(args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let client = args.reach.client().await?;
    let operations: Vec<DataOperation> = list(&client, args.reach.namespace(), super::NOUNS.1).await?;
    printer.value(&rows(&operations), |rows| table(rows, Timestamp::now()))?;
    Ok(ExitStatus::Success)
}
