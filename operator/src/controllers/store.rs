//! ObjectStore: SeaweedFS.

use std::sync::Arc;

use hz_crds::plan::Plan;
use hz_crds::shared::{PodSeen, Probe};
use hz_crds::store::{APP, Inputs, ObjectStore, Observed, PORT, REGION, certificate, desired, slots, status};
use hz_crds::{Outcome, Timestamp};
use kube::ResourceExt;

use super::cache::patiently;
use super::observe::pods;
use super::{Context, next_look, outcome, told};
use crate::engine::Error;
use crate::engine::run::Next;
use crate::probes::Store;

/// One pass over one store.
pub async fn reconcile(store: Arc<ObjectStore>, ctx: Arc<Context>) -> Result<Next, Error> {
    let (namespace, name) = (store.namespace().unwrap_or_default(), store.name_any());
    let (inputs, (outcome, said)) = match plan(&store, &namespace, &name, &ctx).await? {
        Ok((inputs, plan)) => (inputs, outcome(ctx.engine.apply(plan).await)?),
        Err(unfit) => (Inputs::default(), (Outcome::Unfit(unfit), None)),
    };
    let pods = pods(&ctx.engine.world, "ObjectStore", &namespace, &name);
    let probe = match outcome {
        Outcome::Applied if !store.spec.suspend => ask(&store, &namespace, &name, &inputs, &pods, &ctx).await,
        _ => Probe::NotAsked,
    };
    let observed = Observed { outcome, pods, probe };
    let status = status(&store, &observed, &ctx.platform.get(), Timestamp::now());
    ctx.engine.reporter.report(&*store, &status).await?;
    let when_ready = if store.spec.suspend { Next::OnChange } else { Next::After(ctx.ask_again) };
    Ok(next_look(&observed.outcome, said, &status.conditions, when_ready))
}

type Planned = Result<(Inputs, Plan), hz_crds::Unfit>;

async fn plan(store: &ObjectStore, namespace: &str, name: &str, ctx: &Context) -> Result<Planned, Error> {
    if let Err(unfit) = ctx.hospital(namespace) {
        return Ok(Err(unfit));
    }
    let platform = ctx.platform.get();
    let (passwords, mut foreign) = ctx.passwords(namespace, APP, name, slots(store).into()).await?;
    let (certificates, others) = ctx.certificates(namespace, APP, name, &[certificate(store, &platform)]).await?;
    foreign.extend(others);
    let inputs = Inputs { passwords, certificates, foreign };
    Ok(desired(store, &inputs, &platform).map(|plan| (inputs, plan)))
}

/// Looks for the buckets through the Service, once a server is ready, and makes those that are missing.
async fn ask(
    store: &ObjectStore,
    namespace: &str,
    name: &str,
    inputs: &Inputs,
    pods: &[PodSeen],
    ctx: &Context,
) -> Probe {
    if !pods.iter().any(|pod| pod.ready) {
        return Probe::NotAsked;
    }
    let platform = ctx.platform.get();
    let [access, secret] = slots(store);
    let keys = (inputs.passwords.get(&access), inputs.passwords.get(&secret));
    let pair = inputs.certificates.get(&certificate(store, &platform));
    let (Some(address), (Ok(access), Ok(secret)), Ok(pair)) = (ctx.service_address(namespace, name), keys, pair) else {
        return Probe::NotAsked;
    };
    let buckets = &store.spec.buckets;
    let (object, question) = (format!("store {namespace}/{name}"), format!("{address} {buckets:?} {pods:?}"));
    if ctx.answers.fresh(&object, &question).is_some() {
        return Probe::Answered;
    }
    let target = Store {
        address,
        port: PORT,
        host: platform.host(name, namespace),
        authority: pair.ca_crt.clone(),
        region: REGION.to_owned(),
        access_key: access.to_owned(),
        secret_key: secret.to_owned(),
    };
    let answer = patiently(|| ctx.probes.buckets(&target, buckets)).await;
    ctx.answers.note(&object, &question, answer.as_ref().ok().map(|()| Vec::new()));
    told(&answer)
}
