//! The start of the cluster: kubeadm init on the first control plane.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use super::{mark, plan_of};
use crate::bootstrap::api::{self, Api};
use crate::bootstrap::decide::{self, Start};
use crate::bootstrap::fault::Fault;
use crate::bootstrap::graph::{Plan, Work};
use crate::bootstrap::render::{Limits, kubeadm};
use crate::bootstrap::server::Server;
use crate::bootstrap::site::Site;
use crate::bootstrap::{connect, logs};
use crate::cluster::Role;
use crate::node::files::ApplyRequest;
use crate::node::types::{FileWrite, Report};
use crate::node::undo::UndoRequest;

const CONFIG: &str = "/etc/hzctl/kubeadm.yaml";
/// How long kubeadm may take on a slow machine.
pub const KUBEADM_LIMIT: Duration = Duration::from_secs(300);
/// How long control planes that were rebooted may take to serve again.
const COMEBACK: Duration = Duration::from_secs(90);

/// Start the cluster, or find that it runs.
pub struct Init(pub Arc<Server>);

impl Init {
    fn decide(&self, site: &Site) -> Start {
        decide::start(&self.0.facts(), site.api().as_ref().map(|(_, look)| look.as_ref()))
    }

    /// Control planes that hold data of a cluster, and so may come back by themselves.
    fn holders(site: &Site) -> Vec<Arc<Server>> {
        let holds = |server: &Arc<Server>| {
            let left = &server.facts().leftovers;
            left.etcd_data && left.admin_conf && left.manifests.len() >= 4
        };
        site.with_role(Role::ControlPlane).into_iter().filter(holds).collect()
    }

    /// Whether what is on this host was begun by us and never served a cluster: then nothing of it is of worth.
    fn may_begin_anew(&self, site: &Site) -> bool {
        let ours =
            self.0.facts().leftovers.marker.as_ref().is_some_and(|marker| marker.id == site.id && !marker.served);
        let joined =
            site.servers.values().any(|server| server.name() != self.0.name() && server.facts().leftovers.kubelet_conf);
        ours && !joined && site.api().is_none()
    }

    async fn undo(&self, site: &Site) -> Result<(), Fault> {
        let cluster = site.cluster.metadata.name.clone();
        let request = UndoRequest { cluster, only_kubeadm: true, ..UndoRequest::default() };
        let _: Report = self.0.node("failed to undo the start that was cut off", &["undo"], &request).await?;
        Ok(())
    }

    async fn init(&self, site: &Site, again: bool) -> Result<(), Fault> {
        let server = &self.0;
        let node = kubeadm::NodeIdentity { name: server.name().to_owned(), address: server.spec.address };
        // Settings that all nodes share follow the most restricted of them.
        let mut limits = Limits::of(&server.facts());
        limits.no_conntrack = site.servers.values().any(|server| Limits::of(&server.facts()).no_conntrack);
        let config = kubeadm::init(&site.cluster, &site.versions, &node, &site.join_token, limits);
        write(server, vec![FileWrite { path: CONFIG.into(), content: config, mode: 0o600 }]).await?;
        let mut argv = vec!["/usr/local/bin/kubeadm", "init", "--config", CONFIG, "--skip-token-print"];
        // What kubeadm objects to was checked by our own preflight, or is what an earlier run of ours left.
        argv.push(if again { "--ignore-preflight-errors=all" } else { "--ignore-preflight-errors=SystemVerification,Swap,NumCPU,Mem,DirAvailable--var-lib-etcd,FileExisting-conntrack,FileExisting-socat,FileExisting-ethtool,FileExisting-crictl,FileExisting-iptables,FileExisting-ip6tables,FileExisting-tc,FileExisting-ebtables,Hostname" });
        let result = server.exec("failed to start the cluster", "kubeadm", &argv, KUBEADM_LIMIT).await;
        result.map(|_| ()).map_err(|(fault, output)| logs::keep(site, server.name(), "kubeadm-init", &output, fault))
    }
}

impl Work for Init {
    fn probe<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<Plan, Fault>> {
        Box::pin(async move {
            Ok(match self.decide(site) {
                Start::Done => Plan::Nothing,
                Start::Fresh => Plan::Do(vec![format!("start the cluster on {} (kubeadm init)", self.0.name())]),
                Start::Again(missing) => {
                    plan_of(missing.iter().map(|what| format!("finish the start of the cluster: {what}")).collect())
                }
            })
        })
    }

    fn act<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let again = self.decide(site) != Start::Fresh;
            let holders = Self::holders(site);
            if site.api().is_none() && !holders.is_empty() {
                // A cluster that is coming back is not one to be started.
                if let Some(api) = api::find(&site.cluster, &holders, COMEBACK).await {
                    let through = site.server(&api.through);
                    let look = api.look(&through).await?;
                    let whole = look.unfinished.is_empty();
                    site.learn(Arc::new(api), look);
                    if whole {
                        return Ok(());
                    }
                }
            }
            let own = self.0.facts().leftovers.etcd_data;
            if let Some(other) = holders.iter().find(|holder| holder.name() != self.0.name() && !own) {
                let cause = format!("{} holds the data of the cluster and does not serve", other.name());
                let fix = format!(
                    "see on {} why: `journalctl -u kubelet`, `crictl`-like: `ctr -n k8s.io tasks ls`",
                    other.name()
                );
                return Err(Fault::permanent("the cluster cannot be started a second time", cause)
                    .on(other.name())
                    .fix(fix));
            }
            let begun = self.init(site, again).await;
            match begun {
                Err(fault) if !fault.transient && self.may_begin_anew(site) => {
                    // A power cut can leave half-written certificates, which kubeadm will not go on from.
                    self.undo(site).await?;
                    self.init(site, false).await
                }
                begun => begun,
            }
        })
    }

    fn verify<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            // What follows decides by what is on this host, and that has changed.
            connect::refresh(site, &self.0).await?;
            if site.api().is_some_and(|(_, look)| look.unfinished.is_empty()) {
                return Ok(());
            }
            let act = "failed to reach the API server that was started";
            let api = Api::through(&site.cluster, &self.0).await?;
            if !api.until_ready(Duration::from_secs(60)).await {
                let fix = format!("let TCP port 6443 through from here to {}", self.0.name());
                return Err(Fault::late(act, "it is not ready after 60 seconds").on(self.0.name()).fix(fix));
            }
            let look = api.look(&self.0).await?;
            if let Some(what) = look.unfinished.first() {
                return Err(Fault::transient("kubeadm init left something undone", what).on(self.0.name()));
            }
            site.learn(Arc::new(api), look);
            mark::served(site, &self.0).await
        })
    }
}

/// Write files on a host.
pub async fn write(server: &Server, files: Vec<FileWrite>) -> Result<(), Fault> {
    let request = ApplyRequest { files, ..ApplyRequest::default() };
    let _: Report = server.node("failed to write configuration", &["apply"], &request).await?;
    Ok(())
}
