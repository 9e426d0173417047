//! The terminal of the person, while somebody else's program runs in it.

use std::sync::{Mutex, Once, PoisonError};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::exit::Failure;

/// The settings to go back to, for an end that drops nothing: a panic.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Every key goes to the program; the settings from before come back when this is dropped.
pub struct Raw(());

impl Raw {
    /// From now on.
    pub fn enter() -> Result<Self, Failure> {
        static HOOK: Once = Once::new();
        let failed = |error| Failure::fault("failed to hand the terminal over").because(std::io::Error::from(error));
        let before = tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        // A release ends at a panic without dropping anything.
        HOOK.call_once(|| {
            let next = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                next(panic);
            }));
        });
        let entered = Raw(());
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(entered)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Give the terminal back, if it is handed over. For ends that drop nothing.
pub fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        // There is nobody to tell if it fails, and nothing else to try.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, &before);
    }
}
