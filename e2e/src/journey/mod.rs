//! The journeys: what must work for real, on eight hosts, before anything is called done.

mod appointments;
mod backups;
mod broken;
mod cache;
mod chain;
mod clock_wrong;
mod disk_full;
mod encrypted;
mod faults;
pub mod guard;
pub mod imaging;
mod operations;
mod pooler;
mod rerun;
mod reset;
mod restart;
mod resume;
mod settings;
mod silence;
mod travel;
mod up;
mod upgrade;
mod worker;
pub mod writer;

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    cluster::{Cluster, HOSPITAL},
    hzctl::Hzctl,
    lab::{Claim, Lab},
    run::until,
};

/// Longest that a whole bootstrap may take before a journey gives up on it. Ten times what it takes on two cores.
pub const BOOTSTRAP: Duration = Duration::from_secs(15 * 60);
/// Longest that anything that should settle in seconds may take.
pub const SETTLE: Duration = Duration::from_secs(10 * 60);
/// Longest that a journey may take as a whole, if it does not say otherwise.
const USUAL: u64 = 12;

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

    /// Ask for something with `hzctl`, as a person would, and wait for its good end. One that waits for ever is ended.
    pub fn ask(&self, args: &[&str]) -> Result<String> {
        let plain = self.hzctl.command(args);
        let mut limited = Command::new("timeout");
        limited.arg(SETTLE.as_secs().to_string()).arg(plain.get_program()).args(plain.get_args());
        limited.args(["-n", HOSPITAL, "--wait"]).stdin(std::process::Stdio::null());
        let out = limited.output().context("failed to run hzctl")?;
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        let complained = String::from_utf8_lossy(&out.stderr);
        ensure!(out.status.success(), "hzctl {} ended with {}: {said}{complained}", args.join(" "), out.status);
        Ok(said)
    }
}

/// Until the operator says that every copy of a database is there and queries are answered.
pub fn is_whole(cluster: &Cluster<'_>, instance: &str) -> Result<()> {
    is_whole_within(cluster, instance, SETTLE)
}

/// The same, with a limit of its own.
pub fn is_whole_within(cluster: &Cluster<'_>, instance: &str, limit: Duration) -> Result<()> {
    until(&format!("the database {instance} to be whole"), limit, || {
        let object = cluster.json(&format!("get postgresinstance -n {HOSPITAL} {instance}"))?;
        for wanted in ["Ready", "Redundant", "Durable"] {
            let told = crate::cluster::condition(&object, wanted);
            ensure!(told["status"] == "True", "{wanted}: {}", told["message"]);
        }
        // A copy that is ready may still be behind.
        let confirmed = object["status"]["conditions"].to_string().contains(" or ");
        ensure!(confirmed, "not every copy confirms writes yet");
        Ok(())
    })
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
    /// Longest that it may take, in minutes.
    minutes: u64,
    run: fn(&Scene) -> Result<()>,
}

const fn on_hospital(name: &'static str, run: fn(&Scene) -> Result<()>) -> Journey {
    Journey { name, from: From::Hospital, minutes: USUAL, run }
}

const fn on_bare(name: &'static str, run: fn(&Scene) -> Result<()>) -> Journey {
    Journey { name, from: From::Bare, minutes: USUAL, run }
}

/// In this order: those that share a cluster first, the quick ones before the slow ones, those that disturb it last among
/// them, and after all others the one that leaves a second hospital.
const ALL: &[Journey] = &[
    Journey { minutes: 18, ..on_bare("up", up::run) },
    on_hospital("appointments", appointments::run),
    on_hospital("imaging", imaging::run),
    on_hospital("rerun", rerun::run),
    on_hospital("silence", silence::run),
    on_hospital("encrypted", encrypted::run),
    on_hospital("cache", cache::run),
    on_hospital("settings", settings::run),
    on_hospital("operations", operations::run),
    on_hospital("pooler", pooler::run),
    on_hospital("disk-full", disk_full::run),
    on_hospital("clock-wrong", clock_wrong::run),
    Journey { minutes: 20, ..on_hospital("backups", backups::run) },
    on_hospital("upgrade", upgrade::run),
    Journey { minutes: 20, ..on_hospital("faults", faults::run) },
    on_hospital("restart", restart::run),
    on_hospital("reset", reset::run),
    on_bare("worker-fails", worker::run),
    on_bare("host-breaks", broken::run),
    Journey { minutes: 20, ..on_bare("killed-and-resumed", resume::run) },
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

    /// Longest that all of them may take; what has not begun by then counts as failed
    #[arg(long, value_name = "MINUTES")]
    minutes: Option<u64>,

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
    let scene = scene()?;
    let tour =
        travel::travel(&scene, &chosen, args.here, args.minutes.map(|minutes| Duration::from_secs(minutes * 60)));
    if args.keep {
        let _ = scene.lab.logs();
    } else if let Err(cause) = scene.lab.down() {
        eprintln!("lab: could not be taken down: {cause:#}");
    }
    print!("{}", tour.summary());
    Ok(tour.failed() == 0)
}

/// The lab of this repository, up or not, and the program under test.
pub fn scene() -> Result<std::sync::Arc<Scene>> {
    let lab = Lab::here();
    fs::create_dir_all(&lab.place.logs).context("failed to make target/lab-logs")?;
    let hzctl = Hzctl::of(&lab.place.root, &lab.place.logs)?;
    Ok(std::sync::Arc::new(Scene { lab, hzctl }))
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

#[cfg(test)]
mod tests {
    #[test]
    fn a_journey_that_does_not_exist_is_answered_with_those_that_do() {
        let error = super::choose(&["imagin".into()]).err().unwrap().to_string();
        assert!(error.contains("imaging"), "{error}");
    }

    #[test]
    fn the_hospital_is_reset_after_everything_that_needs_it() {
        let at = |name: &str| super::ALL.iter().position(|journey| journey.name == name).unwrap();
        let last = super::ALL.iter().rposition(|journey| journey.from == super::From::Hospital).unwrap();
        assert_eq!((at("up"), at("reset")), (0, last));
    }
}
