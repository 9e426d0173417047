//! What went wrong in a step, whose doing it was, and whether going again may help.

use crate::host::HostError;

/// A step that could not be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{act}: {cause}")]
pub struct Fault {
    /// The host it happened on; none for the cluster as a whole.
    pub host: Option<String>,
    /// What was being done.
    pub act: String,
    /// The cause, as near to the root as we could get.
    pub cause: String,
    /// What to do about it.
    pub fix: Option<String>,
    /// Whether going again may help.
    pub transient: bool,
    /// Whether a deadline passed.
    pub late: bool,
}

impl Fault {
    /// Something that going again will not mend.
    pub fn permanent(act: impl Into<String>, cause: impl ToString) -> Self {
        let (act, cause) = (act.into(), cause.to_string());
        Fault { host: None, act, cause, fix: None, transient: false, late: false }
    }

    /// Something that may mend itself in a moment.
    pub fn transient(act: impl Into<String>, cause: impl ToString) -> Self {
        Fault { transient: true, ..Fault::permanent(act, cause) }
    }

    /// Something that did not come in time.
    pub fn late(act: impl Into<String>, cause: impl ToString) -> Self {
        Fault { late: true, ..Fault::permanent(act, cause) }
    }

    /// On this host.
    #[must_use]
    pub fn on(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// With what to do about it.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// A broken or refused connection.
    pub fn from_host(host: &str, error: HostError) -> Self {
        let transient = error.transient();
        let fix = match &error {
            HostError::Refused { fix, .. } => Some(fix.clone()),
            HostError::Unreachable { .. } => Some(format!("see whether {host} is up and its network cable is in")),
            HostError::Client { .. } => Some("install the OpenSSH client on this machine".into()),
        };
        Fault {
            host: Some(host.to_owned()),
            act: format!("failed to reach {host}"),
            cause: error.to_string(),
            fix,
            transient,
            late: false,
        }
    }

    /// A failed program, its output read for causes that we know.
    pub fn from_output(act: impl Into<String>, output: &str) -> Self {
        let known = CAUSES.iter().find(|cause| cause.signs.iter().any(|sign| output.contains(sign)));
        let noise = |line: &&str| !line.contains("[WARNING") && !line.starts_with("To see the stack trace");
        let telling: Vec<&str> = output.lines().filter(noise).collect();
        let last = crate::host::last_lines(&telling.join("\n"), 6);
        match known {
            Some(known) => {
                let line = output.lines().find(|line| known.signs.iter().any(|sign| line.contains(sign)));
                let cause = format!("{}: {}", known.means, line.unwrap_or_default().trim());
                Fault { transient: known.transient, ..Fault::permanent(act, cause) }.fix(known.fix)
            }
            None => Fault::permanent(act, last),
        }
    }
}

struct Cause {
    signs: &'static [&'static str],
    means: &'static str,
    fix: &'static str,
    transient: bool,
}

/// What programs say when something that we know goes wrong. The first that fits wins.
const CAUSES: [Cause; 11] = [
    Cause {
        signs: &["Text file busy"],
        means: "a program is just being written on the host",
        fix: "run the bootstrap again",
        transient: true,
    },
    // A run that was cut off wrote its record after we had looked for one. It is stopped by the time that its lock
    // is ours, and the next try removes the record.
    Cause {
        signs: &["another operation (install/upgrade/rollback) is in progress", "\"sh.helm.release.v1."],
        means: "the release of a run that was cut off was still being written",
        fix: "run the bootstrap again",
        transient: true,
    },
    Cause {
        signs: &["ErrImageNeverPull", "failed to pull image", "no such image", "pull access denied"],
        means: "an image is missing on the host",
        fix: "run `hzctl bundle verify` on the bundle, then the bootstrap again",
        transient: false,
    },
    Cause {
        signs: &["No space left on device"],
        means: "the disk is full",
        fix: "free space on the host, then run the bootstrap again",
        transient: false,
    },
    Cause {
        signs: &["certificate has expired or is not yet valid"],
        means: "the clocks of the hosts differ",
        fix: "set the clocks (chrony or systemd-timesyncd), then run the bootstrap again",
        transient: false,
    },
    Cause {
        signs: &["slow fdatasync", "apply request took too long"],
        means: "the disk of etcd is too slow",
        fix: "put /var/lib/etcd on an SSD of its own",
        transient: false,
    },
    Cause {
        signs: &["x509: certificate signed by unknown authority"],
        means: "the host holds certificates of another cluster",
        fix: "see what /etc/kubernetes on the host belongs to; `hzctl reset` removes what is ours",
        transient: false,
    },
    Cause {
        signs: &["address already in use", "is in use"],
        means: "a port is taken by another program",
        fix: "stop the program that listens there (ss -ltnp tells which)",
        transient: false,
    },
    Cause {
        signs: &["too many learner members"],
        means: "another control plane is still being added to etcd",
        fix: "run the bootstrap again",
        transient: true,
    },
    Cause {
        signs: &["etcdserver: request timed out", "etcdserver: leader changed", "unhealthy cluster"],
        means: "etcd had no leader for a moment",
        fix: "run the bootstrap again",
        transient: true,
    },
    Cause {
        signs: &["connection refused", "no route to host", "i/o timeout", "TLS handshake timeout"],
        means: "a port is closed or its server is not up",
        fix: "see whether a firewall stands between the hosts (`hzctl check --pre` names the pair)",
        transient: true,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named_as_the_cause() {
        let fault = Fault::from_output("failed to join", "blah\nwrite /var/lib/x: No space left on device\nmore");
        assert!(fault.cause.starts_with("the disk is full"), "{fault}");
        assert!(!fault.transient);
    }

    #[test]
    fn a_refused_connection_is_tried_again() {
        assert!(Fault::from_output("failed", "dial tcp 10.0.0.1:6443: connect: connection refused").transient);
    }

    #[test]
    fn a_release_that_was_cut_off_is_tried_again() {
        let output = "Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress";
        assert!(Fault::from_output("failed", output).transient);
    }

    #[test]
    fn an_unknown_failure_shows_the_last_words() {
        let fault = Fault::from_output("failed", "one\ntwo");
        assert_eq!(fault.cause, "one\ntwo");
    }
}
