//! Everything a bootstrap works with: the cluster as wanted, the bundle, the servers, the API once it is there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use hz_bundle::Bundle;

use super::api::{Api, Look};
use super::render::Versions;
use super::server::Server;
use crate::cluster::{Cluster, Role};
use crate::node::types::Marker;
use crate::progress::Progress;

/// All of it. Shared by every step.
pub struct Site {
    /// The cluster as wanted.
    pub cluster: Cluster,
    /// Identity of the cluster.
    pub id: String,
    /// What to install from.
    pub bundle: Bundle,
    /// Versions that the bundle brings.
    pub versions: Versions,
    /// The servers by name.
    pub servers: BTreeMap<String, Arc<Server>>,
    /// What hosts show each other for a copy of a blob. New in each run.
    pub copy_token: String,
    /// What hosts join with. New in each run.
    pub join_token: String,
    /// Where evidence of runs is kept on this machine.
    pub state: PathBuf,
    /// Our own program, and the first digits of its hash.
    pub program: (Arc<Vec<u8>>, String),
    /// Where progress is told.
    pub progress: Progress,
    api: RwLock<Option<(Arc<Api>, Arc<Look>)>>,
}

/// What a site is made from.
pub struct Parts {
    /// The cluster as wanted.
    pub cluster: Cluster,
    /// Identity of the cluster.
    pub id: String,
    /// What to install from.
    pub bundle: Bundle,
    /// Versions that the bundle brings.
    pub versions: Versions,
    /// The servers by name.
    pub servers: BTreeMap<String, Arc<Server>>,
    /// Where evidence of runs is kept on this machine.
    pub state: PathBuf,
    /// Our own program, and the first digits of its hash.
    pub program: (Arc<Vec<u8>>, String),
    /// Where progress is told.
    pub progress: Progress,
}

impl Site {
    /// Put together; secrets of the run are made here.
    pub fn new(parts: Parts) -> Self {
        Site {
            cluster: parts.cluster,
            id: parts.id,
            bundle: parts.bundle,
            versions: parts.versions,
            servers: parts.servers,
            copy_token: random(40),
            join_token: format!("{}.{}", random(6), random(16)),
            state: parts.state,
            program: parts.program,
            progress: parts.progress,
            api: RwLock::default(),
        }
    }

    /// A server by name; names come from the cluster itself.
    pub fn server(&self, name: &str) -> Arc<Server> {
        self.servers.get(name).cloned().expect("every name of the plan is a host of the cluster")
    }

    /// Servers of a role, in the order of cluster.yaml.
    pub fn with_role(&self, role: Role) -> Vec<Arc<Server>> {
        self.cluster.with_role(role).map(|host| self.server(&host.name)).collect()
    }

    /// The API and what was last seen there, once it answers.
    pub fn api(&self) -> Option<(Arc<Api>, Arc<Look>)> {
        self.api.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Keep the API and what was seen there.
    pub fn learn(&self, api: Arc<Api>, look: Look) {
        *self.api.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some((api, Arc::new(look)));
    }

    /// The mark for a host.
    pub fn marker(&self, server: &Server) -> Marker {
        Marker {
            cluster: self.cluster.metadata.name.clone(),
            id: self.id.clone(),
            host: server.name().to_owned(),
            role: format!("{:?}", server.spec.role),
            // Once served, always: a mark that is written again does not forget it.
            served: server
                .facts()
                .leftovers
                .marker
                .as_ref()
                .is_some_and(|marker| marker.served && marker.id == self.id),
        }
    }
}

/// Letters and digits that nobody guesses.
pub fn random(length: usize) -> String {
    use rand::Rng;
    const SET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut source = rand::rng();
    (0..length).map(|_| char::from(SET[source.random_range(0..SET.len())])).collect()
}
