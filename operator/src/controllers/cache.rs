//! CacheInstance: Valkey with sentinels.

use std::sync::Arc;
use std::time::Duration;

use hz_crds::cache::{CacheInstance, Given, Inputs, Observed, desired, status};
use hz_crds::operation::moves::Rules;
use hz_crds::operation::{Target, TargetKind};
use hz_crds::plan::Plan;
use hz_crds::shared::{PodSeen, Probe, Settings};
use hz_crds::{Outcome, Timestamp};
use kube::ResourceExt;

use super::cache_inputs::{self, Looked as Found};
use super::observe::pods;
use super::upkeep::{self, Looked};
use super::{Context, cache_live, copies, hands, next_look, operation, outcome, told};
use crate::engine::Error;
use crate::engine::run::Next;

/// One pass over one cache.
pub async fn reconcile(cache: Arc<CacheInstance>, ctx: Arc<Context>) -> Result<Next, Error> {
    let (namespace, name) = (cache.namespace().unwrap_or_default(), cache.name_any());
    let target = Target { kind: TargetKind::CacheInstance, name: name.clone() };
    let _turn = ctx.turns.of(&namespace, &target).await;
    let platform = ctx.platform.get();
    let (found, (outcome, said)) = match plan(&cache, &namespace, &ctx).await? {
        Ok((found, plan)) => {
            if let Some(storage) = &cache.spec.storage {
                hands::make_way(&ctx, &namespace, &name, &storage.size).await?;
            }
            (found, outcome(ctx.engine.apply(plan).await)?)
        }
        Err(unfit) => (Found::default(), (Outcome::Unfit(unfit), None)),
    };
    let Found { mut inputs, wrong } = found;
    let pods = pods(&ctx.engine.world, "CacheInstance", &namespace, &name);
    let works = outcome == Outcome::Applied && !cache.spec.suspend;
    let probe = if works { ask(&cache, &inputs, &pods, &ctx).await } else { Probe::NotAsked };
    let given = if works { cache_live::give(&cache, &inputs, &target, &pods, &ctx).await } else { Given::NotSeen };
    let accepted = matches!(given, Given::Everywhere(_)) || (cache.spec.suspend && pods.is_empty());
    if outcome == Outcome::Applied && accepted && inputs.credentials.waits() {
        hand_out(&cache, &mut inputs, &ctx).await?;
    }
    let at_work = operation::at_work(&ctx, &namespace, &target);
    let still = at_work.as_ref().is_some_and(|(_, still)| *still);
    let mut settings = if works && !still { keep_up(&cache, &inputs, &target, &ctx).await? } else { Settings::NotSeen };
    // Without a server that is ready there is nothing to be out of step with, and operations may mend it.
    if let (Settings::InForce, Given::Short(why)) = (&settings, &given)
        && pods.iter().any(|pod| pod.ready)
    {
        settings = Settings::OnTheirWay(why.clone());
    }
    let old_until = inputs.credentials.next_end(&cache.spec);
    let operation = at_work.map(|(name, _)| name);
    let observed = Observed { outcome, pods, probe, settings, given, wrong, old_until, operation };
    let now = Timestamp::now();
    let status = status(&cache, &observed, &platform, now);
    ctx.engine.reporter.report(&*cache, &status).await?;
    Ok(next_look(&observed.outcome, said, &status.conditions, when_ready(&cache, &observed, now, &ctx)))
}

/// When to look again at a cache that answers.
fn when_ready(cache: &CacheInstance, observed: &Observed, now: Timestamp, ctx: &Context) -> Next {
    let ends = observed.old_until.map(|end| Duration::from_secs((end - now.as_second()).max(1).unsigned_abs()));
    match (&observed.settings, &observed.given) {
        _ if cache.spec.suspend && observed.wrong.is_empty() => ends.map_or(Next::OnChange, Next::After),
        (Settings::OnTheirWay(_) | Settings::Failed(_), _) | (_, Given::Short(_)) => Next::Soon,
        _ => Next::After(ends.map_or(ctx.ask_again, |ends| ends.min(ctx.ask_again))),
    }
}

