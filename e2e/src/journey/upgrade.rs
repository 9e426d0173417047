//! A hospital's old database goes from PostgreSQL 15 to 17 and, since it can, back again: every acknowledged row of before the upgrade is
//! there on either way, though the operator is killed while the data is being made. Then it goes for good.

use std::collections::BTreeSet;
use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{SETTLE, Scene};
use crate::cluster::{Cluster, HOSPITAL};
use crate::run::until;

const NAME: &str = "legacy";
const WRITER: &str = "e2e-legacy-writer";
/// Two copies start anew, data is made, a copy is built: generous for two cores.
const LIMIT: &str = "1800";
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// One row a statement, each number once: what was not acknowledged is not tried again.
const SCRIPT: &str = r#"
i=$(psql -X -q -A -t -c "select coalesce(max(n), 0) + 1000 from legacy" 2>/dev/null || echo 1)
while true; do
  i=$((i+1))
  if timeout 5 psql -X -q -v ON_ERROR_STOP=1 -c "insert into legacy values ($i)" >/dev/null 2>&1; then echo "ack $i"; else sleep 0.2; fi
done
"#;

pub fn run(scene: &Scene) -> Result<()> {
    let cluster = scene.cluster();
    let done = go(scene, &cluster);
    let cleaned = clean_up(&cluster);
    done.and(cleaned)
}

fn go(scene: &Scene, cluster: &Cluster<'_>) -> Result<()> {
    let instance = json!({
        "apiVersion": "hz.hospital/v1alpha1", "kind": "PostgresInstance", "metadata": { "name": NAME, "namespace": HOSPITAL },
        "spec": {
            "version": "15", "instances": 2, "storage": { "size": "512Mi" }, "deletionPolicy": "Delete",
            "databases": [{ "name": "findings", "extensions": ["pg_trgm"] }],
        },
    });
    cluster.kubectl_with("apply -f -", &instance.to_string())?;
    cluster.ready(&format!("get postgresinstances -n {HOSPITAL} --field-selector metadata.name={NAME}"), SETTLE)?;
    runs(cluster, "15")?;
    sql(cluster, "create table legacy (n bigint primary key); alter table legacy owner to findings;")?;
    start_writer(cluster)?;
    acknowledged(cluster, 50)?;
    let early = log(cluster)?;

    let begun = Instant::now();
    let asked = hzctl(scene, &["db", "upgrade", NAME, "--to", "17", "--timeout", LIMIT])?;
    ensure!(asked.status.success(), "hzctl db upgrade: {}", String::from_utf8_lossy(&asked.stderr));
    until("the data of version 17 to be made", PATIENCE, || stage(cluster, "Working"))?;
    kill_operator(cluster)?;
    ended(cluster, "Upgrade")?;
    eprintln!("    15 to 17, with the operator killed on the way: {:.0} s", begun.elapsed().as_secs_f64());
    runs(cluster, "17")?;
    let before = all_there(cluster)?;
    // The writer goes on, with the new version.
    acknowledged(cluster, before.len() + 50)?;
    refused(scene, &["db", "rebuild", NAME, "--member", "legacy-0", "--yes"], "holds the data of version 15")?;

    let begun = Instant::now();
    stop_writer(cluster)?;
    wait(scene, &["db", "rollback", NAME, "--accept-loss-since", "--yes"])?;
    eprintln!("    the way back: {:.0} s", begun.elapsed().as_secs_f64());
    runs(cluster, "15")?;
    let there = rows(cluster)?;
    ensure!(there.is_superset(&early), "rows that were acknowledged before the upgrade was asked for are missing");
    // Numbers rise, so what version 15 was given is all up to the newest that it has.
    let old: BTreeSet<u64> = before.iter().filter(|n| there.contains(n)).copied().collect();
    let newest = there.iter().max().copied().unwrap_or_default();
    let missing: Vec<u64> = before.iter().filter(|n| **n <= newest && !there.contains(n)).copied().collect();
    ensure!(missing.is_empty(), "rows of before the upgrade are missing: {missing:?}");
    eprintln!("    {} rows of before the upgrade, all there", old.len());

    wait(scene, &["db", "upgrade", NAME, "--to", "17"])?;
    runs(cluster, "17")?;
    ensure!(rows(cluster)?.is_superset(&old), "rows of before the second upgrade are missing");
    wait(scene, &["db", "finish-upgrade", NAME, "--yes"])?;
    let folders =
        cluster.kubectl(&format!("exec -n {HOSPITAL} legacy-0 -c postgres -- ls /var/lib/postgresql/data"))?;
    ensure!(!folders.contains("pgdata-15"), "the data of before is still there: {folders}");
    refused(scene, &["db", "rollback", NAME, "--accept-loss-since", "--yes"], "holds no data of before an upgrade")
}

fn hzctl(scene: &Scene, args: &[&str]) -> Result<Output> {
    scene.hzctl.command(args).args(["-n", HOSPITAL]).output().context("failed to run hzctl")
}

