//! The operator is killed in the middle of its work, several times. It must converge, and no workload may have been
//! written twice with different content: `generation` stays 1.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use super::{SETTLE, Scene};
use crate::{
    cluster::{Cluster, HOSPITAL, name},
    lab::{Lab, hosts},
    run::until,
};

/// A second hospital, like the first: all four kinds, all their objects.
const TRIAL: &str = "hospital-restart";
/// The operator dies at these writes, counted over all kinds below; restarts in between begin the count where it was.
const KILL_AT: [usize; 4] = [1, 4, 9, 16];
/// Kinds that the operator writes, one watch each.
const WATCHED: [&str; 9] = [
    "namespaces",
    "resourcequotas",
    "rolebindings",
    "networkpolicies",
    "configmaps",
    "secrets",
    "services",
    "statefulsets",
    "deployments",
];

/// One line an event; `-o name` would leave out which kind of event it is.
const EVENT: &str = r#"jsonpath={.type} {.object.kind}/{.object.metadata.name}{"\n"}"#;

pub fn run(scene: &Scene) -> Result<()> {
    let cluster = scene.cluster();
    let workloads = "get statefulsets,deployments -n";
    let before = generations(&cluster, &format!("{workloads} {HOSPITAL}"))?;
    let manifest = trial(&scene.lab)?;
    let guns = Guns::load(&scene.lab)?;
    let writes = Writes::watch(&cluster)?;
    // The namespace is the operator's to make: what comes after the hospital in the file may come too early.
    until("the trial hospital is applied", SETTLE, || cluster.kubectl_with("apply -f -", &manifest).map(|_| ()))?;
    let mut seen = 0;
    for target in KILL_AT {
        while seen < target {
            match writes.next(SETTLE) {
                Ok(_) => seen += 1,
                Err(cause) => return Err(cause.context(format!("after {seen} writes, waiting for number {target}"))),
            }
        }
        guns.fire()?;
        eprintln!("    killed at write {seen}");
    }
    drop(writes);
    for kind in ["hospitals", "postgresinstances", "cacheinstances", "medicalservices"] {
        cluster.ready(&format!("get {kind}.hz.hospital -A"), SETTLE)?;
    }
    let trial = generations(&cluster, &format!("{workloads} {TRIAL}"))?;
    ensure!(trial.len() >= 3, "the trial hospital has only {} workloads", trial.len());
    for (workload, generation) in &trial {
        ensure!(*generation == 1, "{workload} is at generation {generation}: it was written again after it was made");
    }
    let after = generations(&cluster, &format!("{workloads} {HOSPITAL}"))?;
    ensure!(before == after, "the other hospital's workloads changed: {before:?} became {after:?}");
    eprintln!("    {} workloads at generation 1 after {} kills", trial.len(), KILL_AT.len());
    Ok(())
}

/// The example hospital under another name.
fn trial(lab: &Lab) -> Result<String> {
    let file = lab.place.root.join("examples/eight-node-cluster/hospital.yaml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
    ensure!(text.contains("st-anna"), "{} does not describe st-anna", file.display());
    Ok(text.replace("st-anna", "restart"))
}

fn generations(cluster: &Cluster, list: &str) -> Result<Vec<(String, i64)>> {
    let items = cluster.items(list)?;
    let generation = |item: &serde_json::Value| item["metadata"]["generation"].as_i64().unwrap_or(-1);
    Ok(items.iter().map(|item| (format!("{} {}", item["kind"], name(item)), generation(item))).collect())
}

/// On every host a shell that kills the operator the moment it reads a line: a login takes a quarter of a second,
/// in which an operator writes all there is to write.
struct Guns(Vec<Child>);

impl Guns {
    fn load(lab: &Lab) -> Result<Self> {
        let gun = "while read -r _; do pkill -KILL -x hz-operator; done";
        let shells = hosts().into_iter().map(|host| {
            let mut shell = lab.ssh(&host.name)?;
            let mut child = shell.arg(gun).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
            ensure!(child.try_wait()?.is_none(), "ssh to {} ended at once", host.name);
            Ok(child)
        });
        Ok(Self(shells.collect::<Result<_>>()?))
    }

    fn fire(&self) -> Result<()> {
        for child in &self.0 {
            let mut pipe = child.stdin.as_ref().context("a gun has no trigger")?;
            pipe.write_all(b"now\n").context("a gun is jammed")?;
        }
        Ok(())
    }
}

impl Drop for Guns {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// New objects of the trial hospital, as they appear.
struct Writes {
    watches: Vec<Child>,
    lines: Receiver<String>,
}

impl Writes {
    fn watch(cluster: &Cluster) -> Result<Self> {
        let (send, lines) = channel();
        let mut watches = Vec::new();
        for kind in WATCHED {
            let place = if kind == "namespaces" { String::new() } else { format!("-n {TRIAL}") };
            let mut watch =
                cluster.ssh_kubectl(&format!("get {kind} {place} --watch-only --output-watch-events -o '{EVENT}'"))?;
            let mut child = watch.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
            listen(child.stdout.take().context("a watch has no output")?, send.clone());
            watches.push(child);
        }
        // Watches say nothing when they begin; ask each kind once more through the same door, which takes longer.
        cluster.kubectl(&format!("get {}", WATCHED[0]))?;
        Ok(Self { watches, lines })
    }

    fn next(&self, limit: Duration) -> Result<String> {
        match self.lines.recv_timeout(limit) {
            Ok(line) => Ok(line),
            Err(_) => bail!("the operator wrote nothing new for {} s", limit.as_secs()),
        }
    }
}

impl Drop for Writes {
    fn drop(&mut self) {
        for child in &mut self.watches {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn listen(pipe: impl std::io::Read + Send + 'static, send: Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok).filter(|line| is_new(line)) {
            let _ = send.send(line);
        }
    });
}

/// `ADDED Service/records`; what Kubernetes adds to every namespace by itself does not count.
fn is_new(line: &str) -> bool {
    line.starts_with("ADDED") && !line.contains("kube-root-ca.crt")
}

#[cfg(test)]
mod tests {
    use super::is_new;

    #[test]
    fn only_new_objects_of_the_operator_count_as_writes() {
        assert!(is_new("ADDED Service/records"));
        assert!(!is_new("MODIFIED Service/records"));
        assert!(!is_new("ADDED ConfigMap/kube-root-ca.crt"));
    }
}
