//! `hzctl bundle`: Build, verify and look into the offline bundle.

mod build;
mod show;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use hz_bundle::verify::Problem;
use hz_bundle::{Bundle, Error, Role, VerifyingKey};

use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

/// Arguments of `hzctl bundle`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the bundle from the component list
    Build(build::Args),
    /// Check the signature and every byte of a bundle
    Verify(VerifyArgs),
    /// List the components of a bundle
    List(ListArgs),
    /// Show one component of a bundle with its files and blobs
    Inspect(InspectArgs),
    /// Write a bundle as a folder, as hosts keep it
    LayOut(LayOutArgs),
}

#[derive(Debug, clap::Args)]
struct VerifyArgs {
    /// Bundle to check: the archive, or a folder it was laid out in
    #[arg(value_name = "BUNDLE")]
    bundle: Option<PathBuf>,

    /// Public key that must have signed it [default: hz-bundle.pub beside the bundle]
    #[arg(short, long, value_name = "PATH", env = "HZCTL_BUNDLE_PUBLIC_KEY")]
    key: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Bundle to look into
    #[arg(value_name = "BUNDLE")]
    bundle: Option<PathBuf>,

    /// Only what hosts of this role need
    #[arg(long, value_name = "ROLE", value_parser = parse_role)]
    role: Option<Role>,
}

#[derive(Debug, clap::Args)]
struct InspectArgs {
    /// Component to show
    #[arg(value_name = "COMPONENT")]
    component: String,

    /// Bundle to look into
    #[arg(value_name = "BUNDLE")]
    bundle: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct LayOutArgs {
    /// Folder to write
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,

    /// Bundle to lay out
    #[arg(value_name = "BUNDLE")]
    bundle: Option<PathBuf>,

    /// Only what hosts of this role need
    #[arg(long, value_name = "ROLE", value_parser = parse_role)]
    role: Option<Role>,
}

/// Run it.
pub async fn run(args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    match args.command {
        Command::Build(args) => build::run(args, printer).await,
        Command::Verify(args) => verify(args, printer).await,
        Command::List(args) => {
            let bundle = open(args.bundle)?;
            printer.value(&show::List::of(bundle.manifest(), args.role), show::List::table)?;
            Ok(ExitStatus::Success)
        }
        Command::Inspect(args) => {
            let bundle = open(args.bundle)?;
            let component = bundle.component(&args.component).map_err(told)?;
            printer.value(component, |component| show::component(component, bundle.manifest()))?;
            Ok(ExitStatus::Success)
        }
        Command::LayOut(args) => lay_out(args, printer).await,
    }
}

async fn verify(args: VerifyArgs, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let path = chosen(args.bundle)?;
    let key_path = args.key.unwrap_or_else(|| beside(&path));
    if !path.exists() {
        return Err(Failure::input(format!("there is no bundle at {}", path.display()))
            .hint("build one with `hzctl bundle build`, or name the one you have"));
    }
    let key = VerifyingKey::load(&key_path)
        .map_err(|error| told(error).hint("give the public key that came with the bundle: --key hz-bundle.pub"))?;
    let step = build::Bar::start(printer, "verify");
    let report = tokio::task::spawn_blocking(move || {
        let report = hz_bundle::verify(&path, &key, &|done, total| step.at(done, total));
        step.finish(report.as_ref().is_ok_and(hz_bundle::Report::is_sound));
        report
    })
    .await
    .map_err(|error| Failure::fault("the check was cut off").because(error))?
    .map_err(told)?;
    let sound = report.is_sound();
    printer.value(&report, |report| show::report(report, &key_path))?;
    if sound {
        return Ok(ExitStatus::Success);
    }
    let count = report.faults.len();
    let s = if count == 1 { "" } else { "s" };
    let hint = if report.faults.iter().all(|fault| fault.problem == Problem::Signature) {
        "every blob is whole, but it is not signed by who you trust; ask who built it for their hz-bundle.pub: --key PATH"
    } else {
        "copy the bundle again from where it was built, or build it again with `hzctl bundle build`"
    };
    let path = report.path.display();
    Err(Failure::input(format!("{path} must not be used: {count} fault{s} found")).hint(hint))
}

async fn lay_out(args: LayOutArgs, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let bundle = open(args.bundle)?;
    let step = build::Bar::start(printer, "lay out");
    let result = tokio::task::spawn_blocking(move || {
        let result = bundle.lay_out(&args.folder, args.role, &|done, total| step.at(done, total));
        step.finish(result.is_ok());
        result
    })
    .await
    .map_err(|error| Failure::fault("the copy was cut off").because(error))?
    .map_err(told)?;
    printer.value(&result, |result| {
        format!("{} blobs written ({}), {} were there", result.written, show::bytes(result.bytes), result.kept)
    })?;
    Ok(ExitStatus::Success)
}

fn open(path: Option<PathBuf>) -> Result<Bundle, Failure> {
    Bundle::open(chosen(path)?).map_err(told)
}

/// The bundle that was named, or the one that a build in this source tree writes.
fn chosen(path: Option<PathBuf>) -> Result<PathBuf, Failure> {
    match path {
        Some(path) => Ok(path),
        None => build::source_root(None).map(|root| build::default_archive(&root)).map_err(|_| {
            Failure::input("name the bundle: hzctl bundle verify hz-bundle-….tar")
                .hint("without a name it is looked for in dist/ of the source tree, and this is none")
        }),
    }
}

fn beside(bundle: &Path) -> PathBuf {
    bundle.with_file_name("hz-bundle.pub")
}

fn parse_role(text: &str) -> Result<Role, String> {
    match text {
        "control-plane" => Ok(Role::ControlPlane),
        "worker" => Ok(Role::Worker),
        _ => Err("expected control-plane or worker".into()),
    }
}

/// A failure of the bundle crate, with the exit code and hint that fit it.
fn told(error: Error) -> Failure {
    let hint = match &error {
        Error::Open { .. } => Some("build one with `hzctl bundle build`, or name the one you have"),
        Error::NotABundle { .. } => Some("a bundle is what `hzctl bundle build` writes: hz-bundle-<version>-amd64.tar"),
        Error::Damaged { .. } => Some("`hzctl bundle verify` tells what is wrong; copy the bundle again"),
        Error::Manifest { source: hz_bundle::manifest::ManifestError::Newer { .. }, .. } => {
            Some("the bundle was built by a newer hzctl; use that one")
        }
        Error::Download { .. } => Some("run the same command again: what is downloaded is kept"),
        Error::Recipe { .. } => Some("what the tools said is in ~/.cache/hzctl/logs/; finished components are kept"),
        _ => None,
    };
    let code = if error.is_bad_input() { ExitStatus::BadInput } else { ExitStatus::Fault };
    let mut failure = Failure::new(code, error.to_string());
    failure.hint = hint.map(str::to_owned);
    match std::error::Error::source(&error).map(ToString::to_string) {
        Some(cause) => {
            let deeper = deeper_cause(&error);
            failure.because(if deeper.is_empty() { cause } else { format!("{cause}: {deeper}") })
        }
        None => failure,
    }
}

/// Causes below the nearest one, as one line.
fn deeper_cause(error: &Error) -> String {
    let mut causes = Vec::new();
    let mut next = std::error::Error::source(error).and_then(std::error::Error::source);
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes.join(": ")
}
