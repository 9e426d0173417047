//! Checks that need more than a look: real listeners between hosts, real writes.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{Finding, cluster, host, ports};
use crate::bootstrap::fault::Fault;
use crate::bootstrap::server::Server;
use crate::bootstrap::site::Site;
use crate::cluster::Role;
use crate::host::Session;
use crate::node::types::{Dialled, FsyncReport};

/// How often a disk is measured again that seems too slow. One that is busy for a moment, such as with what a killed run left to
/// be written, is no slow disk: the best measurement counts.
const AGAIN: u32 = 3;
/// Before it is measured again.
const PAUSE: Duration = Duration::from_secs(2);

/// How fast writes of etcd are, on control planes that have no etcd yet.
pub async fn fsync(site: &Site) -> Result<Vec<Finding>, Fault> {
    let fresh = site.with_role(Role::ControlPlane).into_iter().filter(|server| !server.facts().leftovers.etcd_data);
    let probes = fresh.map(|server| async move {
        let act = "failed to measure durable writes";
        let mut report: FsyncReport = server.node(act, &["fsync-probe"], &()).await?;
        for _ in 0..AGAIN {
            if !host::is_too_slow(&report) {
                break;
            }
            tokio::time::sleep(PAUSE).await;
            let again: FsyncReport = server.node(act, &["fsync-probe"], &()).await?;
            if again.p99_ms < report.p99_ms {
                report = again;
            }
        }
        Ok(host::fsync(server.name(), &report))
    });
    let reports: Result<Vec<_>, Fault> = join_all(probes).await.into_iter().collect();
    Ok(reports?.into_iter().flatten().collect())
}

/// Every host connects to every other on the ports that will be needed. Hosts that are part of the cluster
/// already have their own programs on these ports, and show in other ways whether they are reached.
pub async fn connections(site: &Site) -> Result<Vec<Finding>, Fault> {
    let fresh: Vec<Arc<Server>> =
        site.servers.values().filter(|server| !server.facts().leftovers.kubelet_conf).cloned().collect();
    let listeners: Result<Vec<Session>, Fault> =
        join_all(fresh.iter().map(|server| listen(site, server))).await.into_iter().collect();
    let listeners = listeners?;
    let dialled = join_all(site.servers.values().map(|server| async {
        let mut dials = ports::dials(&site.cluster, server.name());
        dials.retain(|dial| {
            fresh.iter().any(|other| other.name() == dial.host && !other.facts().listening.contains(&dial.port))
        });
        if dials.is_empty() {
            return Ok((server.name().to_owned(), Vec::new()));
        }
        let results: Vec<Dialled> = server.node("failed to try connections", &["connect"], &dials).await?;
        Ok((server.name().to_owned(), results))
    }))
    .await;
    drop(listeners);
    let results: Result<Vec<(String, Vec<Dialled>)>, Fault> = dialled.into_iter().collect();
    Ok(cluster::connections(&results?))
}

async fn listen(site: &Site, server: &Server) -> Result<Session, Fault> {
    let ports = ports::needed(server.spec.role, site.cluster.spec.gateway.http_port);
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    let mut words = vec!["listen", server.name()];
    words.extend(ports.iter().map(String::as_str));
    let mut session = server.start(&words).await?;
    // The first line says that the listeners stand.
    let mut line = String::new();
    let mut reader = BufReader::new(&mut session.stdout);
    let read = tokio::time::timeout(std::time::Duration::from_secs(10), reader.read_line(&mut line)).await;
    match read {
        Ok(Ok(length)) if length > 0 => Ok(session),
        _ => Err(Fault::transient("failed to listen for the other hosts", "no answer").on(server.name())),
    }
}
