//! The disk of the primary's server fills up while a writer writes: first there is no room for another page of a table, then
//! none for another segment of the log. No acknowledged row may be lost, there are never two that take writes, and with room again
//! everything goes on.
//!
//! An instance of its own, one of whose volumes is on a file system of its own: a tmpfs of a few hundred megabytes, which answers a
//! write that finds no room with the same ENOSPC as a disk. (A loop device would need one of the machine's, and a file system on the
//! disk of all eight hosts would fill up theirs.)

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{
    SETTLE, Scene,
    guard::Guard,
    is_whole,
    writer::{Place, Target, Writer, gap_between, now},
};
use crate::{
    cluster::{Cluster, HOSPITAL, condition},
    limit,
    run::until,
};

const NAME: &str = "crowded";
const TARGET: Target = Target { instance: NAME, database: "ledger" };
/// Room beyond what is there when the volume is made small.
const SPARE_MIB: u64 = 400;
/// Longest until a full disk is noticed by whoever writes.
const NOTICED: Duration = Duration::from_secs(90);
/// Longest until the instance says so: it looks about once a minute.
const TOLD: Duration = Duration::from_secs(180);
/// The writer acknowledges something every fraction of a second; nothing for so long means that it cannot.
const STILL: u64 = 10_000;

/// Memory is plenty, since what is written to a tmpfs counts as the writing pod's.
const MANIFEST: &str = r#"{
  "apiVersion": "hz.hospital/v1alpha1", "kind": "PostgresInstance",
  "metadata": { "name": "crowded", "namespace": "hospital-st-anna" },
  "spec": {
    "instances": 3, "storage": { "size": "1Gi" }, "deletionPolicy": "Delete",
    "resources": { "cpu": "50m", "memory": "192Mi", "memoryLimit": "1Gi" },
    "databases": [{ "name": "ledger", "dataClass": "Administrative" }]
  }
}"#;

pub fn run(scene: &Scene) -> Result<()> {
    let cluster = scene.cluster();
    limit::part("an instance of its own");
    cluster.kubectl_with("apply -f -", MANIFEST)?;
    let done = is_whole(&cluster, NAME).and_then(|()| on_it(scene, &cluster));
    limit::part("cleaning up");
    let gone = clean_up(scene, &cluster);
    done?;
    gone
}

fn on_it(scene: &Scene, cluster: &Cluster<'_>) -> Result<()> {
    limit::part("a small volume");
    let primary = cluster.pod_with_role(NAME, "primary")?;
    let disk = Disk::of(cluster, &primary)?;
    disk.make_small(scene, cluster).context("a small volume could not be made")?;
    is_whole(cluster, NAME)?;
    if cluster.pod_with_role(NAME, "primary")? != primary {
        scene.ask(&["db", "switchover", NAME, "--to", &primary])?;
        is_whole(cluster, NAME)?;
    }
    let writer = Writer::start_at(cluster, &Place::away_from(cluster, TARGET)?)?;
    let filled = writer.until_rows(50).and_then(|()| fill(scene, cluster, &writer, &disk));
    // Whatever came of it: rows can be counted only where there is room.
    let room = disk.free(scene);
    let whole = filled.and(room).and_then(|()| {
        limit::part("room again");
        let (since, begun) = (now(), Instant::now());
        writer.until_more(30, since)?;
        is_whole(cluster, NAME)?;
        eprintln!("    whole again {:.0} s after there was room", begun.elapsed().as_secs_f64());
        Ok(())
    });
    let log = writer.end();
    whole?;
    eprintln!("    {}", log?);
    Ok(())
}

