//! RestoreDrill: restores, asks, measures, and removes what it restored.

use std::sync::Arc;
use std::time::Duration;

use hz_crds::backup::drill::{Step, drill_status, finish, judge, name, requested, result, step};
use hz_crds::backup::restore::of_drill;
use hz_crds::backup::{CheckResult, DrillRun, Restore, RestoreDrill, last, second};
use hz_crds::operation::Phase;
use hz_crds::postgres::{PostgresInstance, database_secret};
use hz_crds::{Outcome, Slot, Timestamp};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Resource, ResourceExt};

use super::{Context, backup_plan, postgres};
use crate::engine::Error;
use crate::engine::run::{Next, find};
use crate::probes::Sql;

/// How often the clock is looked at.
const LOOKS: Duration = Duration::from_secs(300);

/// One pass over one drill.
pub async fn reconcile(drill: Arc<RestoreDrill>, ctx: Arc<Context>) -> Result<Next, Error> {
    let namespace = drill.namespace().unwrap_or_default();
    let now = Timestamp::now();
    let run = drill.status.as_ref().and_then(|status| status.last_run.clone());
    let restored = run.as_ref().and_then(|run| find(&ctx.restores, Some(&namespace), &run.restore));
    let restored = restored.map(|restore| ctx.engine.reporter.freshened(&restore));
    let backed_up = last(&backup_plan::of_plan(&ctx, &namespace, &drill.spec.plan)).is_some();
    let step = ctx.hospital(&namespace).and_then(|_| step(&drill, restored.as_ref(), backed_up, now));
    let step = match step {
        Ok(step) => step,
        Err(unfit) => {
            let again = if unfit.may_pass() { Next::Retry } else { Next::OnChange };
            report(&drill, &Outcome::Unfit(unfit), None, &namespace, now, &ctx).await?;
            return Ok(again);
        }
    };
    let run = match (step, run) {
        (Step::Wait(at), run) => {
            report(&drill, &Outcome::Applied, run, &namespace, now, &ctx).await?;
            let left = at.map(|at| at.duration_since(now).unsigned_abs());
            return Ok(left.map_or(Next::OnChange, |left| Next::After(left.min(LOOKS))));
        }
        (Step::Restoring, Some(run)) => {
            // Written down before it was made: a restart in between must not leave it out.
            if restored.is_none() {
                make(&drill, &run.restore, &namespace, &ctx).await?;
            }
            let message = restored.and_then(|restore| restore.status?.message).unwrap_or_default();
            let run = DrillRun { message, ..run };
            report(&drill, &Outcome::Applied, Some(run), &namespace, now, &ctx).await?;
            return Ok(Next::After(Duration::from_secs(10)));
        }
        (Step::Begin, _) | (Step::Restoring, None) => begin(&drill, &namespace, now, &ctx).await,
        (Step::Ask, Some(run)) => match restored {
            Some(restored) => {
                let checks = ask(&drill, &restored, &namespace, &ctx).await?;
                clear(&run.restore, &namespace, &ctx).await?;
                finish(&drill, &run, &restored, checks, Timestamp::now())
            }
            None => run,
        },
        (Step::GiveUp(why), Some(run)) => {
            clear(&run.restore, &namespace, &ctx).await?;
            DrillRun { phase: Phase::Failed, message: why, completion_time: Some(second(now)), ..run }
        }
        (Step::Ask | Step::GiveUp(_), None) => return Ok(Next::OnChange),
    };
    report(&drill, &Outcome::Applied, Some(run), &namespace, now, &ctx).await?;
    Ok(Next::Soon)
}

async fn report(
    drill: &RestoreDrill,
    outcome: &Outcome,
    run: Option<DrillRun>,
    namespace: &str,
    now: Timestamp,
    ctx: &Context,
) -> Result<(), Error> {
    if ctx.engine.reporter.report(drill, &drill_status(drill, outcome, run, now)).await? {
        ctx.engine.world.nudge("BackupPlan", Some(namespace), &drill.spec.plan);
    }
    Ok(())
}

