//! `hzctl init`: a commented cluster.yaml from a list of hosts.

mod hosts;
mod template;

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::cluster::Cluster;
use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;
use template::Choices;

/// Arguments of `hzctl init`.
#[derive(Debug, clap::Args)]
#[command(after_help = "A list of hosts has one host a line: ADDRESS [NAME] [ROLE], and comments after `#`.\n\
    Without roles the first three are control planes and the others workers.\n\n  \
    hzctl init --hosts 10.0.0.11-18 --name st-anna\n  \
    hzctl init --hosts servers.txt --name st-anna")]
pub struct Args {
    /// A file with one host a line, `-` for standard input, or addresses such as 10.0.0.11-18,10.0.1.4
    #[arg(long, value_name = "LIST")]
    hosts: String,

    /// Name of the cluster
    #[arg(long, default_value = "hospital")]
    name: String,

    /// The user to log in as
    #[arg(long, default_value = "root")]
    user: String,

    /// The private key to log in with
    #[arg(long, value_name = "PATH", default_value = "~/.ssh/id_ed25519")]
    identity_file: PathBuf,

    /// The offline bundle to install from
    #[arg(long, value_name = "PATH", default_value = concat!("hz-bundle-", env!("CARGO_PKG_VERSION"), "-amd64.tar"))]
    bundle: PathBuf,

    /// Where to write; `-` is standard output
    #[arg(long, value_name = "PATH", default_value = "cluster.yaml")]
    to: PathBuf,

    /// Write over a file that is there
    #[arg(long)]
    force: bool,
}

/// Run it.
pub async fn run(args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let hosts = hosts::read(&list(&args.hosts)?)?;
    let choices = Choices {
        name: &args.name,
        user: &args.user,
        identity_file: text(&args.identity_file)?,
        bundle: text(&args.bundle)?,
        hosts: &hosts,
    };
    let yaml = template::render(&choices);
    // What we write must be what we read: a list of three hosts or a name in capitals is told here, in those terms.
    Cluster::parse("the cluster.yaml of these hosts", &yaml)?;
    if args.to == Path::new("-") {
        printer.data(&yaml)?;
        return Ok(ExitStatus::Success);
    }
    write(&args.to, &yaml, args.force)?;
    let to = args.to.display();
    printer.say(format!("wrote {to} with {} hosts", hosts.len()));
    printer.say(format!("next: look through it, then `hzctl check --pre -f {to}`, then `hzctl bootstrap -f {to}`"));
    Ok(ExitStatus::Success)
}

/// The list itself: addresses as they stand, or the text of a file.
fn list(from: &str) -> Result<String, Failure> {
    let mut text = String::new();
    if from == "-" {
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Failure::input("failed to read the list of hosts from standard input").because(error))?;
        return Ok(text);
    }
    let addresses = from.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | ','));
    if addresses && !Path::new(from).exists() {
        return Ok(from.replace(',', "\n"));
    }
    std::fs::read_to_string(from).map_err(|error| {
        Failure::input(format!("failed to read the list of hosts {from}"))
            .because(error)
            .hint("--hosts takes a file, `-`, or addresses such as 10.0.0.11-18")
    })
}

fn text(path: &Path) -> Result<&str, Failure> {
    path.to_str().ok_or_else(|| Failure::input(format!("{} is not a path in UTF-8", path.display())))
}

fn write(path: &Path, yaml: &str, force: bool) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let failed = |error: std::io::Error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            return Failure::input(format!("{} is there already", path.display()))
                .hint("--force writes over it; --to names another file");
        }
        Failure::input(format!("failed to write {}", path.display())).because(error)
    };
    options.open(path).and_then(|mut file| file.write_all(yaml.as_bytes())).map_err(failed)
}
