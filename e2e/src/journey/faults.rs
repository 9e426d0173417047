//! What can happen to a database at night, one thing after the other, while a writer writes: every acknowledged row must
//! be there at the end, also those that a primary which nobody hears any more may have acknowledged on its own server; and there
//! are never two that take writes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{
    SETTLE, Scene,
    guard::{self, Guard},
    is_whole,
    writer::{Place, Writer, gap_between, now},
};
use crate::{
    cluster::{Cluster, HOSPITAL, name},
    limit::{self, pause},
    run::{cmd, output, until},
};

/// Patroni gives a silent primary up after 20 s, and Kubernetes calls a silent server lost after 40 s.
const SILENCE: Duration = Duration::from_secs(50);
/// How long the API servers and the operator are away, in seconds, if `HZ_E2E_AWAY` says nothing else: longer than
/// Patroni and Kubernetes wait for anything.
const AWAY: u64 = 60;
const CONTROL_PLANES: [&str; 3] = ["cp-1", "cp-2", "cp-3"];

/// Something that happens to the primary or to the server it runs on.
struct Fault {
    name: &'static str,
    /// It falls silent: another must take over, and it must not go on by itself.
    silent: bool,
    begin: fn(&Scene, pod: &str, server: &str) -> Result<()>,
    end: fn(&Scene, server: &str) -> Result<()>,
}

const FAULTS: [Fault; 6] = [
    Fault { name: "primary process killed", silent: false, begin: kill_process, end: nothing },
    Fault { name: "primary pod deleted", silent: false, begin: delete_pod, end: nothing },
    Fault { name: "primary pod killed without notice", silent: false, begin: kill_pod, end: nothing },
    Fault {
        name: "server frozen and thawed",
        silent: true,
        begin: |scene, _, server| scene.lab.freeze(server),
        end: |scene, server| scene.lab.thaw(server),
    },
    Fault {
        name: "server cut off",
        silent: true,
        begin: |scene, _, server| scene.lab.cable(server, false),
        end: |scene, server| scene.lab.cable(server, true),
    },
    Fault {
        name: "server without power",
        silent: true,
        begin: |scene, _, server| scene.lab.power_off(server),
        end: |scene, server| scene.lab.power_on(server),
    },
];

pub fn run(scene: &Scene) -> Result<()> {
    let cluster = scene.cluster();
    let writer = Writer::start_at(&cluster, &Place::away_from_all(&cluster)?)?;
    writer.until_rows(50)?;
    let told = all(scene, &cluster, &writer);
    let rows = writer.end();
    told?;
    eprintln!("    {}", rows?);
    Ok(())
}

fn all(scene: &Scene, cluster: &Cluster<'_>, writer: &Writer<'_>) -> Result<()> {
    let guard = Guard::over(cluster, "records")?;
    let step = |name: &str, act: &dyn Fn() -> Result<String>| -> Result<()> {
        limit::part(name);
        let begun = now();
        let told = act().with_context(|| name.to_owned())?;
        let seen = guard.check(begun).with_context(|| name.to_owned())?;
        eprintln!("    {told}; {seen}");
        Ok(())
    };
    for fault in &FAULTS {
        step(fault.name, &|| one(scene, cluster, writer, fault))?;
    }
    step("a replica lost", &|| replica(cluster, writer))?;
    step("API servers and operator away", &|| api_away(scene, cluster, writer))
}

fn one(scene: &Scene, cluster: &Cluster<'_>, writer: &Writer<'_>, fault: &Fault) -> Result<String> {
    let primary = cluster.pod_with_role("records", "primary")?;
    let pod = cluster.json(&format!("get pod -n {HOSPITAL} {primary}"))?;
    let server = pod["spec"]["nodeName"].as_str().context("the primary runs nowhere")?.to_owned();
    // Writes to the primary itself, from its own server: what it acknowledges alone would be lost.
    let beside = match fault.silent {
        true => Some(Writer::start_at(cluster, &Place::beside(&pod)?)?),
        false => None,
    };
    if let Some(beside) = &beside {
        beside.until_rows(10)?;
    }
    let begun = now();
    (fault.begin)(scene, &primary, &server)?;
    let during = during(cluster, writer, fault, &primary, begun);
    // Whatever came of it, the server is not left like that.
    (fault.end)(scene, &server)?;
    during?;
    let whole = Instant::now();
    is_whole(cluster, "records")?;
    let told = writer.acknowledged()?;
    if let Some(beside) = beside {
        beside.end().context("rows that the silent primary acknowledged")?;
    }
    Ok(format!(
        "{}: {:.1} s without a write, whole again {:.0} s after its end",
        fault.name,
        gap_between(&told, begun),
        whole.elapsed().as_secs_f64()
    ))
}

