//! A program in the cluster that writes rows into the hospital's PostgreSQL and remembers which were acknowledged. At its end
//! every one of them must be there.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::SETTLE;
use crate::{
    cluster::{Cluster, HOSPITAL, name},
    run::until,
};

/// One row a statement, each number once: what was not acknowledged is not tried again, and who does not answer within
/// seconds is not waited for. `clock` tells the gap.
const SCRIPT: &str = r#"
i=0
while true; do
  i=$((i+1))
  if timeout 5 psql -X -q -v ON_ERROR_STOP=1 -c "insert into $TABLE values ($i)" >/dev/null 2>/tmp/why; then
    echo "ack $i $(date +%s%3N)"
  else
    echo "lost $i $(date +%s%3N) $(head -c 120 /tmp/why | tr '\n' ' ')"
    sleep 0.1
  fi
done
"#;

/// Where a writer runs, and whom it writes to.
pub struct Place {
    pod: &'static str,
    server: Option<String>,
    address: Option<String>,
}

impl Place {
    fn anywhere() -> Self {
        Self { pod: "e2e-writer", server: None, address: None }
    }

    /// On a worker that holds no copy of the database, so that it outlives any of those.
    pub fn away_from_all(cluster: &Cluster<'_>) -> Result<Self> {
        let server = |item: &Value| item["spec"]["nodeName"].as_str().map(str::to_owned);
        let copies = cluster.items(&format!("get pods -n {HOSPITAL} -l app.kubernetes.io/instance=records"))?;
        let taken: Vec<String> = copies.iter().filter_map(server).collect();
        let workers = cluster.items("get nodes -l '!node-role.kubernetes.io/control-plane'")?;
        let free = workers.iter().map(name).find(|worker| !taken.contains(worker));
        Ok(Self { server: Some(free.context("every worker holds a copy")?), ..Self::anywhere() })
    }

    /// On the server of this pod, and to this very pod.
    pub fn beside(pod: &Value) -> Result<Self> {
        let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let address = text("/status/podIP").context("the pod has no address")?;
        Ok(Self { pod: "e2e-writer-beside", server: text("/spec/nodeName"), address: Some(address) })
    }

    fn table(&self) -> String {
        self.pod.replace('-', "_")
    }
}

/// The writer at work.
pub struct Writer<'a> {
    cluster: &'a Cluster<'a>,
    pod: &'static str,
    table: String,
}

impl<'a> Writer<'a> {
    /// Start it on an empty table.
    pub fn start(cluster: &'a Cluster<'a>) -> Result<Self> {
        Self::start_at(cluster, &Place::anywhere())
    }

    /// Start it on an empty table, at a place.
    pub fn start_at(cluster: &'a Cluster<'a>, place: &Place) -> Result<Self> {
        let table = place.table();
        cluster.sql(
            "appointments",
            &format!("drop table if exists {table}; create table {table} (n bigint primary key);"),
        )?;
        let writer = Self { cluster, pod: place.pod, table };
        writer.start_pod(place)?;
        Ok(writer)
    }

    /// Rows that were acknowledged until now: numbers and times (ms).
    pub fn acknowledged(&self) -> Result<Vec<(u64, u64)>> {
        Ok(acknowledged(&self.cluster.kubectl(&format!("logs -n {HOSPITAL} {}", self.pod))?))
    }

    /// The table it writes to.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// How many rows were acknowledged until now.
    pub fn rows(&self) -> Result<usize> {
        Ok(self.acknowledged()?.len())
    }

    /// Wait until there are so many.
    pub fn until_rows(&self, wanted: usize) -> Result<()> {
        until(&format!("{wanted} acknowledged rows"), SETTLE, || {
            let rows = self.rows()?;
            ensure!(rows >= wanted, "{rows} rows so far");
            Ok(())
        })
    }

