//! The pooler of a database: paused while the primary's work moves, and asked whether it passes clients on.

use std::time::Duration;

use futures::future::join_all;
use hz_crds::postgres::pooler::{CONSOLE, CONSOLE_USER, POOLER_USER, PoolerSeen, pooler_slots, poolers};
use hz_crds::postgres::{Inputs, PostgresInstance, SUPERUSER, SUPERUSER_KEY, system_secret, tls};
use hz_crds::shared::Probe;
use hz_crds::{Slot, labels};
use kube::ResourceExt;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::cache::patiently;
use super::observe::rollout;
use super::{Context, encryption, told};
use crate::engine::certificates::der;
use crate::engine::kinds::named;
use crate::engine::owner::POOLER;
use crate::probes::{Front, Sql, Trust};

const PORT: u16 = 5432;
/// How long clients are left to wait for a new primary to answer through the Service; then they find out themselves.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// Does something that moves the primary's work while the pooler for writes is paused: clients that are in no transaction
/// wait instead of losing their connections. A pooler that cannot be paused in time (a transaction that takes long) does
/// not hold the work up. It goes on afterwards, whatever came of the work; if this operator is stopped before that, the
/// next pass over the instance finds it paused ([`look`]): whoever pauses holds the turn of the instance.
pub async fn while_paused(
    ctx: &Context,
    instance: &PostgresInstance,
    inputs: &Inputs,
    work: impl Future<Output = Result<(), String>>,
) -> Result<(), String> {
    let Some((pooler, _)) = poolers(instance).into_iter().next() else { return work.await };
    let consoles = consoles(ctx, instance, inputs, &pooler, encryption::kept(instance, ctx).await.as_ref());
    let paused = join_all(consoles.iter().map(|console| ctx.probes.console(console, "PAUSE"))).await;
    for silent in paused.into_iter().filter_map(Result::err) {
        tracing::warn!(pooler, %silent, "could not be paused in time");
    }
    let done = work.await;
    if done.is_ok() {
        until_it_answers(ctx, instance, inputs).await;
    }
    resume(ctx, &consoles).await;
    done
}

/// Pods that could not be told now are found in the next pass.
async fn resume(ctx: &Context, consoles: &[Sql]) {
    for again in [true, true, false] {
        let told = join_all(consoles.iter().map(|console| async {
            match ctx.probes.console(console, "RESUME").await {
                // "Pooler is not paused/suspended": it never was, or goes on already.
                Err(silent) if !silent.to_string().contains("not paused") => Err(silent),
                _ => Ok(()),
            }
        }));
        let Some(silent) = told.await.into_iter().find_map(Result::err) else { return };
        tracing::warn!(%silent, "a pooler could not be told to go on");
        if again {
            sleep(Duration::from_millis(500)).await;
        }
    }
}

async fn until_it_answers(ctx: &Context, instance: &PostgresInstance, inputs: &Inputs) {
    let (namespace, name) = (instance.namespace().unwrap_or_default(), instance.name_any());
    let password = inputs.passwords.get(&Slot::new(system_secret(&name), SUPERUSER_KEY));
    let (Some(address), Ok(password)) = (ctx.service_address(&namespace, &name), password) else { return };
    let primary = sql(address, "postgres", SUPERUSER, password, encryption::kept(instance, ctx).await.as_ref());
    let until = Instant::now() + ANSWERS_WITHIN;
    while ctx.probes.select_one(&primary).await.is_err() && Instant::now() < until {
        sleep(Duration::from_millis(200)).await;
    }
}

/// How each pooler of an instance is. One that was left paused goes on.
pub async fn look(instance: &PostgresInstance, inputs: &Inputs, ctx: &Context) -> Vec<PoolerSeen> {
    let mut seen = Vec::new();
    for (pooler, _) in poolers(instance) {
        seen.push(look_at(instance, inputs, &pooler, ctx).await);
    }
    seen
}

