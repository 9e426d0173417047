//! BackupPlan: where the log of a database goes, and when it is backed up.

use std::sync::Arc;
use std::time::Duration;

use hz_crds::backup::conf::Access;
use hz_crds::backup::{
    self, Archiver, Backup, BackupPlan, BackupSpec, Immutability, Inputs, Kept, Observed, PLAN_APP, certificate,
    desired, due, expired, is_due, slot, status,
};
use hz_crds::conditions;
use hz_crds::postgres::{BackupsSeen, PostgresInstance};
use hz_crds::{Outcome, Timestamp, Unfit};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};

use super::{Context, outcome, postgres};
use crate::engine::Error;
use crate::engine::run::{Next, find, in_namespace};

/// How often the log is asked about, and the clock.
const LOOKS: Duration = Duration::from_secs(45);
/// How often a plan that cannot be carried out is tried again.
const LOOKS_AGAIN: Duration = Duration::from_secs(10);
/// Word for stores in labels.
const STORE_APP: &str = "store";

/// One pass over one plan.
pub async fn reconcile(plan: Arc<BackupPlan>, ctx: Arc<Context>) -> Result<Next, Error> {
    let (namespace, name) = (plan.namespace().unwrap_or_default(), plan.name_any());
    let platform = ctx.platform.get();
    let instance = find(&ctx.databases, Some(&namespace), &plan.spec.instance);
    let mut access = None;
    let (outcome, said) = match look(&plan, instance.clone(), &namespace, &name, &ctx).await? {
        Ok(inputs) => match desired(&plan, &inputs, &platform) {
            Ok(objects) => {
                access = inputs.access.ok();
                outcome(ctx.engine.apply(objects).await)?
            }
            Err(unfit) => (Outcome::Unfit(unfit), None),
        },
        Err(unfit) => (Outcome::Unfit(unfit), None),
    };
    let now = Timestamp::now();
    let archiver = match &instance {
        Some(instance) if outcome == Outcome::Applied => ask(instance, &ctx).await,
        _ => None,
    };
    let backups = of_plan(&ctx, &namespace, &name);
    let observed = Observed {
        immutability: attack(&plan, access.as_ref(), &namespace, now, &ctx).await,
        outcome,
        proved: proved(&ctx, &namespace, &name),
        instance: instance.is_some(),
        backups,
        archiver,
    };
    let status = status(&plan, &observed, now);
    if ctx.engine.reporter.report(&*plan, &status).await? {
        ctx.engine.world.nudge("PostgresInstance", Some(&namespace), &plan.spec.instance);
    }
    forget(&observed.backups, &namespace, &ctx).await?;
    if observed.outcome != Outcome::Applied {
        // What is wrong may be in a Secret of somebody else's, of which no watch tells.
        return Ok(said.unwrap_or(Next::After(LOOKS_AGAIN)));
    }
    if !observed.instance {
        return Ok(Next::OnChange);
    }
    let Some(due) = due(&plan, &observed.backups, now) else { return Ok(Next::After(LOOKS)) };
    let left = due.at.duration_since(now);
    if left.is_positive() {
        return Ok(Next::After(left.unsigned_abs().min(LOOKS)));
    }
    let ready = instance.and_then(|instance| instance.status);
    if ready.is_some_and(|status| conditions::is_true(&status.conditions, conditions::READY)) {
        order(&plan, &due, &namespace, &name, &ctx).await?;
    }
    Ok(Next::After(LOOKS))
}

async fn look(
    plan: &BackupPlan,
    instance: Option<PostgresInstance>,
    namespace: &str,
    name: &str,
    ctx: &Context,
) -> Result<Result<Inputs, Unfit>, Error> {
    if let Err(unfit) = ctx.hospital(namespace) {
        return Ok(Err(unfit));
    }
    let (passwords, foreign) = ctx.passwords(namespace, PLAN_APP, name, vec![slot(name)]).await?;
    let slots = [certificate(plan, &ctx.platform.get())];
    let (certificates, more) = ctx.certificates(namespace, PLAN_APP, name, &slots).await?;
    if let Some((secret, holder)) = foreign.into_iter().chain(more).next() {
        return Ok(Err(Unfit::Taken { kind: "Secret".into(), name: secret, holder }));
    }
    let access = access(plan, namespace, ctx).await?;
    Ok(Ok(Inputs { instance, access, passwords, certificates }))
}

