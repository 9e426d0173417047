//! A hospital loses a table, then doubts its backups: what was acknowledged up to a moment is all there in the database that is
//! restored of that moment, and nothing later. Backups are made while the primary goes down and while a store's server goes
//! down; a restore is interrupted; a drill proves the whole, and one that must not pass does not.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{SETTLE, Scene, writer::Writer};
use crate::{
    cluster::{Cluster, HOSPITAL, condition},
    run::until,
};

const EXAMPLE: &str = include_str!("../../../examples/eight-node-cluster/backups.yaml");
/// What the drill of the example asks for at least.
const ENOUGH: &str = "minimum: 1";
const PLAN: &str = "records-nightly";
const BACK: &str = "records-back";

pub fn run(scene: &Scene) -> Result<()> {
    let cluster = scene.cluster();
    // The first drill asks for more than there is.
    ensure!(EXAMPLE.contains(ENOUGH), "the example asks for something else");
    cluster.kubectl_with("apply -f -", &EXAMPLE.replace(ENOUGH, "minimum: 1000000"))?;
    let begun = Instant::now();
    healthy(&cluster)?;
    eprintln!("    store, plan and first backup: {:.0} s", begun.elapsed().as_secs_f64());
    first_drill(&cluster)?;
    cluster.kubectl_with("apply -f -", EXAMPLE)?;
    let writer = Writer::start(&cluster)?;
    let done = go(scene, &cluster, &writer);
    let log = writer.end();
    done?;
    eprintln!("    {}", log?);
    clean_up(&cluster)
}

fn go(scene: &Scene, cluster: &Cluster<'_>, writer: &Writer<'_>) -> Result<()> {
    writer.until_rows(50)?;
    let moment =
        cluster.sql("appointments", "select to_char(now() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")?;
    let moment = moment.trim().to_owned();
    let rows = writer.rows()?;
    writer.until_rows(rows + 50)?;

    // The failover during a backup: the primary goes while everything is copied.
    crate::limit::part("a full backup while the primary goes");
    let primary = cluster.pod_with_role("records", "primary")?;
    let backup = hzctl(scene, &["db", "backup", "records", "--type", "full"])?;
    ensure!(backup.status.success(), "hzctl db backup: {}", String::from_utf8_lossy(&backup.stderr));
    at_work(cluster)?;
    cluster.kubectl(&format!("delete pod -n {HOSPITAL} {primary} --wait=false"))?;
    ended(cluster)?;
    // A server of the store goes while what changed is copied.
    crate::limit::part("a backup while a server of the store goes");
    let backup = hzctl(scene, &["db", "backup", "records", "--type", "differential"])?;
    ensure!(backup.status.success(), "hzctl db backup: {}", String::from_utf8_lossy(&backup.stderr));
    cluster.kubectl(&format!("delete pod -n {HOSPITAL} vault-0 --wait=false"))?;
    ended(cluster)?;
    wait(scene, &["db", "backup", "records", "--type", "incremental"])?;
    healthy(cluster)?;

    // Side by side, as a hospital's would be: most of either is waiting for the store.
    std::thread::scope(|scope| {
        let proof = scope.spawn(|| drilled(scene, cluster));
        let back = restored(scene, cluster, writer, &moment);
        let proof = proof.join().unwrap_or_else(|_| bail!("the drill's thread panicked"));
        back.and(proof)
    })
}

/// The moment before, in a database of its own, though its pod is killed on the way.
fn restored(scene: &Scene, cluster: &Cluster<'_>, writer: &Writer<'_>, moment: &str) -> Result<()> {
    crate::limit::part("restoring a moment, and a drill");
    let begun = Instant::now();
    let asked = hzctl(scene, &["db", "restore", "records", "--into", BACK, "--at", moment, "--instances", "1"])?;
    ensure!(asked.status.success(), "hzctl db restore: {}", String::from_utf8_lossy(&asked.stderr));
    let partial = "/var/lib/postgresql/data/pgdata.restoring/base";
    until("the data to be fetched", SETTLE, || {
        cluster.kubectl(&format!("exec -n {HOSPITAL} {BACK}-0 -c postgres -- ls {partial}")).map(drop)
    })?;
    cluster.kubectl(&format!("delete pod -n {HOSPITAL} {BACK}-0 --grace-period=0 --force"))?;
    until("the restore to succeed", SETTLE, || {
        let all = cluster.items(&format!("get restores -n {HOSPITAL}"))?;
        let own = all.iter().find(|restore| restore["spec"]["instance"] == BACK).context("there is no Restore")?;
        ensure!(own["status"]["phase"] == "Succeeded", "{}: {}", own["status"]["phase"], own["status"]["message"]);
        Ok(())
    })?;
    eprintln!("    restored the moment {moment}, interrupted once: {:.0} s", begun.elapsed().as_secs_f64());
    let there = numbers(cluster, &format!("{BACK}-0"), &format!("select n from {}", writer.table()))?;
    // Rows are stamped by the writer's clock, which is this machine's, as is the database's.
    let at: u64 = cluster
        .sql("postgres", &format!("select (extract(epoch from '{moment}'::timestamptz) * 1000)::bigint"))?
        .trim()
        .parse()
        .context("the moment is no number")?;
    let before: BTreeSet<u64> = writer.acknowledged()?.iter().filter(|(_, ms)| *ms < at).map(|(n, _)| *n).collect();
    let missing: Vec<&u64> = before.difference(&there).collect();
    ensure!(before.len() >= 50, "only {} rows were acknowledged before the moment", before.len());
    ensure!(missing.is_empty(), "{} rows of before the moment are missing: {missing:?}", missing.len());
    // One row may have been on its way at the moment itself.
    ensure!(there.len() <= before.len() + 1, "{} rows are there and {} were written before", there.len(), before.len());
    eprintln!("    all {} rows of before the moment, and nothing later", there.len());
    // It never goes over one that is there.
    let over = hzctl(scene, &["db", "restore", "records", "--into", "records", "--wait"])?;
    ensure!(!over.status.success(), "a restore over a live database was taken");
    Ok(())
}

