//! Hosts joining the cluster: workers at the same time, control planes one by one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use futures::future::BoxFuture;

use super::start::{KUBEADM_LIMIT, write};
use crate::bootstrap::api::failed;
use crate::bootstrap::decide::{self, CONTROL_PLANE_LABEL, Join};
use crate::bootstrap::fault::Fault;
use crate::bootstrap::graph::{Plan, Work};
use crate::bootstrap::render::kubeadm;
use crate::bootstrap::server::Server;
use crate::bootstrap::site::Site;
use crate::bootstrap::{connect, logs};
use crate::cluster::Role;
use crate::node::types::{FileWrite, Report};
use crate::node::undo::UndoRequest;

const CONFIG: &str = "/etc/hzctl/kubeadm.yaml";
const PKI: &str = "/etc/kubernetes/pki";
const CA: &str = "/etc/kubernetes/pki/ca.crt";
/// Phases of `kubeadm join`, the smallest that can be left out.
const PHASES: [&str; 10] = [
    "preflight",
    "control-plane-prepare/download-certs",
    "control-plane-prepare/certs",
    "control-plane-prepare/kubeconfig",
    "control-plane-prepare/control-plane",
    "kubelet-start",
    "etcd-join",
    "kubelet-wait-bootstrap",
    "control-plane-join",
    "wait-control-plane",
];
/// What control planes must have in common.
const SHARED: [&str; 8] =
    ["ca.crt", "ca.key", "sa.pub", "sa.key", "front-proxy-ca.crt", "front-proxy-ca.key", "etcd/ca.crt", "etcd/ca.key"];

/// Bring a host into the cluster.
pub struct Member(pub Arc<Server>);

impl Member {
    pub(super) fn decide(&self, site: &Site) -> Option<Join> {
        site.api().map(|(_, look)| decide::join(&self.0.spec, &self.0.facts(), &look))
    }

    async fn join(&self, site: &Site) -> Result<(), Fault> {
        let server = &self.0;
        let control_plane = server.spec.role == Role::ControlPlane;
        self.files(site, control_plane).await?;
        let argv = ["/usr/local/bin/kubeadm", "join", "--config", CONFIG, "--ignore-preflight-errors=all"];
        let result = server.exec("failed to join the cluster", "kubeadm", &argv, KUBEADM_LIMIT).await;
        result.map(|_| ()).map_err(|(fault, output)| logs::keep(site, server.name(), "kubeadm-join", &output, fault))
    }

    /// Some phases of a join; all others are left out.
    pub(super) async fn phases(&self, site: &Site, act: &str, wanted: &[&str]) -> Result<(), Fault> {
        let skip: Vec<&str> = PHASES.iter().copied().filter(|phase| !wanted.contains(phase)).collect();
        let skip = format!("--skip-phases={}", skip.join(","));
        let argv = ["/usr/local/bin/kubeadm", "join", "--config", CONFIG, "--ignore-preflight-errors=all", &skip];
        let result = self.0.exec(act, "kubeadm", &argv, KUBEADM_LIMIT).await;
        result.map(|_| ()).map_err(|(fault, output)| logs::keep(site, self.0.name(), "kubeadm-join", &output, fault))
    }

    /// The authority of the cluster, for control planes its keys, and what kubeadm is to do.
    pub(super) async fn files(&self, site: &Site, control_plane: bool) -> Result<(), Fault> {
        let (api, _) =
            site.api().ok_or_else(|| Fault::transient("failed to join the cluster", "its API is not known"))?;
        let from = site.server(&api.through);
        let act = "failed to read the authority of the cluster";
        let mut paths = vec![CA.to_owned()];
        if control_plane {
            paths.extend(SHARED.map(|name| format!("{PKI}/{name}")));
        }
        let found: BTreeMap<String, String> = from.node(act, &["read"], &paths).await?;
        let missing = || Fault::permanent(act, format!("{CA} is not there")).on(from.name());
        let node = kubeadm::NodeIdentity { name: self.0.name().to_owned(), address: self.0.spec.address };
        let secret = |path: &str, content: String| FileWrite { path: path.into(), content, mode: 0o600 };
        let mut files = vec![
            secret(kubeadm::DISCOVERY, kubeadm::discovery(found.get(CA).ok_or_else(missing)?)),
            secret(CONFIG, kubeadm::join(&node, control_plane, &site.join_token)),
        ];
        for path in paths.iter().filter(|_| control_plane) {
            let encoded =
                found.get(path).ok_or_else(|| Fault::permanent(act, format!("{path} is not there")).on(from.name()))?;
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(encoded)
                .map_err(|error| Fault::permanent(act, error))?;
            files.push(secret(path, String::from_utf8_lossy(&bytes).into_owned()));
        }
        write(&self.0, files).await
    }

