//! CacheInstance: Valkey with sentinels.

use std::sync::Arc;
use std::time::Duration;

use hz_crds::cache::{CacheInstance, Inputs, Observed, PASSWORD_KEY, auth_secret, desired, slots, status};
use hz_crds::operation::moves::Rules;
use hz_crds::operation::{Target, TargetKind};
use hz_crds::plan::Plan;
use hz_crds::shared::{PodSeen, Probe, Settings};
use hz_crds::{Outcome, Slot, Timestamp};
use kube::ResourceExt;

use super::observe::pods;
use super::upkeep::{self, Looked};
use super::{Context, copies, hands, next_look, operation, outcome, told};
use crate::engine::Error;
use crate::engine::run::Next;
use crate::probes::Cache;

const PORT: u16 = 6379;

/// One pass over one cache.
pub async fn reconcile(cache: Arc<CacheInstance>, ctx: Arc<Context>) -> Result<Next, Error> {
    let (namespace, name) = (cache.namespace().unwrap_or_default(), cache.name_any());
    let target = Target { kind: TargetKind::CacheInstance, name: name.clone() };
    let _turn = ctx.turns.of(&namespace, &target).await;
    let platform = ctx.platform.get();
    let (inputs, (outcome, said)) = match plan(&cache, &namespace, &name, &ctx).await? {
        Ok((inputs, plan)) => {
            if let Some(storage) = &cache.spec.storage {
                hands::make_way(&ctx, &namespace, &name, &storage.size).await?;
            }
            (inputs, outcome(ctx.engine.apply(plan).await)?)
        }
        Err(unfit) => (Inputs::default(), (Outcome::Unfit(unfit), None)),
    };
    let pods = pods(&ctx.engine.world, "CacheInstance", &namespace, &name);
    let probe = match outcome {
        Outcome::Applied if !cache.spec.suspend => ask(&namespace, &name, &inputs, &pods, &ctx).await,
        _ => Probe::NotAsked,
    };
    let at_work = operation::at_work(&ctx, &namespace, &target);
    let still = at_work.as_ref().is_some_and(|(_, still)| *still);
    let settings = match outcome {
        Outcome::Applied if !cache.spec.suspend && !still => keep_up(&cache, &inputs, &target, &ctx).await?,
        _ => Settings::NotSeen,
    };
    let observed = Observed { outcome, pods, probe, settings, operation: at_work.map(|(name, _)| name) };
    let status = status(&cache, &observed, &platform, Timestamp::now());
    ctx.engine.reporter.report(&*cache, &status).await?;
    let when_ready = match (cache.spec.suspend, &observed.settings) {
        (true, _) => Next::OnChange,
        (false, Settings::OnTheirWay(_) | Settings::Failed(_)) => Next::Soon,
        (false, _) => Next::After(ctx.ask_again),
    };
    Ok(next_look(&observed.outcome, said, &status.conditions, when_ready))
}

type Planned = Result<(Inputs, Plan), hz_crds::Unfit>;

async fn plan(cache: &CacheInstance, namespace: &str, name: &str, ctx: &Context) -> Result<Planned, Error> {
    if let Err(unfit) = ctx.hospital(namespace) {
        return Ok(Err(unfit));
    }
    let (passwords, foreign) = ctx.passwords(namespace, "cache", name, slots(cache)).await?;
    let inputs = Inputs { passwords, foreign };
    Ok(desired(cache, &inputs, &ctx.platform.get()).map(|plan| (inputs, plan)))
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
async fn ask(namespace: &str, name: &str, inputs: &Inputs, pods: &[PodSeen], ctx: &Context) -> Probe {
    if !pods.iter().any(|pod| pod.ready && pod.role.as_deref() == Some("master")) {
        return Probe::NotAsked;
    }
    let slot = Slot::new(auth_secret(name), PASSWORD_KEY);
    let (Some(address), Ok(password)) = (ctx.service_address(namespace, name), inputs.passwords.get(&slot)) else {
        return Probe::NotAsked;
    };
    let (object, question) = (format!("cache {namespace}/{name}"), format!("{address} {pods:?}"));
    if ctx.answers.fresh(&object, &question).is_some() {
        return Probe::Answered;
    }
    let target = Cache { address, port: PORT, password: password.to_owned() };
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
