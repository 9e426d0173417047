//! SSH to a control plane is cut while it gets its images, and its power fails while it joins etcd. The first is got over
//! within the run; after the second, with the host back, another run finishes.

use anyhow::{Result, ensure};

use super::{BOOTSTRAP, Scene, imaging};

const VICTIM: &str = "cp-2";

pub fn run(scene: &Scene) -> Result<()> {
    let mut running = scene.hzctl.start("broken")?;
    running.until_step(VICTIM, "import node images", BOOTSTRAP)?;
    // Our own session is among those that go.
    let _ = scene.lab.exec(VICTIM, "pkill -KILL -f 'sshd: root'");
    eprintln!("    SSH to {VICTIM} was cut while it got its images");
    running.until_step(VICTIM, "join etcd", BOOTSTRAP)?;
    scene.lab.power_off(VICTIM)?;
    eprintln!("    {VICTIM} lost its power while it joined etcd");
    let ended = running.wait(BOOTSTRAP)?;
    ensure!(ended.code.is_some_and(|code| code != 0), "hzctl called a cluster whole that has a dead control plane");
    let talk = std::fs::read_to_string(&ended.log)?;
    ensure!(talk.contains(VICTIM), "hzctl does not name {VICTIM} as the one that failed");
    scene.lab.power_on(VICTIM)?;
    let ended = scene.hzctl.bootstrap("mended", BOOTSTRAP)?.expect(0)?;
    eprintln!("    with {VICTIM} back, another run finished in {:.0} s", ended.took.as_secs_f64());
    let nodes = scene.cluster().items("get nodes")?;
    let ready = nodes.iter().filter(|node| crate::cluster::is_ready(node)).count();
    ensure!(ready == 8, "{ready} nodes are Ready instead of eight");
    // Its members of etcd: the one that never voted must not be left behind.
    let members = scene.cluster().kubectl(
        "exec -n kube-system etcd-cp-1 -- etcdctl --cacert /etc/kubernetes/pki/etcd/ca.crt \
         --cert /etc/kubernetes/pki/etcd/healthcheck-client.crt --key /etc/kubernetes/pki/etcd/healthcheck-client.key \
         member list",
    )?;
    let voting = members.lines().filter(|line| line.contains("started") && line.ends_with("false")).count();
    ensure!(voting == 3 && members.lines().count() == 3, "etcd has other members than three that vote:\n{members}");
    imaging::run(scene)
}
