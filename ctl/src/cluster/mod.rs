//! What a cluster is (cluster.yaml), read strictly: every mistake with its place and the nearest right name.
//!
//! Reading goes in four passes, each of which reports all it finds: text to a tree with places ([`yaml`]), the tree
//! against the schema of the types ([`schema`]), fields against each other (`rules`), and the files it names (`files`).

mod files;
pub mod nearest;
mod problem;
mod rules;
pub mod schema;
mod types;
mod words;
pub mod yaml;

use std::io::Read;
use std::path::Path;

pub use nearest::{nearest, one_of};
pub use types::*;

use crate::exit::{Failure, Finding};
use problem::{Problem, findings};

/// No real file comes near; a wrong argument (the bundle, say) is told apart early.
const MOST_BYTES: u64 = 1 << 20;
/// More mistakes than these are likely one mistake, told many times.
const MOST_FINDINGS: usize = 20;

/// What is wrong with a cluster.yaml: everything found, in the order of the file.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ClusterError {
    /// One line about the file as a whole.
    pub message: String,
    /// Each mistake.
    pub findings: Vec<Finding>,
    /// What to do next.
    pub hint: Option<String>,
    /// Why the file could not be read at all.
    #[source]
    pub source: Option<std::io::Error>,
}

impl From<ClusterError> for Failure {
    fn from(error: ClusterError) -> Self {
        let mut failure = Failure::input(error.message).findings(error.findings);
        failure.hint = error.hint;
        match error.source {
            Some(source) => failure.because(source),
            None => failure,
        }
    }
}

impl ClusterError {
    fn unreadable(message: String, hint: Option<&str>) -> Self {
        ClusterError { message, findings: Vec::new(), hint: hint.map(str::to_owned), source: None }
    }

    fn mistakes(file: &str, text: &str, problems: Vec<Problem>) -> Self {
        let mut findings = findings(file, text, problems);
        let count = findings.len();
        let hint = (count > MOST_FINDINGS).then(|| format!("the first {MOST_FINDINGS} are shown"));
        findings.truncate(MOST_FINDINGS);
        let mistakes = if count == 1 { "a mistake".to_owned() } else { format!("{count} mistakes") };
        ClusterError { message: format!("{file} has {mistakes}"), findings, hint, source: None }
    }
}

impl Cluster {
    /// Read a cluster.yaml (`-` is standard input) and check it and the files it names. Paths in the result are
    /// absolute.
    pub fn load(path: impl AsRef<Path>) -> Result<Cluster, ClusterError> {
        Self::read(path.as_ref(), true)
    }

    /// The same without a look at the files it names.
    pub fn load_without_files(path: impl AsRef<Path>) -> Result<Cluster, ClusterError> {
        Self::read(path.as_ref(), false)
    }

    /// Read a cluster.yaml from text, without a look at the files it names. Paths stay as they are.
    pub fn parse(name: &str, text: &str) -> Result<Cluster, ClusterError> {
        decode(text).map(|(cluster, _)| cluster).map_err(|problems| ClusterError::mistakes(name, text, problems))
    }

    fn read(path: &Path, look_at_files: bool) -> Result<Cluster, ClusterError> {
        let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
        let text = text(path, &name)?;
        let wrong = |problems| ClusterError::mistakes(&name, &text, problems);
        let (mut cluster, root) = decode(&text).map_err(wrong)?;
        let directory = path.parent().unwrap_or(Path::new(""));
        let base = std::path::absolute(directory).or_else(|_| std::env::current_dir()).unwrap_or_default();
        files::resolve(&mut cluster, &base);
        cluster.source = path.to_owned();
        if look_at_files {
            let problems = files::check(&root, &cluster);
            if !problems.is_empty() {
                return Err(wrong(problems));
            }
        }
        Ok(cluster)
    }
}

/// The pure core: text to cluster, or all that is wrong with it.
fn decode(text: &str) -> Result<(Cluster, yaml::Node), Vec<Problem>> {
    let root = yaml::read(text).map_err(|problem| vec![problem])?;
    let mut problems = schema::check(&root);
    problems.extend(rules::check(&root));
    if !problems.is_empty() {
        return Err(problems);
    }
    match serde_json::from_value(root.to_json()) {
        Ok(cluster) => Ok((cluster, root)),
        // The schema is made from the types, so what passes it can be read. Should a gap be left, say so in place.
        Err(error) => Err(vec![Problem::at(0..0, error.to_string())]),
    }
}

fn text(path: &Path, name: &str) -> Result<String, ClusterError> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(MOST_BYTES + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes))
    };
    if let Err(error) = read {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => {
                Some("`hzctl init` writes a cluster.yaml from a list of hosts; `-f` names another file")
            }
            _ => None,
        };
        let failed = ClusterError::unreadable(format!("failed to read {name}"), hint);
        return Err(ClusterError { source: Some(error), ..failed });
    }
    if bytes.len() as u64 > MOST_BYTES {
        return Err(ClusterError::unreadable(
            format!("{name} is larger than 1 MiB: not a cluster.yaml"),
            Some("is it another file, such as the bundle?"),
        ));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").map(<[u8]>::to_vec).unwrap_or(bytes);
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let line = bytes[..good].iter().filter(|byte| **byte == b'\n').count() + 1;
        let utf16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
        let found = if utf16 {
            "is UTF-16".to_owned()
        } else {
            format!("is not UTF-8: byte 0x{:02x} in line {line}", bytes[good])
        };
        ClusterError::unreadable(format!("{name} {found}"), Some("save it as UTF-8"))
    })
}
