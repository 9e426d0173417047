//! A server as hzctl reaches it: run a command there, stream bytes in and out.
//!
//! Everything above this module knows only [`Host`]. What carries it is the system's own SSH client
//! ([`ssh::Ssh`]), so that agents, jump hosts and hardware keys of the site keep working.

use futures::future::BoxFuture;
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};

#[cfg(test)]
pub mod fake;
pub mod quote;
pub mod ssh;

/// A command for a host: a program with arguments, run as root, and what it reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Program and arguments; never goes through a shell unexpanded.
    pub argv: Vec<String>,
    /// What it finds on standard input.
    pub stdin: Vec<u8>,
    /// Whether standard input stays open until the command ends, so that it learns when we are gone.
    pub attached: bool,
}

impl Call {
    /// A program and its arguments.
    pub fn new<I: IntoIterator<Item = S>, S: Into<String>>(argv: I) -> Self {
        Call { argv: argv.into_iter().map(Into::into).collect(), ..Call::default() }
    }

    /// A shell script, fed on standard input so that no quoting can go wrong.
    pub fn script(script: impl Into<String>) -> Self {
        Call::new(["sh", "-s"]).stdin(script.into())
    }

    /// Give it something to read.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Keep its standard input open until it ends.
    #[must_use]
    pub fn attached(mut self) -> Self {
        self.attached = true;
        self
    }

    /// Short form for messages.
    pub fn shown(&self) -> String {
        let mut text = self.argv.join(" ");
        if text.len() > 160 {
            text.truncate(text.floor_char_boundary(157));
            text.push('…');
        }
        text
    }
}

/// How a command ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Exit code.
    pub code: i32,
    /// All it wrote to standard output.
    pub stdout: Vec<u8>,
    /// All it wrote to standard error.
    pub stderr: String,
}

impl Ended {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The last lines it wrote to standard error, for messages.
    pub fn last_words(&self) -> String {
        last_lines(&self.stderr, 6)
    }
}

/// The last `count` lines that are not empty.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// A command that runs while we do something else; it ends when its standard input closes or it is dropped.
pub struct Session {
    /// The client process; killed when dropped.
    pub child: tokio::process::Child,
    /// Its standard input.
    pub stdin: ChildStdin,
    /// Its standard output.
    pub stdout: ChildStdout,
    /// Its standard error.
    pub stderr: ChildStderr,
    /// Its place among the channels of the connection.
    pub place: Option<tokio::sync::OwnedSemaphorePermit>,
}

/// Why a host could not be talked to, or a command there could not be run.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum HostError {
    /// Going again may help: the connection broke, the host does not answer.
    #[error("{host} does not answer over SSH: {message}")]
    Unreachable {
        /// The host.
        host: String,
        /// What ssh said.
        message: String,
    },
    /// Going again will not help: a wrong key, a changed host key, no sudo.
    #[error("{host} refused the SSH connection: {message}")]
    Refused {
        /// The host.
        host: String,
        /// What ssh said.
        message: String,
        /// What to do about it.
        fix: String,
    },
    /// The SSH client of this machine could not be started.
    #[error("failed to run the ssh client: {message}")]
    Client {
        /// Why.
        message: String,
    },
}

impl HostError {
    /// Whether the same call may succeed in a moment.
    pub fn transient(&self) -> bool {
        matches!(self, HostError::Unreachable { .. })
    }
}

/// A server, and how to reach it.
pub trait Host: Send + Sync {
    /// Its name in cluster.yaml.
    fn name(&self) -> &str;

    /// Open the connection; later calls share it.
    fn connect(&self) -> BoxFuture<'_, Result<(), HostError>>;

    /// Run a command as root and keep what it printed.
    fn run(&self, call: Call) -> BoxFuture<'_, Result<Ended, HostError>>;

    /// Start a command as root and talk to it.
    fn start(&self, call: Call) -> BoxFuture<'_, Result<Session, HostError>>;
}
