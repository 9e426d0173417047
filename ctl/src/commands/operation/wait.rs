//! `hzctl operation wait`: Follow an operation to its end.

use hz_crds::operation::DataOperation;

use super::{end, follow};
use crate::commands::reach::{Place, Reach, find};
use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

/// Arguments of `hzctl operation wait`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the operation
    name: String,
    #[command(flatten)]
    reach: Reach,
}

/// Run it.
pub async fn run(args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let client = args.reach.client().await?;
    let namespace = args.reach.namespace.as_deref();
    let operation: DataOperation = find(&client, namespace, &args.name, super::NOUNS).await?;
    let ended = follow::to_end(&client, &Place::of(&operation), &args.reach, printer).await?;
    end::tell(&ended, printer)
}
