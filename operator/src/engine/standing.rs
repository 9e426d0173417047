//! How every object stands, as gauges: what a hospital's own alerts look at.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;

use hz_crds::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::metrics::header;

/// Times in a status that are gauges of their own: field, gauge, help.
const TIMES: [(&str, &str, &str); 2] = [
    ("lastBackup", "hz_last_backup_timestamp_seconds", "When the last backup of a database was complete."),
    ("lastProvedRestore", "hz_last_proved_restore_timestamp_seconds", "When a drill last proved a restore."),
];

/// One object.
#[derive(Debug)]
struct Object {
    kind: &'static str,
    namespace: String,
    name: String,
    /// Type, status and reason of each condition.
    conditions: Vec<(String, String, String)>,
    /// Seconds since 1970 of each of [`TIMES`] that is known.
    times: Vec<(&'static str, i64)>,
}

/// Every object that was reported, by its unique id.
#[derive(Debug, Default)]
pub struct Standing(Mutex<BTreeMap<String, Object>>);

impl Standing {
    /// An object stands like this now.
    pub fn note(&self, uid: &str, kind: &'static str, meta: &ObjectMeta, status: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let object = Object {
            kind,
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            conditions: conditions.map(|c| (text(&c["type"]), text(&c["status"]), text(&c["reason"]))).collect(),
            times: TIMES.iter().filter_map(|(field, gauge, _)| Some((*gauge, moment(kind, field, status)?))).collect(),
        };
        self.lock().insert(uid.to_owned(), object);
    }

    /// An object is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// Writes the gauges.
    pub fn render(&self, page: &mut String) {
        let objects = self.lock();
        header(page, "hz_condition", "gauge", "1 for each condition of each object as it stands, by status.");
        for object in objects.values() {
            let Object { kind, namespace, name, conditions, .. } = object;
            for (type_, status, reason) in conditions {
                let _ = writeln!(
                    page,
                    "hz_condition{{kind=\"{kind}\",namespace=\"{namespace}\",name=\"{name}\",type=\"{type_}\",\
                     status=\"{status}\",reason=\"{reason}\"}} 1"
                );
            }
        }
        for (_, gauge, help) in TIMES {
            header(page, gauge, "gauge", help);
            for Object { namespace, name, times, .. } in objects.values() {
                for (_, at) in times.iter().filter(|(which, _)| *which == gauge) {
                    let _ = writeln!(page, "{gauge}{{namespace=\"{namespace}\",name=\"{name}\"}} {at}");
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Object>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Plans and drills hold the same fields: only the database's own are told, once.
fn moment(kind: &str, field: &str, status: &Value) -> Option<i64> {
    let at = status[field].as_str().filter(|_| kind == "PostgresInstance")?;
    Some(at.parse::<Timestamp>().ok()?.as_second())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_condition_and_the_age_of_what_was_saved_are_gauges_until_the_object_is_gone() {
        let standing = Standing::default();
        let meta = ObjectMeta {
            name: Some("records".into()),
            namespace: Some("hospital-st-anna".into()),
            ..ObjectMeta::default()
        };
        let status = json!({
            "conditions": [{ "type": "Ready", "status": "False", "reason": "Starting", "message": "no \"primary\" yet" }],
            "lastBackup": "2026-03-01T08:00:00Z",
        });
        standing.note("uid", "PostgresInstance", &meta, &status);
        let page = |standing: &Standing| {
            let mut page = String::new();
            standing.render(&mut page);
            page
        };
        let told = page(&standing);
        assert!(told.contains(
            "hz_condition{kind=\"PostgresInstance\",namespace=\"hospital-st-anna\",name=\"records\",type=\"Ready\",\
             status=\"False\",reason=\"Starting\"} 1\n"
        ));
        assert!(told.contains(
            "hz_last_backup_timestamp_seconds{namespace=\"hospital-st-anna\",name=\"records\"} 1772352000\n"
        ));
        assert!(!told.contains("hz_last_proved_restore_timestamp_seconds{"), "{told}");
        standing.forget("uid");
        assert!(!page(&standing).contains("records"));
    }
}
