//! Ctrl-C and SIGTERM: the work is dropped, the person is told what is safe and how to go on.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

/// Work that waits in a blocking call cannot be dropped; after this long, or a second signal, it is left behind.
const GRACE: Duration = Duration::from_secs(2);

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
pub fn listen(printer: &Printer, farewell: Option<&'static str>) -> Result<oneshot::Receiver<()>, Failure> {
    let mut signals = Signals::listen()?;
    let (tell, told) = oneshot::channel();
    let printer = printer.talker();
    tokio::spawn(async move {
        signals.next().await;
        // Nobody listens any more: the command has just ended by itself.
        let _ = tell.send(());
        tokio::select! {
            () = signals.next() => {}
            () = tokio::time::sleep(GRACE) => {}
        }
        printer.failure(&failure(farewell));
        std::process::exit(i32::from(ExitStatus::Interrupted.code()));
    });
    Ok(told)
}

/// What the person reads; where there is more to do, with the command that goes on.
pub fn failure(farewell: Option<&str>) -> Failure {
    let Some(farewell) = farewell else {
        return Failure::new(ExitStatus::Interrupted, "interrupted");
    };
    let words: Vec<String> = std::env::args().skip(1).map(|word| quoted(&word)).collect();
    Failure::new(ExitStatus::Interrupted, format!("interrupted; {farewell}"))
        .hint(format!("to go on: hzctl {}", words.join(" ")))
}

/// A word as a shell takes it back.
fn quoted(word: &str) -> String {
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
    fn a_word_comes_back_from_the_shell_as_it_was() {
        assert_eq!(quoted("-f"), "-f");
        assert_eq!(quoted("my cluster.yaml"), "'my cluster.yaml'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
