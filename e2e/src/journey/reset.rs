//! `hzctl reset` asks for the cluster's name, leaves volumes where they are, and leaves hosts that a bootstrap takes as bare.

use anyhow::{Result, ensure};

use super::Scene;
use crate::{lab::hosts, run::each};

const VOLUMES: &str = "/var/lib/hzctl/volumes";

pub fn run(scene: &Scene) -> Result<()> {
    let reset = |name: &str| scene.hzctl.command(&["reset", "--confirm", name]).output();
    let volumes = || -> Result<String> {
        let workers: Vec<_> = hosts().into_iter().filter(|host| host.name.starts_with("worker")).collect();
        let listed = workers.iter().map(|host| scene.lab.exec(&host.name, &format!("ls {VOLUMES} 2>/dev/null; true")));
        Ok(listed.collect::<Result<Vec<_>>>()?.join("\n"))
    };
    let before = volumes()?;
    ensure!(before.contains("data-records-"), "there are no volumes that could be lost: {before}");
    let refused = reset("st-ann")?;
    ensure!(refused.status.code() == Some(1), "with a wrong name, reset ended with {}", refused.status);
    ensure!(scene.cluster().items("get nodes")?.len() == 8, "with a wrong name, reset touched the cluster");
    let done = reset("st-anna")?;
    ensure!(done.status.success(), "reset failed: {}", String::from_utf8_lossy(&done.stderr));
    ensure!(volumes()? == before, "reset touched volumes without having been told to");
    each(&hosts(), |host| {
        let left = "ls -d /etc/kubernetes /var/lib/etcd/member /var/lib/kubelet/config.yaml /etc/hzctl 2>/dev/null; \
                    pgrep -l 'kubelet|containerd|etcd' ; true";
        let left = scene.lab.exec(&host.name, left)?;
        ensure!(left.is_empty(), "reset left on {}: {}", host.name, left.replace('\n', " "));
        Ok(())
    })?;
    let check = scene.hzctl.command(&["check", "--pre"]).output()?;
    ensure!(
        check.status.success(),
        "after a reset the hosts are not fit for a bootstrap:\n{}{}",
        String::from_utf8_lossy(&check.stdout),
        String::from_utf8_lossy(&check.stderr)
    );
    Ok(())
}