/// Every server accepts the new passwords: now the Secrets hand them out, and services start anew with them.
async fn hand_out(cache: &CacheInstance, inputs: &mut Inputs, ctx: &Context) -> Result<(), Error> {
    inputs.credentials.hand_out(Timestamp::now());
    tracing::info!(cache = cache.name_any(), "handing out new passwords");
    if let Ok(plan) = desired(cache, inputs, &ctx.platform.get()) {
        ctx.engine.apply(plan).await?;
    }
    Ok(())
}

type Planned = Result<(Found, Plan), hz_crds::Unfit>;

async fn plan(cache: &CacheInstance, namespace: &str, ctx: &Context) -> Result<Planned, Error> {
    if let Err(unfit) = ctx.hospital(namespace) {
        return Ok(Err(unfit));
    }
    let found = cache_inputs::look(cache, ctx).await?;
    Ok(desired(cache, &found.inputs, &ctx.platform.get()).map(|plan| (found, plan)))
}

/// Servers in too little room are built anew one by one. A new description of the pod is the StatefulSet's to bring in:
/// a master that is stopped hands over by itself.
async fn keep_up(cache: &CacheInstance, inputs: &Inputs, target: &Target, ctx: &Context) -> Result<Settings, Error> {
    let (namespace, room) =
        (cache.namespace().unwrap_or_default(), cache.spec.storage.as_ref().map(|storage| &storage.size));
    let mut standing = copies::standing(&ctx.engine.world, target, &namespace);
    standing.iter_mut().for_each(|seen| seen.stale = false);
    if !upkeep::is_due(&standing, room) {
        return Ok(Settings::InForce);
    }
    let mut copies = match copies::of_cache(cache, inputs, ctx).await {
        Ok(copies) => copies,
        Err(silent) => return Ok(Settings::Failed(silent)),
    };
    copies.iter_mut().for_each(|seen| seen.stale = false);
    let wanted = usize::try_from(cache.spec.replicas).unwrap_or_default();
    let rules = Rules { wanted, strict: false, told: false };
    match upkeep::carry_out(ctx, &namespace, &copies, room, rules).await? {
        Looked::Said(settings) => Ok(settings),
        Looked::HandOver(from, to) => Ok(Settings::Failed(format!("{from} was to hand over to {to} by itself"))),
    }
}

/// `PING` through the Service, once a pod says it is the master.
async fn ask(cache: &CacheInstance, inputs: &Inputs, pods: &[PodSeen], ctx: &Context) -> Probe {
    if !pods.iter().any(|pod| pod.ready && pod.role.as_deref() == Some("master")) {
        return Probe::NotAsked;
    }
    let Some(target) = cache_inputs::master_of(cache, inputs, ctx) else { return Probe::NotAsked };
    let object = format!("cache {}/{}", cache.namespace().unwrap_or_default(), cache.name_any());
    let question = format!("{target:?} {pods:?}");
    if ctx.answers.fresh(&object, &question).is_some() {
        return Probe::Answered;
    }
    let answer = patiently(|| ctx.probes.ping(&target)).await;
    ctx.answers.note(&object, &question, answer.as_ref().ok().map(|()| Vec::new()));
    told(&answer)
}

/// Asks twice before believing a bad answer: a Service that was just pointed to a new pod drops the first packets.
pub(super) async fn patiently<'a, T, E>(
    ask: impl Fn() -> futures::future::BoxFuture<'a, Result<T, E>>,
) -> Result<T, E> {
    match ask().await {
        Ok(answer) => Ok(answer),
        Err(_) => {
            tokio::time::sleep(Duration::from_millis(100)).await;
            ask().await
        }
    }
}
