//! `hzctl db`: See PostgreSQL servers, work on them, back them up and restore them, and open a psql shell.

use clap::Subcommand;

use super::data::{DATABASE, actions, logs};
use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

mod backup;
mod backups;
mod cancel;
mod connect;
mod drill;
mod drills;
mod list;
mod plan;
mod restore;
mod upgrade;

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
    /// Go to another major version of PostgreSQL; the data of before is kept until finish-upgrade
    Upgrade(upgrade::Upgrade),
    /// Go back to the version and the data of before an upgrade; what was written since is lost
    Rollback(upgrade::Rollback),
    /// Throw the data of before an upgrade away, and with it the way back
    FinishUpgrade(upgrade::Finish),
    /// Back a database server up now, besides what its BackupPlan does by itself
    Backup(backup::Args),
    /// List the backups of a database server, and tell what can be restored
    Backups(backups::Args),
    /// Make a new database server from backups: the last state, a moment, or one backup
    Restore(restore::Args),
    /// Stop a backup or a restore that is under way
    Cancel(cancel::Args),
    /// Prove now that a database server can be restored: restore it beside itself, ask it questions, remove it again
    Drill(drill::Args),
    /// List restore drills: what they proved, how long it took, what was lost
    Drills(drills::Args),
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
        Command::Upgrade(args) => upgrade::upgrade(args, printer).await,
        Command::Rollback(args) => upgrade::rollback(args, printer).await,
        Command::FinishUpgrade(args) => upgrade::finish(args, printer).await,
        Command::Backup(args) => backup::run(args, printer).await,
        Command::Backups(args) => backups::run(args, printer).await,
        Command::Restore(args) => restore::run(args, printer).await,
        Command::Cancel(args) => cancel::run(args, printer).await,
        Command::Drill(args) => drill::run(args, printer).await,
        Command::Drills(args) => drills::run(args, printer).await,
    }
}
