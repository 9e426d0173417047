//! How far an operation is and what comes next, told by the thing itself and never by what was done before.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::moves::{self, Copy, Move, Replace, Rules};
use super::refuse::refusal;
use super::{Action, Before, DataOperation, Phase, Stage, upgrade};
use crate::postgres::PostgresVersion;
use crate::postgres::upgrade::{Answer, DataSeen};
use crate::quantity::Amount;

/// What the operator sees of an operation's target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The target, if there is one.
    pub target: Option<TargetSeen>,
    /// Its copies.
    pub copies: Vec<CopySeen>,
    /// Another operation on the same target that goes first.
    pub ahead: Option<String>,
    /// Why the copies could not be asked.
    pub silent: Option<String>,
}

/// A target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetSeen {
    /// Copies its spec asks for.
    pub instances: i32,
    /// Room its spec asks for; nothing for a cache that keeps nothing on disk.
    pub size: Option<Amount>,
    /// All copies are stopped.
    pub suspended: bool,
    /// Writes wait when no second copy confirms them.
    pub strict: bool,
    /// The one that leads hands its work over only when told to.
    pub told: bool,
    /// Servers that copies can run on, if they were counted.
    pub workers: Option<i32>,
    /// Whether its volumes can grow where they are.
    pub grows: bool,
    /// What its own controller is doing, or cannot do.
    pub doing: Option<String>,
    /// Major version that the spec of a database asks for.
    pub version: Option<PostgresVersion>,
    /// Version of its data, as its status says.
    pub data_version: Option<String>,
    /// What is wrong between the two.
    pub mismatch: Option<String>,
    /// A setting of its spec that the version before an upgrade does not know.
    pub unknown_before: Option<String>,
    /// What its plan for backups says, if there is one.
    pub backups: Option<LastBackup>,
}

/// The last backup of a database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastBackup {
    /// Name of the plan.
    pub plan: String,
    /// When the last one was complete.
    pub last: Option<String>,
    /// It is not older than a day.
    pub fresh: bool,
    /// This operation has asked for one.
    pub ordered: bool,
}

/// A copy of a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopySeen {
    /// How it is.
    pub copy: Copy,
    /// Unique id of its pod.
    pub pod: String,
    /// Unique id of its volume, and the room in it.
    pub volume: Option<(String, Amount)>,
    /// It was started from an older description of the pod than the one that stands.
    pub stale: bool,
    /// What its pod says of the data of a database.
    pub data: DataSeen,
    /// What its pod answered to an operation.
    pub answer: Option<Answer>,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Nothing.
    Nothing,
    /// Delete this pod, and its volume if there is one here: by their unique ids.
    Replace {
        /// Name of the pod.
        name: String,
        /// Its unique id.
        pod: String,
        /// The unique id of its volume.
        volume: Option<String>,
    },
    /// Have the first hand its work to the second.
    HandOver(String, String),
    /// Ask for this many copies in the target's spec.
    SetInstances(i32),
    /// Ask for this much room in the target's spec.
    SetSize(Amount),
    /// Ask for this version in the target's spec.
    SetVersion(PostgresVersion),
    /// Ask for a full backup.
    OrderBackup,
}

/// Where an operation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// How far it is.
    pub phase: Phase,
    /// A word for it.
    pub reason: &'static str,
    /// In a sentence.
    pub message: String,
    /// Copies that are as asked for, of all.
    pub progress: Option<String>,
    /// What to note of the target before the first step; set as the operation begins.
    pub before: Option<Before>,
    /// Where an operation on the version is.
    pub stage: Option<Stage>,
    /// What to do now. It is done only after the rest was written down.
    pub act: Act,
}

impl Decision {
    pub(super) fn of(phase: Phase, reason: &'static str, message: impl Into<String>) -> Self {
        Self { phase, reason, message: message.into(), progress: None, before: None, stage: None, act: Act::Nothing }
    }

    fn refused(message: impl Into<String>) -> Self {
        Self::of(Phase::Failed, "Refused", message)
    }
}

