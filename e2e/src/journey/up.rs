//! Eight bare hosts become the example hospital, and the summary says what to do next.

use anyhow::{Result, ensure};

use super::{BOOTSTRAP, Scene};
use crate::cluster::HOSPITAL;

pub fn run(scene: &Scene) -> Result<()> {
    let ended = scene.hzctl.bootstrap("up", BOOTSTRAP)?.expect(0)?;
    eprintln!("    bootstrap took {:.0} s, {} phases", ended.took.as_secs_f64(), ended.phases.len());
    let summary = &ended.stdout;
    for wanted in ["imaging.st-anna.hospital.internal", "hzctl status", "kubectl"] {
        ensure!(summary.contains(wanted), "the summary does not name `{wanted}`:\n{summary}");
    }
    let cluster = scene.cluster();
    let nodes = cluster.items("get nodes")?;
    let ready = nodes.iter().filter(|node| crate::cluster::is_ready(node)).count();
    ensure!(nodes.len() == 8 && ready == 8, "{} nodes, {ready} of them Ready, instead of eight", nodes.len());
    for kind in ["hospitals", "postgresinstances", "cacheinstances", "medicalservices"] {
        let objects = cluster.items(&format!("get {kind}.hz.hospital -A"))?;
        ensure!(!objects.is_empty(), "there are no {kind}");
        for object in &objects {
            let name = crate::cluster::name(object);
            ensure!(crate::cluster::is_ready(object), "{kind} {name} is not Ready: {}", object["status"]);
        }
    }
    ensure!(!cluster.pod_with_role("records", "primary")?.is_empty(), "{HOSPITAL} has no primary database");
    Ok(())
}
