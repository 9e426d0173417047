//! What a cluster is (cluster.yaml), read strictly: every mistake with its place and the nearest right name.

mod types;
pub mod yaml;

use std::path::Path;

pub use types::*;

use crate::exit::{Failure, Finding};

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

impl Cluster {
    /// Read a cluster.yaml and check it and the files it names. Paths in the result are absolute.
    pub fn load(path: impl AsRef<Path>) -> Result<Cluster, ClusterError> {
        let path = path.as_ref();
        let wrong = |message: String| ClusterError { message, findings: Vec::new(), hint: None, source: None };
        let text = std::fs::read_to_string(path).map_err(|error| ClusterError {
            source: Some(error),
            ..wrong(format!("failed to read {}", path.display()))
        })?;
        let mut cluster: Cluster = serde_yaml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        cluster.source = path.to_owned();
        Ok(cluster)
    }
}
