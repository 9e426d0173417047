//! What the platform says of a plan, and which backup it makes next.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::core::ResourceExt;

use super::{Backup, BackupPlan, BackupPlanStatus, BackupStatus, BackupType, IMMUTABLE, Immutability, schedule};
use crate::Outcome;
use crate::conditions::{Conditions, Verdict};
use crate::operation::Phase;
use crate::shared::unobserved;

/// The condition that the log is archived, and the last backup no older than the schedule says.
pub const HEALTHY: &str = "BackupHealthy";
/// A backup that failed although none is there yet is tried again after this long.
const AGAIN_AFTER: SignedDuration = SignedDuration::from_mins(15);
/// Log that waits for longer than this is not archived as it should be.
const LOG_WAITS: SignedDuration = SignedDuration::from_mins(15);

/// What the primary says of its log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Archiver {
    /// When a segment was last archived.
    pub last: Option<Timestamp>,
    /// The segment that could not be archived last, if none was since.
    pub failed: Option<String>,
    /// Segments that wait.
    pub waiting: i64,
}

/// What the operator saw of a plan.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// How far the pass got.
    pub outcome: Outcome,
    /// Backups of the plan.
    pub backups: Vec<Backup>,
    /// What the primary says of its log; nothing if it could not be asked.
    pub archiver: Option<Archiver>,
    /// Drills of the plan, by the time of their last proof.
    pub proved: Option<String>,
    /// The instance is there.
    pub instance: bool,
    /// Whether the store keeps what was written, if it was tried in this pass.
    pub immutability: Option<Immutability>,
}

fn phase(backup: &Backup) -> Phase {
    backup.status.as_ref().and_then(|status| status.phase).unwrap_or_default()
}

fn created(backup: &Backup) -> Option<Timestamp> {
    backup.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

fn completed(backup: &Backup) -> Option<Timestamp> {
    backup.status.as_ref()?.completion_time.as_ref()?.parse().ok()
}

/// The backup that succeeded last.
pub fn last(backups: &[Backup]) -> Option<&Backup> {
    backups.iter().filter(|backup| phase(backup) == Phase::Succeeded).max_by_key(|backup| completed(backup))
}

/// Backups of which the store keeps nothing any more, by the word of the last that succeeded.
pub fn expired(backups: &[Backup]) -> Vec<&Backup> {
    let oldest = last(backups).and_then(|last| last.status.as_ref()?.oldest.clone());
    let Some(oldest) = oldest else { return Vec::new() };
    let label = |backup: &Backup| backup.status.as_ref().and_then(|status| status.label.clone());
    backups.iter().filter(|backup| label(backup).is_some_and(|label| label < oldest)).collect()
}

/// What is due next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// When.
    pub at: Timestamp,
    /// What.
    pub type_: BackupType,
}

impl Due {
    /// Name of its object: whoever makes it twice makes it once.
    pub fn name(&self, plan: &str) -> String {
        format!("{plan}-{}", self.at.strftime("%Y%m%d%H%M"))
    }
}

/// The next backup of a plan, in the past if it is overdue; none while one is under way, or the schedule is no schedule.
pub fn due(plan: &BackupPlan, backups: &[Backup], now: Timestamp) -> Option<Due> {
    if plan.spec.suspend || backups.iter().any(|backup| !phase(backup).is_final()) {
        return None;
    }
    let full = schedule::parse("", &plan.spec.schedule.full).ok()?;
    if last(backups).is_none() {
        // None is there: at once, and after a failure not at once.
        let failed = backups.iter().filter_map(completed).max();
        let at = failed.and_then(|at| at.checked_add(AGAIN_AFTER).ok()).unwrap_or(now);
        return Some(Due { at, type_: BackupType::Full });
    }
    let newest =
        |all: bool| backups.iter().filter(|b| all || b.spec.type_ == BackupType::Full).filter_map(created).max();
    let next_full = newest(false).or_else(|| newest(true)).and_then(|at| schedule::next(&full, at));
    let next_full = next_full.map(|at| Due { at, type_: BackupType::Full });
    let text = plan.spec.schedule.differential.as_ref();
    let differential = text.and_then(|text| schedule::parse("", text).ok());
    let next_differential = differential.and_then(|crontab| schedule::next(&crontab, newest(true)?));
    let next_differential = next_differential.map(|at| Due { at, type_: BackupType::Differential });
    match (next_full, next_differential) {
        // A full backup that is due stands for a differential one too.
        (Some(full), Some(differential)) if full.at <= now || full.at <= differential.at => Some(full),
        (_, Some(differential)) => Some(differential),
        (full, None) => full,
    }
}

