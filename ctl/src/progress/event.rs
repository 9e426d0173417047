//! What can happen, as the journal and the JSON lines on stderr tell it.

use serde::{Deserialize, Serialize};

/// Something that happened. The JSON form is an interface: fields are only ever added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    /// The work begins.
    RunStarted {
        /// Steps planned.
        steps: usize,
        /// Seconds it is expected to take.
        expected: f64,
    },
    /// A step begins.
    StepStarted {
        /// The host, or `cluster`.
        host: String,
        /// The phase.
        phase: String,
        /// The step.
        step: String,
    },
    /// A step came further.
    StepProgress {
        /// The host, or `cluster`.
        host: String,
        /// The phase.
        phase: String,
        /// The step.
        step: String,
        /// How much is done, 0 to 1.
        fraction: f64,
        /// Bytes moved so far.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bytes: Option<u64>,
    },
    /// A step failed in a way that may pass, and is tried again.
    StepRetried {
        /// The host, or `cluster`.
        host: String,
        /// The phase.
        phase: String,
        /// The step.
        step: String,
        /// Why.
        cause: String,
    },
    /// A step is done.
    StepFinished {
        /// The host, or `cluster`.
        host: String,
        /// The phase.
        phase: String,
        /// The step.
        step: String,
        /// Seconds it took.
        took: f64,
        /// Whether anything had to be changed.
        changed: bool,
    },
    /// A step failed for good.
    StepFailed {
        /// The host, or `cluster`.
        host: String,
        /// The phase.
        phase: String,
        /// The step.
        step: String,
        /// Seconds it took.
        took: f64,
        /// Why.
        cause: String,
    },
    /// A step was given up before its end: another one failed, or the person pressed Ctrl-C.
    StepStopped {
        /// The host, or `cluster`.
        host: String,
        /// The phase.
        phase: String,
        /// The step.
        step: String,
    },
    /// A phase is done on all its hosts.
    PhaseFinished {
        /// The phase.
        phase: String,
        /// Seconds from its first step's start to its last step's end.
        took: f64,
    },
    /// Something the person should read.
    Note {
        /// The text.
        text: String,
    },
    /// The work is over.
    RunFinished {
        /// Seconds it took.
        took: f64,
        /// Whether all of it succeeded.
        succeeded: bool,
    },
}

/// An event with the seconds since the work began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    /// Seconds since the work began.
    pub at: f64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}
