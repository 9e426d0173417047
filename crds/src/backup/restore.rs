//! What a restore turns into, and how it stands.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::core::ResourceExt;
use serde_json::{Value, json};

use super::plan_status::{last, second};
use super::{Backup, BackupPlan, Restore, RestoreStatus};
use crate::conditions::{self, Conditions, READY, Verdict};
use crate::operation::Phase;
use crate::postgres::{PostgresInstance, PostgresInstanceSpec, RestoreFrom, Synchronous};
use crate::shared::{DeletionPolicy, unobserved};
use crate::{Outcome, Unfit};

/// Restore that an instance was made by, in its annotations: its unique id.
pub const MADE_BY: &str = "hz.hospital/restore";

/// The new instance, from what is known of the plan and its backups.
pub fn instance(
    restore: &Restore,
    plan: Option<&BackupPlan>,
    backups: &[Backup],
    now: Timestamp,
) -> Result<PostgresInstance, Unfit> {
    let spec = &restore.spec;
    let plan = plan.ok_or_else(|| Unfit::waiting("spec.plan", format!("a BackupPlan {}", spec.plan)))?;
    let newest = last(backups).ok_or_else(|| Unfit::waiting("spec.plan", "its first backup"))?;
    let chosen = match &spec.backup {
        None => newest,
        Some(name) => chosen(name, backups)?,
    };
    let target_time = spec.target_time.as_ref().map(|text| moment(text, plan, now)).transpose()?;
    let described = chosen.status.as_ref().and_then(|status| status.instance.clone());
    let described: PostgresInstanceSpec = described
        .and_then(|spec| serde_json::from_value(spec).ok())
        .ok_or_else(|| Unfit::waiting("spec.plan", "a backup that says what instance it is of"))?;
    let instances = spec.instances.unwrap_or(described.instances);
    let mut storage = described.storage.clone();
    if let Some(size) = &spec.size {
        if size.units() < storage.size.units() {
            return Err(Unfit::refused(
                "spec.size",
                size,
                format!("the instance that was backed up had {}, and all of it has to fit", storage.size),
                format!("possible: {} or more", storage.size),
            ));
        }
        storage.size = size.clone();
    }
    let label = chosen.status.as_ref().and_then(|status| status.label.clone());
    let mut instance = PostgresInstance::new(
        &spec.instance,
        PostgresInstanceSpec {
            instances,
            // One copy has no other to confirm its writes.
            synchronous: if instances == 1 { Synchronous::Disabled } else { described.synchronous },
            storage,
            deletion_policy: if spec.sealed { DeletionPolicy::Delete } else { described.deletion_policy },
            suspend: false,
            sealed: spec.sealed,
            restore_from: Some(RestoreFrom {
                plan: spec.plan.clone(),
                backup: label.filter(|_| spec.backup.is_some()),
                target_time: target_time.map(|at| at.to_string()),
            }),
            ..described
        },
    );
    instance.metadata.namespace = restore.namespace();
    instance.annotations_mut().insert(MADE_BY.into(), restore.uid().unwrap_or_default());
    if spec.sealed {
        instance.metadata.owner_references = kube::core::Resource::controller_owner_ref(restore, &()).map(|o| vec![o]);
    }
    Ok(instance)
}

fn chosen<'a>(name: &str, backups: &'a [Backup]) -> Result<&'a Backup, Unfit> {
    let usable = |backup: &&Backup| backup.status.as_ref().and_then(|s| s.phase) == Some(Phase::Succeeded);
    backups.iter().filter(usable).find(|backup| backup.name_any() == name).ok_or_else(|| {
        let mut there: Vec<String> = backups.iter().filter(usable).map(ResourceExt::name_any).collect();
        there.sort();
        let there = there.iter().rev().take(5).cloned().collect::<Vec<_>>().join(", ");
        Unfit::refused(
            "spec.backup",
            name,
            "the plan has no complete backup of that name",
            format!("the newest: {there}"),
        )
    })
}

fn moment(text: &str, plan: &BackupPlan, now: Timestamp) -> Result<Timestamp, Unfit> {
    let field = "spec.targetTime";
    let at: Timestamp = text.parse().map_err(|_| {
        Unfit::refused(field, text, "this is no moment", "write it as in RFC 3339: `2026-07-01T12:30:00Z` or `…+02:00`")
    })?;
    let from = plan.status.as_ref().and_then(|status| status.recoverable_from.clone());
    let oldest: Option<Timestamp> = from.as_ref().and_then(|from| from.parse().ok());
    let window = format!("possible: {} to {}", from.as_deref().unwrap_or("the first backup"), second(now));
    if at > now {
        return Err(Unfit::refused(field, text, "this moment has not come yet", window));
    }
    if oldest.is_some_and(|oldest| at < oldest) {
        return Err(Unfit::refused(field, text, "this moment is before the oldest backup that is kept", window));
    }
    Ok(at)
}

