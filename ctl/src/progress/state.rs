//! Where the work stands: pure, fed by events and the time since the beginning.

use std::time::Duration;

use super::{CLUSTER, Event, Plan};

/// A step that is expected for less still moves the bar.
const LEAST: Duration = Duration::from_millis(200);
/// How long expectations outweigh what is measured, when the time left is estimated.
const TRUST: f64 = 20.0;

/// Where the work stands.
#[derive(Clone, Debug)]
pub struct State {
    /// The hosts in the order of the plan; the cluster as a whole last.
    pub(super) hosts: Vec<Host>,
    steps: Vec<Step>,
    expected: Duration,
}

/// What a host is at.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) now: Now,
    /// What it does, or did last.
    pub(super) phase: String,
    pub(super) step: String,
    pub(super) since: Duration,
    pub(super) took: Duration,
    pub(super) fraction: Option<f64>,
    pub(super) bytes: Option<u64>,
    /// Why it is tried again, or failed.
    pub(super) cause: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Now {
    Waiting,
    Running,
    /// Done with a step, and waiting for the next.
    Between,
    Done,
    Failed,
    Stopped,
}

#[derive(Clone, Debug)]
struct Step {
    host: String,
    phase: String,
    step: String,
    expected: Duration,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    Ahead,
    Running { since: Duration, fraction: Option<f64> },
    Over,
}

impl State {
    /// Before the first step.
    pub fn new(plan: &Plan) -> Self {
        let mut state = State { hosts: Vec::new(), steps: Vec::new(), expected: Duration::ZERO };
        for planned in &plan.steps {
            state.host(&planned.host);
            state.steps.push(Step {
                host: planned.host.clone(),
                phase: planned.phase.clone(),
                step: planned.step.clone(),
                expected: planned.expected.max(LEAST),
                stage: Stage::Ahead,
            });
        }
        state.expected = plan.expected.unwrap_or_else(|| state.weight() / 3).max(Duration::from_millis(1));
        state
    }

    /// How long all of it is expected to take.
    pub fn expected(&self) -> Duration {
        self.expected
    }

    /// Take in an event that happened at this time.
    pub fn apply(&mut self, event: &Event, at: Duration) {
        match event {
            Event::StepStarted { host, phase, step } => {
                self.stage(host, phase, step, Stage::Running { since: at, fraction: None });
                let host = self.host(host);
                *host = Host { name: host.name.clone(), ..Host::running(phase, step, at) };
            }
            Event::StepProgress { host, phase, step, fraction, bytes } => {
                self.further(host, phase, step, *fraction);
                self.current(host, phase, step, |host| {
                    host.fraction = Some(*fraction);
                    host.bytes = *bytes;
                    host.cause = None;
                });
            }
            Event::StepRetried { host, phase, step, cause } => {
                self.current(host, phase, step, |host| host.cause = Some(cause.clone()));
            }
            Event::StepFinished { host, phase, step, took, .. } => {
                self.stage(host, phase, step, Stage::Over);
                let more = self.steps.iter().any(|other| other.host == *host && !matches!(other.stage, Stage::Over));
                let now = if more { Now::Between } else { Now::Done };
                self.end(host, phase, step, *took, now, None);
            }
            Event::StepFailed { host, phase, step, took, cause } => {
                self.stage(host, phase, step, Stage::Over);
                self.end(host, phase, step, *took, Now::Failed, Some(cause.clone()));
            }
            Event::StepStopped { host, phase, step } => {
                self.stage(host, phase, step, Stage::Over);
                self.current(host, phase, step, |host| host.now = Now::Stopped);
            }
            Event::RunStarted { .. } | Event::PhaseFinished { .. } | Event::Note { .. } | Event::RunFinished { .. } => {
            }
        }
    }

    /// How much of the work is done, 0 to 1.
    pub fn fraction(&self, at: Duration) -> f64 {
        let weight = self.weight().as_secs_f64();
        if weight == 0.0 { 0.0 } else { (self.done(at) / weight).clamp(0.0, 1.0) }
    }

