//! The clock of one server is wrong: it jumps an hour ahead, and back again, while a writer writes; first that of a replica's,
//! then that of the primary's. No acknowledged row may be lost, and there are never two that take writes.
//!
//! The hosts of the lab share the machine's clock, and a time namespace moves only the monotonic one. So the time of day is made
//! wrong where a database reads it: Patroni and PostgreSQL of one copy run with a library before the C library's
//! (`e2e/lab/wrong-clock.c`), and a file on the copy's own volume says by how much. What that does not show: a kubelet whose clock is
//! wrong. What a copy makes of it is real: Patroni tells by the time of day how old the leader's last sign of life is, and
//! PostgreSQL how long its peer has been silent.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{
    Scene,
    disk_full::volume,
    guard::Guard,
    is_whole, is_whole_within,
    writer::{Place, Target, Writer, gap_between, now},
};
use crate::{
    cluster::{Cluster, HOSPITAL, name},
    limit::{self, pause},
    run::{cmd, feed, output, until},
};

const NAME: &str = "timed";
const TARGET: Target = Target { instance: NAME, database: "ledger" };
/// Seconds that a clock is wrong by: far beyond everything that Patroni, PostgreSQL and Kubernetes wait for.
const WRONG: i64 = 3600;
/// Longer than Patroni waits for a sign of life (20 s).
const HELD: Duration = Duration::from_secs(30);
/// How long a clock is watched after it was put right: what a jump back does, it does at once.
const RIGHT: Duration = Duration::from_secs(10);
/// In the pod, and the folder's place on the volume.
const FOLDER: &str = "/var/lib/postgresql/data/e2e-clock";

const MANIFEST: &str = r#"{
  "apiVersion": "hz.hospital/v1alpha1", "kind": "PostgresInstance",
  "metadata": { "name": "timed", "namespace": "hospital-st-anna" },
  "spec": {
    "instances": 3, "storage": { "size": "1Gi" }, "deletionPolicy": "Delete",
    "resources": { "cpu": "50m", "memory": "192Mi", "memoryLimit": "384Mi" },
    "databases": [{ "name": "ledger", "dataClass": "Administrative" }]
  }
}"#;

pub fn run(scene: &Scene) -> Result<()> {
    let cluster = scene.cluster();
    let library = library(scene)?;
    limit::part("an instance of its own");
    cluster.kubectl_with("apply -f -", MANIFEST)?;
    let done = is_whole(&cluster, NAME).and_then(|()| on_it(scene, &cluster, &library));
    limit::part("cleaning up");
    let gone = cluster.kubectl(&format!("delete postgresinstance -n {HOSPITAL} {NAME} --timeout=180s"));
    done?;
    gone.map(drop)
}

fn on_it(scene: &Scene, cluster: &Cluster<'_>, library: &[u8]) -> Result<()> {
    limit::part("clocks that can be set");
    let clocks = Clocks::lay(scene, cluster, library)?;
    is_whole(cluster, NAME)?;
    let writer = Writer::start_at(cluster, &Place::away_from(cluster, TARGET)?)?;
    let struck = writer.until_rows(50).and_then(|()| jumps(scene, cluster, &writer, &clocks));
    let right = clocks.all_right(scene);
    let log = writer.end();
    struck?;
    right?;
    eprintln!("    {}", log?);
    Ok(())
}

fn jumps(scene: &Scene, cluster: &Cluster<'_>, writer: &Writer<'_>, clocks: &Clocks) -> Result<()> {
    let guard = Guard::over(cluster, NAME)?;
    for leads in [false, true] {
        let leader = cluster.pod_with_role(NAME, "primary")?;
        let copy = clocks.0.iter().find(|copy| (copy.pod == leader) == leads).context("there is no such copy")?;
        let who = if leads { "the primary" } else { "a replica" };
        for (seconds, jump, held) in [(WRONG, "an hour ahead", HELD), (0, "back, and right again", RIGHT)] {
            let what = format!("the clock of {who} ({}) jumps {jump}", copy.pod);
            limit::part(&what);
            let begun = now();
            copy.set(scene, cluster, seconds).with_context(|| what.clone())?;
            pause(held)?;
            writer.until_more(30, begun).with_context(|| what.clone())?;
            // While it is wrong a copy may be missing; when it is right again none may.
            let since = Instant::now();
            let whole = match seconds {
                0 => is_whole(cluster, NAME).with_context(|| what.clone()).map(|()| true)?,
                _ => is_whole_within(cluster, NAME, HELD).is_ok(),
            };
            let whole =
                if whole { format!("whole {:.0} s", since.elapsed().as_secs_f64()) } else { "not whole".to_owned() };
            let seen = guard.check(begun).with_context(|| what.clone())?;
            let now_leads = cluster.pod_with_role(NAME, "primary")?;
            let led = if now_leads == leader { "the same leads".to_owned() } else { format!("then {now_leads} leads") };
            let gap = gap_between(&writer.acknowledged()?, begun);
            eprintln!("    {what}: {gap:.1} s without a write, {led}, {whole} after {} s; {seen}", held.as_secs());
        }
    }
    Ok(())
}

