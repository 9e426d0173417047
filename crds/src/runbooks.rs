//! Which runbook tells what to do about a condition: an id such as `HZ-PG-003`, which `hzctl explain HZ-PG-003` prints
//! and docs/runbooks holds. The id is added to the condition's message in one place, [`annotate`], just before a status
//! is written. An id is never used again for anything else, so that an old ticket still means what it said.

use serde_json::Value;

/// A condition of a kind, by type and reason, and its runbook. A `*` stands for every kind.
pub struct Row {
    /// Kind of the object.
    pub kind: &'static str,
    /// Type of the condition.
    pub type_: &'static str,
    /// Its reason.
    pub reason: &'static str,
    /// The runbook.
    pub id: &'static str,
}

const fn row(kind: &'static str, type_: &'static str, reason: &'static str, id: &'static str) -> Row {
    Row { kind, type_, reason, id }
}

const PG: &str = "PostgresInstance";
const CACHE: &str = "CacheInstance";
const STORE: &str = "ObjectStore";
const PLAN: &str = "BackupPlan";
const BACKUP: &str = "Backup";
const RESTORE: &str = "Restore";
const DRILL: &str = "RestoreDrill";
const OPERATION: &str = "DataOperation";
const SERVICE: &str = "MedicalService";
const HOSPITAL: &str = "Hospital";

