//! What can happen to a database at night, one thing after the other, while a writer writes: every acknowledged row must
//! be there at the end, also those that a primary which nobody hears any more may have acknowledged on its own server.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{
    SETTLE, Scene,
    writer::{Place, Writer, gap_between, now},
};
use crate::{
    cluster::{Cluster, HOSPITAL, name},
    run::until,
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

const FAULTS: [Fault; 5] = [
    Fault { name: "primary process killed", silent: false, begin: kill_process, end: nothing },
    Fault { name: "primary pod deleted", silent: false, begin: delete_pod, end: nothing },
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
    for line in told? {
        eprintln!("    {line}");
    }
    eprintln!("    {}", rows?);
    Ok(())
}

fn all(scene: &Scene, cluster: &Cluster<'_>, writer: &Writer<'_>) -> Result<Vec<String>> {
    let mut told = Vec::new();
    for fault in &FAULTS {
        told.push(one(scene, cluster, writer, fault).with_context(|| fault.name.to_owned())?);
    }
    told.push(replica(cluster, writer).context("a replica lost")?);
    told.push(api_away(scene, cluster, writer).context("API servers and operator away")?);
    Ok(told)
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
    let silence = Instant::now();
    until("rows after the fault", SETTLE, || {
        let rows = writer.acknowledged()?.iter().filter(|(_, at)| *at > begun + 2000).count();
        ensure!(rows >= 30, "{rows} rows");
        Ok(())
    })?;
    if fault.silent {
        let next = cluster.pod_with_role("records", "primary")?;
        ensure!(next != primary, "{primary} still is the primary, and nobody hears it");
        sleep(SILENCE.saturating_sub(silence.elapsed()));
    }
    (fault.end)(scene, &server)?;
    let whole = Instant::now();
    is_whole(cluster)?;
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

fn replica(cluster: &Cluster<'_>, writer: &Writer<'_>) -> Result<String> {
    let pods = cluster
        .items(&format!("get pods -n {HOSPITAL} -l app.kubernetes.io/instance=records,hz.hospital/role=replica"))?;
    let replica = name(pods.first().context("there is no replica")?);
    let begun = now();
    cluster.kubectl(&format!("delete pod -n {HOSPITAL} {replica} --grace-period=0 --force"))?;
    let whole = Instant::now();
    let before = writer.rows()?;
    writer.until_rows(before + 30)?;
    is_whole(cluster)?;
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
    for server in CONTROL_PLANES {
        scene.lab.exec(
            server,
            &format!("mv {manifest} /root/ && pkill -KILL -x kube-apiserver; pkill -KILL -x hz-operator; true"),
        )?;
    }
    let away = std::env::var("HZ_E2E_AWAY").ok().and_then(|text| text.parse().ok()).unwrap_or(AWAY);
    sleep(Duration::from_secs(away));
    for server in CONTROL_PLANES {
        scene.lab.exec(server, &format!("mv /root/kube-apiserver.yaml {manifest}"))?;
    }
    until("the API to answer", SETTLE, || cluster.kubectl("get --raw /readyz").map(drop))?;
    let whole = Instant::now();
    is_whole(cluster)?;
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

/// Until the operator says that every copy is there and queries are answered.
fn is_whole(cluster: &Cluster<'_>) -> Result<()> {
    until("the database to be whole", SETTLE, || {
        let instance = cluster.json(&format!("get postgresinstance -n {HOSPITAL} records"))?;
        for wanted in ["Ready", "Redundant", "Durable"] {
            let conditions = instance["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let told = conditions.into_iter().find(|condition| condition["type"] == wanted).unwrap_or_default();
            ensure!(told["status"] == "True", "{wanted}: {}", told["message"]);
        }
        // A copy that is ready may still be behind.
        let confirmed = instance["status"]["conditions"].to_string().contains(" or ");
        ensure!(confirmed, "not every copy confirms writes yet");
        Ok(())
    })
}

fn kill_process(scene: &Scene, pod: &str, server: &str) -> Result<()> {
    // The postmaster of that pod, by the pod's host name in its environment.
    let find = format!(
        "for p in $(pgrep -x postgres); do tr '\\0' '\\n' </proc/$p/environ | grep -qx HOSTNAME={pod} && kill -KILL $p; done; true"
    );
    scene.lab.exec(server, &find).map(drop)
}

fn delete_pod(scene: &Scene, pod: &str, _: &str) -> Result<()> {
    scene.cluster().kubectl(&format!("delete pod -n {HOSPITAL} {pod} --wait=false")).map(drop)
}

fn nothing(_: &Scene, _: &str) -> Result<()> {
    Ok(())
}
