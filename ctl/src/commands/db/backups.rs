//! `hzctl db backups`: List the backups of a database server, and what can be restored.

use hz_crds::Timestamp;
use hz_crds::backup::{Backup, BackupPlan, HEALTHY};
use hz_crds::operation::Phase;
use kube::ResourceExt;
use serde::Serialize;

use super::plan::Of;
use crate::commands::reach::list;
use crate::commands::table::{age, ago, ahead, or_hyphen, plain, time, trimmed};
use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

/// What people call them: one, and many.
pub const NOUNS: (&str, &str) = ("backup", "backups");

/// Arguments of `hzctl db backups`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    of: Of,
}

/// Run it.
pub async fn run(args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let client = args.of.reach.client().await?;
    let planned = args.of.find(&client).await?;
    let backups: Vec<Backup> = list(&client, Some(&planned.place.namespace), NOUNS.1).await?;
    let told = Told { plan: Standing::of(&planned.plan), backups: rows(&backups, &planned.plan()) };
    printer.value(&told, |told| text(told, Timestamp::now()))?;
    Ok(ExitStatus::Success)
}

/// All that is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Told {
    plan: Standing,
    backups: Vec<Row>,
}

/// How a plan stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Standing {
    namespace: String,
    name: String,
    instance: String,
    /// Nothing if nobody knows.
    healthy: Option<bool>,
    reason: Option<String>,
    message: Option<String>,
    recoverable_from: Option<String>,
    last_proved_restore: Option<String>,
    next_backup: Option<String>,
}

impl Standing {
    fn of(plan: &BackupPlan) -> Self {
        let status = plan.status.clone().unwrap_or_default();
        let condition = status.conditions.into_iter().find(|condition| condition.type_ == HEALTHY);
        Standing {
            namespace: plan.namespace().unwrap_or_default(),
            name: plan.name_any(),
            instance: plan.spec.instance.clone(),
            healthy: condition.as_ref().and_then(|condition| holds(&condition.status)),
            reason: condition.as_ref().map(|condition| condition.reason.clone()),
            message: condition.map(|condition| condition.message).filter(|message| !message.is_empty()),
            recoverable_from: status.recoverable_from,
            last_proved_restore: status.last_proved_restore,
            next_backup: status.next_backup_time,
        }
    }

    fn lines(&self, now: Timestamp) -> String {
        let reason = self.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        let health = match self.healthy {
            Some(true) => "healthy".to_owned(),
            Some(false) => format!("not healthy{reason}"),
            None => format!("not known to be healthy{reason}"),
        };
        let message = self.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
        let from = match &self.recoverable_from {
            Some(from) => format!("every moment since {from} can be restored"),
            None => "nothing can be restored yet".to_owned(),
        };
        let proved = match &self.last_proved_restore {
            Some(proved) => format!("last proved {} ago", ago(Some(proved), now)),
            None => "never proved by a drill".to_owned(),
        };
        let next = self.next_backup.as_deref();
        let next = next.map(|next| format!("; the next backup is {}", ahead(Some(next), now))).unwrap_or_default();
        format!("plan {}: {health}{message}\n{from}, {proved}{next}", self.name)
    }
}

/// Whether a condition holds; nothing if nobody knows.
pub fn holds(status: &str) -> Option<bool> {
    match status {
        "True" => Some(true),
        "False" => Some(false),
        _ => None,
    }
}

/// One backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its plan.
    pub plan: String,
    /// How much is copied.
    #[serde(rename = "type")]
    pub type_: String,
    /// How far it is.
    pub phase: &'static str,
    /// What is being done, or how it ended.
    pub message: Option<String>,
    /// When it was asked for.
    #[serde(serialize_with = "time")]
    pub created: Option<Timestamp>,
    /// When it began.
    pub started: Option<String>,
    /// When it ended.
    pub completed: Option<String>,
    /// Size of the database, in bytes.
    pub size_bytes: Option<i64>,
    /// What it added to the store, in bytes.
    pub stored_bytes: Option<i64>,
    /// The same for people.
    pub stored: Option<String>,
    /// pgBackRest's name for it.
    pub label: Option<String>,
}

