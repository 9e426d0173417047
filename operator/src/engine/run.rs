//! Drives one controller: hears of changes, passes over objects with bounded concurrency, waits as long as is right.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc;
use futures::{StreamExt, stream};
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, watcher};
use kube::runtime::{WatchStreamExt as _, applier};
use kube::{Resource, ResourceExt};
use tokio::time::Instant;
use tracing::{Instrument as _, debug, info_span, warn};

use super::apply::full_name;
use super::backoff::{Backoff, jittered};
use super::report::Ours;
use super::{Engine, Error};

/// When to look at an object again, if nothing about it changes before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing can change without an event.
    OnChange,
    /// All is well; look now and then whether the thing still answers.
    After(Duration),
    /// On its way up: look soon, then less and less often.
    Soon,
    /// Something went wrong that may pass by itself.
    Retry,
}

/// A controller of one kind.
pub struct Controller<K: Ours> {
    engine: Arc<Engine>,
    kind: &'static str,
    store: Store<DeserializeGuard<K>>,
    writer: reflector::store::Writer<DeserializeGuard<K>>,
    concurrency: u16,
}

/// Objects of one kind as last seen, for other controllers to look things up.
pub type Objects<K> = Store<DeserializeGuard<K>>;

/// All objects of a kind in a namespace, readable ones only.
pub fn in_namespace<K: Ours>(objects: &Objects<K>, namespace: &str) -> Vec<K> {
    let all = objects.state().into_iter();
    let inside = all.filter(|object| object.namespace().as_deref() == Some(namespace));
    inside.filter_map(|object| object.0.as_ref().ok().cloned()).collect()
}

/// One object by name, if it is there and readable.
pub fn find<K: Ours>(objects: &Objects<K>, namespace: Option<&str>, name: &str) -> Option<K> {
    let key = namespace.map_or_else(|| ObjectRef::new(name), |namespace| ObjectRef::new(name).within(namespace));
    objects.get(&key)?.0.as_ref().ok().cloned()
}

struct Waits {
    retries: Backoff,
    looks: Backoff,
}

impl<K: Ours> Controller<K> {
    /// A controller that passes over at most `concurrency` objects at a time.
    pub fn new(engine: &Arc<Engine>, kind: &'static str, concurrency: u16) -> Self {
        let writer = reflector::store::Writer::new(());
        engine.listed.expect(kind);
        Self { engine: Arc::clone(engine), kind, store: writer.as_reader(), writer, concurrency }
    }

    /// What this controller has seen, for others to look up.
    pub fn objects(&self) -> Objects<K> {
        self.store.clone()
    }

