//! Users, passwords and settings are given to every server that runs.

use futures::future::join_all;
use hz_crds::cache::{CacheInstance, Given, Inputs, Live, live, parameters};
use hz_crds::operation::Target;
use hz_crds::shared::PodSeen;
use kube::ResourceExt;

use super::{Context, cache_inputs, copies};

/// Gives every server that is ready what it is to work with. A server that is not ready yet reads it as it starts, and
/// is looked at when it is.
pub async fn give(cache: &CacheInstance, inputs: &Inputs, target: &Target, pods: &[PodSeen], ctx: &Context) -> Given {
    let (namespace, name) = (cache.namespace().unwrap_or_default(), cache.name_any());
    let Ok(wanted) = live(cache, inputs) else { return Given::NotSeen };
    let ready: Vec<&PodSeen> = pods.iter().filter(|pod| pod.ready).collect();
    if ready.is_empty() {
        return Given::Short("no server is ready yet; each reads users and passwords as it starts".to_owned());
    }
    let (object, question) =
        (format!("live {namespace}/{name}"), format!("{} {:?} {ready:?}", wanted.acl.mark(), wanted.settings));
    if ctx.answers.fresh(&object, &question).is_some() {
        return Given::Everywhere(ready.len());
    }
    // A pod of an older description is about to be replaced, and may have too little room for more data.
    let old: Vec<String> = copies::standing(&ctx.engine.world, target, &namespace)
        .into_iter()
        .filter(|seen| seen.stale)
        .map(|seen| seen.copy.name)
        .collect();
    let mut smaller = wanted.clone();
    smaller.settings.remove(parameters::MEMORY);
    let answers = ready.iter().map(|pod| {
        let wanted = if old.contains(&pod.name) { &smaller } else { &wanted };
        one(cache, inputs, &pod.name, wanted, ctx)
    });
    let short = join_all(answers).await.into_iter().find_map(Result::err);
    ctx.answers.note(&object, &question, short.is_none().then(Vec::new));
    match short {
        Some(why) => Given::Short(why),
        None => Given::Everywhere(ready.len()),
    }
}

async fn one(cache: &CacheInstance, inputs: &Inputs, pod: &str, wanted: &Live, ctx: &Context) -> Result<(), String> {
    let Some(server) = cache_inputs::server_of(cache, inputs, pod, ctx) else {
        return Err(format!("{pod} has no address yet"));
    };
    let changed = ctx.probes.bring(&server, wanted).await.map_err(|silent| format!("{pod}: {silent}"))?;
    if !changed.is_empty() {
        tracing::info!(cache = cache.name_any(), pod, ?changed, "gave a running server what is new");
    }
    Ok(())
}
