//! How settings reach a server that runs: one step at a time, copies before the primary, and the primary's work handed
//! to a copy before it restarts. Patroni does each step (its REST API: `/config`, `/cluster`, `/restart`,
//! `/switchover`); which one comes next is decided here.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{PostgresInstanceSpec, Synchronous, parameters, patroni};

/// A copy refuses to start with less of these than its primary has: PostgreSQL's documentation, "Hot Standby",
/// administrator's overview.
const NOT_BELOW_PRIMARY: [&str; 5] = [
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_wal_senders",
    "max_worker_processes",
];

/// What Patroni says of all copies (`GET /cluster`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// The copies.
    pub members: Vec<Copy>,
}

/// A copy as Patroni knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Copy {
    /// Name of its pod.
    pub name: String,
    /// `leader`, `sync_standby`, `quorum_standby`, `replica`, …
    pub role: String,
    /// `running`, `streaming`, `restarting`, `starting`, …
    pub state: String,
    /// Where its own REST API is, such as `http://10.244.1.5:8008/patroni`.
    pub api_url: String,
    /// Whether a setting waits for its restart.
    pub pending_restart: bool,
    /// Those settings.
    pub pending_restart_reason: Map<String, Value>,
}

impl Copy {
    /// It takes writes.
    pub fn leads(&self) -> bool {
        self.role == "leader"
    }

    /// A copy that merely runs has not found its primary yet.
    pub fn runs(&self) -> bool {
        self.state == if self.leads() { "running" } else { "streaming" }
    }

    /// Writes count as done when it has them.
    pub fn confirms(&self) -> bool {
        matches!(self.role.as_str(), "sync_standby" | "quorum_standby")
    }

    /// Whether a setting that every copy must have at least as high as the primary is to become lower.
    fn lowers(&self) -> bool {
        let number = |value: &Value| value.as_str().and_then(|text| text.parse::<i64>().ok());
        self.pending_restart_reason.iter().any(|(name, change)| {
            NOT_BELOW_PRIMARY.contains(&name.as_str())
                && number(&change["new_value"]).zip(number(&change["old_value"])).is_some_and(|(new, old)| new < old)
        })
    }

    /// The settings that wait, in words.
    fn waiting(&self) -> String {
        self.pending_restart_reason.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing: every copy works with what the spec says.
    Nothing,
    /// Write this into what the copies agree on (`PATCH /config`).
    Agree(Value),
    /// Restart this copy.
    Restart(Copy),
    /// Hand the work of this leader to that copy.
    Switchover(Copy, Copy),
    /// Look again in a moment, for this reason.
    Wait(String),
}

impl Step {
    /// What is being done, for the status; nothing if nothing is.
    pub fn said(&self) -> Option<String> {
        let why = |copy: &Copy| match copy.waiting() {
            waiting if waiting.is_empty() => String::new(),
            waiting => format!(" for {waiting}"),
        };
        match self {
            Self::Nothing => None,
            Self::Agree(_) => Some("the copies are told of changed settings".to_owned()),
            Self::Restart(copy) => Some(format!("{} restarts{}", copy.name, why(copy))),
            Self::Switchover(from, to) => {
                Some(format!("{} hands its work to {}, to restart{}", from.name, to.name, why(from)))
            }
            Self::Wait(what) => Some(what.clone()),
        }
    }
}

/// The next step towards `spec`. `settled` is false just after the copies were told of something new: they need a
/// moment to find out whether they must restart for it.
pub fn next(spec: &PostgresInstanceSpec, agreed: &Value, cluster: &Cluster, settled: bool) -> Step {
    let wanted = patroni::agreed(spec);
    let dropped = dropped(&wanted, agreed);
    if !dropped.is_empty() || !patroni::is_in(&wanted, agreed) {
        return Step::Agree(with_nulls(wanted, dropped));
    }
    let pending: Vec<&Copy> = cluster.members.iter().filter(|copy| copy.pending_restart).collect();
    if pending.is_empty() {
        return if settled { Step::Nothing } else { Step::Wait("the copies take changed settings over".to_owned()) };
    }
    // One at a time, and none while another is away: a restart must never cost the copy that confirms writes.
    if let Some(away) = cluster.members.iter().find(|copy| !copy.runs()) {
        return Step::Wait(format!(
            "{} is {} and not yet in step; the next restart waits for it",
            away.name, away.state
        ));
    }
    let missing = spec.instances.saturating_sub(i32::try_from(cluster.members.len()).unwrap_or(i32::MAX));
    if missing > 0 {
        return Step::Wait(format!("{missing} copies are missing; restarts wait for them"));
    }
    // A copy would go on with the higher value until the primary has the lower one; handing over would not change that.
    if let Some(leader) = pending.iter().find(|copy| copy.leads() && copy.lowers()) {
        return Step::Restart((*leader).clone());
    }
    if let Some(copy) = pending.iter().find(|copy| !copy.leads()) {
        return Step::Restart((*copy).clone());
    }
    let Some(leader) = pending.into_iter().find(|copy| copy.leads()) else { return Step::Nothing };
    if cluster.members.len() == 1 {
        return Step::Restart(leader.clone());
    }
    let able = |copy: &&Copy| !copy.leads() && (spec.synchronous == Synchronous::Disabled || copy.confirms());
    match cluster.members.iter().find(able) {
        Some(copy) => Step::Switchover(leader.clone(), copy.clone()),
        None => Step::Wait("no copy confirms writes right now; the primary's restart waits for one".to_owned()),
    }
}

/// Settings that a hospital once chose and no longer does.
fn dropped(wanted: &Value, agreed: &Value) -> Vec<String> {
    let of = |value: &Value| value.pointer("/postgresql/parameters").and_then(Value::as_object).cloned();
    let wanted = of(wanted).unwrap_or_default();
    let there = of(agreed).unwrap_or_default();
    there
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| parameters::is_choice(name) && !wanted.contains_key(name))
        .collect()
}

