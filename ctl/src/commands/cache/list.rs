//! `hzctl cache list`: List caches and what is done with them.

use hz_crds::Timestamp;
use hz_crds::cache::CacheInstance;
use hz_crds::operation::{DataOperation, TargetKind};
use kube::ResourceExt;
use serde::Serialize;

use crate::commands::data::CACHE;
use crate::commands::data::rows::{Readiness, Work, Works};
use crate::commands::operation;
use crate::commands::reach::{Everywhere, list};
use crate::commands::table::{age, or_hyphen, plain, time, trimmed};
use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

/// Arguments of `hzctl cache list`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    reach: Everywhere,
}

/// Run it.
pub async fn run(args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let client = args.reach.client().await?;
    let namespace = args.reach.namespace();
    let (caches, operations) = tokio::try_join!(
        list::<CacheInstance>(&client, namespace, CACHE.nouns.1),
        list::<DataOperation>(&client, namespace, operation::NOUNS.1),
    )?;
    printer.value(&rows(&caches, &Works::of(operations)), |rows| table(rows, Timestamp::now()))?;
    Ok(ExitStatus::Success)
}

/// One cache.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    namespace: String,
    name: String,
    #[serde(flatten)]
    readiness: Readiness,
    master: Option<String>,
    replicas: i32,
    ready_replicas: i32,
    memory: String,
    persistence: String,
    size: Option<String>,
    operation: Option<Work>,
    endpoint: Option<String>,
    read_only_endpoint: Option<String>,
    suspended: bool,
    #[serde(serialize_with = "time")]
    created: Option<Timestamp>,
}

fn rows(caches: &[CacheInstance], works: &Works) -> Vec<Row> {
    let mut rows: Vec<Row> = caches.iter().map(|cache| row(cache, works)).collect();
    rows.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    rows
}

fn row(cache: &CacheInstance, works: &Works) -> Row {
    let status = cache.status.clone().unwrap_or_default();
    let (namespace, name) = (cache.namespace().unwrap_or_default(), cache.name_any());
    Row {
        operation: works.on(TargetKind::CacheInstance, &namespace, &name),
        namespace,
        name,
        readiness: Readiness::of(&status.conditions),
        master: status.master,
        replicas: cache.spec.replicas,
        ready_replicas: status.ready_replicas,
        memory: cache.spec.memory.to_string(),
        persistence: format!("{:?}", cache.spec.persistence),
        size: cache.spec.storage.as_ref().map(|storage| storage.size.to_string()),
        endpoint: status.endpoint,
        read_only_endpoint: status.read_only_endpoint,
        suspended: cache.spec.suspend,
        created: cache.metadata.creation_timestamp.as_ref().map(|time| time.0),
    }
}

fn table(rows: &[Row], now: Timestamp) -> String {
    if rows.is_empty() {
        return format!("There are no {}.", CACHE.nouns.1);
    }
    let mut table =
        plain(&["NAMESPACE", "NAME", "READY", "MASTER", "REPLICAS", "MEMORY", "OPERATION", "ENDPOINT", "AGE"]);
    for row in rows {
        table.add_row([
            row.namespace.clone(),
            row.name.clone(),
            row.readiness.words(),
            or_hyphen(row.master.as_deref()),
            format!("{}/{}", row.ready_replicas, row.replicas),
            row.memory.clone(),
            or_hyphen(row.operation.as_ref().map(Work::words).as_deref()),
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

    #[test]
    fn a_cache_is_one_line() {
        let cache: CacheInstance = serde_json::from_value(json!({
            "apiVersion": "hz.hospital/v1alpha1",
            "kind": "CacheInstance",
            "metadata": { "name": "sessions", "namespace": "hospital-anna", "creationTimestamp": "2026-03-01T08:00:00Z" },
            "spec": { "memory": "128Mi" },
            "status": { "master": "sessions-0", "readyReplicas": 2, "endpoint": "sessions.hospital-anna.svc:6379" },
        }))
        .unwrap();
        let rows = rows(&[cache], &Works::of(Vec::new()));
        let table = table(&rows, "2026-03-01T08:03:00Z".parse().unwrap());
        assert_eq!(
            table.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>().join(" "),
            "hospital-anna sessions no sessions-0 2/3 128Mi - sessions.hospital-anna.svc:6379 3m"
        );
        assert_eq!(super::table(&[], Timestamp::now()), "There are no caches.");
    }
}
