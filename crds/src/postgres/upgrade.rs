//! What is asked of the pods of a database server when its version changes, and what they say of their data.
//!
//! `upgrade.py` does the work in the pods; what it finds on a volume decides, so that a pod may die at any moment.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{PostgresInstance, PostgresVersion};

/// The script in the pods.
pub const SCRIPT: &str = include_str!("upgrade.py");
/// Key of what running pods are asked for, in the ConfigMap with their configuration.
pub const TASK_FILE: &str = "task.json";
/// Annotation in which a pod describes its data.
pub const DATA: &str = "hz.hospital/data";
/// Annotation in which a pod says how far what it was asked for is.
pub const TASK: &str = "hz.hospital/task";

/// Something pods are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Task {
    /// Unique id of the operation that asks.
    pub id: String,
    /// What.
    #[serde(rename = "do")]
    pub act: Deed,
    /// Version of the data that it is about.
    pub from: String,
    /// Version that the data is to have.
    pub to: String,
    /// The pod that is meant; nothing: any that finds itself meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
}

/// What pods do for an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deed {
    /// Load the live schema into an empty database of the new version.
    Check,
    /// Make data of the new version beside the old.
    Upgrade,
    /// Get ready to use the data of before.
    Rollback,
    /// Take the primary's data in place of one's own.
    Follow,
    /// Throw the data of before away.
    Finish,
}

/// What a pod says of the data on its volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DataSeen {
    /// Version of the data.
    pub version: Option<String>,
    /// Version of the data of before an upgrade, if it is kept there.
    pub kept: Option<String>,
    /// Statistics are still to be renewed after an upgrade.
    pub analyze: bool,
    /// Why the pod does not start PostgreSQL.
    pub held: Option<String>,
}

/// How far a pod is with what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Answer {
    /// The operation that asked.
    pub id: String,
    /// What was asked.
    #[serde(rename = "do")]
    pub act: Deed,
    /// How far it is.
    pub step: Progress,
    /// What it says.
    #[serde(default)]
    pub message: Option<String>,
}

/// How far something is in a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    /// At it.
    Working,
    /// Done.
    Done,
    /// It cannot be done.
    Failed,
}

/// What the annotation of a pod says; a text that is none of ours says nothing.
pub fn heard<T: for<'a> Deserialize<'a>>(annotations: &Value, key: &str) -> Option<T> {
    serde_json::from_str(annotations[key].as_str()?).ok()
}

/// How the copies stand while an operation is at work on their version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Course {
    /// Version that the pods start with.
    pub version: Option<PostgresVersion>,
    /// Copies that run, if fewer than the spec asks for.
    pub replicas: Option<i32>,
    /// What a pod does instead of starting PostgreSQL.
    pub work: Option<Task>,
    /// What is asked of pods that run.
    pub told: Option<Task>,
}

/// The version that pods start with, and what is to be said if it is not the one of the spec. The version of the data decides; only
/// an operation changes it. `seen` is what the primary says of its data right now.
pub fn version(
    instance: &PostgresInstance,
    course: Option<&Course>,
    seen: Option<&str>,
) -> (PostgresVersion, Option<String>) {
    let asked = instance.spec.version;
    if let Some(version) = course.and_then(|course| course.version) {
        return (version, None);
    }
    let known = instance.status.as_ref().and_then(|status| status.version.as_deref());
    match seen.or(known).and_then(PostgresVersion::of) {
        Some(there) if there != asked => {
            let (there_word, asked_word) = (there.word(), asked.word());
            let way = if there < asked {
                format!(
                    "set it back to {there_word}, then make a DataOperation with action Upgrade and version {asked_word}"
                )
            } else {
                format!(
                    "set it back to {there_word}; the way back from an upgrade is a DataOperation with action RollBack"
                )
            };
            let said = format!(
                "spec.version is {asked_word} and the data is of version {there_word}, with which the database goes on: {way}"
            );
            (there, Some(said))
        }
        _ => (asked, None),
    }
}

/// Environment by which a pod knows what to start.
pub(super) fn environment(version: PostgresVersion, course: Option<&Course>) -> Vec<Value> {
    let mut variables = vec![json!({ "name": "HZ_VERSION", "value": version.word() })];
    if let Some(work) = course.and_then(|course| course.work.as_ref()) {
        variables.push(json!({ "name": "HZ_TASK", "value": serde_json::to_string(work).unwrap_or_default() }));
    }
    variables
}

/// What running pods are asked for, as the file that they read.
pub(super) fn task_file(course: Option<&Course>) -> Option<String> {
    serde_json::to_string(course?.told.as_ref()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fixture;

    fn records(asked: PostgresVersion, known: Option<&str>) -> PostgresInstance {
        let mut instance: PostgresInstance = fixture("postgres", "records");
        instance.spec.version = asked;
        let status = super::super::PostgresInstanceStatus { version: known.map(Into::into), ..Default::default() };
        instance.status = Some(status);
        instance
    }

    #[test]
    fn a_new_instance_begins_with_the_version_of_its_spec() {
        for asked in [PostgresVersion::V15, PostgresVersion::V17] {
            assert_eq!(version(&records(asked, None), None, None), (asked, None));
        }
    }

    #[test]
    fn a_version_changed_by_hand_leaves_the_database_alone_and_names_the_way() {
        let (runs, said) = version(&records(PostgresVersion::V17, Some("15")), None, None);
        assert_eq!(runs, PostgresVersion::V15);
        assert!(said.unwrap().contains("action Upgrade and version 17"));
        let (runs, said) = version(&records(PostgresVersion::V15, Some("17")), None, None);
        assert_eq!(runs, PostgresVersion::V17);
        assert!(said.unwrap().contains("RollBack"));
    }

    #[test]
    fn what_the_primary_says_counts_more_than_what_was_written_down() {
        let instance = records(PostgresVersion::V17, Some("15"));
        assert_eq!(version(&instance, None, Some("17")), (PostgresVersion::V17, None));
        let course = Course { version: Some(PostgresVersion::V15), ..Course::default() };
        assert_eq!(version(&instance, Some(&course), Some("17")).0, PostgresVersion::V15, "an operation decides");
    }

    #[test]
    fn what_a_pod_says_is_read_and_nonsense_is_not() {
        let annotations = json!({
            DATA: r#"{"version":"17","kept":"15","analyze":true}"#,
            TASK: r#"{"id":"one","do":"upgrade","step":"failed","message":"no room"}"#,
        });
        let data: DataSeen = heard(&annotations, DATA).unwrap();
        assert_eq!((data.version.as_deref(), data.kept.as_deref(), data.analyze), (Some("17"), Some("15"), true));
        let answer: Answer = heard(&annotations, TASK).unwrap();
        assert_eq!((answer.act, answer.step), (Deed::Upgrade, Progress::Failed));
        assert_eq!(heard::<Answer>(&json!({ TASK: "boom" }), TASK), None);
        assert_eq!(heard::<DataSeen>(&Value::Null, DATA), None);
    }
}
