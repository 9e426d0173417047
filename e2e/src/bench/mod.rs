//! Benchmarks: each measures against a baseline in the same run, and prints a table for docs/benchmarks.md.

mod bootstrap;
mod cache;
mod copy;
mod failover;
mod load;
mod pooler;
mod start;
mod stats;
mod table;

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    journey::{self, BOOTSTRAP, Scene},
    lab::Claim,
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
    /// hzctl killed with SIGKILL halfway and run again, against hzctl left alone
    Resume {
        /// How often each
        #[arg(short, long, default_value_t = 2)]
        runs: usize,
    },
    /// Time without a write: database process killed, its server frozen, cache master killed; against nothing happening
    Failover {
        /// How often each fault
        #[arg(short, long, default_value_t = 20)]
        runs: usize,
        /// Only this fault; may be given more than once
        #[arg(long, value_enum)]
        fault: Vec<failover::Fault>,
        #[command(flatten)]
        place: Place,
    },
    /// A PostgresInstance until it answers, against the same objects applied by hand
    Start {
        /// How many pairs
        #[arg(short, long, default_value_t = 5)]
        runs: usize,
        #[command(flatten)]
        place: Place,
    },
    /// Backup and restore, against a plain copy of the same bytes over the same way
    Copy {
        /// How often each
        #[arg(short, long, default_value_t = 3)]
        runs: usize,
        /// Data to copy, in MiB
        #[arg(long, default_value_t = 256)]
        mebibytes: u64,
        #[command(flatten)]
        place: Place,
    },
    /// Transactions through the pooler, against directly
    Pooler {
        /// How many pairs
        #[arg(short, long, default_value_t = 3)]
        runs: usize,
        #[command(flatten)]
        place: Place,
    },
}

/// On which hospital.
#[derive(clap::Args)]
pub struct Place {
    /// Use the lab and the hospital that are there
    #[arg(long)]
    here: bool,

    /// Leave the lab up afterwards
    #[arg(long)]
    keep: bool,
}

impl Bench {
    fn runs(&self) -> usize {
        match self {
            Self::Bootstrap { runs }
            | Self::Resume { runs }
            | Self::Failover { runs, .. }
            | Self::Start { runs, .. }
            | Self::Copy { runs, .. }
            | Self::Pooler { runs, .. } => *runs,
        }
    }

    /// The hospital it needs; none if it makes its own, on fresh hosts each time.
    fn place(&self) -> Option<&Place> {
        match self {
            Self::Bootstrap { .. } | Self::Resume { .. } => None,
            Self::Failover { place, .. }
            | Self::Start { place, .. }
            | Self::Copy { place, .. }
            | Self::Pooler { place, .. } => Some(place),
        }
    }

    fn measure(&self, scene: &Scene) -> Result<String> {
        match self {
            Self::Bootstrap { runs } => bootstrap::against_script(scene, *runs),
            Self::Resume { runs } => bootstrap::against_kill(scene, *runs),
            Self::Failover { runs, fault, .. } => failover::run(scene, *runs, fault),
            Self::Start { runs, .. } => start::run(scene, *runs),
            Self::Copy { runs, mebibytes, .. } => copy::run(scene, *runs, *mebibytes),
            Self::Pooler { runs, .. } => pooler::run(scene, *runs),
        }
    }
}

/// Run it and print a markdown table.
pub fn run(bench: &Bench) -> Result<bool> {
    ensure!(bench.runs() > 0, "--runs must be at least 1");
    let _claim = Claim::take()?;
    let scene = journey::scene()?;
    let outcome = ready(bench, &scene).and_then(|()| bench.measure(&scene));
    if bench.place().is_some_and(|place| place.keep) {
        let _ = scene.lab.mend();
        let _ = scene.lab.logs();
    } else if let Err(cause) = scene.lab.down() {
        eprintln!("lab: could not be taken down: {cause:#}");
    }
    println!("{}", outcome?);
    Ok(true)
}

fn ready(bench: &Bench, scene: &Arc<Scene>) -> Result<()> {
    match bench.place() {
        None => Ok(()),
        Some(place) if place.here && scene.lab.is_up() => Ok(()),
        Some(_) => {
            scene.lab.up()?;
            scene.hzctl.bootstrap("bench-prelude", BOOTSTRAP)?.expect(0).map(drop)
        }
    }
}

/// Seconds with one digit.
fn seconds(d: Duration) -> String {
    format!("{:.1}", d.as_secs_f64())
}
