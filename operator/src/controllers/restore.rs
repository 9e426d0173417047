//! Restore: a new database from backups.

use std::sync::Arc;

use hz_crds::backup::Restore;
use hz_crds::backup::restore::{MADE_BY, Seen, instance, restore_status};
use hz_crds::conditions;
use hz_crds::operation::Phase;
use hz_crds::postgres::PostgresInstance;
use hz_crds::{Outcome, Timestamp, Unfit};
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use super::{Context, backup_plan, postgres};
use crate::engine::Error;
use crate::engine::run::{Next, find};

/// One pass over one restore.
pub async fn reconcile(restore: Arc<Restore>, ctx: Arc<Context>) -> Result<Next, Error> {
    if restore.status.as_ref().and_then(|status| status.phase).is_some_and(Phase::is_final) {
        return Ok(Next::OnChange);
    }
    let namespace = restore.namespace().unwrap_or_default();
    let seen = carry_out(&restore, &namespace, &ctx).await?;
    let status = restore_status(&restore, &seen, Timestamp::now());
    if ctx.engine.reporter.report(&*restore, &status).await? {
        nudge_drills(&ctx, &namespace, &restore);
    }
    Ok(match status.phase {
        Some(phase) if phase.is_final() => Next::OnChange,
        Some(Phase::Running) => Next::Soon,
        _ => Next::Retry,
    })
}

/// Whoever made it waits for it.
fn nudge_drills(ctx: &Context, namespace: &str, restore: &Restore) {
    for owner in restore.owner_references() {
        ctx.engine.world.nudge("RestoreDrill", Some(namespace), &owner.name);
    }
}

async fn carry_out(restore: &Restore, namespace: &str, ctx: &Context) -> Result<Seen, Error> {
    if let Err(unfit) = ctx.hospital(namespace) {
        return Ok(Seen { outcome: Outcome::Unfit(unfit), ..Seen::default() });
    }
    let name = &restore.spec.instance;
    if let Some(there) = find(&ctx.databases, Some(namespace), name) {
        let ours = there.annotations().get(MADE_BY).is_some_and(|uid| Some(uid) == restore.uid().as_ref());
        if !ours {
            return Ok(Seen { outcome: Outcome::Unfit(taken(name)), ..Seen::default() });
        }
        return Ok(follow(there, ctx).await);
    }
    let api: Api<PostgresInstance> = Api::namespaced(ctx.engine.client.clone(), namespace);
    if restore.spec.cancel {
        // Made a moment ago, the watch may not have brought it yet; what is left behind must not be told as nothing.
        let made = api.get_opt(name).await;
        let made = made.map_err(|source| Error::Read {
            kind: "PostgresInstance",
            name: name.clone(),
            source: Box::new(source),
        })?;
        let made = made.filter(|there| there.annotations().get(MADE_BY) == restore.uid().as_ref());
        return Ok(Seen { instance: made, ..Seen::default() });
    }
    let plan = find(&ctx.plans, Some(namespace), &restore.spec.plan);
    let backups = backup_plan::of_plan(ctx, namespace, &restore.spec.plan);
    let new = match instance(restore, plan.as_ref(), &backups, Timestamp::now()) {
        Ok(new) => new,
        Err(unfit) => return Ok(Seen { outcome: Outcome::Unfit(unfit), ..Seen::default() }),
    };
    hurry(restore, plan.map(|plan| plan.spec.instance), namespace, ctx).await;
    match api.create(&PostParams::default(), &new).await {
        Ok(made) => {
            tracing::info!(instance = name, "being restored");
            Ok(Seen { instance: Some(made), ..Seen::default() })
        }
        // The watch has not brought it yet; the next pass sees whose it is.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Seen::default()),
        // What it asks for cannot be: a quota, a rule.
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 422) => {
            Ok(Seen { outcome: Outcome::Failed(format!("{name} is refused: {}", status.message)), ..Seen::default() })
        }
        Err(source) => Err(Error::Apply { kind: "PostgresInstance", name: name.clone(), source: Box::new(source) }),
    }
}

/// What a person asks back may be of a minute ago: the database that is backed up, if it lives, archives now what it would
/// archive soon. A drill gets what a disaster would have left.
async fn hurry(restore: &Restore, source: Option<String>, namespace: &str, ctx: &Context) {
    if !restore.owner_references().is_empty() {
        return;
    }
    let source = source.and_then(|source| find(&ctx.databases, Some(namespace), &source));
    let Some(source) = source else { return };
    let Some(target) = postgres::superuser(&source, ctx).await else { return };
    if let Err(error) = ctx.probes.archive_now(&target).await {
        tracing::warn!(%error, "the newest of the log may be missing from what is restored");
    }
}

fn taken(name: &str) -> Unfit {
    Unfit::refused(
        "spec.instance",
        name,
        "there is a PostgresInstance of this name, and a restore never writes over one",
        "take a name that is free, and switch over to the new instance when you have seen that it is right",
    )
}

async fn follow(there: PostgresInstance, ctx: &Context) -> Seen {
    let there = ctx.engine.reporter.freshened(&there);
    let status = there.status.clone().unwrap_or_default();
    let mut recovered_to = None;
    if conditions::is_true(&status.conditions, conditions::READY)
        && let Some(target) = postgres::superuser(&there, ctx).await
    {
        recovered_to = ctx.probes.replayed(&target).await.ok();
    }
    Seen { outcome: Outcome::Applied, instance: Some(there), recovered_to }
}
