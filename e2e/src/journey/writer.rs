//! A program in the cluster that writes rows into a PostgreSQL of the hospital and remembers which were acknowledged. Each row
//! holds a digest of itself and of the acknowledged one before it. At its end every one of them must be there, once, and as it
//! was written.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    SETTLE,
    chain::{self, Ack, acknowledged},
};
use crate::{
    cluster::{Cluster, HOSPITAL, name},
    run::until,
};

/// One row a statement, each number once: what was not acknowledged is not tried again, and who does not answer within
/// seconds is not waited for. `clock` tells the gap. A commit that comes with the warning that no other copy has it was not
/// acknowledged: PostgreSQL says so to whoever cancels the wait.
const SCRIPT: &str = r#"
if [ -s /etc/hz/ca/ca.crt ]; then export PGSSLROOTCERT=/etc/hz/ca/ca.crt; fi
i=0 count=0 before=
while true; do
  i=$((i+1))
  payload=p$RANDOM-$RANDOM-$RANDOM
  digest=$(printf '%s' "$before$i$payload" | sha256sum); digest=${digest%% *}
  if timeout 5 psql -X -q -v ON_ERROR_STOP=1 -c "insert into $TABLE values ($i, '$payload', '$digest')" >/dev/null 2>/tmp/why; then
    why=$(</tmp/why)
    case "$why" in
      *canceling\ *wait*) echo "lost $i $(date +%s%3N) committed by the primary alone"; continue ;;
    esac
    count=$((count+1)) before=$digest
    echo "ack $i $(date +%s%3N) $count $digest"
  else
    echo "lost $i $(date +%s%3N) $(head -c 120 /tmp/why | tr '\n' ' ')"
    sleep 0.1
  fi
done
"#;

/// Whom a writer writes to.
#[derive(Clone, Copy)]
pub struct Target {
    /// The PostgresInstance.
    pub instance: &'static str,
    /// Its database.
    pub database: &'static str,
}

/// The example's.
const RECORDS: Target = Target { instance: "records", database: "appointments" };

/// Where a writer runs, and whom it writes to.
pub struct Place {
    pod: &'static str,
    target: Target,
    server: Option<String>,
    address: Option<String>,
}

impl Place {
    fn anywhere() -> Self {
        Self { pod: "e2e-writer", target: RECORDS, server: None, address: None }
    }

    /// On a worker that holds no copy of the database, so that it outlives any of those.
    pub fn away_from_all(cluster: &Cluster<'_>) -> Result<Self> {
        Self::away_from(cluster, RECORDS)
    }

    /// The same for another database.
    pub fn away_from(cluster: &Cluster<'_>, target: Target) -> Result<Self> {
        let server = |item: &Value| item["spec"]["nodeName"].as_str().map(str::to_owned);
        let copies =
            cluster.items(&format!("get pods -n {HOSPITAL} -l app.kubernetes.io/instance={}", target.instance))?;
        let taken: Vec<String> = copies.iter().filter_map(server).collect();
        let workers = cluster.items("get nodes -l '!node-role.kubernetes.io/control-plane'")?;
        let free = workers.iter().map(name).find(|worker| !taken.contains(worker));
        Ok(Self { server: Some(free.context("every worker holds a copy")?), target, ..Self::anywhere() })
    }

    /// On the server of this pod, and to this very pod.
    pub fn beside(pod: &Value) -> Result<Self> {
        let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let address = text("/status/podIP").context("the pod has no address")?;
        Ok(Self { pod: "e2e-writer-beside", target: RECORDS, server: text("/spec/nodeName"), address: Some(address) })
    }

    fn table(&self) -> String {
        self.pod.replace('-', "_")
    }
}

