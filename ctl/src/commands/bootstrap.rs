//! `hzctl bootstrap`: Turn the hosts of a cluster.yaml into a running hospital cloud.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::bootstrap::fault::Fault;
use crate::bootstrap::graph::Plan;
use crate::bootstrap::preflight::{self, Finding};
use crate::bootstrap::site::Site;
use crate::bootstrap::{self as work, graph, plan, summary};
use crate::cluster::Cluster;
use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

/// Arguments of `hzctl bootstrap`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The cluster.yaml
    #[arg(short, long, value_name = "PATH")]
    file: PathBuf,
    /// Stop after the preflight; change nothing
    #[arg(long)]
    check: bool,
    /// Print what would be done; change nothing
    #[arg(long, conflicts_with = "check")]
    dry_run: bool,
    /// Go on although this check fails, such as HZ-PF-FSYNC; may be given more than once
    #[arg(long, value_name = "ID")]
    waive: Vec<String>,
}

/// Run it.
pub async fn run(args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let cluster = Cluster::load(&args.file)?;
    let waived: Vec<String> = cluster.spec.preflight.waive.iter().chain(&args.waive).cloned().collect();
    if let Some(id) = preflight::unknown_ids(&waived).first() {
        let ids: Vec<&str> = preflight::ALL.iter().map(|check| check.id).collect();
        return Err(
            Failure::input(format!("there is no check {id} to waive")).hint(format!("checks are {}", ids.join(", ")))
        );
    }
    let epoch = Instant::now();
    let (mut site, wanted) = work::site(cluster, printer)?;
    let begun = epoch.elapsed().as_secs_f64();
    let unmet = work::meet(&site).await;
    let before = vec![work::timing("connect", begun, epoch)];
    let id = work::identity(&site);
    if let Some(site) = Arc::get_mut(&mut site) {
        site.id = id;
    }
    let result = go(&args, &site, &unmet, wanted, waived, (before, epoch), printer).await;
    site.progress.finish(matches!(result, Ok(ExitStatus::Success) | Err(End::Ran(ExitStatus::Success, _))));
    let (status, ran) = match result {
        Ok(status) => return Ok(status),
        Err(End::Failed(failure)) => return Err(failure),
        Err(End::Ran(status, ran)) => (status, ran),
    };
    // Said after the live lines are gone.
    printer.value(&ran.summary, summary::text)?;
    if status == ExitStatus::Degraded {
        let hosts: Vec<&str> = ran.summary.failed_hosts.keys().map(String::as_str).collect();
        printer
            .warn(format!("the cluster runs without {}; mend them and run the same command again", hosts.join(", ")));
        ran.logs.iter().for_each(|path| printer.say(format!("logs: {}", path.display())));
    }
    Ok(status)
}

/// How it ends apart from a plain exit code.
enum End {
    Failed(Failure),
    Ran(ExitStatus, Box<work::Ran>),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        End::Failed(failure)
    }
}

async fn go(
    args: &Args,
    site: &Arc<Site>,
    unmet: &[(String, Fault)],
    wanted: Vec<work::steps::hospital::Wanted>,
    waived: Vec<String>,
    (mut before, epoch): (Vec<graph::Timing>, Instant),
    printer: &mut Printer,
) -> Result<ExitStatus, End> {
    let begun = epoch.elapsed().as_secs_f64();
    // The API is asked while the preflight goes on: on a finished cluster that is half of the work.
    let (findings, found) = tokio::join!(work::preflight(site, unmet, &waived), work::find_api(site));
    before.push(work::timing("preflight", begun, epoch));
    report(args.check, site, &findings, printer)?;
    if preflight::blocks(&findings) {
        let failure =
            Failure::new(ExitStatus::Preflight, "the preflight found what must be mended; nothing was changed")
                .hint("mend it and run the same command again, or waive a check by its id with --waive");
        return Err(failure.into());
    }
    if args.check {
        return Ok(ExitStatus::Success);
    }
    if let Err(fault) = found {
        site.progress.note(format!("the API was seen and could not be read: {fault}"));
    }
    let steps = plan::steps(site, &wanted);
    if args.dry_run {
        return dry(site, &steps, printer).await.map_err(End::from);
    }
    remember(site)?;
    let ran = work::run(site, steps, before, epoch).await;
    let status = work::verdict(site, &ran)?;
    Err(End::Ran(status, Box::new(ran)))
}

/// Keep the identity on this machine, so that hosts of an earlier cluster of the same name are told apart.
fn remember(site: &Site) -> Result<(), Failure> {
    let path = site.state.join("cluster-id");
    let written = std::fs::create_dir_all(&site.state).and_then(|()| std::fs::write(&path, format!("{}\n", site.id)));
    written.map_err(|error| Failure::fault(format!("failed to write {}", path.display())).because(error))
}

fn report(asked: bool, site: &Site, findings: &[Finding], printer: &mut Printer) -> Result<(), Failure> {
    let hosts = site.servers.len();
    if asked {
        return printer.value(&findings, |findings| preflight::report::table(findings, hosts));
    }
    if !findings.is_empty() {
        printer.say(preflight::report::table(findings, hosts));
    }
    Ok(())
}

async fn dry(site: &Site, steps: &[graph::Step], printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let plans = graph::dry(site, steps).await;
    let mut listed: Vec<(String, Vec<String>)> = Vec::new();
    for (id, plan) in plans {
        match plan {
            Ok(Plan::Nothing) => {}
            Ok(Plan::Do(items)) => listed.push((id, items)),
            Err(fault) => listed.push((id, vec![format!("cannot be told yet: {fault}")])),
        }
    }
    printer.value(&listed, |listed| {
        if listed.is_empty() {
            return "Nothing would be changed.".to_owned();
        }
        let lines = listed.iter().flat_map(|(id, items)| items.iter().map(move |item| format!("{id:<28} {item}")));
        lines.collect::<Vec<_>>().join("\n")
    })?;
    Ok(ExitStatus::Success)
}
