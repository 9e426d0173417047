//! `hzctl cache`: See caches, work on them, and open a valkey-cli shell.

use clap::Subcommand;

use super::data::{CACHE, actions, logs};
use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

mod connect;
mod list;

/// Arguments of `hzctl cache`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List caches and what is done with them
    List(list::Args),
    /// Open a valkey-cli shell on the master, or run commands given or from standard input
    Connect(connect::Args),
    /// Print the log of the master, of one copy or of all
    Logs(logs::Args),
    /// Hand the master's work to another copy; the sentinels choose which
    Switchover(actions::Plain),
    /// Start every copy anew, one after the other, the master last
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
        Command::Logs(args) => logs::run(&CACHE, args, printer).await,
        Command::Switchover(args) => actions::switchover_to_any(&CACHE, args, printer).await,
        Command::Restart(args) => actions::restart(&CACHE, args, printer).await,
        Command::Scale(args) => actions::scale(&CACHE, args, printer).await,
        Command::Expand(args) => actions::expand(&CACHE, args, printer).await,
        Command::Rebuild(args) => actions::rebuild(&CACHE, args, printer).await,
    }
}