/// The status after a pass.
pub fn status(plan: &BackupPlan, observed: &Observed, now: Timestamp) -> BackupPlanStatus {
    let before = plan.status.clone().unwrap_or_default();
    let generation = plan.metadata.generation.unwrap_or_else(unobserved);
    let last = last(&observed.backups);
    let of_last = last.and_then(|last| last.status.clone()).unwrap_or_default();
    let kept = observed.backups.iter().filter(|backup| phase(backup) == Phase::Succeeded);
    let due = due(plan, &observed.backups, now);
    let conditions = Conditions::from(&before.conditions, generation, now)
        .ready(&observed.outcome, || match observed.instance {
            true => Verdict::yes("Configured", "the instance knows where its log and its backups go"),
            false => Verdict::no(
                "NoInstance",
                format!("there is no PostgresInstance {}; its backups can be restored", plan.spec.instance),
            ),
        })
        .with(HEALTHY, healthy(plan, observed, last, now));
    let immutability = observed.immutability.clone().or(before.immutability).filter(|_| plan.spec.prove_immutable);
    let conditions = match &immutability {
        Some(tried) => conditions.with(IMMUTABLE, tried.verdict()),
        None => conditions.without(IMMUTABLE),
    };
    BackupPlanStatus {
        observed_generation: generation,
        conditions: conditions.into_vec(),
        last_backup: last.map(ResourceExt::name_any),
        last_backup_time: of_last.completion_time,
        last_proved_restore: observed.proved.clone().or(before.last_proved_restore),
        // While one is under way the next is not known yet.
        next_backup_time: due.map(|due| second(due.at.max(now_if_past(due.at, now)))),
        recoverable_from: kept.clone().filter_map(completed).min().map(second),
        backups: i32::try_from(kept.count()).unwrap_or(i32::MAX),
        immutability,
    }
}

/// A time that has passed is now.
fn now_if_past(at: Timestamp, now: Timestamp) -> Timestamp {
    if at < now { now } else { at }
}

/// RFC 3339, to the second.
pub fn second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn healthy(plan: &BackupPlan, observed: &Observed, last: Option<&Backup>, now: Timestamp) -> Verdict {
    if !matches!(observed.outcome, Outcome::Applied) {
        return Verdict::unknown("NotConfigured", "see Ready");
    }
    if plan.spec.suspend {
        return Verdict::no("Suspended", "no new backups are made; set spec.suspend to false to go on");
    }
    if !observed.instance {
        return Verdict::no("NoInstance", format!("there is no PostgresInstance {}", plan.spec.instance));
    }
    if let Some(bad) = observed.archiver.as_ref().and_then(|archiver| unarchived(archiver, now)) {
        return bad;
    }
    let newest = observed.backups.iter().filter(|backup| phase(backup).is_final()).max_by_key(|b| completed(b));
    let failed = newest.filter(|backup| phase(backup) == Phase::Failed);
    if let Some(failed) = failed {
        let why = failed.status.clone().and_then(|status| status.message).unwrap_or_default();
        return Verdict::no("BackupFailed", format!("{}: {why}", failed.name_any()));
    }
    let Some(last) = last else { return Verdict::no("NoBackupYet", "the first backup is being made") };
    // One that is under way has its deadline; one that was not begun has an hour.
    let waits = due(plan, &observed.backups, now).map(|due| now.duration_since(due.at));
    if waits.is_some_and(|waits| waits > SignedDuration::from_hours(1)) {
        return Verdict::no(
            "Overdue",
            format!("the last backup, {}, is older than the schedule says", last.name_any()),
        );
    }
    let until = observed.archiver.as_ref().and_then(|archiver| archiver.last);
    match (until, &observed.archiver) {
        (_, None) => Verdict::unknown("NotSeen", "the primary does not answer, so nobody knows about its log"),
        _ => Verdict::yes("Recent", format!("the last backup is {}, and the log is archived", last.name_any())),
    }
}

fn unarchived(archiver: &Archiver, now: Timestamp) -> Option<Verdict> {
    if let Some(segment) = &archiver.failed {
        let what = format!(
            "the log cannot be archived since segment {segment} ({} wait): see the log of the primary, \
             `hzctl db logs`, for what the store says",
            archiver.waiting
        );
        return Some(Verdict::no("ArchivingFails", what));
    }
    let late = archiver.last.is_some_and(|last| now.duration_since(last) > LOG_WAITS);
    (archiver.waiting > 1 && late)
        .then(|| Verdict::no("ArchivingLags", format!("{} segments of the log wait to be archived", archiver.waiting)))
}

