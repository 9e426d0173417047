//! Asks each copy of a database how much room it has. It is asked also when PostgreSQL does not answer: a full disk is what
//! may have stopped it.

use hz_crds::postgres::room::Asked;
use hz_crds::shared::PodSeen;

use super::Context;

/// What the copies say; nothing if they were asked a moment ago.
pub async fn ask(namespace: &str, name: &str, pods: &[PodSeen], ctx: &Context) -> Vec<Asked> {
    let (object, question) = (format!("room {namespace}/{name}"), format!("{pods:?}"));
    if ctx.answers.fresh(&object, &question).is_some() {
        return Vec::new();
    }
    let there = pods.iter().filter_map(|pod| Some((pod, ctx.pod_address(namespace, &pod.name)?)));
    let asked = there.map(|(pod, address)| async move {
        let said = ctx.probes.room(address).await.map_err(|silent| silent.to_string());
        Asked { pod: pod.name.clone(), ready: pod.ready, said }
    });
    let mut asked = futures::future::join_all(asked).await;
    asked.sort_by(|one, other| one.pod.cmp(&other.pod));
    let good = !asked.is_empty() && asked.iter().all(|asked| asked.said.is_ok());
    ctx.answers.note(&object, &question, good.then(Vec::new));
    asked
}
