//! A program in the cluster that writes rows into the hospital's PostgreSQL and remembers which were acknowledged. At its end
//! every one of them must be there.

use anyhow::{Result, ensure};
use serde_json::json;

use super::SETTLE;
use crate::{
    cluster::{Cluster, HOSPITAL},
    run::until,
};

const WRITER: &str = "e2e-writer";
/// One row a statement, each number once: what was not acknowledged is not tried again. `clock` tells the gap.
const SCRIPT: &str = r#"
i=0
while true; do
  i=$((i+1))
  if psql "$URI" -X -q -v ON_ERROR_STOP=1 -c "insert into e2e_rows values ($i)" >/dev/null 2>/tmp/why; then
    echo "ack $i $(date +%s%3N)"
  else
    echo "lost $i $(date +%s%3N) $(head -c 120 /tmp/why | tr '\n' ' ')"
  fi
done
"#;

/// The writer at work.
pub struct Writer<'a>(&'a Cluster<'a>);

impl<'a> Writer<'a> {
    /// Start it on an empty table.
    pub fn start(cluster: &'a Cluster<'a>) -> Result<Self> {
        cluster.sql("appointments", "drop table if exists e2e_rows; create table e2e_rows (n bigint primary key);")?;
        start_pod(cluster)?;
        Ok(Self(cluster))
    }

    /// Rows that were acknowledged until now: numbers and times (ms).
    pub fn acknowledged(&self) -> Result<Vec<(u64, u64)>> {
        Ok(acknowledged(&self.0.kubectl(&format!("logs -n {HOSPITAL} {WRITER}"))?))
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
        let acknowledged = self.acknowledged();
        remove_pod(self.0)?;
        let acknowledged = acknowledged?;
        let rows = self.0.sql("appointments", "select n from e2e_rows order by n;")?;
        let there: std::collections::BTreeSet<u64> = rows.lines().filter_map(|l| l.trim().parse().ok()).collect();
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
}

fn remove_pod(cluster: &Cluster<'_>) -> Result<()> {
    let remove = format!("delete pod -n {HOSPITAL} {WRITER} --grace-period=0 --force --ignore-not-found");
    cluster.kubectl(&remove).map(drop)
}

fn start_pod(cluster: &Cluster<'_>) -> Result<()> {
    let primary = cluster.pod_with_role("records", "primary")?;
    let image = cluster.json(&format!("get pod -n {HOSPITAL} {primary}"))?["spec"]["containers"][0]["image"].clone();
    let limits = json!({ "cpu": "500m", "memory": "128Mi" });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": WRITER, "namespace": HOSPITAL },
        "spec": {
            "restartPolicy": "Never",
            "securityContext": { "runAsNonRoot": true, "runAsUser": 10002, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "writer", "image": image, "imagePullPolicy": "Never",
                "command": ["bash", "-c", SCRIPT],
                "env": [
                    { "name": "URI", "valueFrom": { "secretKeyRef": { "name": "records-appointments", "key": "uri" } } },
                    { "name": "PGCONNECT_TIMEOUT", "value": "2" }
                ],
                "resources": { "requests": limits, "limits": limits },
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } }
            }]
        }
    });
    remove_pod(cluster)?;
    cluster.kubectl_with("apply -f -", &pod.to_string()).map(drop)
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
    }
}
