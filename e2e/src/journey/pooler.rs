//! Two hundred clients of the pooler write while the database hands its work over and while passwords change: they share few
//! connections, keep their own, and every acknowledged row is there at the end.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{SETTLE, Scene};
use crate::{
    cluster::{Cluster, HOSPITAL},
    run::until,
};

const POD: &str = "e2e-pooler-clients";
const TABLE: &str = "e2e_pooler";
const CLIENTS: usize = 200;
/// For each of the two copies.
const POOL: usize = 10;
/// Of a hundred clients, those that must keep their connection through a switchover.
const KEPT: usize = 90;

/// Clients with one connection each, of the database driver that the image has. One line a client says how it ended; its
/// rows are numbered, and it says the last one that was acknowledged.
const SCRIPT: &str = r#"
import os, random, signal, sys, threading, time
import psycopg2

many, table = int(os.environ["CLIENTS"]), os.environ["TABLE"]
stop = threading.Event()
signal.signal(signal.SIGUSR1, lambda *_: stop.set())
rows, lost, ready = [0] * many, [None] * many, [False] * many
threading.stack_size(256 * 1024)

def client(n):
    connection = None
    while not stop.is_set():
        try:
            connection = psycopg2.connect(connect_timeout=60)
            connection.autocommit = True
            break
        except psycopg2.Error:
            time.sleep(1)
    ready[n] = connection is not None
    try:
        while not stop.is_set():
            with connection.cursor() as cursor:
                cursor.execute("insert into " + table + " values (%s, %s)", (n, rows[n] + 1))
            rows[n] += 1
            stop.wait(random.uniform(0.5, 1.5))
    except Exception as error:
        lost[n] = str(error).strip().replace("\n", " ")[:120]

threads = [threading.Thread(target=client, args=(n,), daemon=True) for n in range(many)]
for thread in threads:
    thread.start()
while not stop.is_set():
    print("state", sum(ready), sum(why is None for why in lost), sum(rows), flush=True)
    stop.wait(1)
for thread in threads:
    thread.join(70)
for n in range(many):
    print("end", n, rows[n], "kept" if lost[n] is None else "lost " + lost[n], flush=True)
print("done", flush=True)
time.sleep(3600)
"#;

pub fn run(scene: &Scene) -> Result<()> {
    let cluster = scene.cluster();
    let pooler = json!({ "instances": 2, "maxClientConnections": 400, "defaultPoolSize": POOL });
    patch(&cluster, &json!({ "pooler": pooler }))?;
    let tried = travel(scene, &cluster);
    let cleared = remove(&cluster).and_then(|()| patch(&cluster, &json!({ "pooler": null })));
    tried.and(cleared)
}

fn travel(scene: &Scene, cluster: &Cluster<'_>) -> Result<()> {
    condition(cluster, "Pooled")?;
    let made =
        format!("drop table if exists {TABLE}; create table {TABLE} (client int, n int, primary key (client, n));");
    cluster.sql("appointments", &made)?;
    start(cluster)?;
    until("every client to be connected", SETTLE, || {
        let (ready, ..) = state(cluster)?;
        ensure!(ready == CLIENTS, "{ready} of {CLIENTS}");
        Ok(())
    })?;
    let open = "select count(*) from pg_stat_activity where usename = 'appointments';";
    let open: usize = cluster.sql("postgres", open)?.trim().parse().context("no number of connections")?;
    ensure!(open <= 2 * POOL + 4, "{open} connections for {CLIENTS} clients"); // the service itself has some too

    let primary = cluster.pod_with_role("records", "primary")?;
    let args = ["db", "switchover", "records", "-n", HOSPITAL, "--wait", "--timeout", "600"];
    let out = scene.hzctl.command(&args).output().context("failed to run hzctl")?;
    ensure!(out.status.success(), "hzctl said: {}", String::from_utf8_lossy(&out.stderr));
    ensure!(cluster.pod_with_role("records", "primary")? != primary, "{primary} still is the primary");
    more(cluster)?;
    let (_, kept, _) = state(cluster)?;
    eprintln!("    switchover: {kept} of {CLIENTS} clients kept their connection");
    ensure!(kept * 100 >= CLIENTS * KEPT, "only {kept} of {CLIENTS} clients kept their connection");

    // New passwords: whoever is connected stays so.
    let instance = cluster.json(&format!("get postgresinstance -n {HOSPITAL} records"))?;
    let next = instance["status"]["credentialsGeneration"].as_i64().unwrap_or_default() + 1;
    let before = password(cluster)?;
    patch(cluster, &json!({ "credentialsGeneration": next }))?;
    until("new passwords", SETTLE, || {
        let instance = cluster.json(&format!("get postgresinstance -n {HOSPITAL} records"))?;
        ensure!(instance["status"]["credentialsGeneration"] == next, "{}", instance["status"]["conditions"]);
        Ok(())
    })?;
    ensure!(password(cluster)? != before, "the password is the old one");
    more(cluster)?;
    let (_, after, _) = state(cluster)?;
    eprintln!("    new passwords: {after} of {kept} clients kept their connection");
    ensure!(after * 100 >= kept * KEPT, "only {after} of {kept} clients kept their connection");
    end(cluster)
}

