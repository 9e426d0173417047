//! `hzctl db drills`: List restore drills and what they proved.

use std::time::Duration;

use hz_crds::Timestamp;
use hz_crds::backup::{BackupPlan, RestoreDrill};
use hz_crds::conditions::READY;
use hz_crds::postgres::PostgresInstance;
use kube::ResourceExt;
use serde::Serialize;

use super::backups::holds;
use super::plan;
use crate::commands::data::DATABASE;
use crate::commands::reach::{Everywhere, Place, list};
use crate::commands::table::{ago, ahead, or_hyphen, plain, trimmed};
use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;
use crate::progress::short;

/// What people call them: one, and many.
pub const NOUNS: (&str, &str) = ("RestoreDrill", "RestoreDrills");

/// Arguments of `hzctl db drills`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the database server whose backups are restored; default: all of them
    name: Option<String>,
    #[command(flatten)]
    reach: Everywhere,
}

/// Run it.
pub async fn run(args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let client = args.reach.client().await?;
    let namespace = args.reach.namespace();
    let (servers, plans, drills) = tokio::try_join!(
        list::<PostgresInstance>(&client, namespace, DATABASE.nouns.1),
        list::<BackupPlan>(&client, namespace, plan::NOUNS.1),
        list::<RestoreDrill>(&client, namespace, NOUNS.1),
    )?;
    let servers: Vec<Place> = servers.iter().map(Place::of).collect();
    let place = args.name.as_deref().map(|name| plan::instance(&servers, &plans, namespace, name)).transpose()?;
    printer.value(&rows(&drills, &plans, place.as_ref()), |rows| table(rows, Timestamp::now()))?;
    Ok(ExitStatus::Success)
}

/// One drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    namespace: String,
    name: String,
    plan: String,
    instance: Option<String>,
    /// Nothing if no drill was made yet.
    proved: Option<bool>,
    last_proved_restore: Option<String>,
    recovery_seconds: Option<i64>,
    loss_seconds: Option<i64>,
    next_run: Option<String>,
    suspended: bool,
    phase: Option<&'static str>,
    message: Option<String>,
}

fn rows(drills: &[RestoreDrill], plans: &[BackupPlan], of: Option<&Place>) -> Vec<Row> {
    let target = |drill: &RestoreDrill| {
        let own = |plan: &&BackupPlan| plan.namespace() == drill.namespace() && plan.name_any() == drill.spec.plan;
        plans.iter().find(own).map(plan::target)
    };
    let all = drills.iter().map(|drill| (drill, target(drill)));
    let wanted = all.filter(|(_, target)| of.is_none() || target.as_ref() == of);
    let mut rows: Vec<Row> = wanted.map(|(drill, target)| row(drill, target)).collect();
    rows.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    rows
}

fn row(drill: &RestoreDrill, target: Option<Place>) -> Row {
    let status = drill.status.clone().unwrap_or_default();
    let ready = status.conditions.into_iter().find(|condition| condition.type_ == READY);
    let proved = ready.as_ref().and_then(|ready| holds(&ready.status));
    let run = status.last_run;
    let said = ready.map(|ready| ready.message).filter(|message| !message.is_empty());
    Row {
        namespace: drill.namespace().unwrap_or_default(),
        name: drill.name_any(),
        plan: drill.spec.plan.clone(),
        instance: target.map(|target| target.name),
        proved,
        last_proved_restore: status.last_proved_restore,
        recovery_seconds: run.as_ref().and_then(|run| run.recovery_seconds),
        loss_seconds: run.as_ref().and_then(|run| run.loss_seconds),
        next_run: status.next_run_time,
        suspended: drill.spec.suspend,
        phase: run.as_ref().map(|run| run.phase.word()),
        message: run.map(|run| run.message).or(said),
    }
}

