//! What hzctl does on the servers themselves, under the hidden `hzctl node`.
//!
//! The same binary is sent to each host and told what to do in JSON on standard input. Every verb is safe to
//! repeat, says what it changed in JSON on standard output, and stops when its standard input closes where it
//! runs for longer: nothing goes on behind the back of an administrator who went away.

pub mod blobs;
pub mod etcd;
pub mod exec;
pub mod facts;
pub mod files;
pub mod hashes;
pub mod images;
pub mod install;
pub mod kernel;
pub mod net;
pub mod types;
pub mod undo;

use std::path::Path;

/// Where a control plane keeps the laid-out bundle.
pub const BUNDLE_DIR: &str = "/var/lib/hzctl/bundle";
/// Where charts are put.
pub const CHART_DIR: &str = "/var/lib/hzctl/charts";
/// Where packages of the operating system are put before they are installed.
pub const DEB_DIR: &str = "/var/lib/hzctl/debs";
/// Where hzctl itself is kept on a host.
pub const BIN_DIR: &str = "/var/lib/hzctl/bin";
/// The mark that says whose host this is.
pub const MARKER: &str = "/etc/hzctl/cluster.json";

/// Why a verb could not do its work on the host. The text goes to the administrator as it is.
#[derive(Debug, thiserror::Error)]
#[error("{act}: {cause}")]
pub struct NodeError {
    /// What was being done.
    pub act: String,
    /// Why it failed.
    pub cause: String,
}

impl NodeError {
    /// An act and why it failed.
    pub fn new(act: impl Into<String>, cause: impl ToString) -> Self {
        NodeError { act: act.into(), cause: cause.to_string() }
    }
}

/// For `map_err` on file work.
pub fn at(act: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> NodeError {
    move |error| NodeError::new(format!("failed to {act} {}", path.as_ref().display()), error)
}

/// A program's standard output, or nothing if it is not there or fails.
pub fn output_of(argv: &[&str]) -> Option<String> {
    let (program, arguments) = argv.split_first()?;
    let output = std::process::Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .output()
        .ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Run a program to its end; its last words are the cause if it fails.
pub fn run(act: &str, argv: &[&str]) -> Result<String, NodeError> {
    let (program, arguments) = argv.split_first().ok_or_else(|| NodeError::new(act, "no program"))?;
    let output = std::process::Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|error| NodeError::new(act, format!("{program}: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = match String::from_utf8_lossy(&output.stderr) {
        silent if silent.trim().is_empty() => String::from_utf8_lossy(&output.stdout).into_owned(),
        words => words.into_owned(),
    };
    Err(NodeError::new(act, crate::host::last_lines(&words, 5)))
}
