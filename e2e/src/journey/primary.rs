//! The primary PostgreSQL pod dies under a writer. Every row that was acknowledged must be there afterwards.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{SETTLE, Scene};
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

pub fn run(scene: &Scene) -> Result<()> {
    let cluster = scene.cluster();
    cluster.sql("appointments", "drop table if exists e2e_rows; create table e2e_rows (n bigint primary key);")?;
    start_writer(&cluster)?;
    let outcome = under_fire(&cluster);
    let cleanup =
        cluster.kubectl(&format!("delete pod -n {HOSPITAL} {WRITER} --grace-period=0 --force --ignore-not-found"));
    let log = outcome?;
    cleanup?;
    // `kubectl get NAME` prints no list, hence the field selector.
    let instance = format!("get postgresinstances.hz.hospital -n {HOSPITAL} --field-selector metadata.name=records");
    cluster.ready(&instance, SETTLE)?;
    let rows = cluster.sql("appointments", "select n from e2e_rows order by n;")?;
    let there: std::collections::BTreeSet<u64> = rows.lines().filter_map(|l| l.trim().parse().ok()).collect();
    let acknowledged = acknowledged(&log);
    let missing: Vec<u64> = acknowledged.iter().map(|(n, _)| *n).filter(|n| !there.contains(n)).collect();
    ensure!(
        missing.is_empty(),
        "{} acknowledged rows are lost: {:?}",
        missing.len(),
        &missing[..missing.len().min(10)]
    );
    eprintln!(
        "    {} acknowledged rows, all there; longest gap without one {:.1} s",
        acknowledged.len(),
        longest_gap(&acknowledged) as f64 / 1000.0
    );
    Ok(())
}

fn start_writer(cluster: &Cluster) -> Result<()> {
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
    cluster.kubectl(&format!("delete pod -n {HOSPITAL} {WRITER} --grace-period=0 --force --ignore-not-found"))?;
    cluster.kubectl_with("apply -f -", &pod.to_string()).map(drop)
}

/// Kill the primary in the midst of writes, and wait until rows are acknowledged again.
fn under_fire(cluster: &Cluster) -> Result<String> {
    let log = || cluster.kubectl(&format!("logs -n {HOSPITAL} {WRITER}"));
    until("the writer's first 50 rows", SETTLE, || {
        let n = acknowledged(&log()?).len();
        ensure!(n >= 50, "{n} rows so far");
        Ok(())
    })?;
    let primary = cluster.pod_with_role("records", "primary")?;
    let uid = |pod: &str| -> Result<String> {
        Ok(cluster.json(&format!("get pod -n {HOSPITAL} {pod}"))?["metadata"]["uid"].to_string())
    };
    let victim = uid(&primary)?;
    cluster.kubectl(&format!("delete pod -n {HOSPITAL} {primary} --grace-period=0 --force"))?;
    let killed_at: u64 = cluster.kubectl("version >/dev/null; date +%s%3N")?.trim().parse().context("odd clock")?;
    until("a primary that is not the killed pod, and 50 rows after it", SETTLE, || {
        let now = cluster.pod_with_role("records", "primary")?;
        ensure!(uid(&now)? != victim, "the killed pod is still the primary");
        let n = acknowledged(&log()?).iter().filter(|(_, at)| *at > killed_at + 3000).count();
        ensure!(n >= 50, "{n} rows since the kill");
        Ok(())
    })?;
    log()
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
