//! What the platform says of an operation.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::decide::Decision;
use super::{DataOperation, DataOperationStatus, Phase};
use crate::conditions::{Conditions, READY, Verdict};
use crate::shared::unobserved;

/// The longest message that the definition takes.
const LONGEST_MESSAGE: usize = 1024;

/// When an operation that has ended is to be removed.
pub fn expires(operation: &DataOperation) -> Option<Timestamp> {
    let status = operation.status.as_ref().filter(|status| status.phase.is_some_and(Phase::is_final))?;
    let ended: Timestamp = status.completion_time.as_ref()?.parse().ok()?;
    ended.checked_add(SignedDuration::from_secs(i64::from(operation.spec.ttl_seconds_after_finished))).ok()
}

/// The status after a decision. Of one that has ended nothing changes.
pub fn status(operation: &DataOperation, decision: &Decision, now: Timestamp) -> DataOperationStatus {
    let before = operation.status.clone().unwrap_or_default();
    if before.phase.is_some_and(Phase::is_final) {
        return before;
    }
    let generation = operation.metadata.generation.unwrap_or_else(unobserved);
    let mut message = decision.message.clone();
    message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
    let verdict = match decision.phase {
        Phase::Succeeded => Verdict::yes(decision.reason, decision.message.clone()),
        _ => Verdict::no(decision.reason, decision.message.clone()),
    };
    let second = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let began = decision.phase == Phase::Running && before.start_time.is_none();
    DataOperationStatus {
        observed_generation: generation,
        conditions: Conditions::from(&before.conditions, generation, now).with(READY, verdict).into_vec(),
        phase: Some(decision.phase),
        progress: decision.progress.clone().or(before.progress),
        message: Some(message),
        start_time: if began { Some(second(now)) } else { before.start_time },
        completion_time: decision.phase.is_final().then(|| second(now)),
        before: decision.before.clone().or(before.before),
        stage: decision.stage.or(before.stage),
    }
}
