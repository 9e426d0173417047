//! `hzctl db restore`: Make a new database server from backups.

use hz_crds::Timestamp;
use hz_crds::backup::{Backup, BackupPlan, Restore, RestoreSpec};
use hz_crds::operation::Phase;
use hz_crds::quantity::Amount;
use kube::ResourceExt;
use serde::Serialize;

use super::backups::{self, phase};
use super::plan::{Of, Planned};
use crate::cluster::nearest::nearest;
use crate::commands::data::actions::size;
use crate::commands::data::{DATABASE, create};
use crate::commands::follow::ended::{Ended, Why, is_late, took};
use crate::commands::follow::{self, Told, Work};
use crate::commands::reach::{Place, list};
use crate::commands::table::time;
use crate::exit::{ExitStatus, Failure};
use crate::printer::{Output, Printer};

/// Arguments of `hzctl db restore`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    of: Of,
    /// Name of the new database server; nothing is ever written over one that is there
    #[arg(long, value_name = "NEW", value_parser = name)]
    into: String,
    /// The moment to restore, as in RFC 3339: 2026-07-01T12:30:00Z; default: the last state
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "backup")]
    at: Option<Timestamp>,
    /// Restore the state at the end of this backup
    #[arg(long, value_name = "BACKUP")]
    backup: Option<String>,
    /// Copies of the new one, 1 to 7; default: as many as the old one had
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=7))]
    instances: Option<i32>,
    /// Room for data of each copy, such as 20Gi; default: as much as the old one had
    #[arg(long, value_name = "SIZE", value_parser = size)]
    size: Option<Amount>,
    /// Follow it to its end
    #[arg(long)]
    wait: bool,
    /// Seconds after which it is given up; what was restored by then stays
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400, value_parser = clap::value_parser!(i32).range(60..=604_800))]
    timeout: i32,
}

fn name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let well = text.len() <= 40
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(fits)
        && !text.ends_with('-');
    if well {
        return Ok(text.to_owned());
    }
    Err("a name is at most 40 lower-case letters, digits and hyphens, a letter first and no hyphen last".into())
}

fn moment(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| {
        "a moment is written as in RFC 3339, with an offset: 2026-07-01T12:30:00Z or 2026-07-01T14:30:00+02:00".into()
    })
}

/// Run it.
pub async fn run(args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let client = args.of.reach.client().await?;
    let planned = args.of.find(&client).await?;
    let now = Timestamp::now();
    free(&args.into, &planned)?;
    let from = reaches_back(&planned, now)?;
    if let Some(at) = args.at {
        within(at, from, now)?;
    }
    if let Some(name) = &args.backup {
        complete(name, &list::<Backup>(&client, Some(&planned.place.namespace), backups::NOUNS.1).await?, &planned)?;
    }
    let deed = format!("the restore of {} into {}", planned.place.name, args.into);
    let made = create(&client, &restore(&args, &planned, now), &deed).await?;
    let place = Place::of(&made);
    let hint = format!("to see how it stands: kubectl get restore {} -n {}", place.name, place.namespace);
    if !args.wait {
        printer.value(&Row::of(&made), |row| format!("restore {} was asked for\n{hint}", row.name))?;
        return Ok(ExitStatus::Success);
    }
    // Scripts read the name in the events.
    if printer.output() != Output::Json {
        printer.say(format!("restore {}: {deed}", place.name));
    }
    let work = Work { noun: "restore", place, hint };
    let ended = follow::to_end(&client, &work, |restore| told(restore, &deed), printer).await?;
    tell(&ended, deed, &args.of.reach.spelt(), printer)
}

/// The name of the new one must not be taken.
fn free(new: &str, planned: &Planned) -> Result<(), Failure> {
    if !planned.servers.iter().any(|server| server == new) {
        return Ok(());
    }
    let place = &planned.place.namespace;
    Err(Failure::input(format!(
        "there is a {} `{new}` in {place}, and a restore never writes over one",
        DATABASE.nouns.0
    ))
    .hint(format!(
        "take another name, such as --into {new}-restored, and change over when you have seen that it is right"
    )))
}

/// The earliest moment that can be restored.
fn reaches_back(planned: &Planned, now: Timestamp) -> Result<Timestamp, Failure> {
    earliest(&planned.plan).ok_or_else(|| {
        let Place { namespace, name } = &planned.place;
        Failure::input(format!("nothing of {name} can be restored: it has no complete backup by {}", second(now)))
            .hint(format!("`hzctl db backups {name} -n {namespace}` tells how it stands; `hzctl db backup {name} -n {namespace} --wait` makes one"))
    })
}