fn wait(scene: &Scene, args: &[&str]) -> Result<()> {
    let mut whole = args.to_vec();
    whole.extend(["--wait", "--timeout", LIMIT]);
    let out = hzctl(scene, &whole)?;
    ensure!(out.status.success(), "hzctl {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr));
    Ok(())
}

fn refused(scene: &Scene, args: &[&str], says: &str) -> Result<()> {
    let mut whole = args.to_vec();
    whole.push("--wait");
    let out = hzctl(scene, &whole)?;
    let said = String::from_utf8_lossy(&out.stderr);
    ensure!(!out.status.success() && said.contains(says), "hzctl {} said: {said}", args.join(" "));
    Ok(())
}

/// The only operation of this action that has not ended.
fn stage(cluster: &Cluster<'_>, wanted: &str) -> Result<()> {
    let all = cluster.items(&format!("get dataoperations -n {HOSPITAL}"))?;
    let own =
        all.iter().find(|operation| operation["spec"]["target"]["name"] == NAME).context("there is no operation")?;
    let status = &own["status"];
    ensure!(status["stage"] == wanted, "it is at {}: {} ({})", status["stage"], status["message"], status["phase"]);
    Ok(())
}

fn ended(cluster: &Cluster<'_>, action: &str) -> Result<()> {
    until(&format!("{action} of {NAME} to succeed"), PATIENCE, || {
        let all = cluster.items(&format!("get dataoperations -n {HOSPITAL}"))?;
        let own = all
            .iter()
            .find(|operation| operation["spec"]["target"]["name"] == NAME && operation["spec"]["action"] == action);
        let status = &own.context("there is no operation")?["status"];
        ensure!(status["phase"] == "Succeeded", "{}: {}", status["phase"], status["message"]);
        Ok(())
    })
}

fn kill_operator(cluster: &Cluster<'_>) -> Result<()> {
    let pods = "delete pod -n hz-system -l app.kubernetes.io/name=hz-operator --grace-period=0 --force";
    cluster.kubectl(pods).map(drop)
}

/// Ready, and of this version by its own word.
fn runs(cluster: &Cluster<'_>, version: &str) -> Result<()> {
    until(&format!("{NAME} to answer with version {version}"), PATIENCE, || {
        let said = sql(cluster, "select current_setting('server_version_num')::int / 10000")?;
        ensure!(said.trim() == version, "it says version {said}");
        let status = cluster.json(&format!("get postgresinstance -n {HOSPITAL} {NAME}"))?["status"].clone();
        ensure!(status["version"] == version, "its status says version {}", status["version"]);
        Ok(())
    })
}

fn sql(cluster: &Cluster<'_>, statement: &str) -> Result<String> {
    let pod = cluster.pod_with_role(NAME, "primary")?;
    let psql = "psql -X -q -A -t -v ON_ERROR_STOP=1 -d findings -f -";
    cluster.kubectl_with(&format!("exec -i -n {HOSPITAL} {pod} -c postgres -- {psql}"), statement)
}

fn rows(cluster: &Cluster<'_>) -> Result<BTreeSet<u64>> {
    let said = sql(cluster, "select n from legacy")?;
    Ok(said.lines().filter_map(|line| line.trim().parse().ok()).collect())
}

fn start_writer(cluster: &Cluster<'_>) -> Result<()> {
    let primary = cluster.pod_with_role(NAME, "primary")?;
    let image = cluster.json(&format!("get pod -n {HOSPITAL} {primary}"))?["spec"]["containers"][0]["image"].clone();
    let secret = |variable: &str, key: &str| json!({ "name": variable, "valueFrom": { "secretKeyRef": { "name": "legacy-findings", "key": key } } });
    let limits = json!({ "cpu": "200m", "memory": "64Mi" });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": WRITER, "namespace": HOSPITAL, "labels": { "postgres.hz.hospital/legacy": "true" } },
        "spec": {
            "restartPolicy": "Never",
            "securityContext": { "runAsNonRoot": true, "runAsUser": 10002, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "writer", "image": image, "imagePullPolicy": "Never", "command": ["bash", "-c", SCRIPT],
                "env": [
                    secret("PGHOST", "host"), secret("PGUSER", "user"), secret("PGPASSWORD", "password"), secret("PGDATABASE", "dbname"),
                    { "name": "PGCONNECT_TIMEOUT", "value": "2" },
                ],
                "resources": { "requests": limits, "limits": limits },
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
            }],
        },
    });
    cluster.kubectl_with("apply -f -", &pod.to_string()).map(drop)
}

fn log(cluster: &Cluster<'_>) -> Result<BTreeSet<u64>> {
    let log = cluster.kubectl(&format!("logs -n {HOSPITAL} {WRITER}"))?;
    Ok(log.lines().filter_map(|line| line.strip_prefix("ack ")?.parse().ok()).collect())
}

/// Wait until so many rows were acknowledged.
fn acknowledged(cluster: &Cluster<'_>, wanted: usize) -> Result<()> {
    until(&format!("{wanted} acknowledged rows"), SETTLE, || {
        let there = log(cluster)?.len();
        ensure!(there >= wanted, "{there} rows so far");
        Ok(())
    })
}

/// Every acknowledged row is there; those that are.
fn all_there(cluster: &Cluster<'_>) -> Result<BTreeSet<u64>> {
    // The log first: what is acknowledged while we look is not missing.
    let acknowledged = until("the writer's log", SETTLE, || log(cluster))?;
    let there = rows(cluster)?;
    let missing: Vec<&u64> = acknowledged.difference(&there).collect();
    ensure!(missing.is_empty(), "{} acknowledged rows are lost: {missing:?}", missing.len());
    eprintln!("    {} acknowledged rows, all there", acknowledged.len());
    Ok(acknowledged)
}

fn stop_writer(cluster: &Cluster<'_>) -> Result<()> {
    let remove = format!("delete pod -n {HOSPITAL} {WRITER} --grace-period=0 --force --ignore-not-found");
    cluster.kubectl(&remove).map(drop)
}

fn clean_up(cluster: &Cluster<'_>) -> Result<()> {
    stop_writer(cluster)?;
    cluster
        .kubectl(&format!("delete postgresinstance -n {HOSPITAL} {NAME} --ignore-not-found --timeout=300s"))
        .map(drop)
}