/// Stop them, and insist on every acknowledged row.
fn end(cluster: &Cluster<'_>) -> Result<()> {
    cluster.kubectl(&format!("exec -n {HOSPITAL} {POD} -- sh -c 'kill -USR1 1'"))?;
    let log = until("the clients' last words", Duration::from_secs(120), || {
        let log = cluster.kubectl(&format!("logs -n {HOSPITAL} {POD}"))?;
        ensure!(log.lines().any(|line| line == "done"), "they are not done");
        Ok(log)
    })?;
    let acknowledged = ended(&log);
    ensure!(acknowledged.len() == CLIENTS, "{} clients said how they ended", acknowledged.len());
    let there = cluster.sql("appointments", &format!("select client, count(*) from {TABLE} group by 1;"))?;
    let there: Vec<(usize, usize)> = there.lines().filter_map(|line| pair(line.split('|'))).collect();
    for (client, rows) in &acknowledged {
        let found = there.iter().find(|(known, _)| known == client).map_or(0, |(_, rows)| *rows);
        ensure!(found >= *rows, "client {client} has {found} rows of {rows} that were acknowledged");
    }
    let sum: usize = acknowledged.iter().map(|(_, rows)| rows).sum();
    eprintln!("    {sum} acknowledged rows of {CLIENTS} clients, all there");
    Ok(())
}

fn more(cluster: &Cluster<'_>) -> Result<()> {
    let (_, _, before) = state(cluster)?;
    until("more rows", SETTLE, || {
        let (_, _, rows) = state(cluster)?;
        ensure!(rows >= before + 2 * CLIENTS, "{rows} rows after {before}");
        Ok(())
    })
}

/// Clients that were ever connected, those that lost no connection, and acknowledged rows.
fn state(cluster: &Cluster<'_>) -> Result<(usize, usize, usize)> {
    let log = cluster.kubectl(&format!("logs -n {HOSPITAL} {POD} --tail=20"))?;
    latest(&log).context("the clients have said nothing yet")
}

fn latest(log: &str) -> Option<(usize, usize, usize)> {
    let line = log.lines().rev().find_map(|line| line.strip_prefix("state "))?;
    let numbers: Vec<usize> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
    Some((*numbers.first()?, *numbers.get(1)?, *numbers.get(2)?))
}

/// Clients and their acknowledged rows.
fn ended(log: &str) -> Vec<(usize, usize)> {
    log.lines().filter_map(|line| pair(line.strip_prefix("end ")?.split(' '))).collect()
}

fn pair<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<(usize, usize)> {
    Some((words.next()?.trim().parse().ok()?, words.next()?.trim().parse().ok()?))
}

fn password(cluster: &Cluster<'_>) -> Result<Value> {
    Ok(cluster.json(&format!("get secret -n {HOSPITAL} records-appointments"))?["data"]["password"].clone())
}

fn patch(cluster: &Cluster<'_>, spec: &Value) -> Result<()> {
    let patch = json!({ "spec": spec });
    cluster.kubectl(&format!("patch postgresinstance -n {HOSPITAL} records --type merge -p '{patch}'")).map(drop)
}

fn condition(cluster: &Cluster<'_>, type_: &str) -> Result<()> {
    until(type_, SETTLE, || {
        let instance = cluster.json(&format!("get postgresinstance -n {HOSPITAL} records"))?;
        let conditions = instance["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.into_iter().find(|condition| condition["type"] == type_).unwrap_or_default();
        ensure!(found["status"] == "True", "{found}");
        Ok(())
    })
}

fn remove(cluster: &Cluster<'_>) -> Result<()> {
    let args = format!("delete pod -n {HOSPITAL} {POD} --grace-period=0 --force --ignore-not-found");
    cluster.kubectl(&args).map(drop)
}

fn start(cluster: &Cluster<'_>) -> Result<()> {
    let primary = cluster.pod_with_role("records", "primary")?;
    let image = cluster.json(&format!("get pod -n {HOSPITAL} {primary}"))?["spec"]["containers"][0]["image"].clone();
    let limits = json!({ "cpu": "500m", "memory": "256Mi" });
    let secret = |variable: &str, key: &str| json!({ "name": variable, "valueFrom": { "secretKeyRef": { "name": "records-appointments", "key": key } } });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": POD, "namespace": HOSPITAL, "labels": { "postgres.hz.hospital/records": "true" } },
        "spec": {
            "restartPolicy": "Never",
            "securityContext": { "runAsNonRoot": true, "runAsUser": 10002, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "clients", "image": image, "imagePullPolicy": "Never",
                "command": ["python3", "-c", SCRIPT],
                "env": [
                    secret("PGHOST", "pooler-host"), secret("PGUSER", "user"),
                    secret("PGPASSWORD", "password"), secret("PGDATABASE", "dbname"),
                    { "name": "CLIENTS", "value": CLIENTS.to_string() }, { "name": "TABLE", "value": TABLE }
                ],
                "resources": { "requests": limits, "limits": limits },
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } }
            }]
        }
    });
    remove(cluster)?;
    cluster.kubectl_with("apply -f -", &pod.to_string()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_say_is_read() {
        let log = "state 1 200 0\nstate 200 199 4321\nend 0 17 kept\nend 1 3 lost server closed the connection\ndone";
        assert_eq!(latest(log), Some((200, 199, 4321)));
        assert_eq!(ended(log), [(0, 17), (1, 3)]);
        assert_eq!(pair("3|41".split('|')), Some((3, 41)));
        assert_eq!(latest(""), None);
    }
}
