//! The objects of the administrator: hospitals, databases, services. Applied only where they differ, then
//! waited for.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, join_all};
use futures::stream::StreamExt;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::Value;

use super::{images, plan_of};
use crate::bootstrap::api::failed;
use crate::bootstrap::fault::Fault;
use crate::bootstrap::graph::{Plan, Work};
use crate::bootstrap::site::Site;

/// Who owns the fields that come from the administrator's files.
const MANAGER: &str = "hzctl";
/// Our own API group: its objects tell by a condition when they are ready.
const GROUP: &str = "hz.hospital";
/// How long a namespace may take to be made by the operator.
const NAMESPACE_LIMIT: Duration = Duration::from_secs(120);
/// How long databases and services may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(420);

/// An object of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The file it stands in.
    pub file: PathBuf,
    /// The object.
    pub object: Value,
}

impl Wanted {
    fn text(&self, pointer: &str) -> &str {
        self.object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// Its kind and name, for messages.
    pub fn shown(&self) -> String {
        format!("{} {}", self.text("/kind"), self.text("/metadata/name"))
    }

    fn ours(&self) -> bool {
        self.text("/apiVersion").starts_with(&format!("{GROUP}/"))
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    pub(super) fn api(&self, client: kube::Client) -> Api<DynamicObject> {
        let (group, version) = self.text("/apiVersion").split_once('/').unwrap_or(("", self.text("/apiVersion")));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, self.text("/kind")));
        match self.text("/metadata/namespace") {
            "" => Api::all_with(client, &resource),
            namespace => Api::namespaced_with(client, namespace, &resource),
        }
    }
}

/// Read the files of the cluster; objects without a namespace first, since they make the namespaces.
pub fn read(files: &[PathBuf]) -> Result<Vec<Wanted>, Fault> {
    let mut wanted = Vec::new();
    for file in files {
        let act = format!("failed to read {}", file.display());
        let text = std::fs::read_to_string(file).map_err(|error| Fault::permanent(&act, error))?;
        wanted.extend(parse(file, &text).map_err(|cause| Fault::permanent(&act, cause))?);
    }
    wanted.sort_by_key(|one| !one.text("/metadata/namespace").is_empty());
    Ok(wanted)
}

/// Objects of a text; `file` is for messages.
pub(super) fn parse(file: &std::path::Path, text: &str) -> Result<Vec<Wanted>, String> {
    let mut wanted = Vec::new();
    for (at, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let object = <Value as serde::Deserialize>::deserialize(document).map_err(|error| error.to_string())?;
        if object.is_null() {
            continue;
        }
        let one = Wanted { file: file.to_owned(), object };
        for field in ["/apiVersion", "/kind", "/metadata/name"] {
            if one.text(field).is_empty() {
                return Err(format!(
                    "document {}: {} is missing",
                    at + 1,
                    field.trim_start_matches('/').replace('/', ".")
                ));
            }
        }
        wanted.push(one);
    }
    Ok(wanted)
}

/// Whether everything that is wanted is in what is there. What others added does not matter.
pub fn covers(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| there.get(key).is_some_and(|found| covers(found, value)))
        }
        (Value::Array(there), Value::Array(wanted)) => {
            there.len() == wanted.len() && there.iter().zip(wanted).all(|(there, wanted)| covers(there, wanted))
        }
        (there, wanted) => there == wanted,
    }
}

/// Apply the objects.
pub struct Apply(pub Vec<Wanted>);

impl Work for Apply {
    fn probe<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<Plan, Fault>> {
        Box::pin(async move {
            let Some((api, _)) = site.api() else {
                return Ok(plan_of(self.0.iter().map(|one| format!("apply {}", one.shown())).collect()));
            };
            let looks = self.0.iter().map(|one| {
                let api = one.api(api.client.clone());
                async move {
                    let there = api.get_opt(one.name()).await.ok().flatten();
                    let there = there.and_then(|object| serde_json::to_value(object).ok()).unwrap_or(Value::Null);
                    (!covers(&there, &one.object)).then(|| format!("apply {}", one.shown()))
                }
            });
            Ok(plan_of(join_all(looks).await.into_iter().flatten().collect()))
        })
    }

    fn act<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let (api, _) =
                site.api().ok_or_else(|| Fault::transient("failed to apply objects", "the API is not known"))?;
            for one in &self.0 {
                apply(one, api.client.clone()).await?;
            }
            Ok(())
        })
    }
}

