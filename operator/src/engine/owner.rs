//! Which custom resource an object belongs to, when no owner reference says so (pods, and what outlives its owner).

use std::collections::BTreeMap;

use hz_crds::labels;

use super::world::Owner;

/// Owner of pods of a pooler.
pub const POOLER: &str = "Pooler";

/// The word for a kind in labels, and the kind.
const APPS: [(&str, &str); 8] = [
    ("hospital", "Hospital"),
    ("postgres", "PostgresInstance"),
    // No kind, so that its pods are not taken for copies of the database; its Deployment tells of changes.
    ("pooler", POOLER),
    ("cache", "CacheInstance"),
    ("store", "ObjectStore"),
    ("service", "MedicalService"),
    ("backup", "Backup"),
    ("backup-plan", "BackupPlan"),
];

/// The owner by the labels that every object of ours carries, and every pod of its workloads. The watches see to it
/// that nothing else comes here.
pub fn by_labels(on: &BTreeMap<&str, &str>) -> Option<Owner> {
    let app = on.get(labels::NAME)?;
    let (_, kind) = APPS.iter().find(|(word, _)| word == app)?;
    Some(Owner { kind: (*kind).to_owned(), name: (*on.get(labels::INSTANCE)?).to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_finds_its_database_by_its_labels() {
        let on = BTreeMap::from([(labels::NAME, "postgres"), (labels::INSTANCE, "records")]);
        let owner = Owner { kind: "PostgresInstance".into(), name: "records".into() };
        assert_eq!(by_labels(&on), Some(owner));
    }

    #[test]
    fn what_is_of_no_kind_of_ours_has_no_owner_here() {
        let on = BTreeMap::from([(labels::NAME, "nginx"), (labels::INSTANCE, "records")]);
        assert_eq!(by_labels(&on), None);
    }
}
