//! Settings of a PostgreSQL server that runs: brought to its copies one step a pass.

use std::time::Duration;

use hz_crds::conditions::Condition;
use hz_crds::postgres::change::{self, Step};
use hz_crds::postgres::patroni::REST_PORT;
use hz_crds::postgres::{CONFIGURED, Inputs, PostgresInstance, REST_KEY, REST_USER, Settings, system_secret};
use hz_crds::shared::PodSeen;
use hz_crds::{Slot, Timestamp};
use kube::ResourceExt;

use super::{Context, pooler};
use crate::probes::Rest;

/// Patroni looks every two seconds, and once more to see whether a restart is needed.
const SETTLES: Duration = Duration::from_secs(8);

fn condition(instance: &PostgresInstance) -> Option<&Condition> {
    instance.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == CONFIGURED)
}

/// Whether the status says that every copy works with the settings of this very spec.
pub fn in_force(instance: &PostgresInstance) -> bool {
    condition(instance).is_some_and(|condition| {
        condition.status == "True" && condition.observed_generation == instance.metadata.generation
    })
}

/// Whether the copies had time to find out what they were told.
fn settled(instance: &PostgresInstance, now: Timestamp) -> bool {
    let told = condition(instance).filter(|condition| condition.status != "True");
    told.is_none_or(|told| now.duration_since(told.last_transition_time.0).unsigned_abs() >= SETTLES)
}

/// Look, and do the next step.
pub async fn carry_out(instance: &PostgresInstance, inputs: &Inputs, pods: &[PodSeen], ctx: &Context) -> Settings {
    let Some(rest) = rest(instance, inputs, pods, ctx) else { return Settings::NotSeen };
    let (agreed, cluster) = match ctx.probes.agreed(&rest).await {
        Ok(seen) => seen,
        // Nothing is known to be wrong with the settings, unless something was on its way.
        Err(_) if in_force(instance) => return Settings::NotSeen,
        Err(silent) => return Settings::Failed(silent.to_string()),
    };
    let step = change::next(&instance.spec, &agreed, &cluster, settled(instance, Timestamp::now()));
    let Some(said) = step.said() else { return Settings::InForce };
    // The same step twice within moments: what it began has not shown yet.
    let object = format!("settings {}/{}", instance.namespace().unwrap_or_default(), instance.name_any());
    if matches!(step, Step::Wait(_)) || ctx.answers.fresh(&object, &said).is_some() {
        return Settings::OnTheirWay(said);
    }
    ctx.answers.note(&object, &said, Some(Vec::new()));
    tracing::info!(namespace = instance.namespace(), name = instance.name_any(), step = said, "changing settings");
    let take = async { ctx.probes.take(&rest, &step).await.map_err(|silent| silent.to_string()) };
    let moves = match &step {
        Step::Switchover(..) => true,
        Step::Restart(copy) => copy.leads(),
        Step::Nothing | Step::Wait(_) | Step::Agree(_) => false,
    };
    let taken = if moves { pooler::while_paused(ctx, instance, inputs, take).await } else { take.await };
    match taken {
        Ok(()) => Settings::OnTheirWay(said),
        Err(silent) => Settings::Failed(silent),
    }
}

/// The primary's Patroni.
fn rest(instance: &PostgresInstance, inputs: &Inputs, pods: &[PodSeen], ctx: &Context) -> Option<Rest> {
    let primary = pods.iter().find(|pod| pod.ready && pod.role.as_deref() == Some("primary"))?;
    let slot = Slot::new(system_secret(&instance.name_any()), REST_KEY);
    Some(Rest {
        address: ctx.pod_address(&instance.namespace().unwrap_or_default(), &primary.name)?,
        port: REST_PORT,
        user: REST_USER.to_owned(),
        password: inputs.passwords.get(&slot).ok()?.to_owned(),
    })
}
