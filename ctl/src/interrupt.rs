//! Ctrl-C and SIGTERM: the work is dropped, the person is told what is safe and how to go on.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

/// Work that waits in a blocking call cannot be dropped; after this long, or a second signal, it is left behind.
const GRACE: Duration = Duration::from_secs(2);

/// What is told to a person who pressed Ctrl-C. Commands may put other words in its place as they go on: what is safe
/// changes with what was done so far.
#[derive(Clone, Default)]
pub struct Farewell(Arc<Mutex<Option<Words>>>);

struct Words {
    safe: String,
    /// Nothing stands for the same command again.
    hint: Option<String>,
}

impl Farewell {
    /// From now on: this is safe, and the same command goes on.
    pub fn same_again(&self, safe: impl Into<String>) {
        *self.lock() = Some(Words { safe: safe.into(), hint: None });
    }

    /// From now on: this is safe, and this is how to go on.
    pub fn other(&self, safe: impl Into<String>, hint: impl Into<String>) {
        *self.lock() = Some(Words { safe: safe.into(), hint: Some(hint.into()) });
    }

    fn lock(&self) -> MutexGuard<'_, Option<Words>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The signals that stop us.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::fault("failed to listen for signals").because(error));
        Ok(Signals { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Listen from now on. What is received resolves at the first signal; should the work not let go of its thread, the
/// process ends all the same, with the same words. To be called within the runtime.
pub fn listen(printer: &Printer) -> Result<oneshot::Receiver<()>, Failure> {
    let mut signals = Signals::listen()?;
    let (tell, told) = oneshot::channel();
    let farewell = printer.farewell();
    let printer = printer.talker();
    tokio::spawn(async move {
        signals.next().await;
        // Nobody listens any more: the command has just ended by itself.
        let _ = tell.send(());
        tokio::select! {
            () = signals.next() => {}
            () = tokio::time::sleep(GRACE) => {}
        }
        crate::terminal::restore();
        printer.failure(&failure(&farewell));
        std::process::exit(i32::from(ExitStatus::Interrupted.code()));
    });
    Ok(told)
}

/// What the person reads; where there is more to do, with the command that goes on.
pub fn failure(farewell: &Farewell) -> Failure {
    let held = farewell.lock();
    let Some(words) = held.as_ref() else {
        return Failure::new(ExitStatus::Interrupted, "interrupted");
    };
    let failure = Failure::new(ExitStatus::Interrupted, format!("interrupted; {}", words.safe));
    match &words.hint {
        Some(hint) => failure.hint(hint),
        None => {
            let words: Vec<String> = std::env::args().skip(1).map(|word| quoted(&word)).collect();
            failure.hint(format!("to go on: hzctl {}", words.join(" ")))
        }
    }
}

/// A word as a shell takes it back.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '=' | ',' | ':' | '~');
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_safe_changes_as_the_work_goes_on() {
        let farewell = Farewell::default();
        assert_eq!(failure(&farewell).message, "interrupted");
        farewell.same_again("every step is safe to repeat");
        assert_eq!(failure(&farewell).message, "interrupted; every step is safe to repeat");
        farewell.clone().other("the restart goes on", "hzctl operation wait x");
        let failure = failure(&farewell);
        assert_eq!(failure.message, "interrupted; the restart goes on");
        assert_eq!(failure.hint.as_deref(), Some("hzctl operation wait x"));
    }

    #[test]
    fn a_word_comes_back_from_the_shell_as_it_was() {
        assert_eq!(quoted("-f"), "-f");
        assert_eq!(quoted("my cluster.yaml"), "'my cluster.yaml'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
