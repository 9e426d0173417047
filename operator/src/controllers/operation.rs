//! DataOperation: one piece of work on a database or cache.

use std::sync::Arc;

use hz_crds::Timestamp;
use hz_crds::cache::CacheInstance;
use hz_crds::operation::decide::{Act, CopySeen, Decision, Seen, TargetSeen, decide};
use hz_crds::operation::{self, Action, DataOperation, Phase, Target, TargetKind, status, upgrade};
use hz_crds::postgres::change::{Cluster, Step};
use hz_crds::postgres::{PostgresInstance, Synchronous};
use hz_crds::quantity::Amount;
use hz_crds::shared::CONFIGURED;
use hz_crds::{cache, conditions, postgres};
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::hands::Growth;
use super::{Context, cache_inputs, copies, hands, pooler};
use crate::engine::Error;
use crate::engine::run::{Next, find, in_namespace};

/// What an operation works on, looked up.
enum Held {
    Database(Box<PostgresInstance>, Box<postgres::Inputs>, Cluster),
    Cache(Box<CacheInstance>, cache::Inputs),
}

/// One pass over one operation.
pub async fn reconcile(operation: Arc<DataOperation>, ctx: Arc<Context>) -> Result<Next, Error> {
    let namespace = operation.namespace().unwrap_or_default();
    let target = operation.spec.target.clone();
    if let Some(at) = operation::expires(&operation) {
        return expire(&operation, at, &namespace, &ctx).await;
    }
    let _turn = ctx.turns.of(&namespace, &target).await;
    // What was written while we waited for our turn counts.
    let operation = ctx.engine.reporter.freshened(&*operation);
    if operation.status.as_ref().and_then(|status| status.phase).is_some_and(Phase::is_final) {
        return Ok(Next::OnChange);
    }
    let (held, seen) = look(&operation, &namespace, &ctx).await?;
    let now = Timestamp::now();
    let Some(decision) = decide(&operation, &seen, now) else { return Ok(Next::OnChange) };
    let phase = decision.phase;
    // What is tried again says already why it failed, and keeps saying so until it succeeds.
    let said = operation.status.as_ref().and_then(|status| status.message.as_deref()).unwrap_or_default();
    let again = decision.act != Act::Nothing && said.starts_with(&format!("{}: ", decision.message));
    if !again {
        tell(&ctx, &namespace, &operation, &decision, now).await?;
    }
    if phase.is_final() {
        tracing::info!(operation = operation.name_any(), phase = phase.word(), "ended");
        return Ok(Next::OnChange); // its own status wakes us, and is looked at for when it expires
    }
    if decision.act != Act::Nothing {
        tracing::info!(operation = operation.name_any(), step = decision.message, "working");
        if let Err(error) = act(&ctx, &namespace, &operation, held.as_ref(), decision.act.clone()).await {
            tracing::warn!(operation = operation.name_any(), error, "a step failed and is tried again");
            let stuck = Decision { message: format!("{}: {error}", decision.message), ..decision };
            let operation = ctx.engine.reporter.freshened(&operation);
            tell(&ctx, &namespace, &operation, &stuck, now).await?;
            return Ok(Next::Retry);
        }
    }
    Ok(if phase == Phase::Running { Next::Soon } else { Next::Retry })
}

/// Removes an operation whose time after its end is over; else looks again then.
async fn expire(operation: &DataOperation, at: Timestamp, namespace: &str, ctx: &Context) -> Result<Next, Error> {
    let left = at.duration_since(Timestamp::now());
    if left.is_positive() {
        return Ok(Next::After(left.unsigned_abs()));
    }
    let name = operation.name_any();
    tracing::info!(operation = name, "removed some time after its end");
    match Api::<DataOperation>::namespaced(ctx.engine.client.clone(), namespace)
        .delete(&name, &DeleteParams::default())
        .await
    {
        Ok(_) => Ok(Next::OnChange),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Next::OnChange),
        Err(source) => Err(Error::Delete { kind: "DataOperation", name, source: Box::new(source) }),
    }
}

