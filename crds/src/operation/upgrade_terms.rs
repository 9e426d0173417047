//! Another major version: what its author has to change before it can begin.

use super::decide::{Seen, TargetSeen};
use super::upgrade::first_name;
use super::{Action, DataOperation, moves};
use crate::postgres::PostgresVersion;

/// What the author of the operation has to change first.
pub(super) fn refusal(operation: &DataOperation, target: &TargetSeen, seen: &Seen) -> Option<String> {
    let spec = &operation.spec;
    let name = &spec.target.name;
    let first = first_name(operation);
    let kept = seen.copies.iter().find(|copy| copy.data.kept.is_some());
    match spec.action {
        Action::Upgrade => {
            let (now, wanted) = (target.version?, spec.version?);
            if let Some(doing) = &target.mismatch {
                return Some(doing.clone());
            }
            if wanted <= now {
                return Some(format!("spec.version: {name} runs version {} already; {}", now.word(), newer(now)));
            }
            if let Some(copy) = kept {
                let kept = copy.data.kept.as_deref().unwrap_or_default();
                return Some(format!(
                    "{} still holds the data of version {kept} of before the last upgrade: end that with FinishUpgrade or RollBack first",
                    copy.copy.name
                ));
            }
            let copies: Vec<moves::Copy> = seen.copies.iter().map(|seen| seen.copy.clone()).collect();
            let wanted_copies = usize::try_from(target.instances).unwrap_or_default();
            if let Some(why) = moves::away(&copies, wanted_copies) {
                return Some(format!("every copy has to be ready and in step before an upgrade: {why}"));
            }
            unsaved(operation, target)
        }
        Action::RollBack | Action::FinishUpgrade => match (kept, target.unknown_before.as_ref()) {
            (None, _) => Some(format!(
                "{name} holds no data of before an upgrade: it was not upgraded, or FinishUpgrade threw that data away, or {first} was \
                 built anew"
            )),
            (Some(copy), _) if copy.copy.name != first => Some(format!(
                "the data of before the upgrade is on {}, and only that of {first} can be used",
                copy.copy.name
            )),
            (Some(_), Some(setting)) if spec.action == Action::RollBack => Some(format!(
                "the version of before the upgrade has no setting {setting}: take spec.parameters.{setting} out of {name} first"
            )),
            _ => None,
        },
        _ => None,
    }
}

fn newer(now: PostgresVersion) -> String {
    match PostgresVersion::V17 {
        newest if newest > now => format!("possible: {}", newest.word()),
        _ => "there is no newer one".to_owned(),
    }
}

/// Whoever has a plan for backups wants one of today before anything happens.
fn unsaved(operation: &DataOperation, target: &TargetSeen) -> Option<String> {
    let backups = target.backups.as_ref().filter(|_| !operation.spec.skip_backup)?;
    if backups.fresh {
        return None;
    }
    let last = backups
        .last
        .as_ref()
        .map_or_else(|| "has made none yet".to_owned(), |last| format!("made the last one at {last}"));
    Some(format!(
        "the BackupPlan {} {last}; an upgrade wants a backup that is not older than a day: make one (hzctl db backup {}), or say \
         spec.skipBackup: true",
        backups.plan, operation.spec.target.name
    ))
}
