//! From bare hosts to a running cloud: facts, preflight, a graph of steps, a summary.
//!
//! Hosts and the API are the truth: everything is probed in each run, nothing is done because a file says so. What
//! is written on this machine is evidence.

pub mod api;
pub mod connect;
pub mod decide;
pub mod fault;
pub mod graph;
pub mod health;
pub mod logs;
pub mod plan;
pub mod preflight;
pub mod render;
pub mod server;
pub mod site;
pub mod steps;
pub mod summary;

#[cfg(test)]
mod testing;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use hz_bundle::Bundle;

use self::fault::Fault;
use self::graph::{End, Outcome, Step, Timing};
use self::preflight::{Check, Finding};
use self::server::Server;
use self::site::{Parts, Site};
use self::steps::{copy, hospital, verify};
use self::summary::Summary;
use crate::cluster::{Cluster, HostKeys, Role};
use crate::exit::{ExitStatus, Failure};
use crate::host::ssh::{Sockets, Ssh, Target};
use crate::node::hashes::hash_file;
use crate::printer::Printer;
use crate::progress::{CLUSTER, Plan as Expected, Progress, Weights};

/// Where evidence of a cluster's runs is kept on this machine.
pub fn state_dir(cluster: &str) -> PathBuf {
    let home = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = home("XDG_STATE_HOME").or_else(|| home("HOME").map(|home| home.join(".local/state")));
    base.unwrap_or_else(|| PathBuf::from("/var/lib")).join("hzctl").join(cluster)
}

/// Servers of a cluster over SSH, not connected yet.
pub fn servers(cluster: &Cluster) -> Result<BTreeMap<String, Arc<Server>>, Failure> {
    let sockets =
        Sockets::new().map_err(|error| Failure::fault("failed to make a directory for SSH sockets").because(error))?;
    let server = |(index, host): (usize, &crate::cluster::Host)| {
        let target = cluster.target(host);
        let target = Target {
            name: host.name.clone(),
            address: target.address.to_string(),
            port: target.port,
            user: target.user,
            identity: Some(target.identity_file),
            known_hosts: Some(target.known_hosts_file),
            accept_new: target.host_keys == HostKeys::AcceptNew,
        };
        (host.name.clone(), Arc::new(Server::new(host.clone(), Arc::new(Ssh::new(target, &sockets, index)))))
    };
    Ok(cluster.spec.hosts.iter().enumerate().map(server).collect())
}

/// Our own program, to be sent to hosts, and the first digits of its hash.
pub fn own_program() -> Result<(Arc<Vec<u8>>, String), Failure> {
    let failed = |error: std::io::Error| Failure::fault("failed to read hzctl's own program").because(error);
    let path =
        std::env::var_os("HZCTL_NODE_PROGRAM").map_or_else(std::env::current_exe, |path| Ok(PathBuf::from(path)));
    let path = path.map_err(failed)?;
    let hash = hash_file(&path).map_err(failed)?;
    Ok((Arc::new(std::fs::read(&path).map_err(failed)?), hash[..12].to_owned()))
}