/// Writes down where an operation stands. The target names the operation that is at work on it, and whoever is next
/// hears when this one ended.
async fn tell(
    ctx: &Context,
    namespace: &str,
    operation: &DataOperation,
    decision: &Decision,
    now: Timestamp,
) -> Result<(), Error> {
    if ctx.engine.reporter.report(operation, &status(operation, decision, now)).await? {
        let target = &operation.spec.target;
        ctx.engine.world.nudge(target.kind.word(), Some(namespace), &target.name);
    }
    Ok(())
}

/// The operation that has its turn on a target: `None` when nothing is to be done to it.
pub fn first(ctx: &Context, namespace: &str, target: &Target) -> Option<DataOperation> {
    let all: Vec<DataOperation> = in_namespace(&ctx.operations, namespace)
        .iter()
        .filter(|operation| operation.spec.target == *target && operation.metadata.deletion_timestamp.is_none())
        .map(|operation| ctx.engine.reporter.freshened(operation))
        .collect();
    operation::first(&all, target).cloned()
}

/// The operation that is at work on a target, and whether the target's own controller has to keep its hands still.
pub fn at_work(ctx: &Context, namespace: &str, target: &Target) -> Option<(String, bool)> {
    let first = first(ctx, namespace, target)?;
    let running = first.status.as_ref().and_then(|status| status.phase) == Some(Phase::Running);
    let still = matches!(first.spec.action, Action::Restart | Action::Switchover | Action::Rebuild)
        || upgrade::is_of_version(first.spec.action);
    running.then(|| (first.name_any(), still))
}

async fn look(operation: &DataOperation, namespace: &str, ctx: &Context) -> Result<(Option<Held>, Seen), Error> {
    let spec = &operation.spec;
    let own = operation.name_any();
    let ahead = first(ctx, namespace, &spec.target).map(|first| first.name_any()).filter(|first| *first != own);
    let mut seen = Seen { ahead, ..Seen::default() };
    if let Err(unfit) = ctx.hospital(namespace) {
        seen.silent = Some(unfit.to_string());
    }
    let workers = ctx.platform.get().workers;
    let name = &spec.target.name;
    let held = match spec.target.kind {
        TargetKind::PostgresInstance => {
            let Some(instance) = find(&ctx.databases, Some(namespace), name) else { return Ok((None, seen)) };
            let instance = ctx.engine.reporter.freshened(&instance);
            let (passwords, _) = ctx.passwords(namespace, "postgres", name, postgres::slots(&instance)).await?;
            let inputs = postgres::Inputs { passwords, ..postgres::Inputs::default() };
            let cluster = match copies::of_database(&instance, &inputs, ctx).await {
                Ok((copies, cluster)) => {
                    seen.copies = copies;
                    cluster
                }
                Err(silent) => {
                    seen.silent = Some(silent);
                    Cluster::default()
                }
            };
            let held = instance.status.as_ref().map_or(&[][..], |status| &status.conditions);
            let mut target = TargetSeen {
                instances: instance.spec.instances,
                size: Some(instance.spec.storage.size.clone()),
                suspended: instance.spec.suspend,
                strict: instance.spec.synchronous == Synchronous::Strict,
                told: true,
                workers,
                grows: false,
                doing: doing(held),
                ..TargetSeen::default()
            };
            super::upgrade::look(operation, &instance, &mut target, &seen.copies, ctx);
            seen.target = Some(target);
            Held::Database(Box::new(instance), Box::new(inputs), cluster)
        }
        TargetKind::CacheInstance => {
            let Some(cache) = find(&ctx.caches, Some(namespace), name) else { return Ok((None, seen)) };
            let cache = ctx.engine.reporter.freshened(&cache);
            let inputs = cache_inputs::look(&cache, ctx).await?.inputs;
            match copies::of_cache(&cache, &inputs, ctx).await {
                Ok(copies) => seen.copies = copies,
                Err(silent) => seen.silent = Some(silent),
            }
            let held = cache.status.as_ref().map_or(&[][..], |status| &status.conditions);
            seen.target = Some(TargetSeen {
                instances: cache.spec.replicas,
                size: cache.spec.storage.as_ref().map(|storage| storage.size.clone()),
                suspended: cache.spec.suspend,
                strict: false,
                told: false,
                workers,
                grows: false,
                doing: doing(held),
                ..TargetSeen::default()
            });
            Held::Cache(Box::new(cache), inputs)
        }
    };
    if spec.action == Action::Expand
        && operation.status.as_ref().and_then(|status| status.phase) != Some(Phase::Running)
    {
        let grows = grows(&seen.copies, spec.size.as_ref(), namespace, ctx).await?;
        if let Some(target) = &mut seen.target {
            target.grows = grows;
        }
    }
    Ok((Some(held), seen))
}

