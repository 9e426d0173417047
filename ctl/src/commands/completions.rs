//! `hzctl completions`: a completion script for a shell.

use clap_complete::Shell;

use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

/// Arguments of `hzctl completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "bash: hzctl completions bash > /etc/bash_completion.d/hzctl\n\
    zsh:  hzctl completions zsh > \"${fpath[1]}/_hzctl\"\n\
    fish: hzctl completions fish > ~/.config/fish/completions/hzctl.fish")]
pub struct Args {
    /// The shell to complete in
    #[arg(value_enum)]
    shell: For,
}

/// The shells we test.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum For {
    Bash,
    Zsh,
    Fish,
}

/// Run it.
pub async fn run(args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let shell = match args.shell {
        For::Bash => Shell::Bash,
        For::Zsh => Shell::Zsh,
        For::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut crate::cli::public_command(), "hzctl", &mut script);
    printer.data(&String::from_utf8_lossy(&script))?;
    Ok(ExitStatus::Success)
}
