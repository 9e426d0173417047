//! Hospital: namespace, quota, people, walls.

use std::collections::BTreeMap;
use std::sync::Arc;

use hz_crds::hospital::{Hospital, Inputs, Observed, desired, status};
use hz_crds::labels::{self, namespace_of};
use hz_crds::{Outcome, Timestamp};
use kube::ResourceExt;

use super::{Context, next_look, outcome};
use crate::engine::Error;
use crate::engine::apply::api;
use crate::engine::kinds::named;
use crate::engine::run::Next;

/// One pass over one hospital.
pub async fn reconcile(hospital: Arc<Hospital>, ctx: Arc<Context>) -> Result<Next, Error> {
    let namespace = namespace_of(&hospital.name_any());
    let inputs = inputs(&namespace, &ctx).await?;
    let (outcome, said) = match desired(&hospital, &inputs, &ctx.platform.get()) {
        Ok(plan) => outcome(ctx.engine.apply(plan).await)?,
        Err(unfit) => (Outcome::Unfit(unfit), None),
    };
    let observed = observe(&namespace, &ctx, outcome);
    let status = status(&hospital, &observed, Timestamp::now());
    ctx.engine.reporter.report(&*hospital, &status).await?;
    Ok(next_look(&observed.outcome, said, &status.conditions, Next::OnChange))
}

async fn inputs(namespace: &str, ctx: &Context) -> Result<Inputs, Error> {
    let kind = named("Namespace");
    if let Some(seen) = ctx.engine.world.get(kind, None, namespace) {
        return Ok(Inputs { namespace: Some(seen.facts.as_str().map(str::to_owned)) });
    }
    // Not among ours: is it there at all, made by somebody else?
    let found = api(&ctx.engine.client, kind, None)
        .get_metadata_opt(namespace)
        .await
        .map_err(|source| Error::Read { kind: "Namespace", name: namespace.to_owned(), source: Box::new(source) })?;
    Ok(Inputs { namespace: found.map(|found| found.labels().get(labels::HOSPITAL).cloned()) })
}

fn observe(namespace: &str, ctx: &Context, outcome: Outcome) -> Observed {
    let world = &ctx.engine.world;
    let used: BTreeMap<String, String> = world
        .select(named("ResourceQuota"), namespace, |_, _| true)
        .iter()
        .filter_map(|(_, seen)| seen.facts.pointer("/status/used")?.as_object().cloned())
        .flatten()
        .filter_map(|(key, value)| Some((key, value.as_str()?.to_owned())))
        .collect();
    let terminating = world.get(named("Namespace"), None, namespace).is_some_and(|seen| seen.deleting);
    Observed { outcome, used, terminating }
}
