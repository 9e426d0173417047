//! Add-ons as Helm releases: installed or upgraded on a control plane, only where chart or values differ from what
//! is recorded, or objects are gone.

use std::time::Duration;

use futures::future::BoxFuture;
use hz_bundle::{FileEntry, Kind, Manifest};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};
use sha2::{Digest, Sha256};

use super::start::write;
use crate::bootstrap::api::{DIGEST_LABEL, failed};
use crate::bootstrap::connect::path_of;
use crate::bootstrap::fault::Fault;
use crate::bootstrap::graph::{Plan, Work};
use crate::bootstrap::logs;
use crate::bootstrap::site::Site;
use crate::cluster::{Cluster, NetworkProvider};
use crate::node::hashes::hex;
use crate::node::types::FileWrite;

const HELM_LIMIT: Duration = Duration::from_secs(180);

/// An add-on.
#[derive(Clone, Debug, PartialEq)]
pub struct Release {
    /// Its name, and the chart's.
    pub name: &'static str,
    /// Namespace.
    pub namespace: &'static str,
    /// What is set for this cluster.
    pub values: serde_json::Value,
}

/// The add-ons of a cluster.
pub fn all(cluster: &Cluster) -> Vec<Release> {
    let network = &cluster.spec.network;
    let release = |name, namespace, values| Release { name, namespace, values };
    let mut releases = Vec::new();
    if network.provider == NetworkProvider::Netguard {
        let values = serde_json::json!({
            "podCIDR": network.pod_cidr.to_string(),
            "serviceCIDR": network.service_cidr.to_string(),
            "mtu": network.mtu,
        });
        releases.push(release("hz-netguard", "hz-system", values));
    }
    let storage = serde_json::json!({ "path": cluster.spec.storage.path });
    let gateway = serde_json::json!({ "httpPort": cluster.spec.gateway.http_port });
    releases.push(release("hz-storage", "hz-storage", storage));
    releases.push(release("hz-gateway", "hz-gateway", gateway));
    releases.push(release("hz-metrics", "kube-system", serde_json::json!({})));
    releases.push(release("hz-crds", "hz-system", serde_json::json!({})));
    // The first server that is ready would get both replicas, and keep them.
    let spread = if cluster.spec.hosts.len() > 1 { "Required" } else { "Preferred" };
    releases.push(release("hz-operator", "hz-system", serde_json::json!({ "spread": spread })));
    releases
}

/// Bring one add-on in.
pub struct AddOn(pub Release);

/// The archive of a chart in the bundle.
pub fn chart_file<'a>(manifest: &'a Manifest, name: &str) -> Option<&'a FileEntry> {
    let charts = manifest.components.iter().filter(|entry| entry.kind == Kind::Chart);
    let is_ours = |path: &str| {
        let rest = path.rsplit('/').next().unwrap_or(path).strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.ends_with(".tgz"))
    };
    charts.flat_map(|entry| &entry.files).find(|file| is_ours(&file.path))
}

impl AddOn {
    /// Path of the chart on control planes, and the hash of the archive.
    fn chart(&self, site: &Site) -> Result<(String, String), Fault> {
        let file = chart_file(site.bundle.manifest(), self.0.name).ok_or_else(|| {
            let cause = format!("the bundle has no chart {}", self.0.name);
            Fault::permanent("failed to find the chart", cause).fix("build the bundle again")
        })?;
        Ok((path_of(Kind::Chart, &file.path), file.sha256.clone()))
    }

    /// Digest of what this release is made of in this bundle.
    pub fn fingerprint(&self, site: &Site) -> Result<String, Fault> {
        self.chart(site).map(|(_, sum)| self.digest(&sum))
    }

    /// Digest of all that goes into the release.
    fn digest(&self, chart: &str) -> String {
        let text = format!("{chart} {}", self.0.values);
        hex(&Sha256::digest(text))[..40].to_owned()
    }

    /// A release that was cut off cannot be upgraded; the record of that try goes.
    async fn forget_unfinished(&self, site: &Site) -> Result<(), Fault> {
        let Some((api, _)) = site.api() else { return Ok(()) };
        let secrets = Api::<Secret>::namespaced(api.client.clone(), self.0.namespace);
        let act = "failed to look for an unfinished release";
        let list = ListParams::default().labels(&format!(
            "owner=helm,name={},status in (pending-install,pending-upgrade,pending-rollback)",
            self.0.name
        ));
        for secret in secrets.list_metadata(&list).await.map_err(|error| failed(act, &error))? {
            secrets.delete(&secret.name_any(), &DeleteParams::default()).await.map_err(|error| failed(act, &error))?;
        }
        Ok(())
    }
}

impl Work for AddOn {
    fn probe<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<Plan, Fault>> {
        Box::pin(async move {
            let (_, sum) = self.chart(site)?;
            let digest = self.digest(&sum);
            let Some((_, look)) = site.api() else { return Ok(Plan::Do(vec![format!("install {}", self.0.name)])) };
            let what = match look.releases.get(self.0.name) {
                None => format!("install {}", self.0.name),
                Some(found) if found.status != "deployed" => format!("repeat {}: it is {}", self.0.name, found.status),
                Some(found) if found.digest != digest => format!("upgrade {}", self.0.name),
                Some(found) if !found.missing.is_empty() => {
                    format!("restore of {}: {}", self.0.name, found.missing.join(", "))
                }
                Some(_) => return Ok(Plan::Nothing),
            };
            Ok(Plan::Do(vec![what]))
        })
    }

    fn act<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let (chart, sum) = self.chart(site)?;
            let digest = self.digest(&sum);
            let act = format!("failed to install {}", self.0.name);
            let (api, _) = site.api().ok_or_else(|| Fault::transient(&act, "the API is not known"))?;
            let server = site.server(&api.through);
            self.forget_unfinished(site).await?;
            let values = format!("/etc/hzctl/values/{}.yaml", self.0.name);
            let content = serde_yaml::to_string(&self.0.values).map_err(|error| Fault::permanent(&act, error))?;
            write(&server, vec![FileWrite { path: values.clone(), content, mode: 0o600 }]).await?;
            let labels = format!("{DIGEST_LABEL}={digest}");
            let argv = [
                "/usr/local/bin/helm",
                "--kubeconfig=/etc/kubernetes/admin.conf",
                "upgrade",
                "--install",
                self.0.name,
                &chart,
                "--namespace",
                self.0.namespace,
                "--create-namespace",
                "--values",
                &values,
                "--labels",
                &labels,
                "--history-max=3",
            ];
            let lock = format!("helm-{}", self.0.name);
            let result = server.exec(&act, &lock, &argv, HELM_LIMIT).await;
            result.map(|_| ()).map_err(|(fault, output)| logs::keep(site, server.name(), self.0.name, &output, fault))
        })
    }
}
