//! hzctl is killed with SIGKILL in every phase, and each time run again. The last run finishes, and the hospital works.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};

use super::{BOOTSTRAP, Scene, imaging};

/// More runs than there are phases: each kills at most one more.
const RUNS: usize = 40;
/// How far into a phase the kill falls, in turn: at its beginning, in the midst, late. Short phases end earlier; then
/// the kill falls into the next one, and the phase counts as passed.
const DELAYS: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(300), Duration::from_millis(1500), Duration::from_millis(4000)];

pub fn run(scene: &Scene) -> Result<()> {
    let start = Instant::now();
    let mut killed: BTreeSet<String> = BTreeSet::new();
    for attempt in 1..=RUNS {
        let mut running = scene.hzctl.start(&format!("killed-{attempt}"))?;
        let mut victim = None;
        while let Some(phase) = running.next_phase(BOOTSTRAP)? {
            if !killed.contains(&phase) {
                victim = Some(phase);
                break;
            }
        }
        let Some(phase) = victim else {
            let ended = running.wait(BOOTSTRAP)?.expect(0)?;
            ensure!(killed.len() >= 5, "only {} phases were seen: {killed:?}; are events still JSON?", killed.len());
            eprintln!(
                "    killed in {} phases ({}), finished in run {attempt}, {:.0} s in all, {:.0} s in the last run",
                killed.len(),
                killed.iter().cloned().collect::<Vec<_>>().join(", "),
                start.elapsed().as_secs_f64(),
                ended.took.as_secs_f64()
            );
            // It is not enough that it says so.
            return imaging::run(scene);
        };
        std::thread::sleep(DELAYS[attempt % DELAYS.len()]);
        running.kill()?;
        eprintln!("    killed in {phase}");
        killed.insert(phase);
    }
    bail!("hzctl did not finish within {RUNS} runs")
}
