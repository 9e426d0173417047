//! Configuration and services of a host: container runtime, balancer, kubelet.

use std::sync::Arc;

use futures::future::BoxFuture;
use sha2::{Digest, Sha256};

use super::plan_of;
use crate::bootstrap::fault::Fault;
use crate::bootstrap::graph::{Plan, Work};
use crate::bootstrap::render;
use crate::bootstrap::server::Server;
use crate::bootstrap::site::Site;
use crate::node::files::ApplyRequest;
use crate::node::hashes::hex;
use crate::node::types::Report;

/// Configuration and services of one host.
pub struct Services(pub Arc<Server>);

impl Services {
    fn request(&self, site: &Site) -> ApplyRequest {
        let (files, units) = render::host::files(&site.cluster, &site.versions, &self.0.facts());
        ApplyRequest { files, units, kernel: true }
    }
}

impl Work for Services {
    fn probe<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<Plan, Fault>> {
        Box::pin(async move {
            let (request, facts) = (self.request(site), self.0.facts());
            let differs = |path: &str, content: &str| facts.files.get(path) != Some(&hex(&Sha256::digest(content)));
            let files = request.files.iter().filter(|file| differs(&file.path, &file.content));
            let mut items: Vec<String> = files.map(|file| format!("write {}", file.path)).collect();
            for unit in &request.units {
                let started = !unit.start || facts.active_units.contains(&unit.name);
                if !started || !facts.enabled_units.contains(&unit.name) {
                    items.push(format!("start {}", unit.name));
                }
            }
            Ok(plan_of(items))
        })
    }

    fn act<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let request = self.request(site);
            let _: Report = self.0.node("failed to start the services of the host", &["apply"], &request).await?;
            Ok(())
        })
    }
}
