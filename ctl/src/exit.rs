//! How a command ends: a fixed exit code, and for a failure its message, cause and way out.

use std::error::Error as StdError;
use std::fmt;
use std::process::ExitCode;

/// Every exit code of `hzctl`. They are part of its interface: scripts and CI may rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitStatus {
    /// Done.
    Success = 0,
    /// The input is wrong: cluster.yaml, an argument, a file that is not there.
    BadInput = 1,
    /// Something failed that should not: a fault of hzctl or of the system under it.
    Fault = 2,
    /// The preflight found what must be mended first. Nothing was changed.
    Preflight = 3,
    /// The cluster runs, but not all of it: a worker failed.
    Degraded = 4,
    /// A host or the network failed, and trying again will not help.
    HostFailed = 5,
    /// A deadline passed.
    Deadline = 6,
    /// Stopped by Ctrl-C or a signal. Every step is safe to repeat.
    Interrupted = 130,
}

impl ExitStatus {
    /// All of them, in the order the manual lists them.
    pub const ALL: [ExitStatus; 8] = [
        ExitStatus::Success,
        ExitStatus::BadInput,
        ExitStatus::Fault,
        ExitStatus::Preflight,
        ExitStatus::Degraded,
        ExitStatus::HostFailed,
        ExitStatus::Deadline,
        ExitStatus::Interrupted,
    ];

    /// The number a shell sees.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// One sentence for the manual.
    pub fn meaning(self) -> &'static str {
        match self {
            ExitStatus::Success => "Done.",
            ExitStatus::BadInput => "The input is wrong: cluster.yaml, an argument, or a file that is not there.",
            ExitStatus::Fault => "An unexpected fault of hzctl or of the system under it.",
            ExitStatus::Preflight => "The preflight found what must be mended first. Nothing was changed.",
            ExitStatus::Degraded => "The cluster runs, but not all of it: a worker failed.",
            ExitStatus::HostFailed => "A host or the network failed, and trying again will not help.",
            ExitStatus::Deadline => "A deadline passed.",
            ExitStatus::Interrupted => "Stopped by Ctrl-C or a signal. Every step is safe to repeat.",
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        ExitCode::from(status.code())
    }
}

/// Why a command could not do its work. `main` renders it; commands only build it.
#[derive(Debug)]
pub struct Failure {
    /// What failed, one line, lower case, without a full stop.
    pub message: String,
    /// What the person can do about it.
    pub hint: Option<String>,
    /// The exit code it ends with.
    pub code: ExitStatus,
    /// What lies under it; printed as a chain of causes.
    pub source: Option<Box<dyn StdError + Send + Sync + 'static>>,
    /// Places in a file that must be mended, each shown with the lines around it.
    pub findings: Vec<Finding>,
}

/// One mistake in a file, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file's name as the person gave it.
    pub file: String,
    /// The file's text, to show the lines around the mistake.
    pub text: std::sync::Arc<str>,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// Byte offset of the mistake in the text, and its length in bytes.
    pub span: (usize, usize),
    /// The field's path, such as `spec.hosts[2].role`; empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// A few words under the mistake.
    pub label: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure with a code of the caller's choice.
    pub fn new(code: ExitStatus, message: impl Into<String>) -> Self {
        Failure { message: message.into(), hint: None, code, source: None, findings: Vec::new() }
    }

    /// The person gave something wrong: exit code 1.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(ExitStatus::BadInput, message)
    }

    /// Something failed that should not: exit code 2.
    pub fn fault(message: impl Into<String>) -> Self {
        Self::new(ExitStatus::Fault, message)
    }

    /// Say what the person can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Say what lies under it.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync + 'static>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Show these places of a file.
    #[must_use]
    pub fn findings(mut self, findings: Vec<Finding>) -> Self {
        self.findings = findings;
        self
    }

    /// The causes from the nearest to the deepest, without those that only repeat the one above.
    pub fn causes(&self) -> Vec<String> {
        let mut causes: Vec<String> = Vec::new();
        let mut next: Option<&(dyn StdError + 'static)> = self.source.as_deref().map(|source| source as _);
        while let Some(error) = next {
            let text = error.to_string();
            let repeats = causes.last().unwrap_or(&self.message).ends_with(&text);
            if !repeats {
                causes.push(text);
            }
            next = error.source();
        }
        causes
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
