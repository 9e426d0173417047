//! Every operation on the hospital's database and cache, as its IT would ask for it with `hzctl`, while a writer writes:
//! each must succeed by what the thing itself says, and every acknowledged row must be there at the end.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Scene, writer::Writer};
use crate::cluster::{Cluster, HOSPITAL, name};

/// Room for data of each copy after the expansion; the example has less.
const MORE: &str = "3Gi";

pub fn run(scene: &Scene) -> Result<()> {
    let cluster = scene.cluster();
    let writer = Writer::start(&cluster)?;
    let operated = operate(scene, &cluster, &writer);
    let log = writer.end();
    operated?;
    eprintln!("    {}", log?);
    refused(scene)?;
    cache(scene, &cluster)
}

fn operate(scene: &Scene, cluster: &Cluster<'_>, writer: &Writer<'_>) -> Result<()> {
    writer.until_rows(50)?;
    let primary = cluster.pod_with_role("records", "primary")?;
    wait(scene, &["db", "switchover", "records"])?;
    let next = cluster.pod_with_role("records", "primary")?;
    ensure!(next != primary, "{primary} still is the primary after a switchover");

    let before = pods(cluster, "records")?;
    wait(scene, &["db", "restart", "records"])?;
    let after = pods(cluster, "records")?;
    ensure!(before.iter().all(|(_, uid)| after.iter().all(|(_, new)| new != uid)), "a pod outlived the restart");

    // The primary's own disk: it has to hand over first.
    let primary = cluster.pod_with_role("records", "primary")?;
    let volume = volume(cluster, &primary)?;
    wait(scene, &["db", "rebuild", "records", "--member", &primary, "--yes"])?;
    ensure!(volume["uid"] != self::volume(cluster, &primary)?["uid"], "the disk of {primary} is the old one");

    wait(scene, &["db", "expand", "records", "--size", MORE])?;
    for (pod, _) in pods(cluster, "records")? {
        let room = self::volume(cluster, &pod)?["room"].clone();
        ensure!(room == MORE, "the volume of {pod} has {room}");
    }

    wait(scene, &["db", "scale", "records", "--instances", "4"])?;
    ensure!(pods(cluster, "records")?.len() == 4, "there are not four copies");
    wait(scene, &["db", "scale", "records", "--instances", "3"])?;
    ensure!(pods(cluster, "records")?.len() == 3, "there are not three copies");
    let rows = writer.rows()?;
    writer.until_rows(rows + 50)
}

/// What cannot be is refused, with an exit code that says so, and leaves the database alone.
fn refused(scene: &Scene) -> Result<()> {
    for (args, says) in [
        (["db", "expand", "records", "--size", "1Gi"], "never shrinks"),
        (["db", "switchover", "records", "--to", "records-9"], "has no copy"),
    ] {
        let out =
            scene.hzctl.command(&args).args(["-n", HOSPITAL, "--wait"]).output().context("failed to run hzctl")?;
        let said = String::from_utf8_lossy(&out.stderr);
        ensure!(!out.status.success() && said.contains(says), "hzctl {args:?} said: {said}");
    }
    Ok(())
}

fn cache(scene: &Scene, cluster: &Cluster<'_>) -> Result<()> {
    let master = cluster.pod_with_role("sessions", "master")?;
    wait(scene, &["cache", "switchover", "sessions"])?;
    let next = cluster.pod_with_role("sessions", "master")?;
    ensure!(next != master, "{master} still is the master after a switchover");
    let before = pods(cluster, "sessions")?;
    wait(scene, &["cache", "restart", "sessions"])?;
    let after = pods(cluster, "sessions")?;
    ensure!(before.iter().all(|(_, uid)| after.iter().all(|(_, new)| new != uid)), "a server outlived the restart");
    Ok(())
}

/// Ask for an operation and follow it to its end, which must be a good one.
fn wait(scene: &Scene, args: &[&str]) -> Result<()> {
    crate::limit::part(&args.join(" "));
    let begun = std::time::Instant::now();
    scene.ask(args)?;
    eprintln!("    {}: {:.0} s", args[..3].join(" "), begun.elapsed().as_secs_f64());
    Ok(())
}

/// Pods of a database or cache, with their unique ids.
fn pods(cluster: &Cluster<'_>, instance: &str) -> Result<Vec<(String, String)>> {
    let pods = cluster.items(&format!("get pods -n {HOSPITAL} -l app.kubernetes.io/instance={instance}"))?;
    let live = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    Ok(live.map(|pod| (name(pod), pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned())).collect())
}

/// Unique id and room of a pod's volume.
fn volume(cluster: &Cluster<'_>, pod: &str) -> Result<Value> {
    let claim = cluster.json(&format!("get pvc -n {HOSPITAL} data-{pod}"))?;
    Ok(serde_json::json!({ "uid": claim["metadata"]["uid"], "room": claim["status"]["capacity"]["storage"] }))
}