/// What to say and do; nothing once the operation has ended.
pub fn decide(operation: &DataOperation, seen: &Seen, now: Timestamp) -> Option<Decision> {
    let status = operation.status.clone().unwrap_or_default();
    match status.phase.unwrap_or_default() {
        Phase::Pending => Some(begin(operation, seen)),
        Phase::Running => {
            let before = status.before.unwrap_or_default();
            let started = status.start_time.and_then(|text| text.parse().ok()).unwrap_or(now);
            let go_on = if upgrade::is_of_version(operation.spec.action) { upgrade::go_on } else { go_on };
            Some(go_on(operation, &before, seen, now.duration_since(started)))
        }
        _ => None,
    }
}

fn begin(operation: &DataOperation, seen: &Seen) -> Decision {
    let spec = &operation.spec;
    if spec.cancel {
        return Decision::of(Phase::Cancelled, "Cancelled", "cancelled before it began; nothing was done");
    }
    let name = &spec.target.name;
    let Some(target) = &seen.target else {
        let kind = spec.target.kind.word();
        return Decision::refused(format!("spec.target.name: there is no {kind} {name} in this namespace"));
    };
    if let Some(ahead) = &seen.ahead {
        return Decision::of(Phase::Pending, "Waiting", format!("waits for the operation {ahead}"));
    }
    if let Some(problem) = refusal(operation, target, seen) {
        return Decision::refused(problem);
    }
    if let Some(silent) = &seen.silent {
        return Decision::of(Phase::Pending, "Waiting", silent.clone());
    }
    let uids = |copy: &CopySeen| [Some(copy.pod.clone()), copy.volume.as_ref().map(|(uid, _)| uid.clone())];
    let to_go = seen.copies.iter().filter(|seen| match (spec.action, &spec.member) {
        (Action::Restart, _) => true,
        (Action::Rebuild, Some(member)) => *member == seen.copy.name,
        _ => false,
    });
    let (from, to) = upgrade::versions(operation, target, seen);
    let before = Before {
        from,
        to,
        going_back: None,
        primary: leader(seen).map(|copy| copy.name.clone()),
        uids: match spec.action {
            Action::Restart => to_go.map(|copy| copy.pod.clone()).collect(),
            _ => to_go.flat_map(uids).flatten().collect(),
        },
    };
    let stage = upgrade::first_stage(spec.action);
    Decision { before: Some(before), stage, ..Decision::of(Phase::Running, "Running", "begins") }
}

fn go_on(operation: &DataOperation, before: &Before, seen: &Seen, lasted: SignedDuration) -> Decision {
    let spec = &operation.spec;
    let Some(target) = &seen.target else {
        return Decision::of(Phase::Failed, "TargetGone", format!("{} is gone", spec.target.name));
    };
    let (progress, next) = match &seen.silent {
        Some(silent) => (None, Err(silent.clone())),
        None => {
            let (progress, next) = step(operation, before, target, seen);
            (Some(progress), next)
        }
    };
    let decision = match next {
        Ok(Step::Done(message)) => Decision::of(Phase::Succeeded, "Succeeded", message),
        Ok(Step::Never(message)) => Decision::of(Phase::Failed, "Failed", message),
        _ if spec.cancel => {
            let done = progress.as_deref().map_or_else(String::new, |done| format!(" ({done} were done)"));
            Decision::of(
                Phase::Cancelled,
                "Cancelled",
                format!("cancelled{done}; what was asked for in the target's spec stays there"),
            )
        }
        next if lasted >= SignedDuration::from_secs(i64::from(spec.deadline_seconds)) => {
            let why = match next {
                Ok(Step::Do(_, message)) | Err(message) => message,
                Ok(Step::Done(_) | Step::Never(_)) => String::new(),
            };
            Decision::of(
                Phase::Failed,
                "DeadlineExceeded",
                format!("not done after {} seconds: {why}", spec.deadline_seconds),
            )
        }
        Ok(Step::Do(act, message)) => Decision { act, ..Decision::of(Phase::Running, "Running", message) },
        Err(message) => Decision::of(Phase::Running, "Running", message),
    };
    Decision { progress, ..decision }
}

