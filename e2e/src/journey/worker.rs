//! A worker loses its power while it joins. The rest becomes a running cluster; hzctl says so and ends with 4. With the
//! worker back, a second run makes it whole.

use anyhow::{Context, Result, ensure};

use super::{BOOTSTRAP, Scene};
use crate::cluster::is_ready;

const VICTIM: &str = "worker-5";

pub fn run(scene: &Scene) -> Result<()> {
    let mut running = scene.hzctl.start("worker-fails")?;
    loop {
        let phase = running.next_phase(BOOTSTRAP)?.context("hzctl ended before any control plane was there")?;
        if phase == "control plane" {
            break;
        }
    }
    scene.lab.power_off(VICTIM)?;
    eprintln!("    {VICTIM} lost its power while the first control plane starts");
    let ended = running.wait(BOOTSTRAP)?.expect(4)?;
    let talk = std::fs::read_to_string(&ended.log).unwrap_or_default() + &ended.stdout;
    ensure!(talk.contains(VICTIM), "hzctl does not name {VICTIM} as the one that failed");
    let ready = |scene: &Scene| -> Result<usize> {
        Ok(scene.cluster().items("get nodes")?.iter().filter(|node| is_ready(node)).count())
    };
    let now = ready(scene)?;
    ensure!(now == 7, "{now} nodes are Ready instead of seven");
    scene.lab.power_on(VICTIM)?;
    scene.hzctl.bootstrap("worker-back", BOOTSTRAP)?.expect(0)?;
    let now = ready(scene)?;
    ensure!(now == 8, "{now} nodes are Ready instead of eight after {VICTIM} came back");
    Ok(())
}
