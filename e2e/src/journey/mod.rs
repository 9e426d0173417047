//! The journeys: what must work for real, on eight hosts, before anything is called done.

mod appointments;
mod backups;
mod broken;
mod faults;
pub mod imaging;
mod operations;
mod pooler;
mod primary;
mod rerun;
mod reset;
mod restart;
mod resume;
mod settings;
mod silence;
mod up;
mod worker;
mod writer;

use std::{fs, time::Duration, time::Instant};

use anyhow::{Context, Result, bail};

use crate::{
    cluster::Cluster,
    hzctl::Hzctl,
    lab::{Claim, Lab},
};

/// Longest that a whole bootstrap may take before a journey gives up on it. Ten times what it takes on two cores.
pub const BOOTSTRAP: Duration = Duration::from_secs(45 * 60);
/// Longest that anything that should settle in seconds may take.
pub const SETTLE: Duration = Duration::from_secs(10 * 60);

/// What a journey is given.
pub struct Scene {
    /// The hosts.
    pub lab: Lab,
    /// The program under test.
    pub hzctl: Hzctl,
}

impl Scene {
    /// The cluster on the lab.
    pub fn cluster(&self) -> Cluster<'_> {
        Cluster::of(&self.lab)
    }
}

/// What a journey starts from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    /// Eight bare hosts.
    Bare,
    /// The example hospital, running.
    Hospital,
}

struct Journey {
    name: &'static str,
    from: From,
    run: fn(&Scene) -> Result<()>,
}

/// In this order: those that share a cluster first, those that disturb it last among them.
const ALL: [Journey; 16] = [
    Journey { name: "up", from: From::Bare, run: up::run },
    Journey { name: "imaging", from: From::Hospital, run: imaging::run },
    Journey { name: "appointments", from: From::Hospital, run: appointments::run },
    Journey { name: "silence", from: From::Hospital, run: silence::run },
    Journey { name: "rerun", from: From::Hospital, run: rerun::run },
    Journey { name: "primary-killed", from: From::Hospital, run: primary::run },
    Journey { name: "settings", from: From::Hospital, run: settings::run },
    Journey { name: "operations", from: From::Hospital, run: operations::run },
    Journey { name: "pooler", from: From::Hospital, run: pooler::run },
    Journey { name: "backups", from: From::Hospital, run: backups::run },
    Journey { name: "restart", from: From::Hospital, run: restart::run },
    Journey { name: "faults", from: From::Hospital, run: faults::run },
    Journey { name: "reset", from: From::Hospital, run: reset::run },
    Journey { name: "killed-and-resumed", from: From::Bare, run: resume::run },
    Journey { name: "host-breaks", from: From::Bare, run: broken::run },
    Journey { name: "worker-fails", from: From::Bare, run: worker::run },
];

/// How to run them.
#[derive(clap::Args)]
pub struct Args {
    /// Run only this journey; may be given more than once
    #[arg(long, value_name = "NAME")]
    journey: Vec<String>,

    /// Leave the lab up afterwards
    #[arg(long)]
    keep: bool,

    /// Use the lab and the hospital that are there, where a journey needs a running one
    #[arg(long)]
    here: bool,

    /// List the journeys
    #[arg(long)]
    list: bool,
}

/// Run them all, or those asked for; true if none failed.
pub fn run(args: &Args) -> Result<bool> {
    if args.list {
        ALL.iter().for_each(|journey| println!("{}", journey.name));
        return Ok(true);
    }
    let chosen = choose(&args.journey)?;
    let _claim = Claim::take()?;
    let lab = Lab::here();
    fs::create_dir_all(&lab.place.logs).context("failed to make target/lab-logs")?;
    let hzctl = Hzctl::of(&lab.place.root, &lab.place.logs)?;
    let mut scene = Scene { lab, hzctl };
    let failures = travel(&mut scene, &chosen, args.here);
    if args.keep {
        let _ = scene.lab.logs();
    } else if let Err(cause) = scene.lab.down() {
        eprintln!("lab: could not be taken down: {cause:#}");
    }
    for (name, cause) in &failures {
        println!("\nfirst cause of {name}: {cause:#}");
    }
    println!("\n{} passed, {} failed", chosen.len() - failures.len(), failures.len());
    Ok(failures.is_empty())
}

fn choose(names: &[String]) -> Result<Vec<&'static Journey>> {
    if names.is_empty() {
        return Ok(ALL.iter().collect());
    }
    let known = || ALL.iter().map(|j| j.name).collect::<Vec<_>>().join(", ");
    for name in names {
        if !ALL.iter().any(|journey| journey.name == name) {
            bail!("there is no journey `{name}`; there are {}", known());
        }
    }
    Ok(ALL.iter().filter(|journey| names.iter().any(|n| n == journey.name)).collect())
}

/// One after the other; a failed one does not stop the rest, save that nothing runs on a hospital that never came up.
fn travel(scene: &mut Scene, chosen: &[&'static Journey], here: bool) -> Vec<(&'static str, anyhow::Error)> {
    let mut failures = Vec::new();
    let mut hospital = (here && scene.lab.is_up()).then_some(Ok(()));
    for journey in chosen {
        eprintln!("==> {}", journey.name);
        let start = Instant::now();
        let ready = match journey.from {
            From::Bare => scene.lab.up(),
            From::Hospital => match hospital.get_or_insert_with(|| bring_up(scene).map_err(|c| format!("{c:#}"))) {
                Ok(()) => Ok(()),
                Err(cause) => Err(anyhow::anyhow!("there is no hospital to run on: {cause}")),
            },
        };
        let end = ready.and_then(|()| (journey.run)(scene));
        if journey.from == From::Bare {
            // The next journey on a hospital finds this one's, if it left a whole one.
            hospital = match &end {
                Ok(()) => Some(Ok(())),
                Err(_) if journey.name == "up" => Some(Err("the journey `up` failed".to_owned())),
                Err(_) => None,
            };
        }
        if journey.name == "reset" {
            hospital = None;
        }
        let took = start.elapsed().as_secs_f64();
        match end {
            Ok(()) => println!("journey {} ... ok, {took:.0} s", journey.name),
            Err(cause) => {
                println!("journey {} ... FAILED after {took:.0} s", journey.name);
                let dir = scene.lab.place.logs.clone();
                let _ = scene.lab.logs();
                // Kept apart from what later journeys write.
                let _ = crate::run::output(&mut crate::run::cmd(
                    "sh",
                    [
                        "-c",
                        &format!(
                            "cd {} && rm -rf failed-{n} && mkdir failed-{n} && cp -r cp-* worker-* failed-{n}/",
                            dir.display(),
                            n = journey.name
                        ),
                    ],
                ));
                failures.push((journey.name, cause));
            }
        }
    }
    failures
}

fn bring_up(scene: &Scene) -> Result<()> {
    scene.lab.up()?;
    scene.hzctl.bootstrap("prelude", BOOTSTRAP)?.expect(0).map(drop)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_journey_that_does_not_exist_is_answered_with_those_that_do() {
        let error = super::choose(&["imagin".into()]).err().unwrap().to_string();
        assert!(error.contains("imaging"), "{error}");
    }
}