enum Step {
    Done(String),
    Do(Act, String),
    Never(String),
}

/// Copies that are as asked for of all, and the step; an error is what it waits for.
fn step(
    operation: &DataOperation,
    before: &Before,
    target: &TargetSeen,
    seen: &Seen,
) -> (String, Result<Step, String>) {
    let spec = &operation.spec;
    let wanted = usize::try_from(spec.instances.unwrap_or(target.instances)).unwrap_or_default();
    let of = |done: usize, all: usize| format!("{}/{all}", done.min(all));
    let count = |test: &dyn Fn(&CopySeen) -> bool| seen.copies.iter().filter(|seen| test(seen)).count();
    match spec.action {
        Action::Restart => {
            let done = count(&|seen| seen.copy.in_step && !before.uids.contains(&seen.pod));
            let marked = marked(seen, |seen| before.uids.contains(&seen.pod).then_some(Replace::Pod));
            (of(done, wanted), replace(&marked, seen, target, "every copy was started anew"))
        }
        Action::Rebuild => {
            let member = spec.member.as_deref().unwrap_or_default();
            let old = |seen: &CopySeen| {
                let volume = seen.volume.as_ref().is_some_and(|(uid, _)| before.uids.contains(uid));
                volume || before.uids.contains(&seen.pod)
            };
            let marked = marked(seen, |seen| (seen.copy.name == member && old(seen)).then_some(Replace::Disk));
            let done = count(&|seen| seen.copy.name == member && seen.copy.in_step && !old(seen));
            (of(done, 1), replace(&marked, seen, target, &format!("{member} was built anew and is in step")))
        }
        Action::Switchover => switchover(spec.candidate.as_deref(), before, target, seen),
        Action::Scale => {
            let done = count(&|seen| seen.copy.in_step && !seen.copy.going);
            (of(done, wanted), scale(spec.instances.unwrap_or_default(), target, seen))
        }
        Action::Expand => {
            let size = spec.size.clone().unwrap_or_else(|| Amount::from("0"));
            let has = |seen: &CopySeen| seen.volume.as_ref().is_some_and(|(_, room)| room.units() >= size.units());
            let done = count(&|seen| seen.copy.in_step && has(seen));
            (of(done, wanted), expand(&size, done >= wanted, target, seen))
        }
        Action::Upgrade | Action::RollBack | Action::FinishUpgrade => unreachable!("decided by its stages"),
    }
}

fn marked(seen: &Seen, replace: impl Fn(&CopySeen) -> Option<Replace>) -> Vec<Copy> {
    seen.copies.iter().map(|seen| Copy { replace: replace(seen), ..seen.copy.clone() }).collect()
}

fn rules(target: &TargetSeen) -> Rules {
    let wanted = usize::try_from(target.instances).unwrap_or_default();
    Rules { wanted, strict: target.strict && target.instances > 1, told: target.told }
}

fn replace(copies: &[Copy], seen: &Seen, target: &TargetSeen, done: &str) -> Result<Step, String> {
    let next = moves::next(copies, rules(target));
    let said = next.said().unwrap_or_default();
    match next {
        Move::Done => Ok(Step::Done(done.to_owned())),
        Move::Wait(what) => Err(what),
        Move::Impossible(why) => Ok(Step::Never(why)),
        Move::HandOver(from, to) => Ok(Step::Do(Act::HandOver(from, to), said)),
        Move::Replace(name, what) => match replacing(&name, what, seen) {
            Some(act) => Ok(Step::Do(act, said)),
            None => Err(format!("{name} is not there")),
        },
    }
}

/// The act that replaces a copy.
pub fn replacing(name: &str, what: Replace, seen: &Seen) -> Option<Act> {
    let found = seen.copies.iter().find(|seen| seen.copy.name == name)?;
    let volume = found.volume.as_ref().filter(|_| what == Replace::Disk).map(|(uid, _)| uid.clone());
    Some(Act::Replace { name: name.to_owned(), pod: found.pod.clone(), volume })
}