/// Everything for a run, nothing touched yet.
pub fn site(cluster: Cluster, printer: &Printer) -> Result<(Arc<Site>, Vec<hospital::Wanted>), Failure> {
    let bundle = Bundle::open(&cluster.spec.bundle).map_err(|error| {
        Failure::input(format!("failed to open the bundle {}", cluster.spec.bundle.display()))
            .because(error)
            .hint("`hzctl bundle build` makes one; spec.bundle of cluster.yaml says where it is")
    })?;
    let versions = render::Versions::of(bundle.manifest()).map_err(|what| {
        Failure::input(format!("the bundle {} lacks {what}", cluster.spec.bundle.display()))
            .hint("build the bundle again")
    })?;
    let wanted = hospital::read(&cluster.spec.manifests).map_err(|fault| Failure::input(fault.to_string()))?;
    let state = state_dir(&cluster.metadata.name);
    let journal = state.join("journal.jsonl");
    let learnt = std::fs::File::open(&journal).map(|file| Weights::learn(std::io::BufReader::new(file)));
    let mut expected = Expected::new(plan::outline(&cluster, !wanted.is_empty()));
    if let Ok(weights) = learnt {
        expected = expected.learnt(&weights);
    }
    let progress = Progress::start(printer, expected);
    if let Some(file) = open_journal(&journal) {
        progress.journal(file);
    }
    let servers = servers(&cluster)?;
    let program = own_program()?;
    let id = std::fs::read_to_string(state.join("cluster-id")).map(|text| text.trim().to_owned()).unwrap_or_default();
    let parts = Parts { cluster, id, bundle, versions, servers, state, program, progress };
    Ok((Arc::new(Site::new(parts)), wanted))
}

fn open_journal(path: &Path) -> Option<Box<dyn Write + Send>> {
    std::fs::create_dir_all(path.parent()?).ok()?;
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path).ok()?;
    Some(Box::new(file))
}

/// Connect to all hosts and find everything out; what hosts refuse becomes findings of the preflight.
pub async fn meet(site: &Site) -> Vec<(String, Fault)> {
    let meets = site.servers.values().map(|server| async {
        let step = site.progress.step(server.name(), "connect", "look at the host");
        match connect::meet(site, server).await {
            Ok(()) => {
                step.finish(false);
                None
            }
            Err(fault) => {
                step.fail(fault.to_string());
                Some((server.name().to_owned(), fault))
            }
        }
    });
    join_all(meets).await.into_iter().flatten().collect()
}

/// The identity of the cluster: as hosts of ours tell, else as this machine remembers, else a new one.
pub fn identity(site: &Site) -> String {
    let name = &site.cluster.metadata.name;
    let told = |server: &Arc<Server>| server.facts().leftovers.marker.clone().filter(|marker| marker.cluster == *name);
    let ids: BTreeSet<String> = site.servers.values().filter_map(told).map(|marker| marker.id).collect();
    match ids.first() {
        Some(id) if ids.len() == 1 || site.id.is_empty() => id.clone(),
        _ if !site.id.is_empty() => site.id.clone(),
        _ => site::random(16),
    }
}

/// All findings of the preflight. Changes nothing on the hosts.
pub async fn preflight(site: &Site, unmet: &[(String, Fault)], waived: &[String]) -> Vec<Finding> {
    let step = site.progress.step(CLUSTER, "preflight", "check everything");
    let mut found: Vec<Finding> = unmet.iter().map(|(host, fault)| unmet_finding(host, fault)).collect();
    let wants = preflight::host::Wants {
        cluster: site.cluster.metadata.name.clone(),
        id: Some(site.id.clone()),
        arch: match site.bundle.manifest().architecture.as_str() {
            "amd64" => "x86_64".into(),
            "arm64" => "aarch64".into(),
            other => other.into(),
        },
        room: Vec::new(),
        http_port: site.cluster.spec.gateway.http_port,
    };
    let met: Vec<&Arc<Server>> =
        site.servers.values().filter(|server| !unmet.iter().any(|(host, _)| host == server.name())).collect();
    let facts: Vec<_> = met.iter().map(|server| (*server, server.facts())).collect();
    for (server, facts) in &facts {
        // Room is asked for what is still to come: a host that has its images needs none for them again.
        let fresh = !facts.leftovers.kubelet_conf && facts.images.is_empty();
        let room = if fresh { plan::room(&site.cluster, site, server.spec.role) } else { Vec::new() };
        found.extend(preflight::host::check(&server.spec, facts, &preflight::host::Wants { room, ..wants.clone() }));
    }
    let seen: Vec<_> = facts
        .iter()
        .map(|(server, facts)| preflight::cluster::Seen { host: &server.spec, facts, offset_ms: server.offset_ms() })
        .collect();
    found.extend(preflight::cluster::check(&site.cluster, &seen));
    found.extend(bundle(site));
    let usable = facts.iter().all(|(server, _)| server.program.get().is_some());
    if unmet.is_empty() && usable {
        // Durable writes are measured after the connections, so that one does not disturb the other.
        for probed in [preflight::probe::connections(site).await, preflight::probe::fsync(site).await] {
            match probed {
                Ok(findings) => found.extend(findings),
                Err(fault) => found.push(unmet_finding(fault.host.as_deref().unwrap_or_default(), &fault)),
            }
        }
    }
    preflight::waive(&mut found, waived);
    found.sort();
    step.finish(false);
    found
}

