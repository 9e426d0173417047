//! Backup: one backup, made by a Job.

use std::sync::Arc;

use hz_crds::backup::{Backup, BackupPlan, JobSeen, backup_status, job};
use hz_crds::conditions;
use hz_crds::operation::Phase;
use hz_crds::{Outcome, Timestamp, Unfit};
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::Value;

use super::{Context, observe, outcome};
use crate::engine::Error;
use crate::engine::apply::api;
use crate::engine::kinds::named;
use crate::engine::run::{Next, find, in_namespace};

/// One pass over one backup.
pub async fn reconcile(backup: Arc<Backup>, ctx: Arc<Context>) -> Result<Next, Error> {
    if backup.status.as_ref().and_then(|status| status.phase).is_some_and(Phase::is_final) {
        return Ok(Next::OnChange);
    }
    let (namespace, name) = (backup.namespace().unwrap_or_default(), backup.name_any());
    let mut seen = job_seen(&ctx, &namespace, &name);
    let plan = find(&ctx.plans, Some(&namespace), &backup.spec.plan);
    let instance = plan.as_ref().and_then(|plan| find(&ctx.databases, Some(&namespace), &plan.spec.instance));
    let began = seen != JobSeen::Missing;
    // Before it is told: what is told as stopped has been. A Job that was made a moment ago is not seen yet.
    let stoppable = matches!(seen, JobSeen::Missing | JobSeen::Running(_));
    if backup.spec.cancel && stoppable && stop(&ctx, &namespace, &name).await? {
        seen = JobSeen::Running(None);
    }
    let (outcome, said) = match may_begin(&backup, plan.as_ref(), began, &namespace, &ctx) {
        Ok(_) if backup.spec.cancel => (Outcome::Applied, None),
        Ok(plan) => outcome(ctx.engine.apply(job(&backup, plan, &ctx.platform.get())).await)?,
        Err(unfit) => (Outcome::Unfit(unfit), None),
    };
    let described = instance.and_then(|instance| serde_json::to_value(&instance.spec).ok());
    let status = backup_status(&backup, &outcome, &seen, described.as_ref(), Timestamp::now());
    if ctx.engine.reporter.report(&*backup, &status).await? {
        ctx.engine.world.nudge("BackupPlan", Some(&namespace), &backup.spec.plan);
    }
    Ok(match (status.phase, outcome) {
        (Some(phase), _) if phase.is_final() => Next::OnChange,
        (_, Outcome::Applied) => Next::After(ctx.ask_again),
        _ => said.unwrap_or(Next::Retry),
    })
}

/// Backups of one plan are made one at a time, in the order in which they were asked for.
fn may_begin<'a>(
    backup: &Backup,
    plan: Option<&'a BackupPlan>,
    began: bool,
    namespace: &str,
    ctx: &Context,
) -> Result<&'a BackupPlan, Unfit> {
    ctx.hospital(namespace)?;
    let wanted = &backup.spec.plan;
    let plan = plan.ok_or_else(|| Unfit::waiting("spec.plan", format!("a BackupPlan {wanted}")))?;
    if began {
        return Ok(plan);
    }
    let ready = plan.status.as_ref().is_some_and(|status| conditions::is_true(&status.conditions, conditions::READY));
    if !ready {
        return Err(Unfit::waiting("spec.plan", format!("the BackupPlan {wanted} to be Ready")));
    }
    let order = |backup: &Backup| (backup.metadata.creation_timestamp.clone(), backup.name_any());
    let ahead = in_namespace(&ctx.backups, namespace)
        .iter()
        .map(|other| ctx.engine.reporter.freshened(other))
        .filter(|other| other.spec.plan == *wanted && order(other) < order(backup))
        .find(|other| !other.status.as_ref().and_then(|status| status.phase).unwrap_or_default().is_final());
    match ahead {
        Some(other) => Err(Unfit::waiting("spec.plan", format!("the backup {} to end", other.name_any()))),
        None => Ok(plan),
    }
}

/// Has a Job stop, if there is one: with it goes its pod, and pgBackRest leaves the store as it is when it is told to end.
async fn stop(ctx: &Context, namespace: &str, name: &str) -> Result<bool, Error> {
    let jobs = api(&ctx.engine.client, named("Job"), Some(namespace));
    match jobs.delete(name, &DeleteParams::background()).await {
        Ok(_) => {
            tracing::info!(namespace, name, "a backup is cancelled, and its Job stopped");
            Ok(true)
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(source) => Err(Error::Delete { kind: "Job", name: name.to_owned(), source: Box::new(source) }),
    }
}

fn job_seen(ctx: &Context, namespace: &str, name: &str) -> JobSeen {
    let world = &ctx.engine.world;
    let Some(job) = world.get(named("Job"), Some(namespace), name) else { return JobSeen::Missing };
    let mut words: Vec<(String, String)> = world
        .select(named("Pod"), namespace, |_, seen| {
            seen.owner.as_ref().is_some_and(|owner| owner.kind == "Backup" && owner.name == name)
        })
        .iter()
        .filter_map(|(_, seen)| last_words(&seen.facts))
        .collect();
    words.sort();
    let last = words.pop().map(|(_, message)| message);
    let ended = |type_: &str| {
        let conditions = job.facts["status"]["conditions"].as_array();
        conditions.into_iter().flatten().find(|c| c["type"] == type_ && c["status"] == "True")
    };
    if ended("Complete").is_some() {
        return JobSeen::Succeeded(last);
    }
    if let Some(failed) = ended("Failed") {
        // Whoever met the deadline had no time for last words.
        let reason = failed["message"].as_str().map(str::to_owned);
        return JobSeen::Failed(last.or(reason));
    }
    let trouble = observe::pods(world, "Backup", namespace, name).into_iter().find_map(|pod| pod.trouble);
    JobSeen::Running(trouble)
}

/// When a container ended, and what it said.
fn last_words(pod: &Value) -> Option<(String, String)> {
    let containers = pod["status"]["containerStatuses"].as_array()?;
    let ended = containers.iter().find_map(|container| container["state"]["terminated"].as_object())?;
    let text = |field: &str| ended.get(field).and_then(Value::as_str).map(str::to_owned);
    Some((text("finishedAt").unwrap_or_default(), text("message")?))
}