fn fill(scene: &Scene, cluster: &Cluster<'_>, writer: &Writer<'_>, disk: &Disk) -> Result<()> {
    let guard = Guard::over(cluster, NAME)?;
    let begun = now();

    limit::part("no room for tables");
    disk.fill(scene)?;
    let what = until("the full disk to be noticed", NOTICED, || {
        if cluster.pod_with_role(NAME, "primary").is_ok_and(|leader| leader != disk.pod) {
            return Ok("another copy leads");
        }
        let still = writer.acknowledged()?.last().is_none_or(|(_, at)| now() > at + STILL);
        ensure!(still, "rows are still acknowledged");
        Ok("the primary stays, and refuses to write")
    });
    match &what {
        Ok(what) => eprintln!("    no room for another page: {what}"),
        Err(seen) => eprintln!("    no room for another page: {seen:#}"),
    }
    told_full(cluster, &disk.pod)?;
    tell(cluster)?;

    limit::part("no room for the log");
    let turn = "select pg_logical_emit_message(true, 'e2e', repeat('x', 1000));\nselect pg_switch_wal();\n";
    let next = until("another copy to lead", NOTICED, || {
        // Fails when there is no room for the next segment, and when nobody leads.
        let turned = cluster.psql_in(&disk.pod, turn);
        let leader = cluster.pod_with_role(NAME, "primary")?;
        if leader == disk.pod {
            bail!(
                "{leader} still leads, and says: {}",
                turned.map_or_else(|told| format!("{told:#}"), |_| "done".into())
            );
        }
        Ok(leader)
    });
    match next {
        Ok(next) => {
            let since = now();
            writer.until_more(30, since).with_context(|| format!("{next} leads, and takes no rows"))?;
            let gap = gap_between(&writer.acknowledged()?, begun);
            eprintln!("    no room for the log: {next} leads; {gap:.1} s without a write since the disk was full");
        }
        // Then nothing is written until there is room, which is seen below.
        Err(seen) => eprintln!("    no room for the log, and the primary stays: {seen:#}"),
    }
    tell(cluster)?;
    eprintln!("    {}", guard.check(begun)?);
    Ok(())
}

/// An instance that says how much room it has must say that this copy has none.
fn told_full(cluster: &Cluster<'_>, pod: &str) -> Result<()> {
    let room = || -> Result<Value> {
        let object = cluster.json(&format!("get postgresinstance -n {HOSPITAL} {NAME}"))?;
        Ok(condition(&object, "StorageHealthy"))
    };
    if room()?.is_null() {
        eprintln!("    the instance says nothing of its room");
        return Ok(());
    }
    until("the instance to say that its disk is full", TOLD, || {
        let told = room()?;
        let named = told["message"].as_str().unwrap_or_default().contains(pod);
        ensure!(told["status"] == "False" && named, "StorageHealthy is {}: {}", told["status"], told["message"]);
        Ok(())
    })
}

/// What the instance says of itself.
fn tell(cluster: &Cluster<'_>) -> Result<()> {
    let object = cluster.json(&format!("get postgresinstance -n {HOSPITAL} {NAME}"))?;
    for told in object["status"]["conditions"].as_array().into_iter().flatten() {
        let word = |key: &str| told[key].as_str().unwrap_or_default();
        eprintln!("      {} {} ({}): {}", word("type"), word("status"), word("reason"), word("message"));
    }
    Ok(())
}

/// The volume of a copy, on its server.
struct Disk {
    pod: String,
    server: String,
    path: String,
}

impl Disk {
    fn of(cluster: &Cluster<'_>, pod: &str) -> Result<Self> {
        let (server, path) = volume(cluster, pod)?;
        Ok(Self { pod: pod.to_owned(), server, path })
    }