fn unmet_finding(host: &str, fault: &Fault) -> Finding {
    let check: Check = if fault.act.contains("root") {
        preflight::SUDO
    } else if fault.cause.contains("Host key") || fault.cause.contains("IDENTIFICATION") {
        preflight::HOST_KEY
    } else {
        preflight::SSH
    };
    Finding::error(check, host, fault.cause.clone(), fault.fix.clone().unwrap_or_default())
}

/// Whether the bundle has every blob and everything we will ask of it.
fn bundle(site: &Site) -> Vec<Finding> {
    let manifest = site.bundle.manifest();
    let mut found = Vec::new();
    let missing = site.bundle.missing(manifest.blobs());
    if let Some(first) = missing.first() {
        let what = format!("{} blobs are missing or cut short, the first is {}", missing.len(), first.digest);
        found.push(Finding::error(
            preflight::BUNDLE,
            "",
            what,
            "`hzctl bundle verify` names them; copy or build the bundle again",
        ));
    }
    let files: BTreeSet<&str> =
        manifest.components.iter().flat_map(|entry| &entry.files).map(|file| file.path.as_str()).collect();
    for path in [
        "usr/local/bin/kubelet",
        "usr/local/bin/kubeadm",
        "usr/local/bin/containerd",
        "usr/local/bin/ctr",
        "usr/local/bin/helm",
        "usr/local/sbin/runc",
    ] {
        if !files.contains(path) {
            found.push(Finding::error(preflight::BUNDLE, "", format!("it has no {path}"), "build the bundle again"));
        }
    }
    for release in steps::release::all(&site.cluster) {
        if steps::release::chart_file(manifest, release.name).is_none() {
            found.push(Finding::error(
                preflight::BUNDLE,
                "",
                format!("it has no chart {}", release.name),
                "build the bundle again",
            ));
        }
    }
    found
}

/// How a run of all steps ended.
pub struct Ran {
    /// How each step ended.
    pub outcome: Outcome,
    /// What is told at the end.
    pub summary: Summary,
    /// Where the logs of failed hosts are.
    pub logs: Vec<PathBuf>,
}

/// Learn what the API says, if a control plane serves one.
pub async fn find_api(site: &Site) -> Result<(), Fault> {
    let serving: Vec<Arc<Server>> = site
        .with_role(Role::ControlPlane)
        .into_iter()
        .filter(|server| server.facts().leftovers.admin_conf && server.facts().leftovers.apiserver_alive)
        .collect();
    if serving.is_empty() {
        return Ok(());
    }
    let Some(api) = api::find(&site.cluster, &serving, Duration::from_secs(10)).await else { return Ok(()) };
    let through = site.server(&api.through);
    let look = api.look(&through).await?;
    site.learn(Arc::new(api), look);
    Ok(())
}

/// Something that was done before the graph, as a timing like those of its steps.
pub fn timing(phase: &'static str, begun: f64, epoch: Instant) -> Timing {
    let ended = epoch.elapsed().as_secs_f64();
    Timing { id: phase.to_owned(), phase, host: None, begun, ended, changed: false }
}

