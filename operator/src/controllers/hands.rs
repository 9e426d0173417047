//! What is done to running copies, one act at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hz_crds::labels;
use hz_crds::operation::Target;
use hz_crds::quantity::Amount;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Context;
use super::copies::claim_of;
use crate::engine::Error;
use crate::engine::apply::{api, full_name};
use crate::engine::kinds::named;

/// A workload that leaves its pods behind is gone within moments.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// One hand at a time on each database and cache: its own controller's, or an operation's.
#[derive(Default)]
pub struct Turns(Mutex<HashMap<(String, Target), Turn>>);

type Turn = Arc<tokio::sync::Mutex<()>>;

impl Turns {
    /// Waits for the turn of this target.
    pub async fn of(&self, namespace: &str, target: &Target) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            // What nobody waits for is forgotten, so that deleted instances leave nothing behind.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry((namespace.to_owned(), target.clone())).or_default())
        };
        turn.lock_owned().await
    }
}

/// Deletes a pod, and first its volume where that goes too. Of both exactly those with these ids, so that what took
/// their place meanwhile stays.
pub async fn replace(ctx: &Context, namespace: &str, name: &str, pod: &str, volume: Option<&str>) -> Result<(), Error> {
    if let Some(volume) = volume {
        // It waits for its pod to be gone before it goes itself.
        delete(ctx, "PersistentVolumeClaim", namespace, &claim_of(name), volume).await?;
    }
    delete(ctx, "Pod", namespace, name, pod).await
}

async fn delete(ctx: &Context, kind: &'static str, namespace: &str, name: &str, uid: &str) -> Result<(), Error> {
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        ..DeleteParams::default()
    };
    match api(&ctx.engine.client, named(kind), Some(namespace)).delete(name, &params).await {
        Ok(_) => Ok(()),
        // Gone already, or replaced by a namesake.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(source) => Err(Error::Delete { kind, name: full_name(Some(namespace), name), source: Box::new(source) }),
    }
}

