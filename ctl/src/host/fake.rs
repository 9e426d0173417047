//! A host that answers from a list, for tests of single units only.

use std::sync::Mutex;

use futures::future::BoxFuture;

use super::{Call, Ended, Host, HostError, Session};

/// Answers by the first word pair of the command that matches.
pub struct Fake {
    name: String,
    answers: Vec<(String, Result<Ended, HostError>)>,
    /// What was asked, in order.
    pub asked: Mutex<Vec<Call>>,
}

impl Fake {
    /// A host that knows nothing.
    pub fn new(name: &str) -> Self {
        Fake { name: name.into(), answers: Vec::new(), asked: Mutex::new(Vec::new()) }
    }

    /// Answer commands that contain `needle`.
    #[must_use]
    pub fn answer(mut self, needle: &str, stdout: &str) -> Self {
        let ended = Ended { code: 0, stdout: stdout.as_bytes().to_vec(), stderr: String::new() };
        self.answers.push((needle.into(), Ok(ended)));
        self
    }

    /// Fail commands that contain `needle`.
    #[must_use]
    pub fn fail(mut self, needle: &str, error: HostError) -> Self {
        self.answers.push((needle.into(), Err(error)));
        self
    }
}

impl Host for Fake {
    fn name(&self) -> &str {
        &self.name
    }

    fn connect(&self) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async { Ok(()) })
    }

    fn run(&self, call: Call) -> BoxFuture<'_, Result<Ended, HostError>> {
        let line = call.argv.join(" ");
        self.asked.lock().unwrap().push(call);
        let found = self.answers.iter().find(|(needle, _)| line.contains(needle.as_str())).map(|(_, answer)| answer);
        let answer = found
            .cloned()
            .unwrap_or_else(|| Ok(Ended { code: 127, stdout: Vec::new(), stderr: format!("{line}: not found") }));
        Box::pin(async move { answer })
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Session, HostError>> {
        let message = format!("a fake host cannot start `{}`", call.shown());
        Box::pin(async move { Err(HostError::Client { message }) })
    }
}
