//! How a piece of work ended, as a sentence and as a failure with its exit code.

use hz_crds::Timestamp;
use hz_crds::conditions::{Condition, READY};
use hz_crds::operation::Phase;

use crate::exit::{ExitStatus, Failure};
use crate::progress::short;

/// Reason of the condition `Ready` of work that ran out of time.
const LATE: &str = "DeadlineExceeded";

/// How it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// What was done: `the restart of records`.
    pub deed: String,
    /// How it ended, or stands.
    pub phase: Phase,
    /// What is said of it.
    pub message: Option<String>,
    /// How long it took.
    pub took: Option<String>,
    /// Whether it ran out of time.
    pub late: bool,
}

/// Why something did not succeed, for the words that help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It failed.
    Failed,
    /// It ran out of time.
    Late,
    /// A person stopped it.
    Cancelled,
}

impl Ended {
    /// `the restart of records succeeded in 42s: all copies started anew`
    pub fn sentence(&self) -> String {
        let how = match self.phase {
            Phase::Pending => "waits",
            Phase::Running => "is under way",
            Phase::Succeeded => "succeeded",
            Phase::Failed => "failed",
            Phase::Cancelled => "was cancelled",
        };
        let took = self.took.as_ref().filter(|_| self.phase == Phase::Succeeded);
        let took = took.map(|took| format!(" in {took}")).unwrap_or_default();
        let message = tidy(self.message.as_deref()).map(|message| format!(": {message}")).unwrap_or_default();
        format!("{} {how}{took}{message}", self.deed)
    }

    /// What a person has to look at, if it did not succeed. `deadline` is how long it was given, if that is known.
    pub fn failure(&self, deadline: Option<i32>, hint: impl FnOnce(Why) -> String) -> Option<Failure> {
        let deed = &self.deed;
        let failure = match self.phase {
            Phase::Failed if self.late => {
                let seconds = deadline.map(|seconds| format!(" of {seconds} seconds")).unwrap_or_default();
                Failure::new(ExitStatus::Deadline, format!("{deed} was given up at its deadline{seconds}"))
                    .hint(hint(Why::Late))
            }
            Phase::Failed => Failure::fault(format!("{deed} failed")).hint(hint(Why::Failed)),
            Phase::Cancelled => {
                Failure::new(ExitStatus::Interrupted, format!("{deed} was cancelled")).hint(hint(Why::Cancelled))
            }
            Phase::Pending | Phase::Running | Phase::Succeeded => return None,
        };
        Some(match tidy(self.message.as_deref()) {
            Some(message) => failure.because(message),
            None => failure,
        })
    }
}

/// A message as the end of a sentence.
fn tidy(message: Option<&str>) -> Option<String> {
    message.map(|message| message.trim().trim_end_matches('.').to_owned()).filter(|message| !message.is_empty())
}

/// Whether these conditions say that it ran out of time.
pub fn is_late(conditions: &[Condition]) -> bool {
    conditions.iter().any(|condition| condition.type_ == READY && condition.reason == LATE)
}

/// From its begin to its end, by the clock of the operator alone.
pub fn took(started: Option<&str>, ended: Option<&str>) -> Option<String> {
    let time = |text: Option<&str>| text?.parse::<Timestamp>().ok();
    let took = time(ended)?.duration_since(time(started)?);
    Some(short(took.try_into().ok()?))
}
