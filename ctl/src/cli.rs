//! The command line: global options, one command, one exit code.

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};

use crate::commands::Command;
use crate::exit::{ExitStatus, Failure};
use crate::interrupt;
use crate::printer::{Output, Printer};
use crate::screen::Screen;

/// Turn bare Linux servers into a running hospital cloud
#[derive(Debug, Parser)]
#[command(name = "hzctl", version, propagate_version = false, max_term_width = 100, subcommand_required = true)]
#[command(after_help = "Start with `hzctl init`, then `hzctl check --pre`, then `hzctl bootstrap`.")]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options that every command takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Global {
    /// Form of the data on standard output
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table, value_name = "FORM")]
    pub output: Output,

    /// Print without colours, also when NO_COLOR is set
    #[arg(long, global = true)]
    pub no_color: bool,

    /// Say more about what is done; twice for all of it (HZCTL_LOG takes a filter)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The whole program. Tests of the command line run the binary.
pub fn main() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => return refused(&error).into(),
    };
    let mut printer = Printer::standard(cli.global.output, cli.global.no_color);
    trace(cli.global.verbose, printer.screen());
    let status = match run(cli.command, &mut printer) {
        Ok(status) => status,
        Err(failure) => {
            printer.failure(&failure);
            failure.code
        }
    };
    status.into()
}

/// The command line as clap knows it, for completions, man pages and the reference.
pub fn command() -> clap::Command {
    Cli::command()
}

/// The same without commands that hzctl only starts itself.
pub fn public_command() -> clap::Command {
    // clap cannot take a command out, so build it again from those that are shown.
    let full = command();
    let mut public = clap::Command::new("hzctl")
        .version(env!("CARGO_PKG_VERSION"))
        .about(full.get_about().cloned().unwrap_or_default())
        .after_help(full.get_after_help().cloned().unwrap_or_default())
        .max_term_width(100)
        .subcommand_required(true)
        .args(full.get_arguments().filter(|option| option.is_global_set()).cloned().collect::<Vec<_>>());
    for sub in full.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        public = public.subcommand(sub.clone());
    }
    public
}

fn parse() -> Result<Cli, clap::Error> {
    let matches = command().try_get_matches()?;
    Cli::from_arg_matches(&matches)
}

/// clap ends with 2 for a wrong argument; ours is 1, as for all bad input.
fn refused(error: &clap::Error) -> ExitStatus {
    let _ = error.print();
    if error.use_stderr() { ExitStatus::BadInput } else { ExitStatus::Success }
}

fn trace(verbose: u8, screen: Screen) {
    use tracing_subscriber::EnvFilter;
    let default = match verbose {
        // What kube fails at is told by whoever asked it, or is tried again.
        0 => "error,kube_client=off",
        1 => "hzctl=info,warn",
        2 => "hzctl=debug,info",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("HZCTL_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || screen.writer()).with_ansi(false).init();
}

fn run(command: Command, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::fault("failed to start the runtime").because(error))?;
    let farewell = printer.farewell();
    if let Some(safe) = command.when_interrupted() {
        farewell.same_again(safe);
    }
    let result = runtime.block_on(async {
        let stop = interrupt::listen(printer)?;
        tokio::select! {
            result = command.run(printer) => result,
            Ok(()) = stop => Err(interrupt::failure(&farewell)),
        }
    });
    // Work on other threads (a blocking read, an ssh child) must not hold the exit.
    runtime.shutdown_background();
    result
}