fn during(cluster: &Cluster<'_>, writer: &Writer<'_>, fault: &Fault, primary: &str, begun: u64) -> Result<()> {
    let silence = Instant::now();
    writer.until_more(30, begun)?;
    if !fault.silent {
        return Ok(());
    }
    let next = cluster.pod_with_role("records", "primary")?;
    ensure!(next != primary, "{primary} still is the primary, and nobody hears it");
    pause(SILENCE.saturating_sub(silence.elapsed()))
}

fn replica(cluster: &Cluster<'_>, writer: &Writer<'_>) -> Result<String> {
    let pods = cluster
        .items(&format!("get pods -n {HOSPITAL} -l app.kubernetes.io/instance=records,hz.hospital/role=replica"))?;
    let replica = name(pods.first().context("there is no replica")?);
    let begun = now();
    cluster.kubectl(&format!("delete pod -n {HOSPITAL} {replica} --grace-period=0 --force"))?;
    let whole = Instant::now();
    let before = writer.rows()?;
    writer.until_rows(before + 30)?;
    is_whole(cluster, "records")?;
    let gap = gap_between(&writer.acknowledged()?, begun);
    Ok(format!("replica killed: {gap:.1} s without a write, whole again {:.0} s later", whole.elapsed().as_secs_f64()))
}

/// Databases go on, and nothing of them is moved, while nobody manages them.
fn api_away(scene: &Scene, cluster: &Cluster<'_>, writer: &Writer<'_>) -> Result<String> {
    let places = || -> Result<Vec<(String, String)>> {
        let pods = cluster.items(&format!("get pods -n {HOSPITAL}"))?;
        Ok(pods.iter().map(|pod| (name(pod), pod["metadata"]["uid"].to_string())).collect())
    };
    let (primary, before) = (cluster.pod_with_role("records", "primary")?, places()?);
    let manifest = "/etc/kubernetes/manifests/kube-apiserver.yaml";
    let begun = now();
    let gone = CONTROL_PLANES.iter().try_for_each(|server| {
        let take = format!("mv {manifest} /root/ && pkill -KILL -x kube-apiserver; pkill -KILL -x hz-operator; true");
        scene.lab.exec(server, &take).map(drop)
    });
    let away = std::env::var("HZ_E2E_AWAY").ok().and_then(|text| text.parse().ok()).unwrap_or(AWAY);
    let passed = gone.and_then(|()| pause(Duration::from_secs(away)));
    for server in CONTROL_PLANES {
        let back = format!("if [ -e /root/kube-apiserver.yaml ]; then mv /root/kube-apiserver.yaml {manifest}; fi");
        scene.lab.exec(server, &back)?;
    }
    passed?;
    until("the API to answer", SETTLE, || cluster.kubectl("get --raw /readyz").map(drop))?;
    let whole = Instant::now();
    is_whole(cluster, "records")?;
    let gap = gap_between(&writer.acknowledged()?, begun);
    ensure!(cluster.pod_with_role("records", "primary")? == primary, "another primary, and nothing was wrong with it");
    let after = places()?;
    for pod in &before {
        ensure!(after.contains(pod), "{} was replaced while nobody managed it", pod.0);
    }
    Ok(format!(
        "API servers and operator away for {away} s: {gap:.1} s without a write, whole again {:.0} s after their return",
        whole.elapsed().as_secs_f64()
    ))
}

/// The process that started the others, and with it all of them.
pub fn kill_process(_: &Scene, pod: &str, _: &str) -> Result<()> {
    let process = guard::postmaster(pod).with_context(|| format!("no PostgreSQL runs in {pod}"))?;
    output(&mut cmd("kill", ["-KILL", &process.to_string()])).map(drop)
}

fn delete_pod(scene: &Scene, pod: &str, _: &str) -> Result<()> {
    scene.cluster().kubectl(&format!("delete pod -n {HOSPITAL} {pod} --wait=false")).map(drop)
}

fn kill_pod(scene: &Scene, pod: &str, _: &str) -> Result<()> {
    scene.cluster().kubectl(&format!("delete pod -n {HOSPITAL} {pod} --grace-period=0 --force")).map(drop)
}

fn nothing(_: &Scene, _: &str) -> Result<()> {
    Ok(())
}
