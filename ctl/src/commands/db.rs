//! `hzctl db`: See PostgreSQL servers, work on them, and open a psql shell.

use clap::Subcommand;

use super::data::{DATABASE, actions, logs};
use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

mod connect;
mod list;

/// Arguments of `hzctl db`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List database servers and what is done with them
    List(list::Args),
    /// Open a psql shell on a database, or run SQL from -c or standard input
    Connect(connect::Args),
    /// Print the log of the primary, of one copy or of all
    Logs(logs::Args),
    /// Hand the primary's work to another copy
    Switchover(actions::To),
    /// Start every copy anew, one after the other, the primary last
    Restart(actions::Plain),
    /// Have another number of copies
    Scale(actions::Scale),
    /// Give every copy more room
    Expand(actions::Expand),
    /// Throw one copy's disk away and build it anew from the others
    Rebuild(actions::Rebuild),
}

/// Run it.
pub async fn run(args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    match args.command {
        Command::List(args) => list::run(args, printer).await,
        Command::Connect(args) => connect::run(args, printer).await,
        Command::Logs(args) => logs::run(&DATABASE, args, printer).await,
        Command::Switchover(args) => actions::switchover(&DATABASE, args, printer).await,
        Command::Restart(args) => actions::restart(&DATABASE, args, printer).await,
        Command::Scale(args) => actions::scale(&DATABASE, args, printer).await,
        Command::Expand(args) => actions::expand(&DATABASE, args, printer).await,
        Command::Rebuild(args) => actions::rebuild(&DATABASE, args, printer).await,
    }
}
