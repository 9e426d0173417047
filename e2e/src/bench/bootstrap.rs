//! hzctl against a plain serial script, and against itself killed halfway; on fresh hosts each time, turn about.

use std::{
    cell::{Cell, RefCell},
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::{
    load::Sampler,
    seconds,
    table::{self, Run},
};
use crate::{
    journey::{BOOTSTRAP, Scene, imaging},
    lab::Place,
    run::{cmd, output},
};

/// What runs once on a fresh lab, given the number of the round.
type Contender<'a> = &'a dyn Fn(usize) -> Result<()>;

pub fn against_script(scene: &Scene, runs: usize) -> Result<String> {
    let parts = unpack(&scene.lab.place)?;
    let script = |n: usize| script(&scene.lab.place, &parts, n);
    let reruns = RefCell::new(Vec::new());
    let again = |n: usize| {
        let ended = scene.hzctl.bootstrap(&format!("bench-{n}-again"), BOOTSTRAP)?.expect(0)?;
        eprintln!("bench: run again on the finished cluster: {} s", seconds(ended.took));
        reruns.borrow_mut().push(ended.took);
        Ok(())
    };
    let (baseline, ours) = in_turn(scene, runs, script, |n| left_alone(scene, n), again)?;
    let again = reruns.borrow().iter().map(|took| seconds(*took)).collect::<Vec<_>>().join(", ");
    Ok(table::markdown(["serial script", "hzctl"], &baseline, &ours)
        + &format!("\nhzctl run again on the finished cluster: {again} s\n"))
}

pub fn against_kill(scene: &Scene, runs: usize) -> Result<String> {
    // Halfway by the clock of the last undisturbed run: a phase would be half of nothing in particular.
    let last = Cell::new(Duration::ZERO);
    let alone = |n: usize| {
        let start = Instant::now();
        left_alone(scene, n)?;
        last.set(start.elapsed());
        Ok(())
    };
    let killed = |n: usize| {
        let mut running = scene.hzctl.start(&format!("bench-{n}-killed"))?;
        std::thread::sleep(last.get() / 2);
        running.kill()?;
        scene.hzctl.bootstrap(&format!("bench-{n}-resumed"), BOOTSTRAP)?.expect(0).map(drop)
    };
    let (baseline, ours) = in_turn(scene, runs, alone, killed, |_| Ok(()))?;
    Ok(table::markdown(["undisturbed", "killed halfway, run again"], &baseline, &ours))
}

fn left_alone(scene: &Scene, n: usize) -> Result<()> {
    scene.hzctl.bootstrap(&format!("bench-{n}"), BOOTSTRAP)?.expect(0).map(drop)
}

type Runs = (Vec<Run>, Vec<Run>);

/// One, the other, one, the other: each on fresh hosts, each proved to have made a working hospital. `after` the
/// second one's, its hospital is still there.
fn in_turn(
    scene: &Scene,
    runs: usize,
    first: impl Fn(usize) -> Result<()>,
    second: impl Fn(usize) -> Result<()>,
    after: impl Fn(usize) -> Result<()>,
) -> Result<Runs> {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for n in 1..=runs {
        let contenders: [(Contender<'_>, &mut Vec<Run>); 2] = [(&first, &mut a), (&second, &mut b)];
        for (at, (act, measured)) in contenders.into_iter().enumerate() {
            scene.lab.up()?;
            let run = timed(|| act(n))?;
            imaging::run(scene).context("the hospital does not work")?;
            eprintln!("bench: {n}.{}: {run}", at + 1);
            measured.push(run);
        }
        after(n)?;
    }
    Ok((a, b))
}

/// Lay out the bundle as files, once, before the clock runs: an administrator has them so already.
fn unpack(place: &Place) -> Result<std::path::PathBuf> {
    let dir = place.root.join("target/bench/parts");
    let bundle = fs::read_dir(place.root.join("dist"))
        .context("there is no dist/: run `make bundle` first")?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|e| e == "tar"))
        .context("there is no bundle in dist/: run `make bundle` first")?;
    let mut unpack = cmd("python3", [place.root.join("e2e/baseline/unpack.py"), bundle, dir.clone()]);
    output(&mut unpack).context("failed to unpack the bundle for the baseline")?;
    Ok(dir)
}

fn script(place: &Place, parts: &Path, n: usize) -> Result<()> {
    let log = place.logs.join(format!("baseline-{n}.log"));
    let out = fs::File::create(&log)?;
    let status = Command::new("bash")
        .arg(place.root.join("e2e/baseline/serial-bootstrap.sh"))
        .args([parts, &place.state])
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .status()?;
    ensure!(status.success(), "the baseline failed ({status}); see {}", log.display());
    Ok(())
}

fn timed(act: impl FnOnce() -> Result<()>) -> Result<Run> {
    let sampler = Sampler::start();
    let start = Instant::now();
    act()?;
    let wall = start.elapsed();
    let load = sampler.stop();
    Ok(Run { wall, cpu: load.cpu, idle: load.idle_share() })
}