    /// The time left: what is left of the steps, at the pace measured so far; at first at the pace expected.
    pub fn left(&self, at: Duration) -> Duration {
        let (weight, done) = (self.weight().as_secs_f64(), self.done(at));
        let expected_pace = weight / self.expected.as_secs_f64();
        let pace = (done + TRUST * expected_pace) / (at.as_secs_f64() + TRUST);
        if pace > 0.0 { Duration::from_secs_f64(((weight - done) / pace).max(0.0)) } else { self.expected }
    }

    fn weight(&self) -> Duration {
        self.steps.iter().map(|step| step.expected).sum()
    }

    fn done(&self, at: Duration) -> f64 {
        let share = |step: &Step| match step.stage {
            Stage::Ahead => 0.0,
            Stage::Over => 1.0,
            Stage::Running { fraction: Some(fraction), .. } => fraction,
            // Later than expected is not done.
            Stage::Running { since, .. } => {
                (at.saturating_sub(since).as_secs_f64() / step.expected.as_secs_f64()).min(0.95)
            }
        };
        self.steps.iter().map(|step| share(step) * step.expected.as_secs_f64()).sum()
    }

    fn host(&mut self, name: &str) -> &mut Host {
        let index = self.hosts.iter().position(|host| host.name == name).unwrap_or_else(|| {
            let host = Host { name: name.to_owned(), now: Now::Waiting, ..Host::running("", "", Duration::ZERO) };
            // The cluster stands below its hosts.
            let last_is_cluster = self.hosts.last().is_some_and(|host| host.name == CLUSTER);
            let index = self.hosts.len() - usize::from(last_is_cluster);
            self.hosts.insert(index, host);
            index
        });
        &mut self.hosts[index]
    }

    /// Change a host's line if this step is the one it shows.
    fn current(&mut self, host: &str, phase: &str, step: &str, change: impl FnOnce(&mut Host)) {
        let host = self.host(host);
        if host.phase == phase && host.step == step {
            change(host);
        }
    }

    fn end(&mut self, host: &str, phase: &str, step: &str, took: f64, now: Now, cause: Option<String>) {
        let others = self.running(host);
        let host = self.host(host);
        if host.now == Now::Failed {
            return;
        }
        if now != Now::Failed
            && let Some((phase, step, since, fraction)) = others
        {
            // Steps of one host may run side by side: show one that still does.
            if host.now != Now::Running || !matches!((&host.phase, &host.step), (p, s) if *p == phase && *s == step) {
                *host = Host { name: host.name.clone(), fraction, ..Host::running(&phase, &step, since) };
            }
            return;
        }
        host.phase = phase.to_owned();
        host.step = step.to_owned();
        host.now = now;
        host.took = Duration::try_from_secs_f64(took).unwrap_or_default();
        host.cause = cause;
    }

    fn running(&self, host: &str) -> Option<(String, String, Duration, Option<f64>)> {
        self.steps.iter().filter(|step| step.host == host).find_map(|step| match step.stage {
            Stage::Running { since, fraction } => Some((step.phase.clone(), step.step.clone(), since, fraction)),
            _ => None,
        })
    }

    fn stage(&mut self, host: &str, phase: &str, step: &str, stage: Stage) {
        match self.step(host, phase, step) {
            Some(found) => found.stage = stage,
            // Not planned: it counts from now on, as short.
            None => self.steps.push(Step {
                host: host.to_owned(),
                phase: phase.to_owned(),
                step: step.to_owned(),
                expected: LEAST,
                stage,
            }),
        }
    }

    fn further(&mut self, host: &str, phase: &str, step: &str, to: f64) {
        if let Some(Step { stage: Stage::Running { fraction, .. }, .. }) = self.step(host, phase, step) {
            *fraction = Some(to.clamp(0.0, 1.0));
        }
    }

    fn step(&mut self, host: &str, phase: &str, step: &str) -> Option<&mut Step> {
        self.steps.iter_mut().find(|known| known.host == host && known.phase == phase && known.step == step)
    }
}

impl Host {
    fn running(phase: &str, step: &str, since: Duration) -> Self {
        Host {
            name: String::new(),
            now: Now::Running,
            phase: phase.to_owned(),
            step: step.to_owned(),
            since,
            took: Duration::ZERO,
            fraction: None,
            bytes: None,
            cause: None,
        }
    }
}
