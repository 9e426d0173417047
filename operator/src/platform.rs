//! The cluster as configured, and as counted.

use std::path::Path;
use std::sync::{Arc, RwLock};

use futures::TryStreamExt;
use hz_crds::Platform;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, PartialObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Event, watcher};
use kube::{Client, ResourceExt};
use tracing::{info, warn};

use crate::engine::watches::{Patience, config};

/// Servers that take workloads.
const WORKERS: &str = "!node-role.kubernetes.io/control-plane";

/// The present platform; cheap to read, changed when servers come and go.
#[derive(Clone)]
pub struct PlatformCell {
    now: Arc<RwLock<Arc<Platform>>>,
    /// Things still to be found out before the first decision.
    open: Arc<tokio::sync::watch::Sender<u8>>,
}

const COUNTING_WORKERS: u8 = 1;
const FINDING_API_SERVERS: u8 = 2;

impl PlatformCell {
    /// Starts from the configuration.
    pub fn new(platform: Platform) -> Self {
        let open = COUNTING_WORKERS | if platform.api_servers.is_empty() { FINDING_API_SERVERS } else { 0 };
        Self { now: Arc::new(RwLock::new(Arc::new(platform))), open: Arc::new(tokio::sync::watch::Sender::new(open)) }
    }

    /// The platform right now.
    pub fn get(&self) -> Arc<Platform> {
        Arc::clone(&self.now.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Waits until servers are counted and API servers found. Decisions made before would be taken back a moment later.
    pub async fn settled(&self) {
        // We hold the sender ourselves.
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }

    fn found(&self, what: u8) {
        self.open.send_modify(|open| *open &= !what);
    }

    /// Changes it; true if it is different now.
    fn update(&self, change: impl FnOnce(&mut Platform)) -> bool {
        let mut cell = self.now.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut platform = Platform::clone(&cell);
        change(&mut platform);
        let changed = platform != **cell;
        if changed {
            *cell = Arc::new(platform);
        }
        changed
    }
}

/// Reads the settings file; no file means the defaults of a cluster made by `hzctl bootstrap`.
pub fn load(path: Option<&Path>) -> anyhow::Result<Platform> {
    use anyhow::Context as _;
    let Some(path) = path else { return Ok(Platform::default()) };
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_yaml::from_str(&text).with_context(|| format!("{} is not a platform settings file", path.display()))
}

/// Counts workers and API servers for as long as it is polled; `changed` is called after every change.
pub async fn follow(client: Client, cell: PlatformCell, changed: impl Fn() + Send + Sync) {
    let fixed = !cell.get().api_servers.is_empty();
    let workers = count_workers(client.clone(), &cell, &changed);
    if fixed {
        return workers.await;
    }
    futures::future::join(workers, find_api_servers(client, &cell, &changed)).await;
}

async fn count_workers(client: Client, cell: &PlatformCell, changed: &(impl Fn() + Send + Sync)) {
    let nodes: Api<PartialObjectMeta<Node>> = Api::all(client);
    let mut stream = std::pin::pin!(watcher(nodes, config().labels(WORKERS)).backoff(Patience::default()));
    let mut names = std::collections::HashSet::new();
    let mut listing = false;
    loop {
        match stream.try_next().await {
            Ok(Some(event)) => match event {
                Event::Init => {
                    names.clear();
                    listing = true;
                }
                Event::InitDone => listing = false,
                Event::Apply(node) | Event::InitApply(node) => {
                    names.insert(node.name_any());
                }
                Event::Delete(node) => {
                    names.remove(&node.name_any());
                }
            },
            Ok(None) => return,
            Err(error) => {
                warn!(%error, "cannot count the servers; trying again");
                continue;
            }
        }
        let workers = i32::try_from(names.len()).ok();
        if !listing && cell.update(|platform| platform.workers = workers) {
            info!(workers, "servers that take workloads");
            changed();
        }
        if !listing {
            cell.found(COUNTING_WORKERS);
        }
    }
}

/// The addresses behind the Service `kubernetes`, so that pods that must reach the API can be let through to it alone.
async fn find_api_servers(client: Client, cell: &PlatformCell, changed: &(impl Fn() + Send + Sync)) {
    let slices: Api<EndpointSlice> = Api::namespaced(client, "default");
    let settings = config().labels("kubernetes.io/service-name=kubernetes");
    let mut stream = std::pin::pin!(watcher(slices, settings).backoff(Patience::default()));
    loop {
        let slice = match stream.try_next().await {
            Ok(Some(Event::Apply(slice) | Event::InitApply(slice))) => slice,
            Ok(Some(Event::InitDone)) => {
                cell.found(FINDING_API_SERVERS);
                continue;
            }
            Ok(Some(_)) => continue,
            Ok(None) => return,
            Err(error) => {
                warn!(%error, "cannot find the API servers; trying again");
                continue;
            }
        };
        let mut addresses: Vec<String> =
            slice.endpoints.into_iter().flatten().flat_map(|endpoint| endpoint.addresses).collect();
        let port = slice.ports.into_iter().flatten().find_map(|port| u16::try_from(port.port?).ok());
        // An API server that restarts drops out for a moment: walls must not follow every blink. Addresses only come
        // in; one that is gone for good is forgotten when the operator starts anew.
        let update = |platform: &mut Platform| {
            addresses.append(&mut platform.api_servers);
            addresses.sort();
            addresses.dedup();
            platform.api_servers = addresses;
            platform.api_port = port.unwrap_or(platform.api_port);
        };
        if cell.update(update) {
            info!(addresses = ?cell.get().api_servers, "API servers");
            changed();
        }
    }
}