fn drilled(scene: &Scene, cluster: &Cluster<'_>) -> Result<()> {
    let begun = Instant::now();
    wait(scene, &["db", "drill", "records"])?;
    let drill = cluster.json(&format!("get restoredrill -n {HOSPITAL} records-proof"))?;
    let run = &drill["status"]["lastRun"];
    ensure!(run["phase"] == "Succeeded" && drill["status"]["lastProvedRestore"].is_string(), "{run:#}");
    ensure!(run["recoverySeconds"].is_i64() && run["lossSeconds"].is_i64(), "it measured nothing: {run:#}");
    let checks = run["checks"].as_array().cloned().unwrap_or_default();
    ensure!(checks.len() >= 3 && checks.iter().all(|check| check["passed"] == true), "{checks:?}");
    eprintln!(
        "    drill: {:.0} s, recovery time {} s, {} s of writes were not archived yet",
        begun.elapsed().as_secs_f64(),
        run["recoverySeconds"],
        run["lossSeconds"]
    );
    until("what was restored to be gone", SETTLE, || {
        let left = cluster.items(&format!("get postgresinstances -n {HOSPITAL}"))?;
        let sealed = left.iter().filter(|instance| instance["spec"]["sealed"] == true).count();
        ensure!(sealed == 0, "{sealed} are left");
        Ok(())
    })?;
    Ok(())
}

/// The first drill is made by itself as soon as there is a backup. It must not pass, and say why.
fn first_drill(cluster: &Cluster<'_>) -> Result<()> {
    let run = until("the first drill to end", SETTLE, || {
        let drill = cluster.json(&format!("get restoredrill -n {HOSPITAL} records-proof"))?;
        let run = drill["status"]["lastRun"].clone();
        ensure!(run["completionTime"].is_string(), "{}: {}", run["phase"], run["message"]);
        Ok(run)
    })?;
    let why = run["message"].as_str().unwrap_or_default();
    ensure!(run["phase"] == "Failed" && why.contains("appointments has its tables"), "{run:#}");
    eprintln!("    the first drill, of an idle database: recovery time {} s", run["recoverySeconds"]);
    Ok(())
}

fn clean_up(cluster: &Cluster<'_>) -> Result<()> {
    for (kind, name) in [("restoredrill", "records-proof"), ("backupplan", PLAN), ("postgresinstance", BACK)] {
        cluster.kubectl(&format!("delete {kind} -n {HOSPITAL} {name}"))?;
    }
    cluster.kubectl(&format!("delete backups,restores -n {HOSPITAL} --all"))?;
    cluster.kubectl(&format!("delete objectstore -n {HOSPITAL} vault")).map(drop)
}

/// Until the plan says that its backups are as they should be, and the database says the same.
fn healthy(cluster: &Cluster<'_>) -> Result<()> {
    for object in [format!("backupplan -n {HOSPITAL} {PLAN}"), format!("postgresinstance -n {HOSPITAL} records")] {
        until("the backups to be healthy", SETTLE, || {
            let told = condition(&cluster.json(&format!("get {object}"))?, "BackupHealthy");
            ensure!(told["status"] == "True", "{} ({})", told["message"], told["reason"]);
            Ok(())
        })?;
    }
    Ok(())
}

fn backups(cluster: &Cluster<'_>) -> Result<Vec<Value>> {
    cluster.items(&format!("get backups -n {HOSPITAL}"))
}

fn at_work(cluster: &Cluster<'_>) -> Result<()> {
    until("a backup to be at work", Duration::from_secs(120), || {
        let all = backups(cluster)?;
        ensure!(all.iter().any(|backup| backup["status"]["phase"] == "Running"), "none is");
        Ok(())
    })
}

/// Until every backup has ended, each of them well: what is interrupted is tried again.
fn ended(cluster: &Cluster<'_>) -> Result<()> {
    until("the backup to end", SETTLE, || {
        for backup in backups(cluster)? {
            let status = &backup["status"];
            let name = &backup["metadata"]["name"];
            ensure!(status["phase"] == "Succeeded", "{name} is {}: {}", status["phase"], status["message"]);
        }
        Ok(())
    })
}

fn numbers(cluster: &Cluster<'_>, pod: &str, question: &str) -> Result<BTreeSet<u64>> {
    let ask =
        format!("exec -n {HOSPITAL} {pod} -c postgres -- psql -X -A -t -U postgres -d appointments -c '{question}'");
    Ok(cluster.kubectl(&ask)?.lines().filter_map(|line| line.trim().parse().ok()).collect())
}

/// `hzctl` as a person calls it; one that waits for ever is ended.
fn hzctl(scene: &Scene, args: &[&str]) -> Result<Output> {
    let plain = scene.hzctl.command(args);
    let envs = plain.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let mut limited = Command::new("timeout");
    limited.arg(SETTLE.as_secs().to_string()).arg(plain.get_program()).args(plain.get_args()).envs(envs);
    limited.current_dir(plain.get_current_dir().unwrap_or_else(|| Path::new(".")));
    limited.args(["-n", HOSPITAL]).output().context("failed to run hzctl")
}

fn wait(scene: &Scene, args: &[&str]) -> Result<()> {
    let out = hzctl(scene, &[args, &["--wait"]].concat())?;
    ensure!(
        out.status.success(),
        "hzctl {} ended with {}: {}{}",
        args.join(" "),
        out.status,
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(())
}
