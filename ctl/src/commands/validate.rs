//! `hzctl validate`: is this cluster.yaml right, as far as can be told without touching a host?

use std::path::PathBuf;

use serde::Serialize;

use crate::cluster::Cluster;
use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

/// Arguments of `hzctl validate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The cluster.yaml to check; `-` reads standard input
    #[arg(short, long, value_name = "PATH", default_value = "cluster.yaml")]
    file: PathBuf,

    /// Do not look at the files it names: keys, bundle, manifests
    #[arg(long)]
    no_files: bool,
}

/// What is told of a right one.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    name: String,
    control_planes: usize,
    workers: usize,
    files_checked: bool,
}

/// Run it.
pub async fn run(args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let cluster = if args.no_files { Cluster::load_without_files(&args.file) } else { Cluster::load(&args.file) }?;
    let summary = Summary {
        control_planes: cluster.control_planes().count(),
        workers: cluster.workers().count(),
        name: cluster.metadata.name,
        files_checked: !args.no_files,
    };
    printer.value(&summary, table)?;
    Ok(ExitStatus::Success)
}

fn table(summary: &Summary) -> String {
    let Summary { name, control_planes, workers, .. } = summary;
    let s = |count: usize| if count == 1 { "" } else { "s" };
    format!(
        "cluster `{name}` is valid: {control_planes} control plane{}, {workers} worker{}",
        s(*control_planes),
        s(*workers)
    )
}
