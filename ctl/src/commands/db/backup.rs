//! `hzctl db backup`: Back a database server up now.

use hz_crds::Timestamp;
use hz_crds::backup::{Backup, BackupSpec, BackupType};
use kube::ResourceExt;

use super::backups::{Row, phase};
use super::plan::{Of, Planned};
use crate::commands::data::{DATABASE, create};
use crate::commands::follow::ended::{Ended, Why, is_late, took};
use crate::commands::follow::{self, Told, Work};
use crate::commands::reach::Place;
use crate::exit::{ExitStatus, Failure};
use crate::printer::{Output, Printer};

/// Arguments of `hzctl db backup`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    of: Of,
    /// How much is copied
    #[arg(long = "type", value_enum, value_name = "TYPE", default_value_t = Type::Full)]
    type_: Type,
    /// Follow it to its end
    #[arg(long)]
    wait: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Type {
    /// Everything
    Full,
    /// What changed since the last full backup
    Differential,
    /// What changed since the last backup of any type
    Incremental,
}

impl From<Type> for BackupType {
    fn from(type_: Type) -> Self {
        match type_ {
            Type::Full => Self::Full,
            Type::Differential => Self::Differential,
            Type::Incremental => Self::Incremental,
        }
    }
}

/// Run it.
pub async fn run(args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let client = args.of.reach.client().await?;
    let planned = args.of.find(&client).await?;
    let server = &planned.place;
    there(&planned)?;
    let made =
        create(&client, &backup(&planned, args.type_.into(), Timestamp::now()), &deed(args.type_, server)).await?;
    let hint = format!("to see how it stands: {}", args.of.backups_again(server));
    if !args.wait {
        printer.value(&Row::of(&made), |row| format!("backup {} was asked for\n{hint}", row.name))?;
        return Ok(ExitStatus::Success);
    }
    let deed = deed(args.type_, server);
    // Scripts read the name in the events.
    if printer.output() != Output::Json {
        printer.say(format!("backup {}: {deed}", made.name_any()));
    }
    let work = Work { noun: "backup", place: Place::of(&made), hint };
    let ended = follow::to_end(&client, &work, |backup| told(backup, &deed), printer).await?;
    tell(&ended, &planned, deed, printer)
}

/// What is gone cannot be backed up, although its plan is still there.
fn there(planned: &Planned) -> Result<(), Failure> {
    let Place { namespace, name } = &planned.place;
    if planned.servers.contains(name) {
        return Ok(());
    }
    Err(Failure::input(format!(
        "there is no {} `{name}` any more; only its plan and its backups are left",
        DATABASE.nouns.0
    ))
    .hint(format!("to have it back: hzctl db restore {name} --into {name} -n {namespace}")))
}

/// The object that asks for it. Its name sorts by time and tells that a person asked.
fn backup(planned: &Planned, type_: BackupType, now: Timestamp) -> Backup {
    let name = format!("{}-by-hand-{}", planned.plan(), now.strftime("%Y%m%d%H%M%S"));
    let mut backup = Backup::new(&name, BackupSpec { plan: planned.plan(), type_, cancel: false });
    backup.metadata.namespace = Some(planned.place.namespace.clone());
    backup
}

fn deed(type_: Type, server: &Place) -> String {
    format!("the {} backup of {}", format!("{type_:?}").to_lowercase(), server.name)
}

fn told(backup: &Backup, deed: &str) -> Told {
    let message = backup.status.as_ref().and_then(|status| status.message.clone());
    Told { deed: deed.to_owned(), phase: phase(backup), message, ..Told::default() }
}

fn tell(backup: &Backup, planned: &Planned, deed: String, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let status = backup.status.clone().unwrap_or_default();
    let stored = status.stored.map(|stored| format!("{stored} stored"));
    let done = phase(backup).is_final() && stored.is_some();
    let ended = Ended {
        deed,
        phase: phase(backup),
        took: took(status.start_time.as_deref(), status.completion_time.as_deref()),
        message: if done { stored } else { status.message },
        late: is_late(&status.conditions),
    };
    let Place { namespace, name } = &planned.place;
    let failure = ended.failure(Some(planned.plan.spec.deadline_seconds), |why| match why {
        Why::Late => format!("spec.deadlineSeconds of the BackupPlan {} is how long it may take", planned.plan()),
        Why::Failed | Why::Cancelled => format!(
            "`hzctl db logs {name} -n {namespace}` and `kubectl logs job/{} -n {namespace}` tell more; mend it and ask again",
            backup.name_any()
        ),
    });
    if let Some(failure) = failure {
        return Err(failure);
    }
    printer.value(&Row::of(backup), |_| ended.sentence())?;
    Ok(ExitStatus::Success)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::plan::tests::plan;
    use super::*;

    #[test]
    fn a_backup_by_hand_is_named_after_its_plan_and_the_second() {
        let place = Place { namespace: "hospital-anna".into(), name: "records".into() };
        let planned = Planned { place, plan: plan("nightly", "records", json!({})), servers: Vec::new() };
        let made = backup(&planned, BackupType::Differential, "2026-03-01T08:05:09.7Z".parse().unwrap());
        assert_eq!(
            serde_json::to_value(&made).unwrap(),
            json!({
                "apiVersion": "hz.hospital/v1alpha1",
                "kind": "Backup",
                "metadata": { "name": "nightly-by-hand-20260301080509", "namespace": "hospital-anna" },
                "spec": { "plan": "nightly", "type": "Differential", "cancel": false },
            })
        );
        // The longest name of a plan leaves room for it: names of Jobs have 63 letters.
        assert_eq!("nightly-by-hand-20260301080509".len() - "nightly".len() + 40, 63);
    }
}
