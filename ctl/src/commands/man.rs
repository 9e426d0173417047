//! `hzctl man`: the man pages.

use std::fs;
use std::path::{Path, PathBuf};

use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

/// Arguments of `hzctl man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "To read at once: hzctl man | man -l -\nTo install: hzctl man /usr/local/share/man/man1")]
pub struct Args {
    /// Write a page for each command into this directory, instead of the main page to standard output
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Run it.
pub async fn run(args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let mut command = crate::cli::public_command();
    command.build();
    match args.directory {
        None => {
            let page = page(&command).map_err(|error| Failure::fault("failed to write the man page").because(error))?;
            printer.data(&page)?;
        }
        Some(directory) => {
            fs::create_dir_all(&directory).map_err(|error| unwritable(&directory, error))?;
            let written = write(&command, "hzctl", &directory)?;
            printer.say(format!("{written} pages in {}", directory.display()));
        }
    }
    Ok(ExitStatus::Success)
}

fn write(command: &clap::Command, name: &str, directory: &Path) -> Result<usize, Failure> {
    let path = directory.join(format!("{name}.1"));
    page(command).and_then(|page| fs::write(&path, page)).map_err(|error| unwritable(&path, error))?;
    let mut written = 1;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        written += write(sub, &format!("{name}-{}", sub.get_name()), directory)?;
    }
    Ok(written)
}

fn page(command: &clap::Command) -> std::io::Result<String> {
    let name = command.get_bin_name().unwrap_or("hzctl").replace(' ', "-");
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).title(name).manual("hzctl manual").render(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

fn unwritable(path: &Path, error: std::io::Error) -> Failure {
    Failure::input(format!("failed to write {}", path.display())).because(error)
}
