//! Keeps the [`World`] up to date: one watch for each kind, one for the Secrets of each hospital.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{Stream, TryStreamExt};
use kube::Client;
use kube::api::{Api, DynamicObject, PartialObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event, watcher};
use serde::Serialize;
use serde_json::Value;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::kinds::{KINDS, KindId, Watch, named};
use super::world::{World, place_of};

/// The settings of all watches: small pages (the memory of one page is what a start costs), and a timeout short enough
/// to notice a server that died without a word.
pub fn config() -> watcher::Config {
    watcher::Config::default().page_size(100).timeout(120)
}

/// The watches, running until dropped.
pub struct Watches {
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Watches {
    /// Starts them all.
    pub fn start(client: &Client, world: &Arc<World>) -> Self {
        let secrets =
            Arc::new(SecretWatches { client: client.clone(), world: Arc::clone(world), running: Mutex::default() });
        let tasks = (0..KINDS.len())
            .filter_map(|kind| {
                let world = Arc::clone(world);
                let resource = KINDS[kind].resource();
                match KINDS[kind].watch {
                    Watch::Metadata(_) => {
                        let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client.clone(), &resource);
                        let stream = watcher(api, config().labels(KINDS[kind].selector));
                        let secrets = (kind == named("Namespace")).then(|| Arc::clone(&secrets));
                        Some(tokio::spawn(follow(stream, kind, None, world, secrets)))
                    }
                    Watch::Reduced(_) => {
                        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
                        Some(tokio::spawn(follow(
                            watcher(api, config().labels(KINDS[kind].selector)),
                            kind,
                            None,
                            world,
                            None,
                        )))
                    }
                    Watch::PerHospital => {
                        world.mark_synced(kind);
                        None
                    }
                }
            })
            .collect();
        Self { tasks }
    }
}

/// Feeds one watch into the world, for ever.
async fn follow<K: Serialize + 'static>(
    stream: impl Stream<Item = Result<Event<K>, watcher::Error>> + Send,
    kind: KindId,
    namespace: Option<String>,
    world: Arc<World>,
    secrets: Option<Arc<SecretWatches>>,
) {
    let mut stream = std::pin::pin!(stream.backoff(Patience::default()));
    let mut listed = HashSet::new();
    loop {
        match stream.try_next().await {
            Ok(Some(event)) => take(event, kind, namespace.as_deref(), &world, secrets.as_deref(), &mut listed),
            Ok(None) => return,
            Err(error) => complain(&error, kind, &world),
        }
    }
}

fn take<K: Serialize>(
    event: Event<K>,
    kind: KindId,
    namespace: Option<&str>,
    world: &World,
    secrets: Option<&SecretWatches>,
    listed: &mut HashSet<(String, String)>,
) {
    let json = |object: &K| serde_json::to_value(object).unwrap_or(Value::Null);
    match event {
        Event::Init => listed.clear(),
        Event::InitApply(object) => {
            let object = json(&object);
            listed.insert(place_of(&object));
            if let Some(secrets) = secrets {
                secrets.namespace_seen(&object);
            }
            world.saw(kind, &object);
        }
        Event::InitDone => {
            world.relisted(kind, namespace, listed);
            if let Some(secrets) = secrets {
                secrets.keep_only(listed);
            }
            listed.clear();
            listed.shrink_to_fit();
        }
        Event::Apply(object) => {
            let object = json(&object);
            if let Some(secrets) = secrets {
                secrets.namespace_seen(&object);
            }
            world.saw(kind, &object);
        }
        Event::Delete(object) => {
            let object = json(&object);
            if let Some(secrets) = secrets {
                secrets.namespace_gone(&object);
            }
            world.lost(kind, &object);
        }
    }
}

fn complain(error: &watcher::Error, kind: KindId, world: &World) {
    let code = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code,
        _ => 0,
    };
    match code {
        // The kind's CRD is not installed (Gateway API): nobody must wait for it. It is found when it appears.
        404 => world.mark_synced(kind),
        // Rights in a new hospital take a moment to arrive.
        403 => debug!(%error, kind = KINDS[kind].kind, "may not watch yet"),
        _ => warn!(%error, kind = KINDS[kind].kind, "watch failed; trying again"),
    }
}

/// The Secrets of each hospital, watched apart: the operator has no right to those of anybody else.
struct SecretWatches {
    client: Client,
    world: Arc<World>,
    running: Mutex<HashMap<String, JoinHandle<()>>>,
}

impl Drop for SecretWatches {
    fn drop(&mut self) {
        self.lock().values().for_each(JoinHandle::abort);
    }
}

impl SecretWatches {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, JoinHandle<()>>> {
        self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn namespace_seen(&self, namespace: &Value) {
        if namespace.pointer("/metadata/labels").and_then(|labels| labels.get(hz_crds::labels::HOSPITAL)).is_none() {
            return;
        }
        let (_, name) = place_of(namespace);
        self.lock().entry(name.clone()).or_insert_with(|| {
            let kind = named("Secret");
            let resource = KINDS[kind].resource();
            let api: Api<PartialObjectMeta<DynamicObject>> =
                Api::namespaced_with(self.client.clone(), &name, &resource);
            let stream = watcher(api, config().labels(KINDS[kind].selector));
            tokio::spawn(follow(stream, kind, Some(name), Arc::clone(&self.world), None))
        });
    }

    fn namespace_gone(&self, namespace: &Value) {
        self.stop(&place_of(namespace).1);
    }

    fn keep_only(&self, listed: &HashSet<(String, String)>) {
        let gone: Vec<String> =
            self.lock().keys().filter(|name| !listed.contains(&(String::new(), (*name).clone()))).cloned().collect();
        gone.iter().for_each(|name| self.stop(name));
    }

    fn stop(&self, name: &str) {
        if let Some(task) = self.lock().remove(name) {
            task.abort();
            self.world.forget_secrets(name);
        }
    }
}

/// Waits of a failed watch: short at first (rights or a CRD are on their way), at most 15 s.
#[derive(Default)]
pub struct Patience {
    failures: u32,
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = Duration::from_millis(200).saturating_mul(1 << self.failures.min(7)).min(Duration::from_secs(15));
        self.failures += 1;
        Some(super::backoff::jittered(wait))
    }
}

impl Backoff for Patience {
    fn reset(&mut self) {
        self.failures = 0;
    }
}
