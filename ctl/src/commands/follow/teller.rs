//! Telling what changes: one line drawn anew on a terminal, a line or a JSON object for each change elsewhere.

use std::time::{Duration, Instant};

use hz_crds::operation::Phase;
use serde_json::json;

use crate::commands::reach::Place;
use crate::printer::{Output, Printer};
use crate::progress::{Look, Single, short, single};
use crate::screen::Screen;

/// The operator looks at new work within a second; after this long something is wrong with it.
const UNSEEN: Duration = Duration::from_secs(15);

/// What there is to tell of a piece of work; the same is not told twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// What is done: `the restart of records`.
    pub deed: String,
    /// How far it is.
    pub phase: Phase,
    /// Parts done, of all: `1/3`.
    pub progress: Option<String>,
    /// What is being done.
    pub message: Option<String>,
    /// Whether somebody asked to stop it.
    pub cancel: bool,
}

impl Told {
    /// How far it is, in a word.
    pub fn word(&self) -> &'static str {
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

/// Tells of changes.
pub struct Teller {
    noun: &'static str,
    place: Place,
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
    /// Of this piece of work.
    pub fn new(noun: &'static str, place: &Place, printer: &Printer) -> Self {
        let mode = match printer.output() {
            Output::Json => Mode::Json,
            Output::Table | Output::Yaml if printer.interactive() => Mode::Live,
            Output::Table | Output::Yaml => Mode::Lines,
        };
        Teller {
            noun,
            place: place.clone(),
            mode,
            screen: printer.screen(),
            look: Look::of_terminal(printer.colour()),
            begun: Instant::now(),
            told: None,
            note: "",
            unseen_told: false,
        }
    }

    /// How it stands now.
    pub fn see(&mut self, now: Told) {
        self.note = "";
        if self.told.as_ref() == Some(&now) {
            return;
        }
        match self.mode {
            Mode::Live => {}
            Mode::Lines => self.screen.say(&format!("{:>6}  {}", short(self.begun.elapsed()), now.line())),
            Mode::Json => self.json(&json!({
                "event": self.noun,
                "name": self.place.name,
                "namespace": self.place.namespace,
                "phase": now.phase.word(),
                "cancel": now.cancel,
                "progress": now.progress,
                "message": now.message,
            })),
        }
        self.told = Some(now);
        self.frame();
    }

    /// Something besides the work; told once as long as it lasts.
    pub fn note(&mut self, text: &'static str) {
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

    /// Draw the line anew.
    pub fn frame(&mut self) {
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
    use super::*;

    fn at(phase: Phase, progress: &str, message: &str) -> Told {
        Told {
            deed: "the restart of records".into(),
            phase,
            progress: Some(progress.into()),
            message: Some(message.into()),
            cancel: false,
        }
    }

    fn teller(printer: &Printer) -> Teller {
        let place = Place { namespace: "hospital-anna".into(), name: "records-restart-x7k2p".into() };
        Teller::new("operation", &place, printer)
    }

    #[test]
    fn every_change_is_told_once() {
        let (printer, captured) = Printer::captured(Output::Table);
        let mut teller = teller(&printer);
        for told in [
            at(Phase::Running, "0/3", "begins"),
            at(Phase::Running, "0/3", "begins"),
            at(Phase::Succeeded, "3/3", "done"),
        ] {
            teller.see(told);
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
        let mut teller = teller(&printer);
        teller.see(at(Phase::Running, "1/3", "records-1 starts anew"));
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
        assert_eq!(at(Phase::Running, "2/3", "").parts(), Some((2, 3)));
        assert_eq!(at(Phase::Running, "soon", "").parts(), None);
    }

    #[test]
    fn work_that_is_being_cancelled_says_so_until_it_has_ended() {
        let cancelling = Told { cancel: true, ..at(Phase::Running, "1/3", "") };
        assert_eq!(cancelling.word(), "Cancelling");
        let cancelled = Told { cancel: true, ..at(Phase::Cancelled, "1/3", "") };
        assert_eq!(cancelled.word(), "Cancelled");
    }
}
