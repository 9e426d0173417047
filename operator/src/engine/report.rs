//! Tells the user: the status subresource, written only when it says something new, and an event when `Ready` turns.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use hz_crds::backup::HEALTHY;
use hz_crds::conditions::READY;
use hz_crds::postgres::room::STORAGE_HEALTHY;
use hz_crds::{labels, object::without_nulls, runbooks};
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::object::HasStatus;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::{debug, warn};

use super::apply::full_name;
use super::error::Error;
use super::metrics::Metrics;
use super::world::version_in;

/// Longest note an event may carry.
const LONGEST_NOTE: usize = 1000;

/// What we last wrote about an object: the watch may take a moment to bring it back, and a pass in between must not
/// take the older status for the present one.
#[derive(Clone, Debug)]
struct Reported {
    version: u64,
    status: Value,
}

/// The reporting half of the engine.
pub struct Reporter {
    client: Client,
    metrics: Arc<Metrics>,
    recorder: Recorder,
    reported: Mutex<HashMap<String, Reported>>,
}

impl Reporter {
    /// Reports through `client`, in the name of this replica.
    pub fn new(client: Client, metrics: Arc<Metrics>, instance: Option<String>) -> Self {
        let reporter = kube::runtime::events::Reporter { controller: "hz.hospital/operator".into(), instance };
        Self { recorder: Recorder::new(client.clone(), reporter), client, metrics, reported: Mutex::default() }
    }

    /// The object with the newest status we know of: what the watch brought, or what we wrote since.
    pub fn freshened<K>(&self, object: &K) -> K
    where
        K: Resource<DynamicType = ()> + HasStatus + Clone,
        K::Status: DeserializeOwned,
    {
        let mut object = object.clone();
        let uid = object.uid().unwrap_or_default();
        let mut reported = self.lock();
        match reported.get(&uid) {
            Some(newer) if newer.version > version_in(object.meta()) => {
                if let Ok(status) = serde_json::from_value(newer.status.clone()) {
                    *object.status_mut() = Some(status);
                }
            }
            Some(_) => {
                reported.remove(&uid);
            }
            None => {}
        }
        object
    }

    /// Writes the status if it differs from what the object has; true if it wrote.
    pub async fn report<K>(&self, object: &K, status: &K::Status) -> Result<bool, Error>
    where
        K: Resource<DynamicType = ()> + HasStatus + Clone,
        K::Status: Serialize,
    {
        let (kind, name) = (leaked_kind::<K>(), full_name(object.namespace().as_deref(), &object.name_any()));
        let shape = |source| Error::Shape { kind, name: name.clone(), source };
        let before = match object.status() {
            Some(status) => without_nulls(serde_json::to_value(status).map_err(shape)?),
            None => Value::Null,
        };
        let mut after = without_nulls(serde_json::to_value(status).map_err(shape)?);
        // The one place where a message learns of its runbook: what stands has it already, so it costs no write.
        runbooks::annotate(kind, &mut after);
        self.metrics.stands(&object.uid().unwrap_or_default(), kind, object.meta(), &after);
        if before == after {
            return Ok(false);
        }
        let fresh = self.write(object, kind, &name, &after).await?;
        let version = version_in(&fresh.metadata);
        self.lock().insert(object.uid().unwrap_or_default(), Reported { version, status: after.clone() });
        self.tell(object, &before, &after).await;
        Ok(true)
    }

