//! The benchmark: hzctl against a plain serial script, on fresh hosts each time, turn about.

mod load;
mod table;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use self::{load::Sampler, table::Run};
use crate::{
    hzctl::Hzctl,
    journey::{BOOTSTRAP, Scene, imaging},
    lab::{Lab, Place},
    run::{cmd, output},
};

/// What to measure.
#[derive(clap::Subcommand)]
pub enum Bench {
    /// Eight bare hosts to a working hospital: hzctl against e2e/baseline/serial-bootstrap.sh
    Bootstrap {
        /// How often each
        #[arg(short, long, default_value_t = 3)]
        runs: usize,
    },
}

/// Run it and print a markdown table.
pub fn run(bench: &Bench) -> Result<bool> {
    let Bench::Bootstrap { runs } = bench;
    ensure!(*runs > 0, "--runs must be at least 1");
    let lab = Lab::here();
    fs::create_dir_all(&lab.place.logs)?;
    let hzctl = Hzctl::of(&lab.place.root, &lab.place.logs)?;
    let scene = Scene { lab, hzctl };
    let outcome = measure(&scene, *runs);
    if let Err(cause) = scene.lab.down() {
        eprintln!("lab: could not be taken down: {cause:#}");
    }
    let (baseline, ours) = outcome?;
    println!("{}", table::markdown(&baseline, &ours));
    Ok(true)
}

fn measure(scene: &Scene, runs: usize) -> Result<(Vec<Run>, Vec<Run>)> {
    let parts = unpack(&scene.lab.place)?;
    let (mut baseline, mut ours) = (Vec::new(), Vec::new());
    for n in 1..=runs {
        scene.lab.up()?;
        baseline.push(timed(|| script(&scene.lab.place, &parts, n))?);
        imaging::run(scene).context("the baseline's hospital does not work")?;
        eprintln!("bench: baseline {n}: {}", baseline[n - 1]);
        scene.lab.up()?;
        ours.push(timed(|| scene.hzctl.bootstrap(&format!("bench-{n}"), BOOTSTRAP)?.expect(0).map(drop))?);
        imaging::run(scene).context("hzctl's hospital does not work")?;
        eprintln!("bench: hzctl {n}: {}", ours[n - 1]);
    }
    Ok((baseline, ours))
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

/// Seconds with one digit.
fn seconds(d: Duration) -> String {
    format!("{:.1}", d.as_secs_f64())
}