/// The writer at work.
pub struct Writer<'a> {
    cluster: &'a Cluster<'a>,
    pod: &'static str,
    target: Target,
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
        // Without a key, so that a row that is there twice can be seen.
        let make = format!("drop table if exists {table}; create table {table} (n bigint, payload text, digest text);");
        cluster.sql_of(place.target.instance, place.target.database, &make)?;
        let writer = Self { cluster, pod: place.pod, target: place.target, table };
        writer.start_pod(place)?;
        Ok(writer)
    }

    /// Rows that were acknowledged until now: numbers and times (ms).
    pub fn acknowledged(&self) -> Result<Vec<(u64, u64)>> {
        Ok(self.acks()?.iter().map(|ack| (ack.n, ack.at)).collect())
    }

    fn acks(&self) -> Result<Vec<Ack>> {
        Ok(acknowledged(&self.cluster.kubectl(&format!("logs -n {HOSPITAL} {}", self.pod))?))
    }

    /// The table it writes to.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// How many rows were acknowledged until now.
    pub fn rows(&self) -> Result<usize> {
        // Each says how many there were before: the whole log is long.
        let end = self.cluster.kubectl(&format!("logs -n {HOSPITAL} {} --tail=40", self.pod))?;
        match acknowledged(&end).last() {
            Some(ack) => Ok(ack.count),
            None => Ok(self.acks()?.len()),
        }
    }

    /// Wait until there are so many.
    pub fn until_rows(&self, wanted: usize) -> Result<()> {
        until(&format!("{wanted} acknowledged rows"), SETTLE, || {
            let rows = self.rows()?;
            ensure!(rows >= wanted, "{rows} rows so far");
            Ok(())
        })
    }

    /// Wait until so many more were acknowledged, all of them later than two seconds after `since`.
    pub fn until_more(&self, more: usize, since: u64) -> Result<()> {
        until(&format!("{more} rows after the fault"), SETTLE, || {
            let end = self.cluster.kubectl(&format!("logs -n {HOSPITAL} {} --tail=200", self.pod))?;
            let rows = acknowledged(&end).iter().filter(|ack| ack.at > since + 2000).count();
            let last = end.lines().last().unwrap_or("nothing");
            ensure!(rows >= more, "{rows} rows; its last words: {last}");
            Ok(())
        })
    }

    /// Stop it, and insist on every acknowledged row, unchanged and once. Says how many there were and how long none was
    /// acknowledged.
    pub fn end(self) -> Result<String> {
        // Its server may just have come back, and its log with it.
        let acks = until("the writer's log", Duration::from_secs(120), || self.acks());
        self.remove_pod()?;
        let acks = acks?;
        let Target { instance, database } = self.target;
        let ask = format!("select n, payload, digest from {};", self.table);
        let rows = self.cluster.sql_of(instance, database, &ask)?;
        chain::verify(&acks, &chain::rows(&rows)?)?;
        let times: Vec<(u64, u64)> = acks.iter().map(|ack| (ack.n, ack.at)).collect();
        let gap = longest_gap(&times) as f64 / 1000.0;
        Ok(format!(
            "{} acknowledged rows, all there, unchanged and once; longest gap without one {gap:.1} s",
            acks.len()
        ))
    }

    fn remove_pod(&self) -> Result<()> {
        let remove = format!("delete pod -n {HOSPITAL} {} --grace-period=0 --force --ignore-not-found", self.pod);
        self.cluster.kubectl(&remove).map(drop)
    }

    fn start_pod(&self, place: &Place) -> Result<()> {
        let pod = client(self.cluster, self.pod, self.target, SCRIPT, place.server.as_deref(), &self.table)?;
        let pod = match &place.address {
            // The name stays what the certificate is for.
            Some(address) => with_variable(pod, &json!({ "name": "PGHOSTADDR", "value": address })),
            None => pod,
        };
        self.remove_pod()?;
        self.cluster.kubectl_with("apply -f -", &pod.to_string()).map(drop)
    }
}

/// A pod with the database's own image that runs a script as the owner of a database, let in as a service of the hospital is.
/// How it is to encrypt, and whom to trust, it takes from the Secret, if that says so.
pub fn client(
    cluster: &Cluster<'_>,
    pod: &str,
    target: Target,
    script: &str,
    server: Option<&str>,
    table: &str,
) -> Result<Value> {
    let Target { instance, database } = target;
    let primary = cluster.pod_with_role(instance, "primary")?;
    let primary = cluster.json(&format!("get pod -n {HOSPITAL} {primary}"))?;
    let containers = primary["spec"]["containers"].as_array().cloned().unwrap_or_default();
    let image =
        containers.iter().find(|one| one["name"] == "postgres").context("the primary has no such container")?["image"]
            .clone();
    let limits = json!({ "cpu": "500m", "memory": "128Mi" });
    let from = format!("{instance}-{database}");
    let secret = |variable: &str, key: &str, optional: bool| json!({ "name": variable, "valueFrom": { "secretKeyRef": { "name": from, "key": key, "optional": optional } } });
    let door = format!("postgres.hz.hospital/{instance}");
    Ok(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": pod, "namespace": HOSPITAL, "labels": { door: "true" } },
        "spec": {
            "restartPolicy": "Never",
            "nodeName": server,
            "automountServiceAccountToken": false,
            "securityContext": { "runAsNonRoot": true, "runAsUser": 10002, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "client", "image": image, "imagePullPolicy": "Never",
                "command": ["bash", "-c", script],
                "env": [
                    secret("PGHOST", "host", false), secret("PGUSER", "user", false), secret("PGPASSWORD", "password", false),
                    secret("PGDATABASE", "dbname", false), secret("PGSSLMODE", "sslmode", true),
                    { "name": "TABLE", "value": table },
                    { "name": "PGCONNECT_TIMEOUT", "value": "2" }
                ],
                "resources": { "requests": limits, "limits": limits },
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
                "volumeMounts": [{ "name": "ca", "mountPath": "/etc/hz/ca", "readOnly": true }]
            }],
            "volumes": [{ "name": "ca", "secret": {
                "secretName": from, "optional": true, "items": [{ "key": "ca.crt", "path": "ca.crt" }]
            } }]
        }
    }))
}

/// The pod with one variable more.
pub fn with_variable(mut pod: Value, variable: &Value) -> Value {
    if let Some(variables) = pod["spec"]["containers"][0]["env"].as_array_mut() {
        variables.push(variable.clone());
    }
    pod
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

fn longest_gap(acknowledged: &[(u64, u64)]) -> u64 {
    acknowledged.windows(2).map(|pair| pair[1].1.saturating_sub(pair[0].1)).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_between_two_acknowledged_rows() {
        assert_eq!(longest_gap(&[(1, 1000), (3, 4000)]), 3000);
        let later = [(1, 1000), (2, 9000), (3, 9100), (4, 9600)];
        assert_eq!(gap_between(&later, 9050), 0.5);
        assert_eq!(gap_between(&later, 5000), 8.0);
        assert_eq!(gap_between(&[], 5000), 0.0);
    }

    #[test]
    fn one_more_variable_is_one_more() {
        let pod = json!({ "spec": { "containers": [{ "env": [{ "name": "A" }] }] } });
        let pod = with_variable(pod, &json!({ "name": "B" }));
        assert_eq!(pod["spec"]["containers"][0]["env"], json!([{ "name": "A" }, { "name": "B" }]));
    }
}
