//! When a drill is made, what it asks, and what came of it.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::core::ResourceExt;

use super::plan_status::second;
use super::{Check, CheckResult, DrillRun, Restore, RestoreDrill, RestoreDrillStatus, schedule};
use crate::conditions::{Conditions, READY, Verdict};
use crate::operation::Phase;
use crate::shared::unobserved;
use crate::{Outcome, Unfit};

/// Annotation by which a person asks for a drill at once: any text that it had not before, at most 40 letters.
pub const RUN: &str = "hz.hospital/run";

/// What a person asked for last.
pub fn requested(drill: &RestoreDrill) -> Option<String> {
    drill.annotations().get(RUN).filter(|text| text.len() <= 40).cloned()
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until then.
    Wait(Option<Timestamp>),
    /// Begin one.
    Begin,
    /// It is restored: ask the questions, then remove it.
    Ask,
    /// Its restore failed, or took too long: remove it.
    GiveUp(String),
    /// Wait for its restore.
    Restoring,
}

/// What is to be done for a drill. `restored` is the Restore of the run under way; `backed_up`: the plan has a backup.
pub fn step(drill: &RestoreDrill, restored: Option<&Restore>, backed_up: bool, now: Timestamp) -> Result<Step, Unfit> {
    let crontab = schedule::parse("spec.schedule", &drill.spec.schedule)?;
    let run = drill.status.as_ref().and_then(|status| status.last_run.as_ref());
    let began = run.and_then(|run| run.start_time.parse::<Timestamp>().ok());
    if let Some(run) = run.filter(|run| !run.phase.is_final()) {
        let phase = restored.and_then(|restore| restore.status.as_ref()?.phase).unwrap_or_default();
        let late = SignedDuration::from_secs(i64::from(drill.spec.deadline_seconds));
        let said = || restored.and_then(|restore| restore.status.as_ref()?.message.clone()).unwrap_or_default();
        return Ok(match phase {
            Phase::Succeeded => Step::Ask,
            Phase::Failed | Phase::Cancelled => Step::GiveUp(said()),
            _ if began.is_some_and(|began| now.duration_since(began) > late) => {
                Step::GiveUp(format!("not restored within {} s: {}", drill.spec.deadline_seconds, said()))
            }
            _ if restored.is_none() && run.restore.is_empty() => Step::GiveUp("its restore was removed".to_owned()),
            _ => Step::Restoring,
        });
    }
    let asked = requested(drill);
    let wanted = asked.is_some() && run.is_none_or(|run| run.requested != asked);
    if drill.spec.suspend && !wanted {
        return Ok(Step::Wait(None));
    }
    if !backed_up {
        return Err(Unfit::waiting("spec.plan", format!("a backup of the plan {}", drill.spec.plan)));
    }
    // The first one is made at once.
    let Some(began) = began.filter(|_| !wanted) else { return Ok(Step::Begin) };
    let next = schedule::next(&crontab, began);
    Ok(if next.is_some_and(|next| next <= now) { Step::Begin } else { Step::Wait(next) })
}

/// Name of the Restore and of the instance of a run that begins now.
pub fn name(drill: &str, now: Timestamp) -> String {
    format!("{drill}-{}", now.as_second() % 100_000) // names of instances are short
}

/// What a check says to an answer.
pub fn judge(check: &Check, answer: Result<Option<String>, String>) -> CheckResult {
    let (passed, said) = match answer {
        Err(error) => (false, error),
        Ok(answer) => {
            let text = answer.unwrap_or_else(|| "nothing".to_owned());
            let passed = match (&check.equals, check.minimum) {
                (Some(wanted), _) => *wanted == text,
                (None, Some(minimum)) => text.trim().parse::<i64>().is_ok_and(|number| number >= minimum),
                (None, None) => true,
            };
            (passed, text)
        }
    };
    result(check.name.clone(), passed, said)
}