async fn look_at(instance: &PostgresInstance, inputs: &Inputs, pooler: &str, ctx: &Context) -> PoolerSeen {
    let namespace = instance.namespace().unwrap_or_default();
    let facts = ctx.engine.world.get(named("Deployment"), Some(&namespace), pooler).map(|seen| seen.facts);
    let ready = facts.as_ref().map_or(0, |facts| rollout(facts).ready);
    let wanted = instance.spec.pooler.as_ref().map_or(0, |spec| spec.instances);
    let mut seen = PoolerSeen { name: pooler.to_owned(), ready, wanted, probe: Probe::NotAsked };
    let [password, _] = &pooler_slots(instance)[..] else { return seen };
    let (Some(address), Ok(password)) = (ctx.service_address(&namespace, pooler), inputs.passwords.get(password))
    else {
        return seen;
    };
    if ready == 0 {
        return seen;
    }
    let (object, question) = (format!("pooler {namespace}/{pooler}"), format!("{address} {ready}"));
    if ctx.answers.fresh(&object, &question).is_some() {
        seen.probe = Probe::Answered;
        return seen;
    }
    let trust = encryption::kept(instance, ctx).await;
    let consoles = consoles(ctx, instance, inputs, pooler, trust.as_ref());
    go_on(ctx, &consoles).await;
    renew(ctx, instance, inputs, &consoles).await;
    let target = sql(address, "postgres", POOLER_USER, password, trust.as_ref());
    let answer = patiently(|| ctx.probes.console(&target, "SELECT 1")).await;
    ctx.answers.note(&object, &question, answer.as_ref().ok().map(|_| Vec::new()));
    seen.probe = told(&answer);
    seen
}

/// Has those go on that somebody left paused.
async fn go_on(ctx: &Context, consoles: &[Sql]) {
    for console in consoles {
        // Rows of `SHOW STATE`: a state, and whether it is in it.
        let Ok(states) = ctx.probes.console(console, "SHOW STATE").await else { continue };
        if states.iter().any(|row| row.iter().map(String::as_str).eq(["paused", "yes"])) {
            tracing::warn!(?console, "was left paused; goes on");
            resume(ctx, std::slice::from_ref(console)).await;
        }
    }
}

/// Has those read their files again that show clients another certificate than the one that is kept.
async fn renew(ctx: &Context, instance: &PostgresInstance, inputs: &Inputs, consoles: &[Sql]) {
    let Ok(pair) = inputs.certificates.get(&tls::certificate(instance, &ctx.platform.get())) else { return };
    let Some(kept) = der(&pair.tls_crt) else { return };
    for console in consoles {
        let Some(trust) = &console.tls else { continue };
        let front = Front { address: console.address, port: console.port, trust: trust.clone() };
        if ctx.probes.shown(&front).await.is_ok_and(|shown| shown == kept) {
            continue;
        }
        tracing::info!(?console, "a pooler is told to read its certificate again");
        if let Err(silent) = ctx.probes.console(console, "RELOAD").await {
            tracing::warn!(?console, %silent, "it could not be told");
        }
    }
}

/// Consoles of the pods of one pooler.
fn consoles(
    ctx: &Context,
    instance: &PostgresInstance,
    inputs: &Inputs,
    pooler: &str,
    trust: Option<&Trust>,
) -> Vec<Sql> {
    let (namespace, name) = (instance.namespace().unwrap_or_default(), instance.name_any());
    let [_, slot] = &pooler_slots(instance)[..] else { return Vec::new() };
    let Ok(password) = inputs.passwords.get(slot) else { return Vec::new() };
    let part = pooler.strip_prefix(&format!("{name}-")).unwrap_or(pooler);
    let pods = ctx.engine.world.select(named("Pod"), &namespace, |_, seen| {
        let owned = seen.owner.as_ref().is_some_and(|owner| owner.kind == POOLER && owner.name == name);
        owned && !seen.deleting && seen.facts["metadata"]["labels"][labels::COMPONENT] == part
    });
    let address = |facts: &Value| facts.pointer("/status/podIP")?.as_str()?.parse().ok();
    pods.iter()
        .filter_map(|(_, seen)| Some(sql(address(&seen.facts)?, CONSOLE, CONSOLE_USER, password, trust)))
        .collect()
}

fn sql(address: std::net::IpAddr, database: &str, user: &str, password: &str, trust: Option<&Trust>) -> Sql {
    Sql {
        address,
        port: PORT,
        database: database.into(),
        user: user.into(),
        password: password.into(),
        tls: trust.cloned(),
    }
}