    /// Undo a join that was cut off. The member of etcd goes first: it blocks every other.
    ///
    /// This is the one place where something is undone, so it is decided again on what is true at this moment.
    pub(super) async fn undo(&self, site: &Site) -> Result<(), Fault> {
        connect::refresh(site, &self.0).await?;
        relook(site).await?;
        let through = site.api().map(|(api, _)| api.through.clone());
        if !matches!(self.decide(site), Some(Join::Redo(_))) || through.as_deref() == Some(self.0.name()) {
            let cause = "it is part of the cluster by now";
            return Err(Fault::transient("the join was not undone", cause).on(self.0.name()));
        }
        if self.0.spec.role == Role::ControlPlane
            && let Some((api, _)) = site.api()
        {
            let url = decide::peer_url(&self.0.spec);
            let through = site.server(&api.through);
            let _: usize =
                through.node("failed to take the old member out of etcd", &["etcd-remove", &url], &()).await?;
        }
        if let Some((api, _)) = site.api() {
            // kubeadm refuses a host whose node still looks alive.
            let nodes = kube::Api::<k8s_openapi::api::core::v1::Node>::all(api.client.clone());
            match nodes.delete(self.0.name(), &kube::api::DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(failed("failed to remove the old node", &error)),
            }
        }
        let request =
            UndoRequest { cluster: site.cluster.metadata.name.clone(), only_kubeadm: true, ..UndoRequest::default() };
        let _: Report = self.0.node("failed to undo the join that was cut off", &["undo"], &request).await?;
        Ok(())
    }

    /// The last steps of a control plane that is a member of etcd already.
    async fn finish(&self, site: &Site) -> Result<(), Fault> {
        self.files(site, true).await?;
        let mut wanted = vec![
            "control-plane-prepare/certs",
            "control-plane-prepare/kubeconfig",
            "control-plane-prepare/control-plane",
        ];
        if self.0.facts().leftovers.kubelet_conf {
            self.wake().await?;
        } else {
            wanted.extend(["kubelet-start", "kubelet-wait-bootstrap"]);
        }
        wanted.extend(["control-plane-join", "wait-control-plane"]);
        self.phases(site, "failed to finish the control plane", &wanted).await
    }

    pub(super) async fn wake(&self) -> Result<(), Fault> {
        let call = crate::host::Call::new(["systemctl", "restart", "kubelet.service"]);
        let ended = self.0.run(call).await?;
        match ended.code {
            0 => Ok(()),
            _ => Err(Fault::from_output("failed to start the kubelet", &ended.stderr).on(self.0.name())),
        }
    }
}

impl Work for Member {
    fn probe<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<Plan, Fault>> {
        Box::pin(async move {
            let what = match self.decide(site) {
                Some(Join::Done) => return Ok(Plan::Nothing),
                Some(Join::Wake) => "start the kubelet".to_owned(),
                Some(Join::Redo(why)) => format!("undo and repeat the join: {why}"),
                Some(Join::Finish) => "finish the join of the control plane".to_owned(),
                Some(Join::Fresh) | None => "join the cluster (kubeadm join)".to_owned(),
            };
            Ok(Plan::Do(vec![what]))
        })
    }