    /// Stop it, and insist on every acknowledged row. Says how many there were and how long none was acknowledged.
    pub fn end(self) -> Result<String> {
        // Its server may just have come back, and its log with it.
        let acknowledged = until("the writer's log", Duration::from_secs(120), || self.acknowledged());
        self.remove_pod()?;
        let acknowledged = acknowledged?;
        let rows = self.cluster.sql("appointments", &format!("select n from {} order by n;", self.table))?;
        let there: BTreeSet<u64> = rows.lines().filter_map(|l| l.trim().parse().ok()).collect();
        let missing: Vec<u64> = acknowledged.iter().map(|(n, _)| *n).filter(|n| !there.contains(n)).collect();
        ensure!(
            missing.is_empty(),
            "{} acknowledged rows are lost: {:?}",
            missing.len(),
            &missing[..missing.len().min(10)]
        );
        let gap = longest_gap(&acknowledged) as f64 / 1000.0;
        Ok(format!("{} acknowledged rows, all there; longest gap without one {gap:.1} s", acknowledged.len()))
    }

    fn remove_pod(&self) -> Result<()> {
        let remove = format!("delete pod -n {HOSPITAL} {} --grace-period=0 --force --ignore-not-found", self.pod);
        self.cluster.kubectl(&remove).map(drop)
    }

    fn start_pod(&self, place: &Place) -> Result<()> {
        let primary = self.cluster.pod_with_role("records", "primary")?;
        let image =
            self.cluster.json(&format!("get pod -n {HOSPITAL} {primary}"))?["spec"]["containers"][0]["image"].clone();
        let limits = json!({ "cpu": "500m", "memory": "128Mi" });
        let secret = |variable: &str, key: &str| json!({ "name": variable, "valueFrom": { "secretKeyRef": { "name": "records-appointments", "key": key } } });
        let host = match &place.address {
            Some(address) => json!({ "name": "PGHOST", "value": address }),
            None => secret("PGHOST", "host"),
        };
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": self.pod, "namespace": HOSPITAL,
                "labels": { "postgres.hz.hospital/records": "true" },
            },
            "spec": {
                "restartPolicy": "Never",
                "nodeName": place.server,
                "securityContext": { "runAsNonRoot": true, "runAsUser": 10002, "seccompProfile": { "type": "RuntimeDefault" } },
                "containers": [{
                    "name": "writer", "image": image, "imagePullPolicy": "Never",
                    "command": ["bash", "-c", SCRIPT],
                    "env": [
                        host, secret("PGUSER", "user"), secret("PGPASSWORD", "password"), secret("PGDATABASE", "dbname"),
                        { "name": "TABLE", "value": self.table },
                        { "name": "PGCONNECT_TIMEOUT", "value": "2" }
                    ],
                    "resources": { "requests": limits, "limits": limits },
                    "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } }
                }]
            }
        });
        self.remove_pod()?;
        self.cluster.kubectl_with("apply -f -", &pod.to_string()).map(drop)
    }
}

/// Milliseconds since 1970, as the writer tells time.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Longest time without an acknowledged row since then, in seconds; the last row before it counts.
pub fn gap_between(acknowledged: &[(u64, u64)], since: u64) -> f64 {
    let first = acknowledged.iter().rposition(|(_, at)| *at <= since).unwrap_or_default();
    longest_gap(&acknowledged[first.min(acknowledged.len())..]) as f64 / 1000.0
}

/// Numbers and times (ms) of acknowledged rows.
fn acknowledged(log: &str) -> Vec<(u64, u64)> {
    let ack = |line: &str| {
        let mut words = line.strip_prefix("ack ")?.split(' ');
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    };
    log.lines().filter_map(ack).collect()
}

fn longest_gap(acknowledged: &[(u64, u64)]) -> u64 {
    acknowledged.windows(2).map(|pair| pair[1].1.saturating_sub(pair[0].1)).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_acknowledged_rows_count_and_the_gap_is_between_them() {
        let acks = acknowledged("ack 1 1000\nlost 2 1500 server closed the connection\nack 3 4000\nack");
        assert_eq!(acks, [(1, 1000), (3, 4000)]);
        assert_eq!(longest_gap(&acks), 3000);
        let later = [(1, 1000), (2, 9000), (3, 9100), (4, 9600)];
        assert_eq!(gap_between(&later, 9050), 0.5);
        assert_eq!(gap_between(&later, 5000), 8.0);
        assert_eq!(gap_between(&[], 5000), 0.0);
    }
}
