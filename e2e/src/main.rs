//! `hz-e2e`: the lab of eight hosts, the journeys through it, and the benchmark.

mod bench;
mod cluster;
mod dicom;
mod hzctl;
mod journey;
mod lab;
mod limit;
mod run;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

use crate::lab::{Claim, Lab};

/// Lab, end-to-end journeys and benchmark of hzctl
#[derive(Parser)]
#[command(name = "hz-e2e", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Eight bare Debian hosts on this machine (needs root)
    #[command(subcommand)]
    Lab(LabCommand),
    /// Run the journeys; ends with `N passed, N failed` (needs root, dist/hzctl and the bundle)
    Test(journey::Args),
    /// Measure, and print a table for docs/benchmarks.md
    #[command(subcommand)]
    Bench(bench::Bench),
}

#[derive(Subcommand)]
enum LabCommand {
    /// Start eight fresh hosts
    Up,
    /// Collect logs, then take everything away
    Down,
    /// Show the hosts
    Status,
    /// Log in to a host, or run a command there
    Ssh {
        /// Name of the host, e.g. `cp-1`
        host: String,
        /// Command to run; a shell if left out
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Collect journals and pod logs to target/lab-logs
    Logs,
    /// Cut the power of a host, or switch it on
    Power {
        /// What to do
        state: Switch,
        /// Name of the host
        host: String,
    },
    /// Pull the network cable of a host (`off`), or put it back (`on`)
    Cable {
        /// What to do
        state: Switch,
        /// Name of the host
        host: String,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(code) => code,
        Err(cause) => {
            eprintln!("error: {cause:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    match command {
        Command::Lab(command) => in_lab(command),
        Command::Test(args) => journey::run(&args).map(exit),
        Command::Bench(bench) => bench::run(&bench).map(exit),
    }
}

fn exit(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn in_lab(command: LabCommand) -> Result<ExitCode> {
    let lab = Lab::here();
    // Held to the end of the command.
    let _claim = matches!(command, LabCommand::Up | LabCommand::Down).then(Claim::take).transpose()?;
    match command {
        LabCommand::Up => lab.up()?,
        LabCommand::Down => lab.down()?,
        LabCommand::Status => lab.status()?,
        LabCommand::Ssh { host, command } => {
            let status = lab.shell(&host, &command)?;
            return Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(255)).unwrap_or(255)));
        }
        LabCommand::Logs => lab.logs()?,
        LabCommand::Power { state: Switch::Off, host } => lab.power_off(&host)?,
        LabCommand::Power { state: Switch::On, host } => lab.power_on(&host)?,
        LabCommand::Cable { state, host } => lab.cable(&host, state == Switch::On)?,
    }
    Ok(ExitCode::SUCCESS)
}
