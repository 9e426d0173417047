//! Progress of long work, as events. On a terminal they become one line a host and a bar with the time left;
//! anywhere else one JSON object a line on stderr, so that stdout stays clean.
//!
//! ```no_run
//! # use hzctl::{printer::{Output, Printer}, progress::{Plan, Planned, Progress}};
//! # use std::time::Duration;
//! # let printer = Printer::standard(Output::Table, false);
//! let plan = Plan::new(vec![Planned::new("cp-1", "images", "import", Duration::from_secs(20))]);
//! let progress = Progress::start(&printer, plan);
//! let step = progress.step("cp-1", "images", "import");
//! step.at(0.5, Some(120_000_000));
//! step.finish(true);
//! ```

mod event;
mod render;
mod single;
mod state;
mod weights;

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

pub use event::{Event, Stamped};
pub use render::{Look, render, short};
pub use single::{Single, single};
pub use state::State;
pub use weights::Weights;

use crate::printer::Printer;
use crate::screen::Screen;

/// The name under which steps of the cluster as a whole are shown.
pub const CLUSTER: &str = "cluster";

/// Every step there will be, with the time it is expected to take. More may be started than planned.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The steps, in the order hosts should be listed.
    pub steps: Vec<Planned>,
    /// How long all of it took last time, or is thought to take; a third of the steps' sum if unknown.
    pub expected: Option<Duration>,
}

/// A step to come.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The host, or [`CLUSTER`].
    pub host: String,
    /// The phase.
    pub phase: String,
    /// The step.
    pub step: String,
    /// How long it is expected to take; its share of the bar.
    pub expected: Duration,
}

impl Plan {
    /// These steps.
    pub fn new(steps: Vec<Planned>) -> Self {
        Plan { steps, expected: None }
    }

    /// Put what the last run measured in place of what is thought.
    #[must_use]
    pub fn learnt(mut self, weights: &Weights) -> Self {
        for planned in &mut self.steps {
            if let Some(took) = weights.of(&planned.host, &planned.phase, &planned.step) {
                planned.expected = took;
            }
        }
        if let Some(pace) = weights.pace() {
            let work: Duration = self.steps.iter().map(|planned| planned.expected).sum();
            self.expected = Some(work.div_f64(pace));
        }
        self
    }
}

impl Planned {
    /// A step to come.
    pub fn new(host: impl Into<String>, phase: impl Into<String>, step: impl Into<String>, expected: Duration) -> Self {
        Planned { host: host.into(), phase: phase.into(), step: step.into(), expected }
    }
}

/// Tells of progress. Cheap to clone; the live lines go when the last clone does.
#[derive(Clone)]
pub struct Progress(Arc<Shared>);

struct Shared {
    started: Instant,
    screen: Screen,
    mode: Mode,
    look: Look,
    inner: Mutex<Inner>,
}

struct Inner {
    state: State,
    journal: Option<Box<dyn Write + Send>>,
    /// When each step's progress was last told as JSON.
    told: HashMap<String, Duration>,
    over: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Live,
    Json,
}

/// Redrawn often enough for elapsed seconds and the spinner to look alive.
const FRAME: Duration = Duration::from_millis(120);
/// A line of JSON for every chunk of a copy would drown the rest.
const TELL_EVERY: Duration = Duration::from_secs(2);

impl Progress {
    /// Begin. Live lines where the printer talks to a terminal, JSON lines elsewhere.
    pub fn start(printer: &Printer, plan: Plan) -> Self {
        let mode = if printer.interactive() { Mode::Live } else { Mode::Json };
        let state = State::new(&plan);
        let begun = Event::RunStarted { steps: plan.steps.len(), expected: round(state.expected()) };
        let inner = Inner { state, journal: None, told: HashMap::new(), over: false };
        let look = Look::of_terminal(printer.colour());
        let shared = Shared { started: Instant::now(), screen: printer.screen(), mode, look, inner: Mutex::new(inner) };
        let progress = Progress(Arc::new(shared));
        progress.emit(begun);
        if mode == Mode::Live {
            progress.animate();
        }
        progress
    }

    /// Keep every event as a JSON line here too: evidence of the run, and the next one's expectations.
    pub fn journal(&self, to: Box<dyn Write + Send>) {
        self.0.lock().journal = Some(to);
    }

    /// Begin a step. Dropped without an end, it counts as stopped.
    pub fn step(&self, host: impl Into<String>, phase: impl Into<String>, step: impl Into<String>) -> Step {
        let step = Step {
            progress: self.clone(),
            host: host.into(),
            phase: phase.into(),
            step: step.into(),
            started: Instant::now(),
            ended: false,
        };
        let Step { host, phase, step: name, .. } = &step;
        self.emit(Event::StepStarted { host: host.clone(), phase: phase.clone(), step: name.clone() });
        step
    }

