//! `hzctl db upgrade`, `rollback` and `finish-upgrade`: another major version, the way back, and the end of the way back.

use hz_crds::operation::Action;
use hz_crds::postgres::PostgresVersion;

use crate::commands::data::DATABASE;
use crate::commands::data::actions::{Asked, Wish, ask};
use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

/// Arguments of an upgrade.
#[derive(Debug, clap::Args)]
pub struct Upgrade {
    #[command(flatten)]
    asked: Asked,
    /// Major version of PostgreSQL to go to
    #[arg(long, value_name = "VERSION", value_parser = version)]
    to: PostgresVersion,
    /// Do without a backup of today, though there is a BackupPlan
    #[arg(long)]
    skip_backup: bool,
}

/// Arguments of the way back.
#[derive(Debug, clap::Args)]
pub struct Rollback {
    #[command(flatten)]
    asked: Asked,
    /// Say that everything that was written since the upgrade may be lost
    #[arg(long, required = true)]
    accept_loss_since: bool,
}

/// Arguments of the end of the way back.
#[derive(Debug, clap::Args)]
pub struct Finish {
    #[command(flatten)]
    asked: Asked,
}

/// A version that can be had.
fn version(text: &str) -> Result<PostgresVersion, String> {
    PostgresVersion::of(text).ok_or_else(|| "possible: 15, 17".to_owned())
}

/// Run an upgrade.
pub async fn upgrade(args: Upgrade, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let wish = Wish { version: Some(args.to), skip_backup: args.skip_backup, ..Wish::default() };
    ask(&DATABASE, Action::Upgrade, args.asked, wish, printer).await
}

/// Run a way back.
pub async fn rollback(args: Rollback, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let warning =
        "This leads back to the data of before the upgrade.\n  Everything that was written since is lost.".to_owned();
    let wish = Wish { accept_loss_since: args.accept_loss_since, warning: Some(warning), ..Wish::default() };
    ask(&DATABASE, Action::RollBack, args.asked, wish, printer).await
}

/// Run the end of an upgrade.
pub async fn finish(args: Finish, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let warning =
        "This throws the data of before the upgrade away.\n  After that nothing leads back to that version.".to_owned();
    let wish = Wish { warning: Some(warning), ..Wish::default() };
    ask(&DATABASE, Action::FinishUpgrade, args.asked, wish, printer).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_cannot_be_had_is_answered_with_those_that_can() {
        assert_eq!(version("17"), Ok(PostgresVersion::V17));
        assert_eq!(version("16").unwrap_err(), "possible: 15, 17");
    }
}