fn earliest(plan: &BackupPlan) -> Option<Timestamp> {
    plan.status.as_ref()?.recoverable_from.as_ref()?.parse().ok()
}

fn within(at: Timestamp, from: Timestamp, now: Timestamp) -> Result<(), Failure> {
    let wrong = match at {
        at if at > now => "has not come yet",
        at if at < from => "is before the oldest backup that is kept",
        _ => return Ok(()),
    };
    Err(Failure::input(format!("{at} {wrong}")).hint(format!(
        "every moment from {} to now, {}, can be restored",
        second(from),
        second(now)
    )))
}

/// RFC 3339, to the second.
fn second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The backup that is named must be one of the plan's, and whole.
fn complete(name: &str, backups: &[Backup], planned: &Planned) -> Result<(), Failure> {
    /// More would not be read.
    const MOST: usize = 5;
    let mut own: Vec<&Backup> = backups.iter().filter(|backup| backup.spec.plan == planned.plan()).collect();
    if let Some(found) = own.iter().find(|backup| backup.name_any() == name)
        && phase(found) != Phase::Succeeded
    {
        let message = format!("backup {name} is {} and cannot be restored", phase(found).word().to_lowercase());
        return Err(Failure::input(message).hint("leave out --backup for the last state, or name one that succeeded"));
    }
    own.retain(|backup| phase(backup) == Phase::Succeeded);
    own.sort_by_key(|backup| std::cmp::Reverse(backup.metadata.creation_timestamp.as_ref().map(|time| time.0)));
    let names: Vec<String> = own.iter().map(|backup| backup.name_any()).collect();
    if names.iter().any(|own| own == name) {
        return Ok(());
    }
    let meant = nearest(name, names.iter().map(String::as_str));
    let meant = meant.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
    let newest = names.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    Err(Failure::input(format!("the plan {} has no backup `{name}`", planned.plan()))
        .hint(format!("{meant}the newest backups: {newest}")))
}

/// The object that asks for it, named after what comes of it.
fn restore(args: &Args, planned: &Planned, now: Timestamp) -> Restore {
    let spec = RestoreSpec {
        plan: planned.plan(),
        target_time: args.at.map(|at| at.to_string()),
        backup: args.backup.clone(),
        instance: args.into.clone(),
        instances: args.instances,
        size: args.size.clone(),
        sealed: false,
        deadline_seconds: args.timeout,
        cancel: false,
    };
    let mut restore = Restore::new(&format!("{}-{}", args.into, now.strftime("%Y%m%d%H%M%S")), spec);
    restore.metadata.namespace = Some(planned.place.namespace.clone());
    restore
}

fn stands(restore: &Restore) -> Phase {
    restore.status.as_ref().and_then(|status| status.phase).unwrap_or_default()
}

fn told(restore: &Restore, deed: &str) -> Told {
    let message = restore.status.as_ref().and_then(|status| status.message.clone());
    Told { deed: deed.to_owned(), phase: stands(restore), message, ..Told::default() }
}

fn tell(restore: &Restore, deed: String, spelt: &str, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let status = restore.status.clone().unwrap_or_default();
    let (namespace, new) = (restore.namespace().unwrap_or_default(), &restore.spec.instance);
    let ended = Ended {
        deed,
        phase: stands(restore),
        took: took(status.start_time.as_deref(), status.completion_time.as_deref()),
        message: status.message,
        late: is_late(&status.conditions),
    };
    let failure = ended.failure(Some(restore.spec.deadline_seconds), |why| {
        let see = format!("`hzctl db list -n {namespace}` and `hzctl db logs {new} -n {namespace}` tell more");
        match why {
            Why::Late => format!("what was restored until then stays: {see}"),
            Why::Failed | Why::Cancelled => {
                format!("{see}; delete {new} if it is there, or take another name, and ask again")
            }
        }
    });
    if let Some(failure) = failure {
        return Err(failure);
    }
    printer.value(&Row::of(restore), |row| {
        let to = row.recovered_to.as_deref().unwrap_or("the end of the backup, after which nothing was written");
        let seconds = row.recovery_seconds.map(|seconds| format!(", {seconds} s after it was asked for"));
        format!(
            "{}\nrecovered to: {to}{}\nto connect: hzctl db connect {new} -n {namespace}{spelt}",
            ended.sentence(),
            seconds.unwrap_or_default()
        )
    })?;
    Ok(ExitStatus::Success)
}

