//! What earlier runs measured, as the next one's expectations.

use std::collections::HashMap;
use std::io::BufRead;
use std::time::Duration;

use super::{Event, Stamped};

/// A run that worked less tells nothing of how much goes on side by side.
const TELLING: f64 = 5.0;

/// How long each step took when it was last done, and how much went on at once.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    steps: HashMap<(String, String, String), f64>,
    pace: Option<f64>,
}

impl Weights {
    /// Learn from a journal: one JSON event a line, of one run or of several. Lines that are none are passed over, for
    /// a run killed while it wrote leaves half a line. Steps that found nothing to do tell nothing of how long the
    /// work takes, and a run of such steps nothing of the pace.
    pub fn learn(journal: impl BufRead) -> Self {
        let mut weights = Weights::default();
        let mut worked = 0.0;
        for line in journal.lines().map_while(Result::ok) {
            match serde_json::from_str::<Stamped>(&line).map(|stamped| stamped.event) {
                Ok(Event::RunStarted { .. }) => worked = 0.0,
                Ok(Event::StepFinished { host, phase, step, took, changed: true }) if plausible(took) => {
                    worked += took;
                    weights.steps.insert((host, phase, step), took);
                }
                Ok(Event::RunFinished { took, .. }) => {
                    if plausible(took) && took > 0.0 && worked >= TELLING.max(took / 2.0) {
                        weights.pace = Some(worked / took);
                    }
                    worked = 0.0;
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

    /// Seconds of work done in a second: how much goes on side by side.
    pub fn pace(&self) -> Option<f64> {
        self.pace
    }
}

fn plausible(seconds: f64) -> bool {
    seconds.is_finite() && (0.0..=86_400.0).contains(&seconds)
}
