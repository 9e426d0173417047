//! `hzctl reset`: Take a cluster off its hosts again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::join_all;
use serde::Serialize;

use crate::bootstrap::fault::Fault;
use crate::bootstrap::server::Server;
use crate::bootstrap::{self as work, connect};
use crate::cluster::Cluster;
use crate::exit::{ExitStatus, Failure};
use crate::node::types::Report;
use crate::node::undo::UndoRequest;
use crate::printer::Printer;

use super::confirm::Question;

/// Arguments of `hzctl reset`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The cluster.yaml
    #[arg(short, long, value_name = "PATH")]
    file: PathBuf,
    /// The cluster's name, instead of being asked for it
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
    /// Delete the volumes on the hosts as well: databases, images, everything
    #[arg(long)]
    delete_volumes: bool,
}

/// What was done.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    cluster: String,
    hosts: BTreeMap<String, Vec<String>>,
    failed: BTreeMap<String, String>,
}

/// Run it.
pub async fn run(args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let cluster = Cluster::load(&args.file)?;
    let name = cluster.metadata.name.clone();
    printer.say(warning(&cluster, args.delete_volumes));
    let instead = format!("--confirm {name}");
    let question = Question { act: "reset", thing: "cluster", name: &name, instead: &instead };
    question.ask(args.confirm.as_deref(), printer)?;
    let program = work::own_program()?;
    let servers = work::servers(&cluster)?;
    let request = UndoRequest {
        cluster: name.clone(),
        volumes: cluster.spec.storage.path.display().to_string(),
        delete_volumes: args.delete_volumes,
        only_kubeadm: false,
    };
    // Workers and control planes at once: nothing is to be kept in step any more.
    let results = join_all(servers.values().map(|server| undo(&program, server, &request))).await;
    let mut done = Done { cluster: name, hosts: BTreeMap::new(), failed: BTreeMap::new() };
    for (host, result) in servers.keys().zip(results) {
        match result {
            Ok(report) => drop(done.hosts.insert(host.clone(), report.changed)),
            Err(fault) => drop(done.failed.insert(host.clone(), fault.to_string())),
        }
    }
    if done.failed.is_empty() {
        let _ = std::fs::remove_file(work::state_dir(&done.cluster).join("cluster-id"));
    }
    printer.value(&done, table)?;
    match done.failed.keys().next() {
        None => Ok(ExitStatus::Success),
        Some(host) => Err(Failure::new(ExitStatus::HostFailed, format!("{host} could not be reset"))
            .hint("see the host, then run the same command again: what is done is not done twice")),
    }
}

async fn undo(program: &(Arc<Vec<u8>>, String), server: &Server, request: &UndoRequest) -> Result<Report, Fault> {
    connect::ensure_program(program, server).await?;
    server.node("failed to reset the host", &["undo"], request).await
}

/// What will be lost, before anything is.
fn warning(cluster: &Cluster, delete_volumes: bool) -> String {
    let hosts = cluster.spec.hosts.len();
    let path = cluster.spec.storage.path.display();
    let volumes = if delete_volumes {
        format!("ALL VOLUMES under {path} on every host die: databases, images, everything. There is no way back.")
    } else {
        format!("Volumes under {path} stay on the hosts, but the cluster that knows them is gone.")
    };
    format!(
        "This takes cluster {} off {hosts} hosts.\n  Its API objects, secrets and settings die (etcd on the control planes).\n  {volumes}\n  Hosts that are not marked as this cluster's are not touched.",
        cluster.metadata.name
    )
}

fn table(done: &Done) -> String {
    let hosts = done.hosts.iter().map(|(host, parts)| {
        let what = if parts.is_empty() { "nothing of ours was there".to_owned() } else { parts.join("; ") };
        format!("{host}: removed {what}").replace("removed nothing", "nothing")
    });
    let failed = done.failed.iter().map(|(host, why)| format!("{host}: FAILED: {why}"));
    hosts.chain(failed).collect::<Vec<_>>().join("\n")
}