/// Whether the storage class lets volumes grow, asked without changing one.
async fn grows(copies: &[CopySeen], size: Option<&Amount>, namespace: &str, ctx: &Context) -> Result<bool, Error> {
    let (Some(first), Some(size)) = (copies.first(), size) else { return Ok(false) };
    Ok(hands::grow_in_place(ctx, namespace, &first.copy.name, size, true).await? == Growth::Grows)
}

/// What the target's own controller says it is doing for what its spec asks.
fn doing(held: &[conditions::Condition]) -> Option<String> {
    let configured = held.iter().find(|condition| condition.type_ == CONFIGURED && condition.status != "True");
    configured.map(|condition| condition.message.clone())
}

async fn act(
    ctx: &Context,
    namespace: &str,
    operation: &DataOperation,
    held: Option<&Held>,
    act: Act,
) -> Result<(), String> {
    let target = &operation.spec.target;
    let said = |error: Error| error.to_string();
    match (act, held) {
        (Act::Nothing, _) => Ok(()),
        (Act::Replace { volume: Some(_), .. }, _) if let Some(why) = hands::over_quota(ctx, namespace, 0) => Err(why),
        (Act::Replace { name, pod, volume }, _) => {
            hands::replace(ctx, namespace, &name, &pod, volume.as_deref()).await.map_err(said)
        }
        (Act::SetInstances(wanted), _) => {
            let field = match target.kind {
                TargetKind::PostgresInstance => "instances",
                TargetKind::CacheInstance => "replicas",
            };
            hands::ask_for(ctx, namespace, target, &json!({ field: wanted })).await.map_err(said)
        }
        (Act::SetSize(size), _) => {
            hands::ask_for(ctx, namespace, target, &json!({ "storage": { "size": size } })).await.map_err(said)
        }
        (Act::SetVersion(version), _) => {
            hands::ask_for(ctx, namespace, target, &json!({ "version": version })).await.map_err(said)
        }
        (Act::OrderBackup, _) => super::upgrade::order_backup(ctx, namespace, operation).await.map_err(said),
        (Act::HandOver(from, to), Some(Held::Database(instance, inputs, cluster))) => {
            hand_over(ctx, instance, inputs, cluster, &from, &to).await
        }
        (Act::HandOver(from, to), Some(Held::Cache(cache, inputs))) => {
            let sentinel = cache_inputs::sentinel_of(cache, inputs, &to, ctx);
            let sentinel = sentinel.ok_or_else(|| format!("{to} has no address yet"))?;
            ctx.probes.fail_over(&sentinel, &from).await.map_err(|silent| silent.to_string())
        }
        (Act::HandOver(..), None) => Err("there is nobody to hand over".to_owned()),
    }
}

/// Has Patroni hand the work of one copy to another, while clients of the pooler wait.
pub async fn hand_over(
    ctx: &Context,
    instance: &PostgresInstance,
    inputs: &postgres::Inputs,
    cluster: &Cluster,
    from: &str,
    to: &str,
) -> Result<(), String> {
    let (namespace, name) = (instance.namespace().unwrap_or_default(), instance.name_any());
    let member = |pod: &str| cluster.members.iter().find(|member| member.name == pod).cloned();
    let known = member(from).zip(member(to)).ok_or_else(|| format!("Patroni does not know {from} and {to} both"))?;
    let rest = copies::rest(&namespace, &name, from, inputs, ctx).ok_or_else(|| format!("{from} has no address"))?;
    let step = Step::Switchover(known.0, known.1);
    let take = async { ctx.probes.take(&rest, &step).await.map_err(|silent| silent.to_string()) };
    pooler::while_paused(ctx, instance, inputs, take).await
}