    fn act<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            token(site).await?;
            let result = match self.decide(site) {
                Some(Join::Done) => return Ok(()),
                Some(Join::Wake) => self.wake().await,
                Some(Join::Finish) => self.finish(site).await,
                Some(Join::Redo(_)) => match self.undo(site).await {
                    Ok(()) => self.join(site).await,
                    Err(fault) => Err(fault),
                },
                Some(Join::Fresh) | None => self.join(site).await,
            };
            if result.is_err() {
                // What the failed try left decides how the next one begins.
                let _ = connect::refresh(site, &self.0).await;
                let _ = relook(site).await;
            }
            result
        })
    }

    fn verify<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let act = "the host joined and its node does not appear";
            let (api, _) = site.api().ok_or_else(|| Fault::transient(act, "the API is not known"))?;
            let begun = Instant::now();
            loop {
                let nodes = api.nodes().await.unwrap_or_default();
                let there = nodes.get(self.0.name());
                let whole = |labels: &BTreeMap<String, String>| {
                    self.0.spec.role == Role::Worker || labels.contains_key(CONTROL_PLANE_LABEL)
                };
                if there.is_some_and(|node| whole(&node.labels)) {
                    return label(site, &self.0).await;
                }
                if begun.elapsed() > Duration::from_secs(60) {
                    return Err(Fault::late(act, "not after 60 seconds").on(self.0.name()));
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        })
    }
}

/// See the API again, after something went wrong.
pub(super) async fn relook(site: &Site) -> Result<(), Fault> {
    let Some((api, _)) = site.api() else { return Ok(()) };
    let through = site.server(&api.through);
    let look = api.look(&through).await?;
    site.learn(api, look);
    Ok(())
}

/// The token of this run, where the cluster was started by an earlier one.
pub(super) async fn token(site: &Site) -> Result<(), Fault> {
    use k8s_openapi::api::core::v1::Secret;
    use kube::api::{Patch, PatchParams};
    let act = "failed to make a token to join with";
    let Some((api, _)) = site.api() else { return Ok(()) };
    let Some((id, secret)) = site.join_token.split_once('.') else { return Ok(()) };
    let expires = rfc3339(crate::node::facts::now_ms() / 1000 + 7200);
    let name = format!("bootstrap-token-{id}");
    let secrets = kube::Api::<Secret>::namespaced(api.client.clone(), "kube-system");
    if matches!(secrets.get_metadata_opt(&name).await, Ok(Some(_))) {
        return Ok(());
    }
    let object = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
        "metadata": { "name": name, "namespace": "kube-system" },
        "stringData": {
            "token-id": id, "token-secret": secret, "expiration": expires,
            "description": "joins of the bootstrap",
            "usage-bootstrap-authentication": "true", "usage-bootstrap-signing": "true",
            "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
        },
    });
    let parameters = PatchParams::apply("hzctl").force();
    secrets.patch(&name, &parameters, &Patch::Apply(&object)).await.map_err(|error| failed(act, &error))?;
    Ok(())
}

/// Seconds since 1970 as a date that Kubernetes reads.
fn rfc3339(seconds: i64) -> String {
    let days = seconds.div_euclid(86_400);
    let rest = seconds.rem_euclid(86_400);
    // Civil date from days (Howard Hinnant's algorithm): eras of 400 years that begin in March.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Labels of cluster.yaml on the node.
async fn label(site: &Site, server: &Server) -> Result<(), Fault> {
    use k8s_openapi::api::core::v1::Node;
    use kube::api::{Patch, PatchParams};
    if server.spec.labels.is_empty() {
        return Ok(());
    }
    let Some((api, _)) = site.api() else { return Ok(()) };
    let patch = serde_json::json!({ "metadata": { "labels": server.spec.labels } });
    let nodes = kube::Api::<Node>::all(api.client.clone());
    let patched = nodes.patch(server.name(), &PatchParams::default(), &Patch::Merge(&patch)).await;
    patched.map(|_| ()).map_err(|error| failed("failed to label the node", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_kubernetes_reads_them() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(rfc3339(1_795_392_000), "2026-11-23T00:00:00Z");
    }
}