/// One restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    namespace: String,
    name: String,
    plan: String,
    instance: String,
    backup: Option<String>,
    target_time: Option<String>,
    phase: &'static str,
    message: Option<String>,
    #[serde(serialize_with = "time")]
    created: Option<Timestamp>,
    started: Option<String>,
    ended: Option<String>,
    recovered_to: Option<String>,
    recovery_seconds: Option<i64>,
}

impl Row {
    fn of(restore: &Restore) -> Self {
        let (spec, status) = (restore.spec.clone(), restore.status.clone().unwrap_or_default());
        Row {
            namespace: restore.namespace().unwrap_or_default(),
            name: restore.name_any(),
            plan: spec.plan,
            instance: spec.instance,
            backup: spec.backup,
            target_time: spec.target_time,
            phase: stands(restore).word(),
            message: status.message,
            created: restore.metadata.creation_timestamp.as_ref().map(|time| time.0),
            started: status.start_time,
            ended: status.completion_time,
            recovered_to: status.recovered_to,
            recovery_seconds: status.recovery_seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::backups::tests::backup;
    use super::super::plan::tests::plan;
    use super::*;

    fn planned(status: serde_json::Value) -> Planned {
        let place = Place { namespace: "hospital-anna".into(), name: "records".into() };
        Planned { place, plan: plan("nightly", "records", status), servers: vec!["records".into()] }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_moment_that_cannot_be_restored_is_answered_with_those_that_can() {
        let (from, now) = (at("2026-03-01T01:00:00Z"), at("2026-03-02T12:00:00.5Z"));
        let window =
            Some("every moment from 2026-03-01T01:00:00Z to now, 2026-03-02T12:00:00Z, can be restored".to_owned());
        let future = within(at("2026-03-02T15:00:00+02:00"), from, now).unwrap_err();
        assert_eq!((future.message.as_str(), future.hint), ("2026-03-02T13:00:00Z has not come yet", window.clone()));
        let past = within(at("2026-02-28T00:00:00Z"), from, now).unwrap_err();
        assert_eq!(past.message, "2026-02-28T00:00:00Z is before the oldest backup that is kept");
        assert_eq!(past.hint, window);
        assert!(within(from, from, now).is_ok() && within(now, from, now).is_ok());
    }

    #[test]
    fn a_moment_has_an_offset_and_a_name_fits_the_definition() {
        assert!(moment("2026-07-01T12:30:00Z").is_ok() && moment("2026-07-01T14:30:00+02:00").is_ok());
        for bad in ["yesterday", "2026-07-01", "2026-07-01T12:30:00", "12:30"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
        assert!(name("records-2").is_ok());
        for bad in ["", "Records", "2records", "records-", "records_2", &"x".repeat(41)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_is_written_over_and_nothing_is_restored_from_nothing() {
        let taken = free("records", &planned(json!({}))).unwrap_err();
        assert!(taken.message.contains("never writes over one"), "{taken}");
        assert!(free("records-2", &planned(json!({}))).is_ok());
        let none = reaches_back(&planned(json!({})), at("2026-03-02T12:00:00Z")).unwrap_err();
        assert!(
            none.message.contains("no complete backup") && none.hint.is_some_and(|hint| hint.contains("db backup"))
        );
        let from = json!({ "recoverableFrom": "2026-03-01T01:00:00Z" });
        assert_eq!(reaches_back(&planned(from), Timestamp::now()).unwrap(), at("2026-03-01T01:00:00Z"));
    }

    #[test]
    fn a_backup_is_one_of_the_plan_and_whole() {
        let succeeded = json!({ "phase": "Succeeded" });
        let backups = [
            backup("nightly-202603010100", "nightly", "2026-03-01T01:00:00Z", succeeded.clone()),
            backup("nightly-202603020100", "nightly", "2026-03-02T01:00:00Z", json!({ "phase": "Failed" })),
            backup("offsite-202603010100", "offsite", "2026-03-01T01:00:00Z", succeeded),
        ];
        let check = |name: &str| complete(name, &backups, &planned(json!({})));
        assert!(check("nightly-202603010100").is_ok());
        assert_eq!(
            check("nightly-202603020100").unwrap_err().message,
            "backup nightly-202603020100 is failed and cannot be restored"
        );
        let other = check("offsite-202603010100").unwrap_err();
        assert_eq!(other.message, "the plan nightly has no backup `offsite-202603010100`");
        assert!(other.hint.is_some_and(|hint| hint.ends_with("the newest backups: nightly-202603010100")));
    }
}