/// The key to the store.
async fn access(plan: &BackupPlan, namespace: &str, ctx: &Context) -> Result<Result<Access, Unfit>, Error> {
    let destination = &plan.spec.destination;
    if let Some(store) = &destination.object_store {
        let secret = ctx.engine.secrets.get(namespace, &format!("{}-s3", store.name)).await?;
        let missing = || Unfit::waiting("spec.destination.objectStore.name", format!("an ObjectStore {}", store.name));
        let ours = secret.filter(|secret| secret.belongs_to(STORE_APP, &store.name)).ok_or_else(missing);
        return Ok(ours.and_then(|secret| Access::own(&store.bucket, &store.name, &secret.data)));
    }
    let Some(s3) = &destination.s3 else {
        return Ok(Err(Unfit::waiting("spec.destination", "one of objectStore and s3")));
    };
    let secret = ctx.engine.secrets.get(namespace, &s3.secret).await?;
    let missing = || Unfit::waiting("spec.destination.s3.secret", format!("a Secret {}", s3.secret));
    Ok(secret.ok_or_else(missing).and_then(|secret| Access::external(s3, &secret.data)))
}

/// Backups of a plan, as last seen or written.
pub fn of_plan(ctx: &Context, namespace: &str, plan: &str) -> Vec<Backup> {
    let all = in_namespace(&ctx.backups, namespace).into_iter();
    let own = all.filter(|backup| backup.spec.plan == plan && backup.metadata.deletion_timestamp.is_none());
    own.map(|backup| ctx.engine.reporter.freshened(&backup)).collect()
}

fn proved(ctx: &Context, namespace: &str, plan: &str) -> Option<String> {
    let drills = in_namespace(&ctx.drills, namespace).into_iter().filter(|drill| drill.spec.plan == plan);
    // Times of one form sort as text.
    drills.filter_map(|drill| drill.status?.last_proved_restore).max()
}

async fn ask(instance: &PostgresInstance, ctx: &Context) -> Option<Archiver> {
    let target = postgres::superuser(instance, ctx).await?;
    ctx.probes.archiver(&target).await.inspect_err(|error| tracing::debug!(%error, "the log is not known")).ok()
}

/// Whether the store keeps what is written to it, if that is to be tried now.
async fn attack(
    plan: &BackupPlan,
    access: Option<&Access>,
    namespace: &str,
    now: Timestamp,
    ctx: &Context,
) -> Option<Immutability> {
    let access = access.filter(|_| is_due(plan, now))?;
    let own = plan.spec.destination.object_store.as_ref();
    let address = own.and_then(|store| ctx.service_address(namespace, &store.name));
    let (kept, said) = match ctx.probes.keeps(access, address).await {
        Ok(found) => found,
        Err(silent) => (Kept::Unknown, silent.to_string()),
    };
    Some(Immutability::new(kept, said, now))
}

/// Makes the object of a backup that is due. Its name says when that was: twice is once.
async fn order(plan: &BackupPlan, due: &backup::Due, namespace: &str, name: &str, ctx: &Context) -> Result<(), Error> {
    let mut backup =
        Backup::new(&due.name(name), BackupSpec { plan: name.to_owned(), type_: due.type_, cancel: false });
    backup.metadata.namespace = Some(namespace.to_owned());
    backup.metadata.labels = plan.metadata.labels.clone();
    let api: Api<Backup> = Api::namespaced(ctx.engine.client.clone(), namespace);
    match api.create(&PostParams::default(), &backup).await {
        Ok(made) => tracing::info!(backup = made.name_any(), "due"),
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(source) => return Err(Error::Apply { kind: "Backup", name: backup.name_any(), source: Box::new(source) }),
    }
    Ok(())
}

/// Removes the objects of backups that the store does not keep any more.
async fn forget(backups: &[Backup], namespace: &str, ctx: &Context) -> Result<(), Error> {
    let api: Api<Backup> = Api::namespaced(ctx.engine.client.clone(), namespace);
    for backup in expired(backups) {
        let name = backup.name_any();
        tracing::info!(backup = name, "no longer kept");
        match api.delete(&name, &DeleteParams::background()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(source) => return Err(Error::Delete { kind: "Backup", name, source: Box::new(source) }),
        }
    }
    Ok(())
}

/// What the plan for an instance says, for the instance's own status.
pub fn seen(ctx: &Context, namespace: &str, instance: &str) -> Option<BackupsSeen> {
    let plans = in_namespace(&ctx.plans, namespace).into_iter();
    let plan = plans
        .filter(|plan| plan.spec.instance == instance)
        .min_by_key(|plan| plan.metadata.creation_timestamp.clone())?;
    let plan = ctx.engine.reporter.freshened(&plan);
    let status = plan.status.clone().unwrap_or_default();
    let healthy = status.conditions.iter().find(|condition| condition.type_ == backup::HEALTHY);
    let healthy = healthy.map(|condition| {
        let holds = match condition.status.as_str() {
            "True" => Some(true),
            "False" => Some(false),
            _ => None,
        };
        (holds, condition.message.clone())
    });
    Some(BackupsSeen {
        plan: plan.name_any(),
        healthy: healthy.unwrap_or_else(|| (None, "nobody has looked yet".to_owned())),
        last: status.last_backup_time,
        proved: status.last_proved_restore,
    })
}
