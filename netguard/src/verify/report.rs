//! What a verify pod tells: each way it tried and how that ended.

use std::{net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

/// The way that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Learning of the other verify pods.
    Discovery,
    /// The API server through its Service.
    Api,
    /// A verify pod.
    Peer,
    /// The ClusterIP Service of the verify pods.
    Service,
    /// The DNS Service.
    DnsService,
    /// One CoreDNS pod.
    DnsEndpoint,
}

/// One way and how it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What was tried.
    pub kind: Kind,
    /// The node of the pod that tried.
    pub from: String,
    /// The node of the pod that was tried, or the name of the Service.
    pub to: String,
    /// The address that was tried.
    pub address: Option<IpAddr>,
    /// Whether it worked.
    pub ok: bool,
    /// How long it took.
    pub millis: u64,
    /// How it failed: `timeout`, `refused`, `NXDOMAIN`, ... with what it means where that is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<String>,
}

impl Check {
    /// One that could not even begin.
    pub fn failed(kind: Kind, from: &str, to: &str, address: Option<IpAddr>, failure: impl Into<String>) -> Self {
        Self { kind, from: from.into(), to: to.into(), address, ok: false, millis: 0, failure: Some(failure.into()) }
    }

    /// One that ended.
    pub fn ended(
        kind: Kind,
        from: &str,
        to: &str,
        address: Option<IpAddr>,
        took: Duration,
        outcome: Result<(), String>,
    ) -> Self {
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let failure = outcome.err();
        Self { kind, from: from.into(), to: to.into(), address, ok: failure.is_none(), millis, failure }
    }
}

/// All that one pod tried in one round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The pod's node.
    pub node: String,
    /// How many verify pods there must be.
    pub expected: u16,
    /// Whether all passed.
    pub ready: bool,
    /// How many passed.
    pub passed: usize,
    /// Those that failed: the pairs to look at.
    pub failures: Vec<Check>,
    /// All of them.
    pub checks: Vec<Check>,
}

impl Report {
    /// Before the first round.
    pub fn unknown(node: &str, expected: u16) -> Self {
        Self { node: node.into(), expected, ready: false, passed: 0, failures: vec![], checks: vec![] }
    }

    /// From the checks of a round.
    pub fn of(node: &str, expected: u16, checks: Vec<Check>) -> Self {
        let failures: Vec<Check> = checks.iter().filter(|check| !check.ok).cloned().collect();
        let passed = checks.len() - failures.len();
        Self { node: node.into(), expected, ready: failures.is_empty() && passed > 0, passed, failures, checks }
    }

    /// Whether it says something else than before; how long things took does not count.
    pub fn differs(&self, before: &Self) -> bool {
        let words = |report: &Self| -> Vec<(Kind, String, Option<String>)> {
            report.failures.iter().map(|check| (check.kind, check.to.clone(), check.failure.clone())).collect()
        };
        self.ready != before.ready || words(self) != words(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed() -> Check {
        Check::ended(Kind::Peer, "a", "b", "10.244.1.2".parse().ok(), Duration::from_millis(2), Ok(()))
    }

    fn failed() -> Check {
        Check::failed(Kind::Peer, "a", "c", "10.244.2.2".parse().ok(), "timeout")
    }

    #[test]
    fn ready_means_that_something_was_tried_and_nothing_failed() {
        assert!(Report::of("a", 2, vec![passed()]).ready);
        assert!(!Report::of("a", 2, vec![passed(), failed()]).ready);
        assert!(!Report::of("a", 2, vec![]).ready);
    }

    #[test]
    fn the_pair_that_failed_is_named() {
        let report = serde_json::to_value(Report::of("a", 2, vec![passed(), failed()])).unwrap();
        assert_eq!(
            report["failures"],
            serde_json::json!([{ "kind": "peer", "from": "a", "to": "c", "address": "10.244.2.2", "ok": false, "millis": 0, "failure": "timeout" }])
        );
    }

    #[test]
    fn a_report_is_news_only_when_its_words_change() {
        let before = Report::of("a", 2, vec![passed(), failed()]);
        let mut slower = failed();
        slower.millis = 99;
        assert!(!Report::of("a", 2, vec![passed(), slower]).differs(&before));
        assert!(Report::of("a", 2, vec![passed()]).differs(&before));
    }
}
