//! What the last run measured, as the next one's expectations.

use std::collections::HashMap;
use std::io::BufRead;
use std::time::Duration;

use super::{Event, Stamped};

/// How long each step took last time.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    steps: HashMap<(String, String, String), f64>,
    total: Option<f64>,
}

impl Weights {
    /// Learn from a journal: one JSON event a line. Lines that are none are passed over, for a run killed while
    /// it wrote leaves half a line. Steps that found nothing to do tell nothing of how long the work takes.
    pub fn learn(journal: impl BufRead) -> Self {
        let mut weights = Weights::default();
        for line in journal.lines().map_while(Result::ok) {
            match serde_json::from_str::<Stamped>(&line).map(|stamped| stamped.event) {
                Ok(Event::StepFinished { host, phase, step, took, changed: true })
                    if took.is_finite() && took >= 0.0 =>
                {
                    weights.steps.insert((host, phase, step), took);
                }
                Ok(Event::RunFinished { took, succeeded: true }) if took.is_finite() && took >= 0.0 => {
                    weights.total = Some(took);
                }
                _ => {}
            }
        }
        weights
    }

    /// How long this step took: on this host, else on average where it was done.
    pub fn of(&self, host: &str, phase: &str, step: &str) -> Option<Duration> {
        let key = (host.to_owned(), phase.to_owned(), step.to_owned());
        let seconds = self.steps.get(&key).copied().or_else(|| {
            let same: Vec<f64> =
                self.steps.iter().filter(|((_, p, s), _)| p == phase && s == step).map(|(_, took)| *took).collect();
            (!same.is_empty()).then(|| same.iter().sum::<f64>() / same.len() as f64)
        })?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// How long all of it took.
    pub fn total(&self) -> Option<Duration> {
        self.total.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }
}