fn table(rows: &[Row], now: Timestamp) -> String {
    if rows.is_empty() {
        return "There are no RestoreDrills: nothing proves that backups can be restored.".to_owned();
    }
    let header = ["NAMESPACE", "NAME", "PLAN", "PROVED", "LAST PROVED", "RTO", "RPO", "NEXT", "MESSAGE"];
    let mut table = plain(&header);
    for row in rows {
        table.add_row([
            row.namespace.clone(),
            row.name.clone(),
            row.plan.clone(),
            row.proved.map_or("-", |proved| if proved { "yes" } else { "no" }).to_owned(),
            ago(row.last_proved_restore.as_deref(), now),
            seconds(row.recovery_seconds),
            seconds(row.loss_seconds),
            if row.suspended { "suspended".to_owned() } else { ahead(row.next_run.as_deref(), now) },
            or_hyphen(row.message.as_deref()),
        ]);
    }
    trimmed(&table)
}

/// A measured time: `61s` or `1m 01s`; a hyphen where nothing was measured.
pub fn seconds(measured: Option<i64>) -> String {
    match measured.and_then(|measured| u64::try_from(measured).ok()) {
        None => "-".to_owned(),
        // It was measured to the second, and says no more than that.
        Some(measured @ 0..10) => format!("{measured}s"),
        Some(measured) => short(Duration::from_secs(measured)),
    }
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::super::plan::tests::plan;
    use super::*;

    /// A drill with this status.
    pub fn drill(name: &str, plan: &str, status: serde_json::Value) -> RestoreDrill {
        serde_json::from_value(json!({
            "apiVersion": "hz.hospital/v1alpha1",
            "kind": "RestoreDrill",
            "metadata": { "name": name, "namespace": "hospital-anna", "generation": 1 },
            "spec": { "plan": plan },
            "status": status,
        }))
        .unwrap()
    }

    fn proved() -> RestoreDrill {
        let run = json!({
            "restore": "weekly-1", "phase": "Succeeded", "message": "restored, and all 3 checks passed",
            "startTime": "2026-03-01T04:00:00Z", "recoverySeconds": 61, "lossSeconds": 0,
        });
        let ready = json!({
            "type": "Ready", "status": "True", "reason": "Proved", "message": "",
            "lastTransitionTime": "2026-03-01T04:02:00Z",
        });
        drill(
            "weekly",
            "nightly",
            json!({
                "conditions": [ready], "lastRun": run, "lastProvedRestore": "2026-03-01T04:02:00Z",
                "nextRunTime": "2026-03-08T04:00:00Z",
            }),
        )
    }

    #[test]
    fn a_drill_is_one_line_with_what_it_measured() {
        let plans = [plan("nightly", "records", json!({}))];
        let new = drill("other", "gone", json!({}));
        let rows = rows(&[new, proved()], &plans, None);
        insta::assert_snapshot!(table(&rows, "2026-03-02T12:00:00Z".parse().unwrap()), @r"
        NAMESPACE      NAME    PLAN     PROVED  LAST PROVED  RTO     RPO  NEXT   MESSAGE
        hospital-anna  other   gone     -       never        -       -    -      -
        hospital-anna  weekly  nightly  yes     31h          1m 01s  0s   in 5d  restored, and all 3 checks passed
        ");
        assert_eq!(rows[1].instance.as_deref(), Some("records"));
    }

    #[test]
    fn of_one_database_server_only_its_own_are_shown() {
        let plans = [plan("nightly", "records", json!({})), plan("old", "retired", json!({}))];
        let retired = Place { namespace: "hospital-anna".into(), name: "retired".into() };
        assert!(rows(&[proved()], &plans, Some(&retired)).is_empty());
        let records = Place { namespace: "hospital-anna".into(), name: "records".into() };
        assert_eq!(rows(&[proved()], &plans, Some(&records)).len(), 1);
        assert!(table(&[], Timestamp::now()).starts_with("There are no RestoreDrills"));
    }

    #[test]
    fn a_measured_time_says_no_more_than_was_measured() {
        let told: Vec<String> = [None, Some(0), Some(9), Some(61)].into_iter().map(seconds).collect();
        assert_eq!(told, ["-", "0s", "9s", "1m 01s"]);
    }
}