/// A result, cut to what the definition takes.
pub fn result(mut name: String, passed: bool, mut answer: String) -> CheckResult {
    name.truncate(name.floor_char_boundary(128));
    answer.truncate(answer.floor_char_boundary(256));
    CheckResult { name, passed, answer }
}

/// What a run that ends comes to.
pub fn finish(
    drill: &RestoreDrill,
    run: &DrillRun,
    restored: &Restore,
    checks: Vec<CheckResult>,
    now: Timestamp,
) -> DrillRun {
    let status = restored.status.clone().unwrap_or_default();
    let recovery = status.recovery_seconds;
    let moment = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<Timestamp>().ok());
    // What was written after the drill began is none of its business.
    let loss = moment(&run.last_commit).zip(moment(&status.recovered_to));
    let loss = loss.map(|(commit, recovered)| commit.duration_since(recovered).as_secs().max(0));
    let failed: Vec<&str> = checks.iter().filter(|check| !check.passed).map(|check| check.name.as_str()).collect();
    let over = |measured: Option<i64>, objective: Option<i64>, what: &str| {
        let (measured, objective) = (measured?, objective?);
        (measured > objective).then(|| format!("{what} was {measured} s, and the objective is {objective} s"))
    };
    let spec = &drill.spec;
    let missed = over(recovery, spec.recovery_time_objective, "recovery time")
        .or_else(|| over(loss, spec.recovery_point_objective, "the loss"));
    let (phase, message) = match (failed.is_empty(), missed) {
        (false, _) => (Phase::Failed, format!("restored, and not as it should be: {}", failed.join(", "))),
        (true, Some(missed)) => (Phase::Failed, missed),
        (true, None) => (Phase::Succeeded, format!("restored, and all {} checks passed", checks.len())),
    };
    DrillRun {
        phase,
        message,
        completion_time: Some(second(now)),
        recovered_to: status.recovered_to,
        recovery_seconds: recovery,
        loss_seconds: loss,
        checks,
        ..run.clone()
    }
}

/// The status after a pass, with the run as it now stands.
pub fn drill_status(
    drill: &RestoreDrill,
    outcome: &Outcome,
    run: Option<DrillRun>,
    now: Timestamp,
) -> RestoreDrillStatus {
    let before = drill.status.clone().unwrap_or_default();
    let generation = drill.metadata.generation.unwrap_or_else(unobserved);
    let run = run.or(before.last_run);
    let conditions = Conditions::from(&before.conditions, generation, now);
    let conditions = match &run {
        Some(run) if run.phase.is_final() || conditions_say_nothing(&before.conditions) => {
            conditions.ready(outcome, || match run.phase {
                Phase::Succeeded => Verdict::yes("Proved", run.message.clone()),
                Phase::Failed | Phase::Cancelled => Verdict::no("NotProved", run.message.clone()),
                _ => Verdict::unknown("FirstDrill", "the first drill is under way"),
            })
        }
        // While one is under way, what the last one proved stands.
        Some(_) => conditions,
        None => conditions.ready(outcome, || Verdict::unknown("NoDrillYet", "no drill was made yet")),
    };
    let proved = run.as_ref().filter(|run| run.phase == Phase::Succeeded).and_then(|run| run.completion_time.clone());
    let began = run.as_ref().and_then(|run| run.start_time.parse::<Timestamp>().ok());
    let crontab = schedule::parse("", &drill.spec.schedule).ok().filter(|_| !drill.spec.suspend);
    RestoreDrillStatus {
        observed_generation: generation,
        conditions: conditions.into_vec(),
        last_proved_restore: proved.or(before.last_proved_restore),
        next_run_time: crontab.zip(began).and_then(|(crontab, began)| schedule::next(&crontab, began)).map(second),
        last_run: run,
    }
}

fn conditions_say_nothing(held: &[crate::conditions::Condition]) -> bool {
    !held.iter().any(|condition| condition.type_ == READY && condition.reason != "Waiting")
}

#[cfg(test)]
#[path = "drill_tests.rs"]
mod tests;