/// The room that a workload gives to new volumes cannot change. One that has to give more is taken away without its
/// pods; the next plan makes it anew, and it takes the pods over.
pub async fn make_way(ctx: &Context, namespace: &str, name: &str, wanted: &Amount) -> Result<(), Error> {
    let kind = named("StatefulSet");
    let Some(seen) = ctx.engine.world.get(kind, Some(namespace), name) else { return Ok(()) };
    let Some(given) = seen.facts["spec"]["room"].as_str().map(Amount::from) else { return Ok(()) };
    if given.units() >= wanted.units() {
        return Ok(());
    }
    tracing::info!(namespace, name, from = %given, to = %wanted, "making the workload anew for more room");
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        preconditions: Some(Preconditions { uid: Some(seen.uid.to_string()), resource_version: None }),
        ..DeleteParams::default()
    };
    let workloads = api(&ctx.engine.client, kind, Some(namespace));
    let named = || full_name(Some(namespace), name);
    match workloads.delete(name, &params).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Err(source) => return Err(Error::Delete { kind: "StatefulSet", name: named(), source: Box::new(source) }),
    }
    let begun = Instant::now();
    while begun.elapsed() < GONE_WITHIN {
        let there = workloads.get_metadata_opt(name).await;
        let there =
            there.map_err(|source| Error::Read { kind: "StatefulSet", name: named(), source: Box::new(source) })?;
        if there.is_none_or(|there| there.metadata.uid.as_deref() != Some(&*seen.uid)) {
            ctx.engine.world.forget(kind, Some(namespace), name);
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(Error::Leaving { kind: "StatefulSet", name: named() })
}

/// What came of asking for more room in a volume where it is.
#[derive(Debug, PartialEq, Eq)]
pub enum Growth {
    /// It grows.
    Grows,
    /// Volumes of its storage class cannot grow.
    Cannot,
    /// Something else is against it, such as a quota: no other way would lead there either.
    Refused(String),
}

impl Growth {
    /// "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support
    /// resize" (Kubernetes' admission plugin `PersistentVolumeClaimResize`); a claim that is not bound cannot grow either,
    /// and is refused as invalid.
    fn refused(code: u16, message: &str) -> Option<Self> {
        match code {
            403 if message.contains("must support resize") => Some(Self::Cannot),
            403 => Some(Self::Refused(message.to_owned())),
            404 | 422 => Some(Self::Cannot),
            _ => None,
        }
    }
}

/// Asks for more room in a volume where it is. With `only_ask` nothing is changed.
pub async fn grow_in_place(
    ctx: &Context,
    namespace: &str,
    pod: &str,
    wanted: &Amount,
    only_ask: bool,
) -> Result<Growth, Error> {
    let claims = api(&ctx.engine.client, named("PersistentVolumeClaim"), Some(namespace));
    let patch = json!({ "spec": { "resources": { "requests": { "storage": wanted } } } });
    let params = PatchParams { dry_run: only_ask, ..PatchParams::default() };
    match claims.patch_metadata(&claim_of(pod), &params, &Patch::Merge(&patch)).await {
        Ok(_) => Ok(Growth::Grows),
        Err(source) => {
            let refused = match &source {
                kube::Error::Api(status) => Growth::refused(status.code, &status.message),
                _ => None,
            };
            let name = full_name(Some(namespace), &claim_of(pod));
            refused.ok_or_else(|| Error::Apply { kind: "PersistentVolumeClaim", name, source: Box::new(source) })
        }
    }
}

/// A volume that is thrown away must be sure of its successor: why a hospital's quota would not have it with `more`
/// bytes than now, if so.
pub fn over_quota(ctx: &Context, namespace: &str, more: i128) -> Option<String> {
    let quotas = ctx.engine.world.select(named("ResourceQuota"), namespace, |_, _| true);
    quotas.iter().find_map(|(_, seen)| exceeds(&seen.facts["status"], more))
}

/// Key of the room of all volumes in a quota.
const STORAGE: &str = "requests.storage";

fn exceeds(quota: &Value, more: i128) -> Option<String> {
    let amount = |field: &str| quota[field][STORAGE].as_str().map(Amount::from);
    let (hard, used) = (amount("hard")?, amount("used")?);
    let after = used.units()? + more;
    (after > hard.units()?).then(|| {
        format!(
            "the hospital's quota gives {hard} to volumes, {used} are taken, and this would take {} Mi more; no volume is \
             thrown away that could not be made anew: raise spec.quota.storage of the Hospital first",
            more >> 20
        )
    })
}

/// Changes the spec of a database or cache as an operation asks for it.
pub async fn ask_for(ctx: &Context, namespace: &str, target: &Target, spec: &Value) -> Result<(), Error> {
    let kind = target.kind.word();
    let resource = kube::api::ApiResource {
        group: labels::GROUP.to_owned(),
        version: labels::VERSION.to_owned(),
        api_version: format!("{}/{}", labels::GROUP, labels::VERSION),
        kind: kind.to_owned(),
        plural: format!("{}s", kind.to_lowercase()),
    };
    let targets: Api<DynamicObject> = Api::namespaced_with(ctx.engine.client.clone(), namespace, &resource);
    // A manager of its own: whoever applies a manifest over it is told of a conflict instead of undoing it unseen.
    let params = PatchParams { field_manager: Some("hz-operation".to_owned()), ..PatchParams::default() };
    targets.patch_metadata(&target.name, &params, &Patch::Merge(json!({ "spec": spec }))).await.map(drop).map_err(
        |source| Error::Apply { kind, name: full_name(Some(namespace), &target.name), source: Box::new(source) },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_that_cannot_grow_volumes_is_told_from_a_quota() {
        let class = "persistentvolumeclaims \"data-records-0\" is forbidden: only dynamically provisioned pvc can be \
                     resized and the storageclass that provisions the pvc must support resize";
        assert_eq!(Growth::refused(403, class), Some(Growth::Cannot));
        let quota = "persistentvolumeclaims \"data-records-0\" is forbidden: exceeded quota: hospital";
        assert_eq!(Growth::refused(403, quota), Some(Growth::Refused(quota.to_owned())));
        assert_eq!(Growth::refused(500, "boom"), None);
    }

    #[test]
    fn a_volume_goes_only_when_the_quota_has_room_for_the_next() {
        let quota = |hard: &str, used: &str| json!({ "hard": { STORAGE: hard }, "used": { STORAGE: used } });
        assert_eq!(exceeds(&quota("10Gi", "9Gi"), 1 << 30), None);
        let why = exceeds(&quota("10Gi", "9Gi"), (1 << 30) + 1).unwrap();
        assert!(why.contains("10Gi") && why.contains("spec.quota.storage"), "{why}");
        assert!(exceeds(&quota("8Gi", "9Gi"), 0).is_some(), "it was lowered below what is used");
        assert_eq!(exceeds(&json!({ "hard": { "pods": "5" } }), 1), None, "no limit");
    }
}