/// How a Job that makes a backup stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobSeen {
    /// Not there yet.
    Missing,
    /// At work, or why its pod is not.
    Running(Option<String>),
    /// It ended well, with what it says of itself.
    Succeeded(Option<String>),
    /// It ended badly, with what it says of itself.
    Failed(Option<String>),
}

/// The status of a backup after a pass; `instance` is the spec that was backed up.
pub fn backup_status(
    backup: &Backup,
    outcome: &Outcome,
    job: &JobSeen,
    instance: Option<&serde_json::Value>,
    now: Timestamp,
) -> BackupStatus {
    let before = backup.status.clone().unwrap_or_default();
    if before.phase.is_some_and(Phase::is_final) {
        return before;
    }
    let generation = backup.metadata.generation.unwrap_or_else(unobserved);
    let said = |text: &Option<String>| -> serde_json::Value {
        text.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    };
    let began = before.start_time.is_some() || !matches!(job, JobSeen::Missing);
    let (phase, mut message, report) = match (outcome, job) {
        // What had ended before anybody stopped it ended as it did.
        (_, JobSeen::Missing | JobSeen::Running(_)) if backup.spec.cancel => {
            (Phase::Cancelled, cancelled(began).to_owned(), None)
        }
        (Outcome::Unfit(unfit), _) if unfit.may_pass() => (Phase::Pending, unfit.to_string(), None),
        (Outcome::Unfit(unfit), _) => (Phase::Failed, unfit.to_string(), None),
        (Outcome::Failed(act), _) => (Phase::Pending, act.clone(), None),
        (Outcome::Applied, JobSeen::Missing) => (Phase::Pending, "its Job is being made".to_owned(), None),
        (Outcome::Applied, JobSeen::Running(Some(trouble))) => (Phase::Running, trouble.clone(), None),
        (Outcome::Applied, JobSeen::Running(None)) => (Phase::Running, "pgBackRest is at work".to_owned(), None),
        (Outcome::Applied, JobSeen::Failed(text)) => {
            let error = said(text)["error"].as_str().map(str::to_owned);
            let none = || text.clone().unwrap_or_else(|| "its Job failed or met its deadline".to_owned());
            (Phase::Failed, error.unwrap_or_else(none), None)
        }
        (Outcome::Applied, JobSeen::Succeeded(text)) => {
            let report = said(text);
            (Phase::Succeeded, "complete".to_owned(), Some(report))
        }
    };
    message.truncate(message.floor_char_boundary(2048));
    let verdict = match phase {
        Phase::Succeeded => Verdict::yes("Complete", message.clone()),
        Phase::Failed => Verdict::no("Failed", message.clone()),
        Phase::Cancelled => Verdict::no("Cancelled", message.clone()),
        _ => Verdict::no("AtWork", message.clone()),
    };
    let report = report.unwrap_or_default();
    let time = |field: &str| report[field].as_i64().and_then(|at| Timestamp::from_second(at).ok()).map(second);
    let (size, stored) = (report["size"].as_i64(), report["stored"].as_i64());
    let text = |field: &str| report[field].as_str().map(str::to_owned);
    let began = before.start_time.or_else(|| (phase == Phase::Running).then(|| second(now)));
    BackupStatus {
        observed_generation: generation,
        conditions: Conditions::from(&before.conditions, generation, now)
            .with(crate::conditions::READY, verdict)
            .into_vec(),
        phase: Some(phase),
        message: Some(message),
        start_time: time("start").or(began),
        completion_time: phase.is_final().then(|| time("stop").unwrap_or_else(|| second(now))),
        label: text("label"),
        oldest: text("oldest"),
        size_bytes: size,
        stored_bytes: stored,
        stored: size.zip(stored).map(|(size, stored)| format!("{} of {}", amount(stored), amount(size))),
        instance: instance.cloned().or(before.instance),
    }
}

fn cancelled(began: bool) -> &'static str {
    match began {
        true => {
            "cancelled, and its Job is stopped; what it had put into the store is no backup: the next one goes on from it or \
             removes it"
        }
        false => "cancelled before it began; nothing was done",
    }
}

#[allow(clippy::cast_precision_loss)] // for people
fn amount(bytes: i64) -> String {
    match bytes as f64 {
        bytes if bytes < f64::from(1 << 20) => format!("{:.1} KiB", bytes / 1024.0),
        bytes => format!("{:.1} MiB", bytes / f64::from(1 << 20)),
    }
}
