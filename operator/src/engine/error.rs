//! What can go wrong between a decision and the cluster, and whether trying again can help.

use kube::core::Status;

/// A failed act, and what it was done to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading one object failed.
    #[error("failed to read {kind} {name}: {}", said(.source))]
    Read { kind: &'static str, name: String, source: Box<kube::Error> },
    /// Applying one object failed.
    #[error("failed to apply {kind} {name}: {}", said(.source))]
    Apply { kind: &'static str, name: String, source: Box<kube::Error> },
    /// Deleting one object failed.
    #[error("failed to delete {kind} {name}: {}", said(.source))]
    Delete { kind: &'static str, name: String, source: Box<kube::Error> },
    /// Writing the status failed.
    #[error("failed to report the status of {kind} {name}: {}", said(.source))]
    Report { kind: &'static str, name: String, source: Box<kube::Error> },
    /// The name is taken by an object that is not ours to change.
    #[error("{kind} {name} exists and belongs to {holder}")]
    Foreign { kind: &'static str, name: String, holder: String },
    /// An object of ours is still on its way out.
    #[error("{kind} {name} is being deleted; waiting for it to be gone")]
    Leaving { kind: &'static str, name: String },
    /// A decision named a kind that the engine has no shelf for. A bug of ours, shown rather than hidden.
    #[error("no such kind is known to the operator: {0}")]
    UnknownKind(String),
    /// An object could not be turned into JSON, or back.
    #[error("{kind} {name} is not what was expected: {source}")]
    Shape { kind: &'static str, name: String, source: serde_json::Error },
    /// A certificate could not be issued: a name in it is none.
    #[error("failed to issue the certificate in Secret {name}: {source}")]
    Issue { name: String, source: rcgen::Error },
}

/// What the server said, short: its own message if it spoke, else the transport's.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => {
            let mut text = other.to_string();
            let mut cause = std::error::Error::source(other);
            while let Some(inner) = cause {
                let inner_text = inner.to_string();
                if !text.contains(&inner_text) {
                    text = format!("{text}: {inner_text}");
                }
                cause = inner.source();
            }
            text
        }
    }
}

impl Error {
    fn status(&self) -> Option<&Status> {
        match self {
            Error::Read { source, .. }
            | Error::Apply { source, .. }
            | Error::Delete { source, .. }
            | Error::Report { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            _ => None,
        }
    }

    /// Trying the same again cannot help: the user (or we) must change something first.
    pub fn is_final(&self) -> bool {
        match self {
            Error::Foreign { .. } | Error::UnknownKind(_) | Error::Shape { .. } | Error::Issue { .. } => true,
            Error::Leaving { .. } => false,
            // 400 and 422: the server understood and refuses. 403 and 404 mend themselves when rights or CRDs arrive.
            _ => self.status().is_some_and(|status| matches!(status.code, 400 | 422)),
        }
    }

    /// The object we wrote about is gone, or its namespace is on its way out: there is nothing left to do.
    pub fn is_gone(&self) -> bool {
        let reporting = matches!(self, Error::Report { .. });
        self.status().is_some_and(|status| {
            // Elsewhere a 404 is a definition that is not installed yet, and worth another try.
            reporting && status.code == 404
                || status.code == 403 && status.message.contains("because it is being terminated")
        })
    }

    /// A CamelCase word for a condition's reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Error::Foreign { .. } => "NameTaken",
            Error::Leaving { .. } => "WaitingForDeletion",
            Error::UnknownKind(_) | Error::Shape { .. } | Error::Issue { .. } => "Bug",
            _ => match self.status().map(|status| status.code) {
                Some(400 | 422) => "Rejected",
                Some(403) => "Forbidden",
                Some(_) => "ApplyFailed",
                None => "ApiUnreachable",
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16) -> Error {
        let status = Status { code, message: "no".into(), ..Default::default() };
        Error::Apply { kind: "Service", name: "a/b".into(), source: Box::new(kube::Error::Api(Box::new(status))) }
    }

    #[test]
    fn what_the_server_finds_invalid_is_not_tried_again() {
        assert!(refused(422).is_final());
        assert!(!refused(409).is_final());
        assert!(!refused(403).is_final(), "rights may still be on their way");
        assert!(!refused(500).is_final());
    }

    #[test]
    fn a_missing_definition_is_no_reason_to_give_up() {
        assert!(!refused(404).is_gone());
        assert!(!refused(404).is_final());
    }

    #[test]
    fn an_error_names_the_act_and_the_object() {
        assert_eq!(refused(422).to_string(), "failed to apply Service a/b: no");
    }
}