/// Apply one object. The kind may be new, and its namespace about to be made: both come within moments.
pub(super) async fn apply(one: &Wanted, client: kube::Client) -> Result<(), Fault> {
    let act = format!("failed to apply {} of {}", one.shown(), one.file.display());
    let api = one.api(client);
    let begun = Instant::now();
    loop {
        let parameters = PatchParams::apply(MANAGER).force();
        let error = match api.patch(one.name(), &parameters, &Patch::Apply(&one.object)).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let soon = match &error {
            kube::Error::Api(status) => {
                matches!(status.code, 404 | 409 | 429 | 500..) || status.message.contains("not found")
            }
            _ => true,
        };
        if !soon || begun.elapsed() > NAMESPACE_LIMIT {
            return Err(
                Fault { transient: false, ..failed(&act, &error) }.fix("mend the file and run the bootstrap again")
            );
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Wait until the objects of our own kinds are ready.
pub struct Ready(pub Vec<Wanted>);

impl Ready {
    async fn unready(&self, site: &Site) -> Vec<String> {
        let Some((api, _)) = site.api() else { return self.0.iter().map(Wanted::shown).collect() };
        let looks = self.0.iter().filter(|one| one.ours()).map(|one| {
            let api = one.api(api.client.clone());
            async move {
                let there = api.get_opt(one.name()).await.ok().flatten();
                let state = there
                    .and_then(|object| serde_json::to_value(object).ok())
                    .map_or(Err("it is not there".into()), |object| readiness(&object));
                state.err().map(|why| format!("{}: {why}", one.shown()))
            }
        });
        join_all(looks).await.into_iter().flatten().collect()
    }
}

/// Whether an object says that it is ready for what is wanted now; else what it says instead.
pub fn readiness(object: &Value) -> Result<(), String> {
    let generation = object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
    let observed = object.pointer("/status/observedGeneration").and_then(Value::as_i64).unwrap_or(-1);
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
    match ready {
        _ if observed < generation => Err("the operator has not seen it yet".into()),
        None => Err("it has no condition Ready".into()),
        Some(ready) if ready["status"] == "True" => Ok(()),
        Some(ready) => {
            let text = |key: &str| ready[key].as_str().unwrap_or_default().to_owned();
            Err(format!("{} ({})", text("message"), text("reason")))
        }
    }
}

impl Work for Ready {
    fn probe<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<Plan, Fault>> {
        Box::pin(async move {
            Ok(plan_of(self.unready(site).await.into_iter().map(|what| format!("wait for {what}")).collect()))
        })
    }

    fn act<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let (api, _) =
                site.api().ok_or_else(|| Fault::transient("failed to wait for objects", "the API is not known"))?;
            let waits = self.0.iter().filter(|one| one.ours()).map(|one| until_ready(one, api.client.clone()));
            let watch = images_stay_absent(api.client.clone());
            let all = async {
                tokio::select! {
                    _ = join_all(waits) => Ok(()),
                    absent = watch => Err(images::fault("the hospital cannot get ready", &absent)),
                }
            };
            match tokio::time::timeout(READY_LIMIT, all).await {
                Ok(result) => result,
                Err(_) => {
                    let why = self.unready(site).await.join("; ");
                    let act = format!("the hospital is not ready after {} seconds", READY_LIMIT.as_secs());
                    Err(Fault::late(act, why)
                        .fix("`hzctl status` tells what is missing; run the bootstrap again to go on waiting"))
                }
            }
        })
    }
}

/// Ends when pods have waited for missing images for a while.
async fn images_stay_absent(client: kube::Client) -> Vec<String> {
    let mut before = Vec::new();
    loop {
        tokio::time::sleep(Duration::from_secs(15)).await;
        let now = images::absent(client.clone()).await;
        if now.iter().any(|image| before.contains(image)) {
            return now;
        }
        before = now;
    }
}

async fn until_ready(one: &Wanted, client: kube::Client) {
    let api = one.api(client);
    let name = one.name().to_owned();
    let mut events = watcher(api, watcher::Config::default().fields(&format!("metadata.name={name}")))
        .default_backoff()
        .applied_objects()
        .boxed();
    while let Some(event) = events.next().await {
        let object = event.ok().and_then(|object| serde_json::to_value(object).ok());
        if object.is_some_and(|object| readiness(&object).is_ok()) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_added_is_no_difference() {
        let there = json!({ "spec": { "a": 1, "default": 2 }, "status": {} });
        assert!(covers(&there, &json!({ "spec": { "a": 1 } })));
        assert!(!covers(&there, &json!({ "spec": { "a": 2 } })));
        assert!(!covers(&Value::Null, &json!({ "spec": {} })));
    }

    #[test]
    fn hospitals_come_before_what_lives_in_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("h.yaml");
        std::fs::write(&path, "apiVersion: hz.hospital/v1alpha1\nkind: CacheInstance\nmetadata: {name: c, namespace: n}\n---\n---\napiVersion: hz.hospital/v1alpha1\nkind: Hospital\nmetadata: {name: h}\n").unwrap();
        let names: Vec<String> = read(&[path]).unwrap().iter().map(Wanted::shown).collect();
        assert_eq!(names, ["Hospital h", "CacheInstance c"]);
    }

    #[test]
    fn an_object_is_ready_only_for_the_generation_it_has_seen() {
        let object = |generation, status| {
            json!({ "metadata": { "generation": generation }, "status": { "observedGeneration": 1,
                "conditions": [{ "type": "Ready", "status": status, "reason": "Starting", "message": "0 of 3" }] } })
        };
        assert_eq!(readiness(&object(1, "True")), Ok(()));
        assert!(readiness(&object(2, "True")).is_err());
        assert_eq!(readiness(&object(1, "False")), Err("0 of 3 (Starting)".into()));
    }
}
