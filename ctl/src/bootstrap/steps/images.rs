//! Images in the container runtime of a host: first those its own services are made of, then the others.

use std::sync::Arc;

use futures::future::BoxFuture;
use hz_bundle::Entry;

use super::install::bundle_role;
use super::{copy, plan_of};
use crate::bootstrap::fault::Fault;
use crate::bootstrap::graph::{Plan, Work};
use crate::bootstrap::server::Server;
use crate::bootstrap::site::Site;
use crate::cluster::Role;
use crate::node::types::{ImageTask, ImportRequest, Report};

/// Images that a node is made of, whatever runs on it later.
const ON_EVERY_NODE: [&str; 3] = ["pause", "kube-proxy", "hz-netguard"];
/// Images that a control plane is made of.
const ON_CONTROL_PLANES: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// Which images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wave {
    /// Those that a node cannot start without.
    First,
    /// All others of its role.
    Second,
}

fn name_of(entry: &Entry) -> &str {
    let full = entry.reference.as_deref().unwrap_or(&entry.name);
    let path = full.rsplit_once(':').map_or(full, |(path, _)| path);
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether an image is needed before kubeadm runs.
pub fn is_early(entry: &Entry) -> bool {
    ON_EVERY_NODE.contains(&name_of(entry)) || ON_CONTROL_PLANES.contains(&name_of(entry))
}

/// Images of a wave.
pub struct Images(pub Arc<Server>, pub Wave);

impl Images {
    fn missing(&self, site: &Site) -> Vec<ImageTask> {
        let Images(server, wave) = self;
        let facts = server.facts();
        let role = server.spec.role;
        let wanted = site
            .bundle
            .manifest()
            .images_for(bundle_role(role))
            .filter(|entry| is_early(entry) == (*wave == Wave::First));
        let task = |entry: &Entry| ImageTask {
            name: entry.reference.clone().unwrap_or_default(),
            manifest: entry.manifest.hex().to_owned(),
            blobs: entry.blobs.iter().map(|blob| (blob.digest.hex().to_owned(), blob.size)).collect(),
            unpack: ON_EVERY_NODE.contains(&name_of(entry))
                || role == Role::ControlPlane && ON_CONTROL_PLANES.contains(&name_of(entry)),
        };
        wanted.map(task).filter(|task| facts.images.get(&task.name) != Some(&task.manifest)).collect()
    }
}

impl Work for Images {
    fn probe<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<Plan, Fault>> {
        Box::pin(async move {
            Ok(plan_of(self.missing(site).iter().map(|image| format!("import {}", image.name)).collect()))
        })
    }

    fn act<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let request = ImportRequest { source: copy::source(site, &self.0), images: self.missing(site) };
            let _: Report = self.0.node("failed to import images", &["import"], &request).await?;
            Ok(())
        })
    }
}

/// Images that pods of the platform or of a hospital wait for in vain, with the pod's node.
pub async fn absent(client: kube::Client) -> Vec<String> {
    use k8s_openapi::api::core::v1::Pod;
    let pods =
        kube::Api::<Pod>::all(client).list(&kube::api::ListParams::default().fields("status.phase=Pending")).await;
    let mut found = Vec::new();
    for pod in pods.map(|list| list.items).unwrap_or_default() {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
        let status = pod.status.unwrap_or_default();
        let containers = status.container_statuses.into_iter().chain(status.init_container_statuses).flatten();
        for container in containers {
            let reason = container.state.and_then(|state| state.waiting).and_then(|waiting| waiting.reason);
            if matches!(reason.as_deref(), Some("ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull")) {
                found.push(format!("{} on {node}", container.image));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// That images are missing, as the cause of what did not come.
pub fn fault(act: &str, absent: &[String]) -> Fault {
    Fault::permanent(act, format!("images are missing: {}", absent.join(", "))).fix(
        "`hzctl bundle list` shows what the bundle has; build it again with these images, then run the bootstrap again",
    )
}