    /// The pod goes, its data moves to a file system that is laid over its folder, and the pod comes back.
    fn make_small(&self, scene: &Scene, cluster: &Cluster<'_>) -> Result<()> {
        let Self { pod, server, path } = self;
        cluster.kubectl(&format!("cordon {server}"))?;
        let laid = cluster.kubectl(&format!("delete pod -n {HOSPITAL} {pod} --timeout=120s")).and_then(|_| {
            let lay = format!(
                "set -e; used=$(du -sm {path} | cut -f1); mkdir -p /mnt/{NAME}; \
                 mount -t tmpfs -o size=$((used + {SPARE_MIB}))m,mode=0777 {NAME} /mnt/{NAME}; \
                 cp -a {path}/. /mnt/{NAME}/; mount --bind /mnt/{NAME} {path}; umount /mnt/{NAME}; df -m {path} | tail -1"
            );
            scene.lab.exec(server, &lay)
        });
        cluster.kubectl(&format!("uncordon {server}"))?;
        eprintln!("    the volume of {pod}: {}", laid?);
        until("the pod to be back on its small volume", SETTLE, || {
            let back = cluster.json(&format!("get pod -n {HOSPITAL} {pod}"))?;
            ensure!(crate::cluster::is_ready(&back), "{}", back["status"]["conditions"]);
            let room = cluster.kubectl(&format!(
                "exec -n {HOSPITAL} {pod} -c postgres -- df -m /var/lib/postgresql/data | tail -1"
            ))?;
            ensure!(room.contains(NAME), "its volume is not the small one: {room}");
            Ok(())
        })
    }

    /// To the last byte.
    fn fill(&self, scene: &Scene) -> Result<()> {
        let path = &self.path;
        let fill = format!(
            "fallocate -l $(df --output=avail -B1 {path} | tail -1) {path}/ballast; cat /dev/zero >{path}/rest 2>/dev/null; \
             df -m {path} | tail -1"
        );
        let full = scene.lab.exec(&self.server, &fill)?;
        eprintln!("    the volume of {}: {full}", self.pod);
        Ok(())
    }

    fn free(&self, scene: &Scene) -> Result<()> {
        let path = &self.path;
        scene.lab.exec(&self.server, &format!("rm -f {path}/ballast {path}/rest")).map(drop)
    }
}

/// Server and folder of a copy's volume.
pub fn volume(cluster: &Cluster<'_>, pod: &str) -> Result<(String, String)> {
    let told = cluster.json(&format!("get pod -n {HOSPITAL} {pod}"))?;
    let server = told["spec"]["nodeName"].as_str().with_context(|| format!("{pod} runs nowhere"))?.to_owned();
    let claim = cluster.json(&format!("get pvc -n {HOSPITAL} data-{pod}"))?;
    let volume = claim["spec"]["volumeName"].as_str().with_context(|| format!("{pod} has no volume"))?;
    let volume = cluster.json(&format!("get pv {volume}"))?;
    let path = volume["spec"]["local"]["path"].as_str().or(volume["spec"]["hostPath"]["path"].as_str());
    Ok((server, path.with_context(|| format!("the volume of {pod} is no folder"))?.to_owned()))
}

/// The small file system goes before the folder below it can.
fn clean_up(scene: &Scene, cluster: &Cluster<'_>) -> Result<()> {
    let stop = r#"{"spec":{"suspend":true}}"#;
    cluster.kubectl_with(
        &format!("patch postgresinstance -n {HOSPITAL} {NAME} --type merge --patch-file /dev/stdin"),
        stop,
    )?;
    until("its pods to be gone", Duration::from_secs(180), || {
        let left = cluster.items(&format!("get pods -n {HOSPITAL} -l app.kubernetes.io/instance={NAME}"))?;
        ensure!(left.is_empty(), "{} are there", left.len());
        Ok(())
    })?;
    crate::run::each(&crate::lab::hosts(), |host| {
        let lift =
            format!("for m in $(sed -n 's,^{NAME} \\([^ ]*\\) tmpfs .*,\\1,p' /proc/mounts); do umount -l $m; done");
        scene.lab.exec(&host.name, &lift).map(drop)
    })?;
    cluster.kubectl(&format!("delete postgresinstance -n {HOSPITAL} {NAME} --timeout=120s")).map(drop)
}
