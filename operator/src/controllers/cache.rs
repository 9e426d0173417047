//! CacheInstance: Valkey with sentinels.

use std::sync::Arc;
use std::time::Duration;

use hz_crds::cache::{CacheInstance, Inputs, Observed, PASSWORD_KEY, auth_secret, desired, slots, status};
use hz_crds::plan::Plan;
use hz_crds::shared::{PodSeen, Probe};
use hz_crds::{Outcome, Slot, Timestamp};
use kube::ResourceExt;

use super::observe::pods;
use super::{Context, next_look, outcome, told};
use crate::engine::Error;
use crate::engine::run::Next;
use crate::probes::Cache;

const PORT: u16 = 6379;

/// One pass over one cache.
pub async fn reconcile(cache: Arc<CacheInstance>, ctx: Arc<Context>) -> Result<Next, Error> {
    let (namespace, name) = (cache.namespace().unwrap_or_default(), cache.name_any());
    let platform = ctx.platform.get();
    let (inputs, (outcome, said)) = match plan(&cache, &namespace, &name, &ctx).await? {
        Ok((inputs, plan)) => (inputs, outcome(ctx.engine.apply(plan).await)?),
        Err(unfit) => (Inputs::default(), (Outcome::Unfit(unfit), None)),
    };
    let pods = pods(&ctx.engine.world, "CacheInstance", &namespace, &name);
    let probe = match outcome {
        Outcome::Applied if !cache.spec.suspend => ask(&namespace, &name, &inputs, &pods, &ctx).await,
        _ => Probe::NotAsked,
    };
    let observed = Observed { outcome, pods, probe };
    let status = status(&cache, &observed, &platform, Timestamp::now());
    ctx.engine.reporter.report(&*cache, &status).await?;
    let when_ready = Next::After(ctx.ask_again);
    Ok(next_look(
        &observed.outcome,
        said,
        &status.conditions,
        if cache.spec.suspend { Next::OnChange } else { when_ready },
    ))
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
