//! What lists of databases and of caches have in common.

use std::collections::BTreeMap;

use hz_crds::conditions::{Condition, READY};
use hz_crds::operation::{DataOperation, Phase, Target, TargetKind, first};
use kube::ResourceExt;
use serde::Serialize;

use crate::commands::operation::row::phase;

/// The work that is done on an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Work {
    /// Name of the operation.
    pub name: String,
    /// What is done.
    pub action: &'static str,
    /// How far it is.
    pub phase: &'static str,
    /// Copies that are as asked for, of all.
    pub progress: Option<String>,
}

impl Work {
    /// `Restart 1/3`, or `Restart waits`.
    pub fn words(&self) -> String {
        match (&self.progress, self.phase == Phase::Pending.word()) {
            (_, true) => format!("{} waits", self.action),
            (Some(progress), false) => format!("{} {progress}", self.action),
            (None, false) => self.action.to_owned(),
        }
    }
}

/// Operations by namespace, to ask who is worked on.
pub struct Works(BTreeMap<String, Vec<DataOperation>>);

impl Works {
    /// Of these operations.
    pub fn of(operations: Vec<DataOperation>) -> Self {
        let mut works: BTreeMap<String, Vec<DataOperation>> = BTreeMap::new();
        for operation in operations {
            works.entry(operation.namespace().unwrap_or_default()).or_default().push(operation);
        }
        Works(works)
    }

    /// What is done, or comes next, on this instance.
    pub fn on(&self, kind: TargetKind, namespace: &str, name: &str) -> Option<Work> {
        let target = Target { kind, name: name.to_owned() };
        let operation = first(self.0.get(namespace)?, &target)?;
        Some(Work {
            name: operation.name_any(),
            action: operation.spec.action.word(),
            phase: phase(operation).word(),
            progress: operation.status.as_ref().and_then(|status| status.progress.clone()),
        })
    }
}

/// Whether it does what it was made for, and if not why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether it does.
    pub ready: bool,
    /// Why not, in a word.
    pub reason: Option<String>,
    /// Why not, in a sentence.
    pub message: Option<String>,
}

impl Readiness {
    /// From the conditions of a status.
    pub fn of(conditions: &[Condition]) -> Self {
        let Some(ready) = conditions.iter().find(|condition| condition.type_ == READY) else {
            return Readiness { ready: false, reason: None, message: None };
        };
        let holds = ready.status == "True";
        let unless = |text: &String| Some(text.clone()).filter(|text| !holds && !text.is_empty());
        Readiness { ready: holds, reason: unless(&ready.reason), message: unless(&ready.message) }
    }

    /// `yes`, or `no` with the reason.
    pub fn words(&self) -> String {
        match (self.ready, &self.reason) {
            (true, _) => "yes".to_owned(),
            (false, Some(reason)) => format!("no ({reason})"),
            (false, None) => "no".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::commands::operation::row::tests::operation;

    #[test]
    fn work_under_way_is_told_before_work_that_waits_and_ended_work_not_at_all() {
        let at = "2026-03-01T08:00:00Z";
        let works = |statuses: &[serde_json::Value]| {
            let made =
                statuses.iter().enumerate().map(|(index, status)| operation(&format!("o{index}"), at, status.clone()));
            Works::of(made.collect())
        };
        let on =
            |works: Works| works.on(TargetKind::PostgresInstance, "hospital-anna", "records").map(|work| work.words());
        let running = json!({ "phase": "Running", "progress": "1/3" });
        assert_eq!(on(works(&[json!({}), running])).as_deref(), Some("Restart 1/3"));
        assert_eq!(on(works(&[json!({ "phase": "Failed" }), json!({})])).as_deref(), Some("Restart waits"));
        assert_eq!(on(works(&[json!({ "phase": "Succeeded" })])), None);
        let elsewhere = works(&[json!({})]);
        assert_eq!(elsewhere.on(TargetKind::CacheInstance, "hospital-anna", "records"), None);
        assert_eq!(elsewhere.on(TargetKind::PostgresInstance, "hospital-berta", "records"), None);
    }

    #[test]
    fn what_is_not_ready_says_why() {
        let condition = |status: &str| {
            serde_json::from_value::<Condition>(json!({
                "type": "Ready", "status": status, "reason": "NoPrimary", "message": "no copy leads",
                "lastTransitionTime": "2026-03-01T08:00:00Z",
            }))
            .unwrap()
        };
        assert_eq!(Readiness::of(&[condition("False")]).words(), "no (NoPrimary)");
        assert_eq!(Readiness::of(&[condition("True")]).words(), "yes");
        assert_eq!(Readiness::of(&[]).words(), "no");
    }
}
