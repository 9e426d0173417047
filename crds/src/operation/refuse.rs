//! What cannot be, told before anything is done.

use super::decide::{Seen, TargetSeen, leader};
use super::{Action, DataOperation};

/// What the author of the operation has to change.
pub(super) fn refusal(operation: &DataOperation, target: &TargetSeen, seen: &Seen) -> Option<String> {
    let spec = &operation.spec;
    let name = &spec.target.name;
    if target.suspended {
        return Some(format!("{name} is suspended; set its spec.suspend to false first"));
    }
    let known = |field: &str, pod: &str| {
        let names: Vec<&str> = seen.copies.iter().map(|seen| seen.copy.name.as_str()).collect();
        (!names.contains(&pod)).then(|| format!("spec.{field}: {name} has no copy {pod}; it has {}", names.join(", ")))
    };
    match spec.action {
        Action::Restart => None,
        Action::Upgrade | Action::RollBack | Action::FinishUpgrade => {
            super::upgrade_terms::refusal(operation, target, seen)
        }
        Action::Scale => {
            let wanted = spec.instances.unwrap_or_default();
            match target.workers {
                Some(workers) if wanted > workers && wanted > target.instances => Some(format!(
                    "spec.instances: {wanted} copies need {wanted} servers to run on, and there are {workers}"
                )),
                _ if target.strict && wanted < 2 => Some(
                    "spec.instances: with spec.synchronous Strict a write needs a second copy; set synchronous to Disabled first"
                        .to_owned(),
                ),
                _ => None,
            }
        }
        Action::Expand => {
            let Some(size) = &target.size else {
                return Some(format!("spec.size: {name} keeps nothing on disk; its memory is spec.memory"));
            };
            let wanted = spec.size.clone()?;
            if wanted.units() < size.units() {
                return Some(format!("spec.size: {wanted} is less than the {size} there are; a volume never shrinks"));
            }
            let copies = target.instances;
            let least = if target.strict { 3 } else { 2 };
            (!target.grows && copies < least && wanted.units() > size.units()).then(|| {
                format!(
                    "spec.size: the storage class cannot grow volumes, so copies are built anew one by one, and that needs \
                     {least} copies; there are {copies}"
                )
            })
        }
        Action::Switchover => {
            if target.instances < 2 {
                return Some(format!("{name} has no second copy to hand over to"));
            }
            spec.candidate.as_deref().and_then(|candidate| known("candidate", candidate)).or_else(|| {
                let leads = leader(seen).is_some_and(|copy| Some(&copy.name) == spec.candidate.as_ref());
                leads.then(|| {
                    format!("spec.candidate: {} is the primary already", spec.candidate.as_deref().unwrap_or_default())
                })
            })
        }
        Action::Rebuild => {
            let member = spec.member.as_deref().unwrap_or_default();
            known("member", member).or_else(|| {
                let copy = seen.copies.iter().find(|copy| copy.copy.name == member)?;
                let kept = copy.data.kept.as_ref()?;
                Some(format!(
                    "{member} holds the data of version {kept} of before the upgrade, which would go along: end the upgrade with \
                     FinishUpgrade or RollBack first"
                ))
            })
        }
    }
}