/// Run all steps. `before` is what was done until now.
pub async fn run(site: &Arc<Site>, steps: Vec<Step>, before: Vec<Timing>, epoch: Instant) -> Ran {
    // Hosts serve each other only where there is something to copy.
    let mut helpers = tokio::task::JoinSet::new();
    if copies(site, &steps).await {
        for server in site.with_role(Role::ControlPlane) {
            helpers.spawn(copy::keep_serving(site.clone(), server));
        }
    }
    let mut outcome = graph::run(site, steps, epoch).await;
    outcome.timings = before.into_iter().chain(outcome.timings).collect();
    helpers.abort_all();
    let took = epoch.elapsed().as_secs_f64();
    let failed_hosts: BTreeMap<String, String> =
        outcome.faults().into_iter().filter_map(|(_, fault)| Some((fault.host.clone()?, fault.to_string()))).collect();
    let mut logs = Vec::new();
    for host in failed_hosts.keys().filter(|host| site.servers.contains_key(*host)) {
        logs.extend(logs::gather(site, &site.server(host)).await);
    }
    let services = match site.api() {
        Some((api, _)) if outcome.faults().is_empty() => verify::routes(api.client.clone()).await,
        _ => Vec::new(),
    };
    let file = site.cluster.source.display();
    let name = &site.cluster.metadata.name;
    let summary = Summary {
        cluster: name.clone(),
        took,
        changes: outcome.changes(),
        idle: summary::idle(&outcome.timings, took),
        phases: summary::phases(&outcome.timings),
        longest: summary::longest(&outcome.timings),
        failed_hosts,
        services,
        doors: verify::doors(&site.cluster),
        next: vec![
            format!("hzctl status -f {file}"),
            format!("hzctl kubeconfig -f {file} --output-file {name}.kubeconfig"),
            format!(
                "kubectl --kubeconfig {name}.kubeconfig get hospitals,postgresinstances,cacheinstances,objectstores,medicalservices -A"
            ),
        ],
    };
    Ran { outcome, summary, logs }
}

/// Whether any step will ask for blobs.
async fn copies(site: &Site, steps: &[Step]) -> bool {
    for step in steps
        .iter()
        .filter(|step| ["copy/", "install/", "images/", "more-images/"].iter().any(|kind| step.id.starts_with(kind)))
    {
        if !matches!(step.work.probe(site).await, Ok(graph::Plan::Nothing)) {
            return true;
        }
    }
    false
}

/// What the end means for a shell.
pub fn verdict(site: &Site, ran: &Ran) -> Result<ExitStatus, Failure> {
    let faults = ran.outcome.faults();
    let Some((id, worst)) = faults.iter().find(|(_, fault)| is_essential(site, fault)).or_else(|| faults.first())
    else {
        return Ok(ExitStatus::Success);
    };
    let mut hint = worst.fix.clone().unwrap_or_default();
    for path in &ran.logs {
        hint = format!("{hint}{}logs: {}", if hint.is_empty() { "" } else { "\n" }, path.display());
    }
    if !is_essential(site, worst) {
        return Ok(ExitStatus::Degraded);
    }
    let code = if worst.late { ExitStatus::Deadline } else { ExitStatus::HostFailed };
    let place = worst.host.as_ref().map(|host| format!("{host}: ")).unwrap_or_default();
    let message = format!("{place}{} (step {id})", worst.act);
    Err(Failure::new(code, message).because(worst.cause.clone()).hint(hint))
}

/// Faults of workers leave a cluster that runs.
fn is_essential(site: &Site, fault: &Fault) -> bool {
    let role = fault.host.as_ref().and_then(|host| site.servers.get(host)).map(|server| server.spec.role);
    role != Some(Role::Worker)
}

/// Steps that were not begun since another failed.
pub fn blocked(outcome: &Outcome) -> Vec<&str> {
    outcome.ends.iter().filter(|(_, end)| matches!(end, End::Blocked(_))).map(|(id, _)| id.as_str()).collect()
}
