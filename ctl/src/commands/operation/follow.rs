//! Following an operation to its end, by a watch.

use std::time::{Duration, Instant};

use futures::StreamExt;
use hz_crds::operation::{DataOperation, Phase};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watch_object};
use kube::{Api, Client};
use serde_json::json;

use super::row::{deed, phase};
use crate::commands::reach::{Place, Reach, refused};
use crate::exit::{ExitStatus, Failure};
use crate::printer::{Output, Printer};
use crate::progress::{Look, Single, short, single};
use crate::screen::Screen;

/// Redrawn often enough for elapsed seconds and the spinner to look alive.
const FRAME: Duration = Duration::from_millis(120);
/// The operator looks at a new operation within a second; after this long something is wrong with it.
const UNSEEN: Duration = Duration::from_secs(15);
/// An API server that restarts, or whose machine is lost, is back or replaced by then.
const SILENCE: Duration = Duration::from_secs(120);
/// A machine that lost its power closes no connection, so a watch that tells nothing for this long is begun anew.
const FRESH: Duration = Duration::from_secs(60);

/// Follow it until it has ended. The watch begins anew when it breaks off.
pub async fn to_end(
    client: &Client,
    place: &Place,
    reach: &Reach,
    printer: &mut Printer,
) -> Result<DataOperation, Failure> {
    let again = format!("hzctl operation wait {} -n {}{}", place.name, place.namespace, reach.spelt());
    let cancel = format!("hzctl operation cancel {} -n {}{}", place.name, place.namespace, reach.spelt());
    printer.farewell().other(
        format!("operation {} goes on without being watched", place.name),
        format!("to follow it on: {again}\nto stop it: {cancel}"),
    );
    let api: Api<DataOperation> = Api::namespaced(client.clone(), &place.namespace);
    let begin = || Box::pin(watch_object(api.clone(), &place.name).default_backoff());
    let (mut watch, mut heard) = (begin(), Instant::now());
    let mut frame = tokio::time::interval(FRAME);
    let mut teller = Teller::new(printer);
    let mut silent: Option<Instant> = None;
    loop {
        tokio::select! {
            seen = watch.next() => match seen {
                Some(Ok(Some(operation))) => {
                    (silent, heard) = (None, Instant::now());
                    teller.see(&operation);
                    if phase(&operation).is_final() {
                        return Ok(operation);
                    }
                }
                Some(Ok(None)) => {
                    return Err(Failure::input(format!("operation {} is gone", place.name))
                        .because("somebody deleted it, or what it worked on"));
                }
                Some(Err(error)) => {
                    heard = Instant::now();
                    if let Some(failure) = hopeless(&error) {
                        return Err(failure);
                    }
                    if matches!(error, watcher::Error::WatchError(_)) {
                        // An answer, if only that what we had seen is too old to go on from.
                        continue;
                    }
                    let since = *silent.get_or_insert_with(Instant::now);
                    teller.note("the API server does not answer; trying again");
                    if since.elapsed() > SILENCE {
                        return Err(lost(&error, &again));
                    }
                }
                None => return Err(Failure::fault("the watch of the operation ended")),
            },
            _ = frame.tick() => {
                teller.frame();
                if heard.elapsed() > FRESH {
                    (watch, heard) = (begin(), Instant::now());
                }
            }
        }
    }
}

fn lost(error: &watcher::Error, again: &str) -> Failure {
    Failure::new(ExitStatus::HostFailed, format!("the API server is silent for {} seconds", SILENCE.as_secs()))
        .because(crate::commands::reach::chain(error))
        .hint(format!("the operation goes on without being watched; to follow it on: {again}"))
}

/// Errors that no second try will mend: a missing right, a kind that is not known.
fn hopeless(error: &watcher::Error) -> Option<Failure> {
    let (watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) = error else {
        return None;
    };
    matches!(error, kube::Error::Api(status) if [401, 403, 404].contains(&status.code))
        .then(|| refused("failed to watch the operation", error))
}

/// What there is to tell of an operation; the same is not told twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    deed: String,
    phase: Phase,
    progress: Option<String>,
    message: Option<String>,
    cancel: bool,
}

impl Told {
    fn of(operation: &DataOperation) -> Self {
        let status = operation.status.clone().unwrap_or_default();
        Told {
            deed: deed(operation),
            phase: phase(operation),
            progress: status.progress,
            message: status.message,
            cancel: operation.spec.cancel,
        }
    }

    fn word(&self) -> &'static str {
        match self.phase {
            phase if phase.is_final() || !self.cancel => phase.word(),
            _ => "Cancelling",
        }
    }

    /// `the restart of records: Running 1/3, records-1 starts anew`
    fn line(&self) -> String {
        let progress = self.progress.as_ref().map(|progress| format!(" {progress}")).unwrap_or_default();
        let message = self.message.as_ref().map(|message| format!(", {message}")).unwrap_or_default();
        format!("{}: {}{progress}{message}", self.deed, self.word())
    }

    fn parts(&self) -> Option<(u32, u32)> {
        let (done, all) = self.progress.as_deref()?.split_once('/')?;
        Some((done.trim().parse().ok()?, all.trim().parse().ok()?))
    }
}