    /// Runs until dropped. `touched` hears of every change of an object of this kind, so that controllers of kinds that
    /// depend on it can be nudged.
    pub async fn run<F, Fut>(self, reconcile: F, touched: impl Fn(&Engine, &str, &str) + Send + Sync + 'static)
    where
        F: Fn(Arc<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Next, Error>> + Send + 'static,
    {
        let Self { engine, kind, store, writer, concurrency } = self;
        let (nudge, nudged) = mpsc::unbounded();
        engine.world.listen(kind, nudge);
        let waits = Arc::new(Waits {
            retries: Backoff::new(Duration::from_millis(500), Duration::from_secs(30)),
            looks: Backoff::new(Duration::from_millis(250), Duration::from_secs(5)),
        });

        let api: Api<DeserializeGuard<K>> = Api::all(engine.client.clone());
        let hears = Arc::clone(&engine);
        let forgets = Arc::clone(&waits);
        let own = watcher(api, super::watches::config())
            .modify(|object| object.meta_mut().managed_fields = None)
            .backoff(super::watches::Patience::default())
            .reflect(writer)
            .filter_map(move |event| {
                let request = hear(event, kind, &hears, &forgets, &touched);
                async move { request }
            });
        let nudges = nudged.map(|(namespace, name): super::world::Nudge| {
            Ok::<_, Infallible>(match namespace {
                Some(namespace) => ObjectRef::new(&name).within(&namespace),
                None => ObjectRef::new(&name),
            })
        });

        // Children must be known before the first pass, or it would take what stands for missing.
        engine.world.synced().await;
        let reconcile = Arc::new(reconcile);
        let context = Arc::clone(&engine);
        applier(
            move |object: Arc<DeserializeGuard<K>>, engine: Arc<Engine>| {
                let span =
                    info_span!("pass", kind, object = full_name(object.namespace().as_deref(), &object.name_any()));
                Box::pin(pass(object, engine, kind, Arc::clone(&reconcile), Arc::clone(&waits)).instrument(span))
            },
            |_, never: &Infallible, _| match *never {},
            context,
            store,
            stream::select(own.boxed(), nudges.boxed()),
            Config::default().concurrency(concurrency),
        )
        .for_each(|result| async move {
            if let Err(error) = result {
                debug!(kind, %error, "nothing to do"); // a nudge for an object that is gone
            }
        })
        .await;
    }
}

/// Turns an event of the kind's own watch into a request for a pass.
fn hear<K: Ours>(
    event: Result<watcher::Event<DeserializeGuard<K>>, watcher::Error>,
    kind: &'static str,
    engine: &Engine,
    waits: &Waits,
    touched: &impl Fn(&Engine, &str, &str),
) -> Option<Result<ObjectRef<DeserializeGuard<K>>, Infallible>> {
    match event {
        Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
            touched(engine, &object.namespace().unwrap_or_default(), &object.name_any());
            Some(Ok(ObjectRef::from_obj(&object)))
        }
        Ok(watcher::Event::Delete(object)) => {
            let key = full_name(object.namespace().as_deref(), &object.name_any());
            waits.retries.forget(&key);
            waits.looks.forget(&key);
            engine.reporter.forget(&object.uid().unwrap_or_default());
            touched(engine, &object.namespace().unwrap_or_default(), &object.name_any());
            None
        }
        Ok(watcher::Event::Init) => None,
        Ok(watcher::Event::InitDone) => {
            engine.listed.note(kind);
            None
        }
        Err(error) => {
            warn!(kind, %error, "watch failed; trying again");
            None
        }
    }
}

async fn pass<K: Ours, F, Fut>(
    object: Arc<DeserializeGuard<K>>,
    engine: Arc<Engine>,
    kind: &'static str,
    reconcile: Arc<F>,
    waits: Arc<Waits>,
) -> Result<Action, Infallible>
where
    F: Fn(Arc<K>) -> Fut + Send + Sync,
    Fut: Future<Output = Result<Next, Error>> + Send,
{
    // An operation whose target is not seen yet would end because it is gone, for good.
    engine.listed.all().await;
    let started = Instant::now();
    let key = full_name(object.namespace().as_deref(), &object.name_any());
    if object.meta().deletion_timestamp.is_some() {
        return Ok(Action::await_change()); // what it owns goes by its owner references
    }
    let outcome = match &object.0 {
        Ok(readable) => reconcile(Arc::new(engine.reporter.freshened(readable))).await,
        Err(invalid) => {
            let message = format!(
                "cannot read this object: {}; `kubectl explain {}.spec` says what is expected",
                invalid.error,
                kind.to_lowercase()
            );
            let told = engine.reporter.report_malformed(object.as_ref(), &message).await;
            told.map(|()| Next::OnChange)
        }
    };
    let (result, action) = match outcome {
        Ok(next) => ("ok", plan_next(next, &key, &waits)),
        Err(error) if error.is_gone() => ("gone", Action::await_change()),
        Err(error) => {
            warn!(%error, "pass failed");
            ("error", Action::requeue(jittered(waits.retries.next(&key))))
        }
    };
    engine.metrics.reconciled(kind, result, started.elapsed());
    Ok(action)
}

fn plan_next(next: Next, key: &str, waits: &Waits) -> Action {
    match next {
        Next::OnChange => {
            waits.retries.forget(key);
            waits.looks.forget(key);
            Action::await_change()
        }
        Next::After(wait) => {
            waits.retries.forget(key);
            waits.looks.forget(key);
            Action::requeue(jittered(wait))
        }
        Next::Soon => {
            waits.retries.forget(key);
            Action::requeue(waits.looks.next(key))
        }
        Next::Retry => Action::requeue(jittered(waits.retries.next(key))),
    }
}
