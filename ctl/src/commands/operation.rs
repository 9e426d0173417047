//! `hzctl operation`: See, follow and cancel what was asked of databases and caches.

use clap::Subcommand;

use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

mod cancel;
pub mod end;
pub mod follow;
mod list;
pub mod row;
mod wait;

/// What people call them: one, and many.
pub const NOUNS: (&str, &str) = ("operation", "operations");

/// Arguments of `hzctl operation`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List operations, the newest last
    List(list::Args),
    /// Follow an operation to its end
    Wait(wait::Args),
    /// Have an operation begin no further step
    Cancel(cancel::Args),
}

/// Run it.
pub async fn run(args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    match args.command {
        Command::List(args) => list::run(args, printer).await,
        Command::Wait(args) => wait::run(args, printer).await,
        Command::Cancel(args) => cancel::run(args, printer).await,
    }
}