/// Tells of changes: one line drawn anew on a terminal, a line or a JSON object for each change elsewhere.
struct Teller {
    mode: Mode,
    screen: Screen,
    look: Look,
    begun: Instant,
    told: Option<Told>,
    note: &'static str,
    unseen_told: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Live,
    Lines,
    Json,
}

impl Teller {
    fn new(printer: &Printer) -> Self {
        let mode = match printer.output() {
            Output::Json => Mode::Json,
            Output::Table | Output::Yaml if printer.interactive() => Mode::Live,
            Output::Table | Output::Yaml => Mode::Lines,
        };
        Teller {
            mode,
            screen: printer.screen(),
            look: Look::of_terminal(printer.colour()),
            begun: Instant::now(),
            told: None,
            note: "",
            unseen_told: false,
        }
    }

    fn see(&mut self, operation: &DataOperation) {
        let now = Told::of(operation);
        self.note = "";
        if self.told.as_ref() == Some(&now) {
            return;
        }
        match self.mode {
            Mode::Live => {}
            Mode::Lines => self.screen.say(&format!("{:>6}  {}", short(self.begun.elapsed()), now.line())),
            Mode::Json => self.json(&json!({
                "event": "operation",
                "name": operation.metadata.name,
                "namespace": operation.metadata.namespace,
                "phase": now.phase.word(),
                "cancel": now.cancel,
                "progress": now.progress,
                "message": now.message,
            })),
        }
        self.told = Some(now);
        self.frame();
    }

    /// Something besides the operation; told once as long as it lasts.
    fn note(&mut self, text: &'static str) {
        if self.note == text {
            return;
        }
        self.note = text;
        match self.mode {
            Mode::Live => self.frame(),
            Mode::Lines => self.screen.say(&format!("{:>6}  {text}", short(self.begun.elapsed()))),
            Mode::Json => self.json(&json!({ "event": "note", "text": text })),
        }
    }

    fn json(&self, event: &serde_json::Value) {
        let mut event = event.clone();
        event["at"] = json!((self.begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0);
        self.screen.say(&event.to_string());
    }

    fn frame(&mut self) {
        let unseen = self.told.as_ref().is_some_and(|told| told.phase == Phase::Pending && told.message.is_none());
        if unseen && !self.unseen_told && self.begun.elapsed() > UNSEEN {
            self.unseen_told = true;
            self.note("nobody has looked at it yet; `hzctl status` tells whether the operator runs");
        }
        if self.mode != Mode::Live {
            return;
        }
        let Some(told) = &self.told else { return };
        let width = terminal_size::terminal_size_of(std::io::stderr()).map_or(80, |(width, _)| usize::from(width.0));
        let message = if self.note.is_empty() { told.message.as_deref().unwrap_or(&told.deed) } else { self.note };
        let work = Single { moving: told.phase == Phase::Running, word: told.word(), parts: told.parts(), message };
        self.screen.draw(vec![single(work, self.begun.elapsed(), width, &self.look)]);
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        // What is said next must not stand below a line that is never drawn again.
        if self.mode == Mode::Live {
            self.screen.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::operation;
    use super::*;

    fn at(phase: &str, progress: &str, message: &str) -> DataOperation {
        let status = json!({ "phase": phase, "progress": progress, "message": message });
        operation("records-restart-x7k2p", "2026-03-01T08:00:00Z", status)
    }

    #[test]
    fn every_change_is_told_once() {
        let (printer, captured) = Printer::captured(Output::Table);
        let mut teller = Teller::new(&printer);
        for operation in
            [at("Running", "0/3", "begins"), at("Running", "0/3", "begins"), at("Succeeded", "3/3", "done")]
        {
            teller.see(&operation);
        }
        let lines: Vec<String> = captured.stderr().lines().map(|line| line[8..].to_owned()).collect();
        assert_eq!(
            lines,
            ["the restart of records: Running 0/3, begins", "the restart of records: Succeeded 3/3, done"]
        );
    }

    #[test]
    fn scripts_get_one_json_object_a_change() {
        let (printer, captured) = Printer::captured(Output::Json);
        let mut teller = Teller::new(&printer);
        teller.see(&at("Running", "1/3", "records-1 starts anew"));
        teller.note("the API server does not answer; trying again");
        teller.note("the API server does not answer; trying again");
        let events: Vec<serde_json::Value> =
            captured.stderr().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(events.len(), 2);
        assert_eq!((&events[0]["event"], &events[0]["progress"]), (&json!("operation"), &json!("1/3")));
        assert!(events[0]["at"].is_f64() && events[1]["event"] == "note");
    }

    #[test]
    fn progress_is_read_as_parts_of_a_whole() {
        assert_eq!(Told::of(&at("Running", "2/3", "")).parts(), Some((2, 3)));
        assert_eq!(Told::of(&at("Running", "soon", "")).parts(), None);
    }

    #[test]
    fn one_that_is_being_cancelled_says_so_until_it_has_ended() {
        let mut operation = at("Running", "1/3", "");
        operation.spec.cancel = true;
        assert_eq!(Told::of(&operation).word(), "Cancelling");
        let mut operation = at("Cancelled", "1/3", "");
        operation.spec.cancel = true;
        assert_eq!(Told::of(&operation).word(), "Cancelled");
    }
}