/// Every condition that asks for somebody's attention. Several reasons may share a runbook.
pub const TABLE: &[Row] = &[
    row("*", "Ready", "Unfit", "HZ-ANY-001"),
    row("*", "Stalled", "Unfit", "HZ-ANY-001"),
    row("*", "Ready", "Waiting", "HZ-ANY-002"),
    row("*", "Ready", "NameTaken", "HZ-ANY-003"),
    row("*", "Ready", "NotApplied", "HZ-ANY-004"),
    row("*", "Ready", "Malformed", "HZ-ANY-005"),
    row(PG, "Ready", "Starting", "HZ-PG-001"),
    row(PG, "Ready", "Provisioning", "HZ-PG-001"),
    row(PG, "Ready", "Suspended", "HZ-PG-002"),
    row(PG, "Redundant", "Suspended", "HZ-PG-002"),
    row(PG, "Ready", "NotAnswering", "HZ-PG-003"),
    row(PG, "Ready", "PodsNotRunning", "HZ-PG-004"),
    row(PG, "Ready", "NotProvisioned", "HZ-PG-005"),
    row(PG, "Redundant", "CopiesMissing", "HZ-PG-006"),
    row(PG, "Redundant", "SingleInstance", "HZ-PG-007"),
    row(PG, "Durable", "WritesWait", "HZ-PG-008"),
    row(PG, "Durable", "NoSecondCopy", "HZ-PG-009"),
    row(PG, "Durable", "Asynchronous", "HZ-PG-010"),
    row(PG, "Durable", "NotSeen", "HZ-PG-011"),
    row(PG, "Configured", "Applying", "HZ-PG-012"),
    row(PG, "Configured", "NotApplied", "HZ-PG-013"),
    row(PG, "BackupHealthy", "NoPlan", "HZ-PG-014"),
    row(PG, "BackupHealthy", "NotAsPlanned", "HZ-PG-015"),
    row(PG, "BackupHealthy", "NotSeen", "HZ-PG-016"),
    row(PG, "StorageHealthy", "NearlyFull", "HZ-PG-017"),
    row(PG, "StorageHealthy", "Full", "HZ-PG-018"),
    row(PG, "StorageHealthy", "NotSeen", "HZ-PG-019"),
    row(PG, "Encrypted", "Introducing", "HZ-PG-020"),
    row(PG, "Encrypted", "Preferred", "HZ-PG-021"),
    row(PG, "Encrypted", "OtherCertificate", "HZ-PG-022"),
    row(PG, "Encrypted", "NotSeen", "HZ-PG-022"),
    row(PG, "Encrypted", "Suspended", "HZ-PG-002"),
    row(PG, "Provisioned", "SecretNotUsable", "HZ-PG-023"),
    row(PG, "Provisioned", "NotProvisioned", "HZ-PG-005"),
    row(PG, "Provisioned", "UsersNotProvisioned", "HZ-PG-024"),
    row(PG, "Provisioned", "Rotating", "HZ-PG-025"),
    row(PG, "Pooled", "NotAnswering", "HZ-PG-026"),
    row(PG, "Pooled", "CopiesMissing", "HZ-PG-026"),
    row(PG, "Pooled", "NotSeen", "HZ-PG-026"),
    row(PG, "Pooled", "NotAsked", "HZ-PG-026"),
    row(PG, "Pooled", "Suspended", "HZ-PG-002"),
    row(CACHE, "Ready", "Starting", "HZ-CACHE-001"),
    row(CACHE, "Ready", "Suspended", "HZ-CACHE-002"),
    row(CACHE, "Redundant", "Suspended", "HZ-CACHE-002"),
    row(CACHE, "Ready", "NotAnswering", "HZ-CACHE-003"),
    row(CACHE, "Ready", "PodsNotRunning", "HZ-CACHE-004"),
    row(CACHE, "Redundant", "ServersMissing", "HZ-CACHE-005"),
    row(CACHE, "Redundant", "SingleServer", "HZ-CACHE-006"),
    row(CACHE, "Configured", "Applying", "HZ-CACHE-007"),
    row(CACHE, "Configured", "NotApplied", "HZ-CACHE-008"),
    row(CACHE, "Durable", "CopiesFollowLater", "HZ-CACHE-009"),
    row(CACHE, "Durable", "SingleServer", "HZ-CACHE-009"),
    row(CACHE, "Encrypted", "Disabled", "HZ-CACHE-010"),
    row(CACHE, "CredentialsApplied", "SecretWrong", "HZ-CACHE-011"),
    row(CACHE, "CredentialsApplied", "Applying", "HZ-CACHE-012"),
    row(CACHE, "CredentialsApplied", "Suspended", "HZ-CACHE-002"),
    row(STORE, "Ready", "Starting", "HZ-STORE-001"),
    row(STORE, "Ready", "Suspended", "HZ-STORE-002"),
    row(STORE, "Redundant", "Suspended", "HZ-STORE-002"),
    row(STORE, "Ready", "NotAnswering", "HZ-STORE-003"),
    row(STORE, "Ready", "PodsNotRunning", "HZ-STORE-004"),
    row(STORE, "Redundant", "ServersMissing", "HZ-STORE-005"),
    row(STORE, "Redundant", "SingleServer", "HZ-STORE-006"),
    row(PLAN, "Ready", "NoInstance", "HZ-BAK-001"),
    row(PLAN, "BackupHealthy", "NoInstance", "HZ-BAK-001"),
    row(PLAN, "BackupHealthy", "NotConfigured", "HZ-BAK-002"),
    row(PLAN, "BackupHealthy", "Suspended", "HZ-BAK-003"),
    row(PLAN, "BackupHealthy", "ArchivingFails", "HZ-BAK-004"),
    row(PLAN, "BackupHealthy", "ArchivingLags", "HZ-BAK-005"),
    row(PLAN, "BackupHealthy", "BackupFailed", "HZ-BAK-006"),
    row(PLAN, "BackupHealthy", "NoBackupYet", "HZ-BAK-007"),
    row(PLAN, "BackupHealthy", "Overdue", "HZ-BAK-008"),
    row(PLAN, "BackupHealthy", "NotSeen", "HZ-BAK-009"),
    row(BACKUP, "Ready", "AtWork", "HZ-BAK-010"),
    row(BACKUP, "Ready", "Failed", "HZ-BAK-006"),
    row(BACKUP, "Ready", "Cancelled", "HZ-BAK-011"),
    row(PLAN, "Immutable", "NotEnforced", "HZ-BAK-012"),
    row(PLAN, "Immutable", "NotProbed", "HZ-BAK-013"),
    row(RESTORE, "Ready", "AtWork", "HZ-RST-001"),
    row(RESTORE, "Ready", "Failed", "HZ-RST-002"),
    row(RESTORE, "Ready", "DeadlineExceeded", "HZ-RST-003"),
    row(RESTORE, "Ready", "Cancelled", "HZ-RST-004"),
    row(DRILL, "Ready", "NotProved", "HZ-DRILL-001"),
    row(DRILL, "Ready", "NoDrillYet", "HZ-DRILL-002"),
    row(DRILL, "Ready", "FirstDrill", "HZ-DRILL-002"),
    row(OPERATION, "Ready", "Running", "HZ-OP-001"),
    row(OPERATION, "Ready", "Waiting", "HZ-OP-001"),
    row(OPERATION, "Ready", "Refused", "HZ-OP-002"),
    row(OPERATION, "Ready", "Failed", "HZ-OP-003"),
    row(OPERATION, "Ready", "DeadlineExceeded", "HZ-OP-004"),
    row(OPERATION, "Ready", "TargetGone", "HZ-OP-005"),
    row(OPERATION, "Ready", "Cancelled", "HZ-OP-006"),
    row(SERVICE, "Ready", "RollingOut", "HZ-SVC-001"),
    row(SERVICE, "Ready", "Suspended", "HZ-SVC-002"),
    row(SERVICE, "Available", "Suspended", "HZ-SVC-002"),
    row(SERVICE, "Ready", "PodsNotRunning", "HZ-SVC-003"),
    row(SERVICE, "Ready", "RouteRefused", "HZ-SVC-004"),
    row(SERVICE, "Ready", "RoutePending", "HZ-SVC-005"),
    row(SERVICE, "Available", "NoCopies", "HZ-SVC-006"),
    row(HOSPITAL, "Ready", "Terminating", "HZ-HOSP-001"),
];

