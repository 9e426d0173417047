//! On a finished cluster `hzctl bootstrap` changes nothing. How long that takes is for the benchmark to say.

use anyhow::{Result, ensure};

use super::{BOOTSTRAP, Scene};
use crate::{lab::hosts, run::each};

/// Where bootstrap puts things on a host.
const PLACES: &str = "/etc /usr/local /opt /var/lib/hzctl /var/lib/kubelet/config.yaml";

pub fn run(scene: &Scene) -> Result<()> {
    let mark = "touch /var/tmp/before-rerun";
    each(&hosts(), |host| scene.lab.exec(&host.name, mark).map(drop))?;
    let cluster = scene.cluster();
    let kinds = "nodes,daemonsets,deployments,statefulsets,configmaps,secrets,services,hospitals.hz.hospital,\
                 postgresinstances.hz.hospital,cacheinstances.hz.hospital,medicalservices.hz.hospital";
    let generations = format!(
        "get {kinds} -A -o 'jsonpath={{range .items[*]}}{{.kind}} {{.metadata.namespace}}/{{.metadata.name}} {{.metadata.uid}} \
         {{.metadata.generation}}{{\"\\n\"}}{{end}}'"
    );
    let before = cluster.kubectl(&generations)?;
    let ended = scene.hzctl.bootstrap("rerun", BOOTSTRAP)?.expect(0)?;
    let after = cluster.kubectl(&generations)?;
    ensure!(before == after, "the rerun changed objects:\n{}", difference(&before, &after));
    each(&hosts(), |host| {
        let changed = format!(
            "find {PLACES} -xdev -type f -newer /var/tmp/before-rerun -not -path '/var/lib/hzctl/journal*' -not -path '/var/lib/hzctl/volumes/*' 2>/dev/null | head"
        );
        let changed = scene.lab.exec(&host.name, &changed)?;
        ensure!(changed.is_empty(), "the rerun changed files on {}: {}", host.name, changed.replace('\n', " "));
        Ok(())
    })?;
    eprintln!("    rerun: {:.1} s, nothing changed", ended.took.as_secs_f64());
    Ok(())
}

fn difference(before: &str, after: &str) -> String {
    let new = after.lines().filter(|line| !before.lines().any(|l| l == *line)).map(|l| format!("+ {l}"));
    let old = before.lines().filter(|line| !after.lines().any(|l| l == *line)).map(|l| format!("- {l}"));
    old.chain(new).collect::<Vec<_>>().join("\n")
}
