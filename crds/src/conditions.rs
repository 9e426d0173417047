//! Conditions: what is true of an object, since when, and why.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::Outcome;

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// The condition every kind has: it does what it was made for.
pub const READY: &str = "Ready";
/// Nothing will move until a person changes something.
pub const STALLED: &str = "Stalled";

/// The longest message the API server takes in a condition.
const LONGEST_MESSAGE: usize = 32_768;

/// A condition's answer before it has a type and a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    status: &'static str,
    reason: &'static str,
    message: String,
}

impl Verdict {
    /// It holds.
    pub fn yes(reason: &'static str, message: impl Into<String>) -> Self {
        Self { status: "True", reason, message: message.into() }
    }

    /// It does not hold.
    pub fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self { status: "False", reason, message: message.into() }
    }

    /// Nobody could look.
    pub fn unknown(reason: &'static str, message: impl Into<String>) -> Self {
        Self { status: "Unknown", reason, message: message.into() }
    }

    /// True when it holds.
    pub fn holds(&self) -> bool {
        self.status == "True"
    }
}

/// Collects the conditions of one pass over what the object already says.
pub struct Conditions {
    held: Vec<Condition>,
    generation: i64,
    now: Timestamp,
}

impl Conditions {
    /// Starts from the conditions that stand now.
    pub fn from(held: &[Condition], generation: i64, now: Timestamp) -> Self {
        Self { held: held.to_vec(), generation, now }
    }

    /// Says whether a condition holds.
    #[must_use]
    pub fn with(mut self, type_: &str, verdict: Verdict) -> Self {
        let mut message = verdict.message;
        message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
        let new = Condition {
            type_: type_.to_owned(),
            status: verdict.status.to_owned(),
            reason: verdict.reason.to_owned(),
            message,
            observed_generation: Some(self.generation),
            last_transition_time: Time(self.now),
        };
        set(&mut self.held, new);
        self
    }

    /// Takes a condition away, for those that only stand while something is wrong.
    #[must_use]
    pub fn without(mut self, type_: &str) -> Self {
        self.held.retain(|condition| condition.type_ != type_);
        self
    }

    /// `Ready` by the outcome of the pass, or by `else_ready` when the plan stands; `Stalled` while only a
    /// person can mend it. This is the one place where an outcome becomes a condition.
    #[must_use]
    pub fn ready(self, outcome: &Outcome, else_ready: impl FnOnce() -> Verdict) -> Self {
        let verdict = match outcome {
            Outcome::Applied => else_ready(),
            Outcome::Unfit(unfit) => Verdict::no(unfit.reason(), unfit.to_string()),
            Outcome::Failed(act) => Verdict::no("NotApplied", act.clone()),
        };
        match outcome {
            Outcome::Unfit(unfit) if !unfit.may_pass() => {
                self.with(READY, verdict).with(STALLED, Verdict::yes(unfit.reason(), unfit.to_string()))
            }
            _ => self.with(READY, verdict).without(STALLED),
        }
    }

    /// The list as it goes into the status, `Ready` first.
    pub fn into_vec(mut self) -> Vec<Condition> {
        self.held.sort_by_key(|condition| condition.type_ != READY);
        self.held
    }
}

/// Puts a condition into the list; its time is kept until its status turns, so that a pass that changes
/// nothing writes nothing.
pub fn set(conditions: &mut Vec<Condition>, mut new: Condition) {
    let Some(old) = conditions.iter_mut().find(|old| old.type_ == new.type_) else {
        return conditions.push(new);
    };
    if old.status == new.status {
        new.last_transition_time = old.last_transition_time.clone();
    }
    *old = new;
}

/// The status of a condition, if it was ever said.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    conditions.iter().any(|condition| condition.type_ == type_ && condition.status == "True")
}