/// How every id begins; also what tells that a message names one already.
const PREFIX: &str = "hzctl explain HZ-";

/// The runbook for a condition; nothing if it asks for nobody's attention.
pub fn id(kind: &str, type_: &str, reason: &str) -> Option<&'static str> {
    let of = |kind: &str| TABLE.iter().find(|row| row.kind == kind && row.type_ == type_ && row.reason == reason);
    of(kind).or_else(|| of("*")).map(|row| row.id)
}

/// Adds to the message of each condition in a status where its runbook is. A message that names one already keeps it: it
/// was said before, or it repeats what another object says, whose runbook is nearer to the cause.
pub fn annotate(kind: &str, status: &mut Value) {
    let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        let Some(id) = id(kind, &text("type"), &text("reason")) else { continue };
        let message = text("message");
        if !message.contains(PREFIX) {
            condition["message"] = Value::from(with(&message, id));
        }
    }
}

/// The longest message the API server takes in a condition.
const LONGEST_MESSAGE: usize = 32_768;

fn with(message: &str, id: &str) -> String {
    let suffix = format!(" (hzctl explain {id})");
    let room = message.floor_char_boundary(LONGEST_MESSAGE - suffix.len());
    format!("{}{suffix}", &message[..room])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn annotated(kind: &str, type_: &str, reason: &str, message: &str) -> String {
        let mut status = json!({ "conditions": [{ "type": type_, "reason": reason, "message": message }] });
        annotate(kind, &mut status);
        status["conditions"][0]["message"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_message_says_where_its_runbook_is_and_says_it_once() {
        let once = annotated("PostgresInstance", "Ready", "NotAnswering", "SELECT 1 failed");
        assert_eq!(once, "SELECT 1 failed (hzctl explain HZ-PG-003)");
        assert_eq!(annotated("PostgresInstance", "Ready", "NotAnswering", &once), once);
    }

    #[test]
    fn what_is_well_has_no_runbook_and_what_every_kind_says_has_one_for_all() {
        assert_eq!(annotated("PostgresInstance", "Ready", "Answering", "fine"), "fine");
        assert_eq!(annotated("Hospital", "Ready", "Unfit", "no"), "no (hzctl explain HZ-ANY-001)");
        assert_eq!(id("DataOperation", "Ready", "Waiting"), Some("HZ-OP-001"), "its own comes first");
        let mut none = json!({ "observedGeneration": 1 });
        annotate("Hospital", &mut none);
        assert_eq!(none, json!({ "observedGeneration": 1 }));
    }

    #[test]
    fn the_cause_that_another_object_names_keeps_its_runbook() {
        let repeated = "nightly: the log cannot be archived (hzctl explain HZ-BAK-004)";
        assert_eq!(annotated("PostgresInstance", "BackupHealthy", "NotAsPlanned", repeated), repeated);
    }

    #[test]
    fn the_longest_message_is_cut_and_its_runbook_is_not() {
        let long = annotated("Hospital", "Ready", "NotApplied", &"ä".repeat(20_000));
        assert!(long.len() <= LONGEST_MESSAGE && long.ends_with("ä (hzctl explain HZ-ANY-004)"));
    }

    #[test]
    fn no_condition_has_two_runbooks() {
        for (number, row) in TABLE.iter().enumerate() {
            let twice = |other: &&Row| (other.kind, other.type_, other.reason) == (row.kind, row.type_, row.reason);
            assert!(TABLE[..number].iter().find(twice).is_none(), "{} {} {}", row.kind, row.type_, row.reason);
        }
    }
}