/// Patroni takes away what is set to null.
fn with_nulls(mut wanted: Value, names: Vec<String>) -> Value {
    if let Some(parameters) = wanted.pointer_mut("/postgresql/parameters") {
        for name in names {
            parameters[name] = json!(null);
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::PostgresInstance;

    fn spec(parameters: Value) -> PostgresInstanceSpec {
        let object = json!({
            "apiVersion": "hz.hospital/v1alpha1", "kind": "PostgresInstance", "metadata": { "name": "records", "namespace": "x" },
            "spec": { "storage": { "size": "1Gi" }, "parameters": parameters },
        });
        serde_json::from_value::<PostgresInstance>(object).unwrap().spec
    }

    /// Three copies, of which those named wait for a restart.
    fn three(pending: &[&str]) -> Cluster {
        let copy = |name: &str, role: &str| Copy {
            name: name.into(),
            role: role.into(),
            state: if role == "leader" { "running" } else { "streaming" }.into(),
            api_url: format!("http://{name}:8008/patroni"),
            pending_restart: pending.contains(&name),
            pending_restart_reason: json!({ "max_connections": { "old_value": "100", "new_value": "200" } })
                .as_object()
                .cloned()
                .unwrap(),
        };
        Cluster { members: vec![copy("a", "leader"), copy("b", "replica"), copy("c", "sync_standby")] }
    }

    #[test]
    fn a_changed_setting_is_agreed_on_first() {
        let before = patroni::agreed(&spec(json!({})));
        let Step::Agree(patch) = next(&spec(json!({ "work_mem": "8MB" })), &before, &three(&[]), true) else {
            panic!("nothing was agreed on")
        };
        assert_eq!(patch["postgresql"]["parameters"]["work_mem"], "8MB");
    }

    #[test]
    fn a_setting_that_is_no_longer_chosen_is_taken_away_and_the_platforms_own_stay() {
        let mut before = patroni::agreed(&spec(json!({ "work_mem": "8MB" })));
        before["postgresql"]["parameters"]["wal_level"] = json!("replica");
        let Step::Agree(patch) = next(&spec(json!({})), &before, &three(&[]), true) else {
            panic!("it stays for good")
        };
        let parameters = patch["postgresql"]["parameters"].as_object().unwrap();
        assert_eq!(parameters["work_mem"], json!(null));
        assert!(!parameters.contains_key("wal_level"));
    }

    #[test]
    fn copies_restart_one_by_one_and_the_primary_hands_over_before_it_does() {
        let spec = spec(json!({ "max_connections": "200" }));
        let agreed = patroni::agreed(&spec);
        let step = |cluster: &Cluster| next(&spec, &agreed, cluster, true);
        assert!(matches!(step(&three(&["a", "b", "c"])), Step::Restart(copy) if copy.name == "b"));
        assert!(matches!(step(&three(&["a", "c"])), Step::Restart(copy) if copy.name == "c"));
        let over = step(&three(&["a"]));
        assert!(matches!(&over, Step::Switchover(from, to) if from.name == "a" && to.name == "c"), "{over:?}");
        assert_eq!(over.said().unwrap(), "a hands its work to c, to restart for max_connections");
        assert_eq!(step(&three(&[])), Step::Nothing);
    }

    #[test]
    fn where_a_copy_may_not_have_less_than_the_primary_the_primary_goes_first() {
        let spec = spec(json!({}));
        let agreed = patroni::agreed(&spec);
        let mut cluster = three(&["a", "b", "c"]);
        for copy in &mut cluster.members {
            copy.pending_restart_reason["max_connections"] = json!({ "old_value": "200", "new_value": "100" });
        }
        assert!(matches!(next(&spec, &agreed, &cluster, true), Step::Restart(copy) if copy.name == "a"));
        cluster.members[0].pending_restart = false;
        assert!(matches!(next(&spec, &agreed, &cluster, true), Step::Restart(copy) if copy.name == "b"));
    }

    #[test]
    fn nobody_restarts_while_another_is_away_or_nobody_confirms() {
        let spec = spec(json!({}));
        let agreed = patroni::agreed(&spec);
        let mut away = three(&["a", "b"]);
        away.members[2].state = "starting".into();
        assert!(matches!(next(&spec, &agreed, &away, true), Step::Wait(what) if what.contains("c is starting")));
        let mut fewer = three(&["a"]);
        fewer.members.pop();
        assert!(matches!(next(&spec, &agreed, &fewer, true), Step::Wait(what) if what.contains("missing")));
        let mut behind = three(&["a", "b"]);
        behind.members[1].state = "running".into();
        assert!(matches!(next(&spec, &agreed, &behind, true), Step::Wait(what) if what.contains("b is running")));
        let mut alone = three(&["a"]);
        alone.members[2].role = "replica".into();
        assert!(matches!(next(&spec, &agreed, &alone, true), Step::Wait(what) if what.contains("confirms")));
    }

    #[test]
    fn just_told_copies_are_given_a_moment() {
        let spec = spec(json!({}));
        let agreed = patroni::agreed(&spec);
        assert!(matches!(next(&spec, &agreed, &three(&[]), false), Step::Wait(_)));
    }
}