/// Options of `pgbackrest restore` for what is asked for (<https://pgbackrest.org/command.html#command-restore>).
pub fn options(from: &RestoreFrom) -> Vec<String> {
    let set = from.backup.iter().map(|label| format!("--set={label}"));
    let target: Vec<String> = match (&from.target_time, &from.backup) {
        (Some(at), _) => {
            let at: Timestamp = at.parse().unwrap_or_default();
            let at = at.strftime("%Y-%m-%d %H:%M:%S%.f+00");
            vec!["--type=time".into(), format!("--target={at}"), "--target-action=promote".into()]
        }
        (None, Some(_)) => vec!["--type=immediate".into(), "--target-action=promote".into()],
        (None, None) => Vec::new(),
    };
    set.chain(target).collect()
}

/// What the operator saw of a restore.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Whether the instance could be made.
    pub outcome: Outcome,
    /// The new instance.
    pub instance: Option<PostgresInstance>,
    /// Moment of the last transaction in it, once it was asked.
    pub recovered_to: Option<Option<Timestamp>>,
}

/// The status after a pass.
pub fn restore_status(restore: &Restore, seen: &Seen, now: Timestamp) -> RestoreStatus {
    let before = restore.status.clone().unwrap_or_default();
    if before.phase.is_some_and(Phase::is_final) {
        return before;
    }
    let created = restore.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let (phase, mut message) = match stands(restore, seen, created, now) {
        // One that answers already was restored, and one that could never be was not cancelled.
        (phase, _) if restore.spec.cancel && !phase.is_final() => (Phase::Cancelled, cancelled(restore, seen)),
        stands => stands,
    };
    message.truncate(message.floor_char_boundary(2048));
    let generation = restore.metadata.generation.unwrap_or_else(unobserved);
    let verdict = match phase {
        Phase::Succeeded => Verdict::yes("Restored", message.clone()),
        Phase::Cancelled => Verdict::no("Cancelled", message.clone()),
        Phase::Failed if is_late(restore, created, now) => Verdict::no("DeadlineExceeded", message.clone()),
        Phase::Failed => Verdict::no("Failed", message.clone()),
        _ => Verdict::no("AtWork", message.clone()),
    };
    let done = phase == Phase::Succeeded;
    RestoreStatus {
        observed_generation: generation,
        conditions: Conditions::from(&before.conditions, generation, now).with(READY, verdict).into_vec(),
        phase: Some(phase),
        message: Some(message),
        start_time: before.start_time.or_else(|| seen.instance.is_some().then(|| second(created))),
        completion_time: phase.is_final().then(|| second(now)),
        recovered_to: seen.recovered_to.flatten().filter(|_| done).map(second),
        recovery_seconds: done.then(|| now.duration_since(created).as_secs()),
    }
}

/// What a restore that is cancelled leaves.
fn cancelled(restore: &Restore, seen: &Seen) -> String {
    let name = &restore.spec.instance;
    match (&seen.instance, restore.spec.sealed) {
        (None, _) => format!("cancelled before the PostgresInstance {name} was made; nothing was done"),
        (Some(_), true) => format!("cancelled; the PostgresInstance {name} goes when this Restore is deleted"),
        (Some(_), false) => format!(
            "cancelled; the PostgresInstance {name} was made and stays, with its volumes and Secrets: it may still become \
             Ready by itself, and if nobody needs it, delete it"
        ),
    }
}

fn is_late(restore: &Restore, created: Timestamp, now: Timestamp) -> bool {
    now.duration_since(created) > SignedDuration::from_secs(i64::from(restore.spec.deadline_seconds))
}

fn stands(restore: &Restore, seen: &Seen, created: Timestamp, now: Timestamp) -> (Phase, String) {
    let name = &restore.spec.instance;
    let (phase, message) = match (&seen.outcome, &seen.instance) {
        (Outcome::Unfit(unfit), _) if unfit.may_pass() => (Phase::Pending, unfit.to_string()),
        (Outcome::Unfit(unfit), _) => return (Phase::Failed, unfit.to_string()),
        (Outcome::Failed(act), _) => (Phase::Pending, act.clone()),
        (Outcome::Applied, None) => (Phase::Pending, format!("{name} is being made")),
        (Outcome::Applied, Some(instance)) => {
            let status = instance.status.clone().unwrap_or_default();
            let ready = status.observed_generation == instance.metadata.generation.unwrap_or_else(unobserved)
                && conditions::is_true(&status.conditions, READY);
            let trouble = status.conditions.iter().find(|condition| condition.type_ == READY);
            let trouble = trouble.filter(|condition| !matches!(condition.reason.as_str(), "Starting" | "Waiting"));
            match (ready, &seen.recovered_to) {
                (true, Some(to)) => {
                    let to = to.map_or_else(String::new, |to| format!(", with everything up to {}", second(to)));
                    return (Phase::Succeeded, format!("{name} answers{to}"));
                }
                (true, None) => (Phase::Running, format!("{name} answers")),
                (false, _) => match trouble {
                    Some(condition) => (Phase::Running, format!("{name}: {}", condition.message)),
                    None => (Phase::Running, format!("{name} fetches its data and goes through the log")),
                },
            }
        }
    };
    if is_late(restore, created, now) {
        return (Phase::Failed, format!("not done within {} s: {message}", restore.spec.deadline_seconds));
    }
    (phase, message)
}

/// Body of the Restore that a drill makes.
pub fn of_drill(plan: &str, instance: &str, deadline: i32) -> Value {
    json!({ "plan": plan, "instance": instance, "instances": 1, "sealed": true, "deadlineSeconds": deadline })
}
