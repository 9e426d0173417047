//! Whether a store keeps what was written to it, whoever asks for its removal. Proved by trying: what a store says of itself,
//! in a header or a setting, proves nothing.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::BackupPlan;
use super::plan_status::second;
use crate::conditions::Verdict;

/// The condition that the store keeps what was written.
pub const IMMUTABLE: &str = "Immutable";
/// How long a proof is good. Each leaves an object of a few bytes that nobody can remove before its lock ends.
const GOOD_FOR: SignedDuration = SignedDuration::from_hours(24);
/// How soon a try that came to nothing is made again.
const AGAIN_AFTER: SignedDuration = SignedDuration::from_mins(15);

/// What became of an object that was written as backups are, and then attacked with the plan's own key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Kept {
    /// It could be neither deleted nor written over.
    Enforced,
    /// It could.
    NotEnforced,
    /// Nobody could find out.
    Unknown,
}

/// The last proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Immutability {
    /// What became of the object.
    pub state: Kept,

    /// In a sentence.
    #[schemars(length(max = 1024))]
    pub message: String,

    /// When it was tried: RFC 3339, UTC.
    #[schemars(length(max = 40))]
    pub probe_time: String,
}

impl Immutability {
    /// A proof of now.
    pub fn new(state: Kept, message: impl Into<String>, now: Timestamp) -> Self {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(1024));
        Self { state, message, probe_time: second(now) }
    }

    /// What the condition says of it.
    pub fn verdict(&self) -> Verdict {
        match self.state {
            Kept::Enforced => Verdict::yes("Enforced", self.message.clone()),
            Kept::NotEnforced => Verdict::no("NotEnforced", self.message.clone()),
            Kept::Unknown => Verdict::unknown("NotProbed", self.message.clone()),
        }
    }
}

/// Whether it is to be tried now: only for plans that ask for it, since it leaves something behind.
pub fn is_due(plan: &BackupPlan, now: Timestamp) -> bool {
    let last = plan.status.as_ref().and_then(|status| status.immutability.as_ref());
    let age = last.and_then(|last| Some((last.state, now.duration_since(last.probe_time.parse().ok()?))));
    let good_for = |state| if state == Kept::Unknown { AGAIN_AFTER } else { GOOD_FOR };
    plan.spec.prove_immutable && age.is_none_or(|(state, age)| age >= good_for(state))
}
