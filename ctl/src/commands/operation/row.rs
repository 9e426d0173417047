//! An operation as lists and scripts see it.

use hz_crds::Timestamp;
use hz_crds::operation::{Action, DataOperation, Phase};
use kube::ResourceExt;
use serde::Serialize;

use crate::commands::table::{age, or_hyphen, plain, time, trimmed};

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What is done.
    pub action: &'static str,
    /// Kind of what it is done to.
    pub kind: &'static str,
    /// Name of what it is done to.
    pub target: String,
    /// How far it is.
    pub phase: &'static str,
    /// Whether somebody asked to stop it.
    pub cancel: bool,
    /// Copies that are as asked for, of all.
    pub progress: Option<String>,
    /// What is being done, or how it ended.
    pub message: Option<String>,
    /// When it was asked for.
    #[serde(serialize_with = "time")]
    pub created: Option<Timestamp>,
    /// When its first step began.
    pub started: Option<String>,
    /// When it ended.
    pub ended: Option<String>,
}

impl Row {
    /// Of this operation.
    pub fn of(operation: &DataOperation) -> Self {
        let status = operation.status.clone().unwrap_or_default();
        Row {
            namespace: operation.namespace().unwrap_or_default(),
            name: operation.name_any(),
            action: operation.spec.action.word(),
            kind: operation.spec.target.kind.word(),
            target: operation.spec.target.name.clone(),
            phase: phase(operation).word(),
            cancel: operation.spec.cancel,
            progress: status.progress,
            message: status.message,
            created: operation.metadata.creation_timestamp.as_ref().map(|time| time.0),
            started: status.start_time,
            ended: status.completion_time,
        }
    }
}

/// How far it is; what nobody has looked at yet waits.
pub fn phase(operation: &DataOperation) -> Phase {
    operation.status.as_ref().and_then(|status| status.phase).unwrap_or_default()
}

/// What is done, as a sentence says it: `the restart of records`.
pub fn deed(operation: &DataOperation) -> String {
    let spec = &operation.spec;
    let noun = match spec.action {
        Action::Restart => "restart",
        Action::Scale => "scaling",
        Action::Expand => "expansion",
        Action::Switchover => "switchover",
        Action::Rebuild => "rebuild",
        Action::Upgrade => "upgrade",
        Action::RollBack => "way back",
        Action::FinishUpgrade => "end of the upgrade",
    };
    let of = spec.member.as_deref().unwrap_or(&spec.target.name);
    format!("the {noun} of {of}")
}

/// All of them, the newest last: it stands next to the prompt.
pub fn rows(operations: &[DataOperation]) -> Vec<Row> {
    let mut rows: Vec<Row> = operations.iter().map(Row::of).collect();
    rows.sort_by(|a, b| (a.created, &a.namespace, &a.name).cmp(&(b.created, &b.namespace, &b.name)));
    rows
}

/// For people.
pub fn table(rows: &[Row], now: Timestamp) -> String {
    if rows.is_empty() {
        return "There are no operations.".to_owned();
    }
    let mut table = plain(&["NAMESPACE", "NAME", "ACTION", "TARGET", "PHASE", "PROGRESS", "MESSAGE", "AGE"]);
    for row in rows {
        table.add_row([
            row.namespace.clone(),
            row.name.clone(),
            row.action.to_owned(),
            row.target.clone(),
            row.phase.to_owned(),
            or_hyphen(row.progress.as_deref()),
            or_hyphen(row.message.as_deref()),
            age(row.created, now),
        ]);
    }
    trimmed(&table)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// An operation with this status.
    pub fn operation(name: &str, created: &str, status: serde_json::Value) -> DataOperation {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "hz.hospital/v1alpha1",
            "kind": "DataOperation",
            "metadata": { "name": name, "namespace": "hospital-anna", "creationTimestamp": created },
            "spec": { "action": "Restart", "target": { "kind": "PostgresInstance", "name": "records" } },
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn the_newest_stands_last_and_what_nobody_looked_at_is_pending() {
        let old = operation("records-restart-zzzzz", "2026-03-01T08:00:00Z", serde_json::json!({}));
        let message = "records-1 starts anew";
        let running = serde_json::json!({ "phase": "Running", "progress": "1/3", "message": message });
        let new = operation("records-restart-aaaaa", "2026-03-01T09:00:00Z", running);
        let rows = rows(&[new, old]);
        let now = "2026-03-01T09:01:00Z".parse().unwrap();
        let table = table(&rows, now);
        let lines: Vec<String> =
            table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            [
                "NAMESPACE NAME ACTION TARGET PHASE PROGRESS MESSAGE AGE",
                "hospital-anna records-restart-zzzzz Restart records Pending - - 61m",
                "hospital-anna records-restart-aaaaa Restart records Running 1/3 records-1 starts anew 60s",
            ]
        );
    }
}