    /// Tell the person something while the work goes on.
    pub fn note(&self, text: impl Into<String>) {
        self.emit(Event::Note { text: text.into() });
    }

    /// Tell of anything.
    pub fn emit(&self, event: Event) {
        let at = self.0.started.elapsed();
        let mut inner = self.0.lock();
        inner.state.apply(&event, at);
        let stamped = Stamped { at: round(at), event };
        let line = serde_json::to_string(&stamped).unwrap_or_default();
        if let Some(journal) = &mut inner.journal
            && !matches!(stamped.event, Event::StepProgress { .. })
        {
            // The journal is evidence, not truth: a full disk here must not stop the work.
            let _ = writeln!(journal, "{line}").and_then(|()| journal.flush());
        }
        match self.0.mode {
            Mode::Json if inner.worth_telling(&stamped.event, at) => self.0.screen.say(&line),
            Mode::Json => {}
            Mode::Live => {
                if let Some(line) = render::lasting(&stamped.event, &self.0.look) {
                    self.0.screen.say(&line);
                }
            }
        }
    }

    /// The work is over: the live lines go, what was said stays.
    pub fn finish(&self, succeeded: bool) {
        self.emit(Event::RunFinished { took: round(self.0.started.elapsed()), succeeded });
        self.0.lock().over = true;
        if self.0.mode == Mode::Live {
            self.0.screen.clear();
        }
    }

    /// Time since the work began.
    pub fn elapsed(&self) -> Duration {
        self.0.started.elapsed()
    }

    fn animate(&self) {
        let shared = Arc::downgrade(&self.0);
        // A thread, not a task: the lines stay alive while the runtime is busy.
        std::thread::spawn(move || {
            while let Some(shared) = shared.upgrade() {
                shared.draw();
                drop(shared);
                std::thread::sleep(FRAME);
            }
        });
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn draw(&self) {
        let (width, height) = terminal_size::terminal_size_of(std::io::stderr())
            .map_or((80, 24), |(width, height)| (usize::from(width.0), usize::from(height.0)));
        // Held while drawing, so that a frame cannot come after the last clear.
        let inner = self.lock();
        if !inner.over {
            self.screen.draw(render(&inner.state, self.started.elapsed(), width, height, &self.look));
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.mode == Mode::Live {
            self.screen.clear();
        }
    }
}

impl Inner {
    fn worth_telling(&mut self, event: &Event, at: Duration) -> bool {
        let Event::StepProgress { host, phase, step, .. } = event else {
            return true;
        };
        let key = format!("{host}/{phase}/{step}");
        let due = self.told.get(&key).is_none_or(|last| at.saturating_sub(*last) >= TELL_EVERY);
        if due {
            self.told.insert(key, at);
        }
        due
    }
}

/// A step under way.
#[must_use = "a step that is dropped counts as stopped"]
pub struct Step {
    progress: Progress,
    host: String,
    phase: String,
    step: String,
    started: Instant,
    ended: bool,
}

impl Step {
    /// It came this far (0 to 1), and moved so many bytes.
    pub fn at(&self, fraction: f64, bytes: Option<u64>) {
        let fraction = if fraction.is_finite() { fraction.clamp(0.0, 1.0) } else { 0.0 };
        let (host, phase, step) = self.names();
        self.progress.emit(Event::StepProgress { host, phase, step, fraction, bytes });
    }

    /// It failed in a way that may pass, and is tried again.
    pub fn retry(&self, cause: impl Into<String>) {
        let (host, phase, step) = self.names();
        self.progress.emit(Event::StepRetried { host, phase, step, cause: cause.into() });
    }

    /// It is done.
    pub fn finish(mut self, changed: bool) {
        let (host, phase, step) = self.names();
        let took = round(self.started.elapsed());
        self.ended = true;
        self.progress.emit(Event::StepFinished { host, phase, step, took, changed });
    }

    /// It failed for good.
    pub fn fail(mut self, cause: impl Into<String>) {
        let (host, phase, step) = self.names();
        let took = round(self.started.elapsed());
        self.ended = true;
        self.progress.emit(Event::StepFailed { host, phase, step, took, cause: cause.into() });
    }

    fn names(&self) -> (String, String, String) {
        (self.host.clone(), self.phase.clone(), self.step.clone())
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.ended {
            let (host, phase, step) = self.names();
            self.progress.emit(Event::StepStopped { host, phase, step });
        }
    }
}

/// Seconds to the millisecond.
fn round(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests;
