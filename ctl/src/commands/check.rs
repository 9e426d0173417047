//! `hzctl check`: Check hosts before the bootstrap, or a running cluster after it.

use std::path::PathBuf;

use crate::bootstrap::{self as work, preflight};
use crate::cluster::Cluster;
use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

/// Arguments of `hzctl check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The cluster.yaml
    #[arg(short, long, value_name = "PATH", required_unless_present = "list")]
    file: Option<PathBuf>,
    /// Check the hosts as before a bootstrap; change nothing
    #[arg(long)]
    pre: bool,
    /// List all checks with their ids
    #[arg(long)]
    list: bool,
    /// Let this check fail; may be given more than once
    #[arg(long, value_name = "ID")]
    waive: Vec<String>,
}

/// Run it.
pub async fn run(args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    if args.list {
        let checks: Vec<(&str, &str)> = preflight::ALL.iter().map(|check| (check.id, check.ensures)).collect();
        printer.value(&checks, |checks| {
            checks.iter().map(|(id, ensures)| format!("{id:<20} {ensures}")).collect::<Vec<_>>().join("\n")
        })?;
        return Ok(ExitStatus::Success);
    }
    let path = args.file.clone().unwrap_or_default();
    let cluster = Cluster::load(&path)?;
    if args.pre {
        return hosts(cluster, &args.waive, printer).await;
    }
    let (api, server) = super::kubeconfig::open_with_server(&cluster).await?;
    let health = super::status::look(&cluster, &api, &server).await?;
    printer.value(&health, work::health::table)?;
    Ok(if health.well { ExitStatus::Success } else { ExitStatus::Degraded })
}

async fn hosts(cluster: Cluster, waive: &[String], printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let waived: Vec<String> = cluster.spec.preflight.waive.iter().chain(waive).cloned().collect();
    let (mut site, _) = work::site(cluster, printer)?;
    let unmet = work::meet(&site).await;
    let id = work::identity(&site);
    if let Some(site) = std::sync::Arc::get_mut(&mut site) {
        site.id = id;
    }
    let findings = work::preflight(&site, &unmet, &waived).await;
    site.progress.finish(!preflight::blocks(&findings));
    let hosts = site.servers.len();
    printer.value(&findings, |findings| preflight::report::table(findings, hosts))?;
    match preflight::blocks(&findings) {
        false => Ok(ExitStatus::Success),
        true => Err(Failure::new(ExitStatus::Preflight, "the hosts are not ready for a bootstrap")
            .hint("the last column says what to do; `--waive ID` goes on without one")),
    }
}