/// Compiled by the machine's own compiler, which has just built everything else.
fn library(scene: &Scene) -> Result<Vec<u8>> {
    let dir = scene.lab.place.root.join("target/e2e-data");
    std::fs::create_dir_all(&dir)?;
    let (source, made) = (scene.lab.place.root.join("e2e/lab/wrong-clock.c"), dir.join("wrong-clock.so"));
    output(cmd("cc", ["-std=c11", "-O2", "-shared", "-fPIC", "-o"]).arg(&made).arg(&source))
        .context("the library that makes a clock wrong could not be compiled")?;
    std::fs::read(&made).with_context(|| format!("failed to read {}", made.display()))
}

/// A copy whose clock can be set.
struct Clock {
    pod: String,
    server: String,
    folder: String,
}

struct Clocks(Vec<Clock>);

impl Clocks {
    /// The library onto every volume, and every copy started anew with it. That variables of others stay in the StatefulSet is
    /// how server-side apply works: the operator owns only its own.
    fn lay(scene: &Scene, cluster: &Cluster<'_>, library: &[u8]) -> Result<Self> {
        let pods = cluster.items(&format!(
            "get pods -n {HOSPITAL} -l app.kubernetes.io/instance={NAME},app.kubernetes.io/name=postgres"
        ))?;
        let mut clocks = Vec::new();
        for pod in pods.iter().map(name) {
            let (server, path) = volume(cluster, &pod)?;
            let folder = format!("{path}/e2e-clock");
            let lay = format!(
                "mkdir -p {folder} && echo 0 >{folder}/offset && cat >{folder}/clock.so && chmod -R a+rX {folder}"
            );
            feed(scene.lab.ssh(&server)?.arg(lay), library)?;
            clocks.push(Clock { pod, server, folder });
        }
        let variables = json!([
            { "name": "LD_PRELOAD", "value": format!("{FOLDER}/clock.so") },
            { "name": "HZ_CLOCK", "value": format!("{FOLDER}/offset") },
        ]);
        let patch =
            json!({ "spec": { "template": { "spec": { "containers": [{ "name": "postgres", "env": variables }] } } } });
        cluster.kubectl_with(
            &format!("patch statefulset -n {HOSPITAL} {NAME} --type strategic --patch-file /dev/stdin"),
            &patch.to_string(),
        )?;
        scene.ask(&["db", "restart", NAME])?;
        for clock in &clocks {
            let pod = cluster.json(&format!("get pod -n {HOSPITAL} {}", clock.pod))?;
            ensure!(
                pod["spec"].to_string().contains("HZ_CLOCK"),
                "{} was not started anew with the library",
                clock.pod
            );
        }
        Ok(Self(clocks))
    }

    fn all_right(&self, scene: &Scene) -> Result<()> {
        self.0.iter().try_for_each(|clock| clock.write(scene, 0))
    }
}

impl Clock {
    fn write(&self, scene: &Scene, seconds: i64) -> Result<()> {
        let Self { server, folder, .. } = self;
        scene.lab.exec(server, &format!("echo {seconds} >{folder}/new && mv {folder}/new {folder}/offset")).map(drop)
    }

    /// Set it, and see that PostgreSQL tells the wrong time; a server that is not up cannot be asked.
    fn set(&self, scene: &Scene, cluster: &Cluster<'_>, seconds: i64) -> Result<()> {
        self.write(scene, seconds)?;
        until("the copy to tell that time", Duration::from_secs(60), || {
            let told = cluster.psql_in(&self.pod, "select (extract(epoch from clock_timestamp()) * 1000)::bigint")?;
            let told: i64 = told.trim().parse().with_context(|| format!("this is no time: {told}"))?;
            let off = (told - i64::try_from(now())?) / 1000 - seconds;
            ensure!(off.abs() < 30, "it is off by {off} s more");
            Ok(())
        })
    }
}