fn switchover(
    candidate: Option<&str>,
    before: &Before,
    target: &TargetSeen,
    seen: &Seen,
) -> (String, Result<Step, String>) {
    let copies: Vec<Copy> = seen.copies.iter().map(|seen| seen.copy.clone()).collect();
    let Some(leader) = leader(seen) else { return ("0/1".to_owned(), Err("no copy leads right now".to_owned())) };
    let old = before.primary.as_deref();
    if old.is_some_and(|old| old != leader.name) {
        let step = match candidate {
            Some(candidate) if candidate != leader.name => {
                Ok(Step::Never(format!("{} took over instead of {candidate}", leader.name)))
            }
            _ => match moves::away(&copies, rules(target).wanted) {
                Some(why) => Err(format!("{} took over; {why}", leader.name)),
                None => Ok(Step::Done(format!("{} took over from {}", leader.name, old.unwrap_or_default()))),
            },
        };
        return ("1/1".to_owned(), step);
    }
    let step = match (moves::away(&copies, rules(target).wanted), candidate) {
        (Some(why), _) => Err(why),
        (None, Some(candidate)) => match copies.iter().find(|copy| copy.name == candidate) {
            Some(copy) if copy.confirms || !target.strict => Ok(copy.name.clone()),
            _ => Err(format!("{candidate} does not confirm writes right now; only a copy that does can take over")),
        },
        (None, None) => match moves::successor(&copies, target.strict) {
            Some(copy) => Ok(copy.name.clone()),
            None => Err("no copy confirms writes right now".to_owned()),
        },
    };
    let hand_over = |to: String| {
        let said = format!("{} hands its work to {to}", leader.name);
        Step::Do(Act::HandOver(leader.name.clone(), to), said)
    };
    ("0/1".to_owned(), step.map(hand_over))
}

fn scale(wanted: i32, target: &TargetSeen, seen: &Seen) -> Result<Step, String> {
    let copies: Vec<Copy> = seen.copies.iter().map(|seen| seen.copy.clone()).collect();
    let goes = |copy: &Copy| number(&copy.name).is_some_and(|number| number >= wanted);
    if target.instances != wanted {
        // The pods with the highest numbers go; the work moves first where it can.
        if target.told
            && let Some(leader) = copies.iter().find(|copy| copy.leads && goes(copy))
        {
            let able = |copy: &&Copy| !goes(copy) && !copy.leads && copy.in_step && (copy.confirms || !target.strict);
            if let Some(copy) = copies.iter().find(able) {
                let said = format!("{} hands its work to {}", leader.name, copy.name);
                return Ok(Step::Do(Act::HandOver(leader.name.clone(), copy.name.clone()), said));
            }
        }
        return Ok(Step::Do(Act::SetInstances(wanted), format!("{wanted} copies are asked for")));
    }
    match moves::away(&copies, usize::try_from(wanted).unwrap_or_default()) {
        Some(why) => Err(why),
        None if copies.iter().any(goes) => Err("copies that are no longer wanted are still there".to_owned()),
        None if seen.copies.iter().any(|seen| seen.stale) => Err("copies learn of the new number".to_owned()),
        None => Ok(Step::Done(format!("there are {wanted} copies, and all are in step"))),
    }
}

/// The number of a pod.
fn number(pod: &str) -> Option<i32> {
    pod.rsplit_once('-')?.1.parse().ok()
}

fn expand(size: &Amount, all: bool, target: &TargetSeen, seen: &Seen) -> Result<Step, String> {
    if target.size.as_ref().is_none_or(|there| there.units() < size.units()) {
        return Ok(Step::Do(Act::SetSize(size.clone()), format!("{size} are asked for")));
    }
    let copies: Vec<Copy> = seen.copies.iter().map(|seen| seen.copy.clone()).collect();
    match moves::away(&copies, rules(target).wanted) {
        None if all => Ok(Step::Done(format!("every copy has {size}"))),
        why => Err(target.doing.clone().or(why).unwrap_or_else(|| "the volumes grow".to_owned())),
    }
}

/// The copy that leads.
pub(super) fn leader(seen: &Seen) -> Option<&Copy> {
    seen.copies.iter().map(|seen| &seen.copy).find(|copy| copy.leads)
}