/// A run begins with what the database that is backed up says of its last transaction.
async fn begin(drill: &RestoreDrill, namespace: &str, now: Timestamp, ctx: &Context) -> DrillRun {
    let plan = find(&ctx.plans, Some(namespace), &drill.spec.plan);
    let source = plan.and_then(|plan| find(&ctx.databases, Some(namespace), &plan.spec.instance));
    let mut last_commit = None;
    if let Some(source) = source
        && let Some(target) = postgres::superuser(&source, ctx).await
    {
        last_commit = ctx.probes.last_commit(&target).await.ok().flatten();
    }
    DrillRun {
        restore: name(&drill.name_any(), now),
        requested: requested(drill),
        phase: Phase::Running,
        message: "begins".to_owned(),
        start_time: second(now),
        last_commit: last_commit.map(second),
        ..DrillRun::default()
    }
}

async fn make(drill: &RestoreDrill, name: &str, namespace: &str, ctx: &Context) -> Result<(), Error> {
    let spec = of_drill(&drill.spec.plan, name, drill.spec.deadline_seconds);
    let spec = serde_json::from_value(spec).map_err(|source| Error::Shape {
        kind: "Restore",
        name: name.to_owned(),
        source,
    })?;
    let mut restore = Restore::new(name, spec);
    restore.metadata.namespace = Some(namespace.to_owned());
    restore.metadata.owner_references = drill.controller_owner_ref(&()).map(|owner| vec![owner]);
    let api: Api<Restore> = Api::namespaced(ctx.engine.client.clone(), namespace);
    match api.create(&PostParams::default(), &restore).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(source) => Err(Error::Apply { kind: "Restore", name: name.to_owned(), source: Box::new(source) }),
    }
}

/// With the restore goes what it made.
async fn clear(name: &str, namespace: &str, ctx: &Context) -> Result<(), Error> {
    let api: Api<Restore> = Api::namespaced(ctx.engine.client.clone(), namespace);
    match api.delete(name, &DeleteParams::background()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(source) => Err(Error::Delete { kind: "Restore", name: name.to_owned(), source: Box::new(source) }),
    }
}

/// Every table of every database is read, and then the drill's own questions are asked.
async fn ask(
    drill: &RestoreDrill,
    restored: &Restore,
    namespace: &str,
    ctx: &Context,
) -> Result<Vec<CheckResult>, Error> {
    let Some(instance) = find(&ctx.databases, Some(namespace), &restored.spec.instance) else {
        return Ok(vec![result("restored".to_owned(), false, "the restored instance is gone".to_owned())]);
    };
    let mut results = Vec::new();
    for database in &instance.spec.databases {
        let said = match owner(&instance, &database.name, ctx).await? {
            Some(target) => ctx.probes.read_all(&target).await.map_err(|silent| silent.to_string()),
            None => Err("the instance does not answer".to_owned()),
        };
        let answer = match &said {
            Ok((tables, rows)) => format!("{rows} rows in {tables} tables"),
            Err(error) => error.clone(),
        };
        results.push(result(format!("every row of {} can be read", database.name), said.is_ok(), answer));
    }
    for check in &drill.spec.checks {
        let answer = match owner(&instance, &check.database, ctx).await? {
            Some(target) => ctx.probes.answer(&target, &check.query).await.map_err(|silent| silent.to_string()),
            None => Err(format!("there is no database {}", check.database)),
        };
        results.push(judge(check, answer));
    }
    Ok(results)
}

/// A database's own owner: whoever writes a drill is no superuser.
async fn owner(instance: &PostgresInstance, database: &str, ctx: &Context) -> Result<Option<Sql>, Error> {
    let (namespace, name) = (instance.namespace().unwrap_or_default(), instance.name_any());
    if !instance.spec.databases.iter().any(|known| known.name == database) {
        return Ok(None);
    }
    let slot = Slot::new(database_secret(&name, database), "password");
    let (passwords, _) = ctx.passwords(&namespace, "postgres", &name, vec![slot.clone()]).await?;
    let Some(admin) = postgres::superuser(instance, ctx).await else { return Ok(None) };
    let Ok(password) = passwords.get(&slot) else { return Ok(None) };
    Ok(Some(Sql { database: database.to_owned(), user: database.to_owned(), password: password.to_owned(), ..admin }))
}