    async fn write<K>(&self, object: &K, kind: &'static str, name: &str, status: &Value) -> Result<DynamicObject, Error>
    where
        K: Resource<DynamicType = ()>,
    {
        let resource = kube::api::ApiResource::erase::<K>(&());
        let api: Api<DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), &namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        // The uid keeps us from writing about a namesake that took the object's place meanwhile.
        let body = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()),
            "metadata": {"name": object.name_any(), "uid": object.uid()},
            "status": status,
        });
        debug!(kind, name, "reporting");
        api.patch_status(&object.name_any(), &PatchParams::apply(labels::MANAGER).force(), &Patch::Apply(&body))
            .await
            .map_err(|source| Error::Report { kind, name: name.to_owned(), source: Box::new(source) })
    }

    /// An object that cannot be read is still told so, once, in its status.
    pub async fn report_malformed<K>(&self, object: &K, message: &str) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()>,
    {
        let (kind, name) = (leaked_kind::<K>(), full_name(object.namespace().as_deref(), &object.name_any()));
        let uid = object.uid().unwrap_or_default();
        let said = json!(message);
        if self.lock().get(&uid).is_some_and(|reported| reported.status == said) {
            return Ok(());
        }
        warn!(kind, name, message, "cannot read this object; the others go on");
        let condition = json!({
            "type": hz_crds::conditions::READY, "status": "False", "reason": "Malformed",
            "message": message, "observedGeneration": object.meta().generation,
            "lastTransitionTime": k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        });
        let mut after = json!({"conditions": [condition]});
        runbooks::annotate(kind, &mut after);
        self.metrics.stands(&uid, kind, object.meta(), &after);
        let fresh = self.write(object, kind, &name, &after).await?;
        self.lock().insert(uid, Reported { version: version_in(&fresh.metadata), status: said });
        self.tell(object, &Value::Null, &after).await;
        Ok(())
    }

    /// Tells of the conditions that somebody has to know of as events when their status or reason turned.
    async fn tell<K: Resource<DynamicType = ()>>(&self, object: &K, before: &Value, after: &Value) {
        for condition in [READY, HEALTHY, STORAGE_HEALTHY] {
            self.tell_of(condition, object, before, after).await;
        }
    }

    async fn tell_of<K: Resource<DynamicType = ()>>(&self, type_: &str, object: &K, before: &Value, after: &Value) {
        let (Some(now), was) = (condition(after, type_), condition(before, type_)) else { return };
        let turned = was.is_none_or(|was| was["status"] != now["status"] || was["reason"] != now["reason"]);
        if !turned {
            return;
        }
        let text = |field: &str| now[field].as_str().unwrap_or_default();
        let mut note = text("message").to_owned();
        note.truncate(note.floor_char_boundary(LONGEST_NOTE));
        let event = Event {
            type_: if is_alarming(now, was) { EventType::Warning } else { EventType::Normal },
            reason: text("reason").to_owned(),
            note: Some(note),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        // Events are a courtesy: one that is lost must not fail the pass.
        if let Err(error) = self.recorder.publish(&event, &object.object_ref(&())).await {
            debug!(%error, "could not publish an event");
        }
    }

    /// The object is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
        self.metrics.gone(uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Reported>> {
        self.reported.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn condition<'a>(status: &'a Value, type_: &str) -> Option<&'a Value> {
    status["conditions"].as_array()?.iter().find(|condition| condition["type"] == type_)
}

/// Things still on their way up are no alarm; a refusal, or what was Ready and is no longer, is one.
fn is_alarming(now: &Value, was: Option<&Value>) -> bool {
    let refused = matches!(
        now["reason"].as_str(),
        Some(
            "Unfit"
                | "NameTaken"
                | "Malformed"
                | "NotApplied"
                | "Rejected"
                | "Refused"
                | "Failed"
                | "DeadlineExceeded"
                | "NotProved"
                | "BackupFailed"
                | "Overdue"
                | "ArchivingFails"
                | "ArchivingLags"
                | "NotAsPlanned"
                | "NearlyFull"
                | "Full"
        )
    );
    now["status"] == "False" && (refused || was.is_some_and(|was| was["status"] == "True"))
}

/// The kind's name for error texts; derived kinds borrow it from the program itself.
fn leaked_kind<K: Resource<DynamicType = ()>>() -> &'static str {
    match K::kind(&()) {
        std::borrow::Cow::Borrowed(kind) => kind,
        std::borrow::Cow::Owned(_) => "object",
    }
}

/// What a kind must be able to do to be reconciled.
pub trait Ours:
    Resource<DynamicType = ()>
    + HasStatus<Status: Serialize + DeserializeOwned>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Ours for K
where
    K: Resource<DynamicType = ()> + HasStatus + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::Status: Serialize + DeserializeOwned,
{
}
