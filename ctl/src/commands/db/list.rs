//! `hzctl db list`: List database servers and what is done with them.

use hz_crds::Timestamp;
use hz_crds::operation::{DataOperation, TargetKind};
use hz_crds::postgres::PostgresInstance;
use kube::ResourceExt;
use serde::Serialize;

use crate::commands::data::DATABASE;
use crate::commands::data::rows::{Readiness, Work, Works};
use crate::commands::operation;
use crate::commands::reach::{Everywhere, list};
use crate::commands::table::{age, ago, or_hyphen, plain, time, trimmed};
use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

/// Arguments of `hzctl db list`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    reach: Everywhere,
}

/// Run it.
pub async fn run(args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let client = args.reach.client().await?;
    let namespace = args.reach.namespace();
    let (servers, operations) = tokio::try_join!(
        list::<PostgresInstance>(&client, namespace, DATABASE.nouns.1),
        list::<DataOperation>(&client, namespace, operation::NOUNS.1),
    )?;
    printer.value(&rows(&servers, &Works::of(operations)), |rows| table(rows, Timestamp::now()))?;
    Ok(ExitStatus::Success)
}

/// One database server.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    namespace: String,
    name: String,
    #[serde(flatten)]
    readiness: Readiness,
    primary: Option<String>,
    instances: i32,
    ready_instances: i32,
    synchronous: String,
    size: String,
    databases: Vec<String>,
    operation: Option<Work>,
    last_backup: Option<String>,
    last_proved_restore: Option<String>,
    endpoint: Option<String>,
    read_only_endpoint: Option<String>,
    suspended: bool,
    #[serde(serialize_with = "time")]
    created: Option<Timestamp>,
}

fn rows(servers: &[PostgresInstance], works: &Works) -> Vec<Row> {
    let mut rows: Vec<Row> = servers.iter().map(|server| row(server, works)).collect();
    rows.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    rows
}

fn row(server: &PostgresInstance, works: &Works) -> Row {
    let status = server.status.clone().unwrap_or_default();
    let (namespace, name) = (server.namespace().unwrap_or_default(), server.name_any());
    Row {
        operation: works.on(TargetKind::PostgresInstance, &namespace, &name),
        namespace,
        name,
        readiness: Readiness::of(&status.conditions),
        primary: status.primary,
        instances: server.spec.instances,
        ready_instances: status.ready_instances,
        synchronous: format!("{:?}", server.spec.synchronous),
        size: server.spec.storage.size.to_string(),
        databases: server.spec.databases.iter().map(|database| database.name.clone()).collect(),
        last_backup: status.last_backup,
        last_proved_restore: status.last_proved_restore,
        endpoint: status.endpoint,
        read_only_endpoint: status.read_only_endpoint,
        suspended: server.spec.suspend,
        created: server.metadata.creation_timestamp.as_ref().map(|time| time.0),
    }
}

fn table(rows: &[Row], now: Timestamp) -> String {
    if rows.is_empty() {
        return format!("There are no {}.", DATABASE.nouns.1);
    }
    let mut table = plain(&[
        "NAMESPACE",
        "NAME",
        "READY",
        "PRIMARY",
        "INSTANCES",
        "SYNC",
        "SIZE",
        "OPERATION",
        "LAST BACKUP",
        "PROVED",
        "ENDPOINT",
        "AGE",
    ]);
    for row in rows {
        table.add_row([
            row.namespace.clone(),
            row.name.clone(),
            row.readiness.words(),
            or_hyphen(row.primary.as_deref()),
            format!("{}/{}", row.ready_instances, row.instances),
            row.synchronous.clone(),
            row.size.clone(),
            or_hyphen(row.operation.as_ref().map(Work::words).as_deref()),
            ago(row.last_backup.as_deref(), now),
            ago(row.last_proved_restore.as_deref(), now),
            or_hyphen(row.endpoint.as_deref()),
            age(row.created, now),
        ]);
    }
    trimmed(&table)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::commands::operation::row::tests::operation;

    fn records() -> PostgresInstance {
        serde_json::from_value(json!({
            "apiVersion": "hz.hospital/v1alpha1",
            "kind": "PostgresInstance",
            "metadata": { "name": "records", "namespace": "hospital-anna", "creationTimestamp": "2026-03-01T08:00:00Z" },
            "spec": { "storage": { "size": "20Gi" }, "databases": [{ "name": "findings" }] },
            "status": {
                "conditions": [{
                    "type": "Ready", "status": "True", "reason": "Serving", "message": "",
                    "lastTransitionTime": "2026-03-01T08:01:00Z",
                }],
                "primary": "records-1",
                "readyInstances": 3,
                "endpoint": "records.hospital-anna.svc:5432",
                "lastBackup": "2026-03-01T10:00:00Z",
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_server_is_one_line_with_what_is_done_with_it() {
        let running = json!({ "phase": "Running", "progress": "1/3" });
        let works = Works::of(vec![operation("records-restart-x7k2p", "2026-03-01T09:00:00Z", running)]);
        let rows = rows(&[records()], &works);
        let table = table(&rows, "2026-03-01T13:00:00Z".parse().unwrap());
        assert_eq!(
            table.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>().join(" "),
            "hospital-anna records yes records-1 3/3 Strict 20Gi Restart 1/3 3h never records.hospital-anna.svc:5432 5h"
        );
        insta::assert_yaml_snapshot!(rows, @r#"
        - namespace: hospital-anna
          name: records
          ready: true
          reason: ~
          message: ~
          primary: records-1
          instances: 3
          readyInstances: 3
          synchronous: Strict
          size: 20Gi
          databases:
            - findings
          operation:
            name: records-restart-x7k2p
            action: Restart
            phase: Running
            progress: 1/3
          lastBackup: "2026-03-01T10:00:00Z"
          lastProvedRestore: ~
          endpoint: "records.hospital-anna.svc:5432"
          readOnlyEndpoint: ~
          suspended: false
          created: "2026-03-01T08:00:00Z"
        "#);
    }

    #[test]
    fn a_server_that_nobody_looked_at_yet_has_hyphens_and_no_server_is_a_sentence() {
        let mut new = records();
        new.status = None;
        let rows = rows(&[new], &Works::of(Vec::new()));
        let table = table(&rows, "2026-03-01T08:00:05Z".parse().unwrap());
        assert_eq!(
            table.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>().join(" "),
            "hospital-anna records no - 0/3 Strict 20Gi - never never - 5s"
        );
        assert_eq!(super::table(&[], Timestamp::now()), "There are no database servers.");
    }
}