impl Row {
    /// Of this backup.
    pub fn of(backup: &Backup) -> Self {
        let status = backup.status.clone().unwrap_or_default();
        Row {
            namespace: backup.namespace().unwrap_or_default(),
            name: backup.name_any(),
            plan: backup.spec.plan.clone(),
            type_: format!("{:?}", backup.spec.type_),
            phase: phase(backup).word(),
            message: status.message,
            created: backup.metadata.creation_timestamp.as_ref().map(|time| time.0),
            started: status.start_time,
            completed: status.completion_time,
            size_bytes: status.size_bytes,
            stored_bytes: status.stored_bytes,
            stored: status.stored,
            label: status.label,
        }
    }
}

/// How far it is; what nobody has looked at yet waits.
pub fn phase(backup: &Backup) -> Phase {
    backup.status.as_ref().and_then(|status| status.phase).unwrap_or_default()
}

/// Those of a plan, the newest first.
fn rows(backups: &[Backup], plan: &str) -> Vec<Row> {
    let mut rows: Vec<Row> = backups.iter().filter(|backup| backup.spec.plan == plan).map(Row::of).collect();
    rows.sort_by(|a, b| (b.created, &b.name).cmp(&(a.created, &a.name)));
    rows
}

fn text(told: &Told, now: Timestamp) -> String {
    let lines = told.plan.lines(now);
    if told.backups.is_empty() {
        return format!("{lines}\n\nThere are no backups.");
    }
    let mut table = plain(&["NAME", "TYPE", "PHASE", "COMPLETED", "STORED", "LABEL"]);
    for row in &told.backups {
        table.add_row([
            row.name.clone(),
            row.type_.clone(),
            row.phase.to_owned(),
            row.completed.as_ref().map_or("-".to_owned(), |at| age(at.parse().ok(), now)),
            or_hyphen(row.stored.as_deref()),
            or_hyphen(row.label.as_deref()),
        ]);
    }
    format!("{lines}\n\n{}", trimmed(&table))
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::super::plan::tests::plan;
    use super::*;

    /// A backup with this status.
    pub fn backup(name: &str, plan: &str, created: &str, status: serde_json::Value) -> Backup {
        serde_json::from_value(json!({
            "apiVersion": "hz.hospital/v1alpha1",
            "kind": "Backup",
            "metadata": { "name": name, "namespace": "hospital-anna", "creationTimestamp": created },
            "spec": { "plan": plan },
            "status": status,
        }))
        .unwrap()
    }

    fn told(plan: &BackupPlan, backups: &[Backup]) -> String {
        let told = Told { plan: Standing::of(plan), backups: rows(backups, &plan.name_any()) };
        text(&told, "2026-03-02T13:00:00Z".parse().unwrap())
    }

    #[test]
    fn the_newest_backup_stands_first_below_how_the_plan_stands() {
        let condition = json!({
            "type": "BackupHealthy", "status": "True", "reason": "Recent", "message": "the log is archived",
            "lastTransitionTime": "2026-03-01T08:00:00Z",
        });
        let plan = plan(
            "nightly",
            "records",
            json!({
                "conditions": [condition],
                "recoverableFrom": "2026-03-01T01:02:00Z",
                "lastProvedRestore": "2026-03-01T04:00:00Z",
                "nextBackupTime": "2026-03-03T01:00:00Z",
            }),
        );
        let done = json!({
            "phase": "Succeeded", "message": "complete", "completionTime": "2026-03-01T01:02:00Z",
            "stored": "15.0 MiB of 55.4 MiB", "label": "20260301-010001F",
        });
        let backups = [
            backup("nightly-202603010100", "nightly", "2026-03-01T01:00:00Z", done),
            backup("nightly-202603020100", "nightly", "2026-03-02T01:00:00Z", json!({ "phase": "Running" })),
            backup("other-202603020100", "other", "2026-03-02T01:00:00Z", json!({})),
        ];
        insta::assert_snapshot!(told(&plan, &backups), @r"
        plan nightly: healthy: the log is archived
        every moment since 2026-03-01T01:02:00Z can be restored, last proved 33h ago; the next backup is in 12h

        NAME                  TYPE  PHASE      COMPLETED  STORED                LABEL
        nightly-202603020100  Full  Running    -          -                     -
        nightly-202603010100  Full  Succeeded  35h        15.0 MiB of 55.4 MiB  20260301-010001F
        ");
    }

    #[test]
    fn a_plan_that_nobody_looked_at_promises_nothing() {
        insta::assert_snapshot!(told(&plan("nightly", "records", json!({})), &[]), @r"
        plan nightly: not known to be healthy
        nothing can be restored yet, never proved by a drill

        There are no backups.
        ");
    }
}
