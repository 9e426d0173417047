//! `hzctl status`: Tell how the cluster is.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::bootstrap::api::Api;
use crate::bootstrap::health::{self, Health, Item};
use crate::bootstrap::server::Server;
use crate::cluster::Cluster;
use crate::exit::{ExitStatus, Failure};
use crate::printer::{Output, Printer};

/// Arguments of `hzctl status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The cluster.yaml
    #[arg(short, long, value_name = "PATH")]
    file: PathBuf,
    /// Wait until all is well
    #[arg(long)]
    wait: bool,
    /// Seconds to wait at most
    #[arg(long, default_value_t = 300, requires = "wait", value_name = "SECONDS")]
    timeout: u64,
}

/// Run it.
pub async fn run(args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let cluster = Cluster::load(&args.file)?;
    let (api, server) = super::kubeconfig::open_with_server(&cluster).await?;
    let begun = Instant::now();
    let mut told = String::new();
    loop {
        let health = look(&cluster, &api, &server).await?;
        let over = begun.elapsed() > Duration::from_secs(args.timeout);
        if health.well || !args.wait || over {
            printer.value(&health, health::table)?;
            return match health.well {
                true => Ok(ExitStatus::Success),
                false if args.wait => {
                    let message = format!("not all is well after {} seconds", args.timeout);
                    Err(Failure::new(ExitStatus::Deadline, message))
                }
                false => Ok(ExitStatus::Degraded),
            };
        }
        if let Some(line) = waiting_for(&health).filter(|line| *line != told) {
            if printer.output() == Output::Table {
                printer.say(&line);
            }
            told = line;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Look at everything once.
pub async fn look(cluster: &Cluster, api: &Api, server: &Server) -> Result<Health, Failure> {
    let items = health::look::all(cluster, api, server).await;
    let items = items.map_err(|fault| Failure::new(ExitStatus::HostFailed, fault.act.clone()).because(fault.cause))?;
    Ok(Health::of(&cluster.metadata.name, items))
}

fn waiting_for(health: &Health) -> Option<String> {
    let wrong: Vec<&Item> = health.items.iter().filter(|item| !item.well).collect();
    let first = wrong.first()?;
    let rest = match wrong.len() - 1 {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    Some(format!("waiting for {}: {}{rest}", first.name, first.state))
}
