//! Another major version, and the way back: what comes next.
//!
//! Where the operation is, is a stage in its status, since the copies are stopped on the way and can tell nothing. Each stage ends by what
//! is seen, and what it asks for may be asked for any number of times: whoever dies in between goes on.
//!
//! ```text
//! Upgrade:       Checking → HandingOver → Draining → Stopping → Working ┬→ Starting → done
//! RollBack:                                          Stopping → Working ┘     (from here on there is no way to cancel)
//!                whatever fails or is cancelled before Starting          → Returning → failed or cancelled
//! FinishUpgrade: Finishing → done
//! ```

use k8s_openapi::jiff::SignedDuration;

use super::decide::{Act, CopySeen, Decision, Seen, TargetSeen, leader};
use super::{Action, Before, DataOperation, Phase, Stage, moves};
use crate::postgres::PostgresVersion;
use crate::postgres::upgrade::{Answer, Course, Deed, Progress, Task};

/// Longest that copies are waited for on the way back to where they were.
const RETURNS_WITHIN: SignedDuration = SignedDuration::from_secs(3600);

/// Whether an action is about the version.
pub fn is_of_version(action: Action) -> bool {
    matches!(action, Action::Upgrade | Action::RollBack | Action::FinishUpgrade)
}

/// The first stage.
pub(super) fn first_stage(action: Action) -> Option<Stage> {
    match action {
        Action::Upgrade => Some(Stage::Checking),
        Action::RollBack => Some(Stage::Stopping),
        Action::FinishUpgrade => Some(Stage::Finishing),
        _ => None,
    }
}

/// Versions that it leads from and to, as it begins.
pub(super) fn versions(
    operation: &DataOperation,
    target: &TargetSeen,
    seen: &Seen,
) -> (Option<String>, Option<String>) {
    let now = target.version.map(|version| version.word().to_owned());
    let kept = first(operation, seen).and_then(|copy| copy.data.kept.clone());
    match operation.spec.action {
        Action::Upgrade => (now, operation.spec.version.map(|version| version.word().to_owned())),
        Action::RollBack | Action::FinishUpgrade => (now, kept),
        _ => (None, None),
    }
}

/// The copy on whose volume everything happens: the one that stays when copies are taken away.
pub(super) fn first_name(operation: &DataOperation) -> String {
    format!("{}-0", operation.spec.target.name)
}

fn first<'a>(operation: &DataOperation, seen: &'a Seen) -> Option<&'a CopySeen> {
    let name = first_name(operation);
    seen.copies.iter().find(|seen| seen.copy.name == name)
}

fn id(operation: &DataOperation) -> String {
    operation.metadata.uid.clone().unwrap_or_default()
}

/// What a pod answered to this very operation.
fn answer<'a>(copy: &'a CopySeen, id: &str, acts: &[Deed]) -> Option<&'a Answer> {
    copy.answer.as_ref().filter(|answer| answer.id == id && acts.contains(&answer.act))
}

/// What comes next in an operation that runs.
pub(super) fn go_on(operation: &DataOperation, before: &Before, seen: &Seen, lasted: SignedDuration) -> Decision {
    let spec = &operation.spec;
    let Some(target) = &seen.target else {
        return Decision::of(Phase::Failed, "TargetGone", format!("{} is gone", spec.target.name));
    };
    let stage = operation
        .status
        .as_ref()
        .and_then(|status| status.stage)
        .or_else(|| first_stage(spec.action))
        .unwrap_or_default();
    let way = Way { operation, before, target, seen, id: id(operation) };
    let late = lasted >= SignedDuration::from_secs(i64::from(spec.deadline_seconds));
    let next = match &seen.silent {
        // Where copies are stopped on purpose nobody is there to be asked.
        Some(silent) if !matches!(stage, Stage::Stopping | Stage::Working) => Next::Wait(silent.clone()),
        _ => way.step(stage),
    };
    let progress = Some(stage.progress(spec.action).to_owned());
    let mut decision = match next {
        Next::Done(message) => Decision::of(Phase::Succeeded, "Succeeded", message),
        Next::Refused(why) => Decision::of(Phase::Failed, "Refused", why),
        Next::Stage(next, message) => at(next, message),
        Next::Back(why) => way.back(why),
        Next::Returned(why) if why.starts_with("cancelled") => Decision::of(Phase::Cancelled, "Cancelled", why),
        Next::Returned(why) => Decision::of(Phase::Failed, "Failed", why),
        waits => {
            let (act, message) = match waits {
                Next::Do(act, message) => (act, message),
                Next::Wait(message) => (Act::Nothing, message),
                _ => (Act::Nothing, String::new()),
            };
            match stage {
                Stage::Starting | Stage::Finishing if late => Decision::of(
                    Phase::Failed,
                    "DeadlineExceeded",
                    format!("not done after {} seconds: {message}{}", spec.deadline_seconds, way.beyond(stage)),
                ),
                Stage::Returning
                    if lasted >= SignedDuration::from_secs(i64::from(spec.deadline_seconds)) + RETURNS_WITHIN =>
                {
                    let why = before.going_back.clone().unwrap_or_default();
                    Decision::of(Phase::Failed, "Failed", format!("{why}; and {message}"))
                }
                Stage::Finishing if spec.cancel => Decision::of(Phase::Cancelled, "Cancelled", "cancelled"),
                Stage::Starting if spec.cancel => Decision {
                    act,
                    ..at(
                        stage,
                        format!("{message}; it is past the point of no return and goes on, RollBack leads back"),
                    )
                },
                Stage::Starting | Stage::Returning | Stage::Finishing => Decision { act, ..at(stage, message) },
                _ if spec.cancel => way.back("cancelled; nothing was changed".to_owned()),
                _ if late => way.back(format!("not done after {} seconds: {message}", spec.deadline_seconds)),
                _ => Decision { act, ..at(stage, message) },
            }
        }
    };
    decision.progress = decision.progress.or(progress);
    decision
}

fn at(stage: Stage, message: impl Into<String>) -> Decision {
    Decision { stage: Some(stage), ..Decision::of(Phase::Running, "Running", message) }
}

enum Next {
    Done(String),
    Refused(String),
    Stage(Stage, String),
    Do(Act, String),
    Wait(String),
    Back(String),
    Returned(String),
}

struct Way<'a> {
    operation: &'a DataOperation,
    before: &'a Before,
    target: &'a TargetSeen,
    seen: &'a Seen,
    id: String,
}

impl Way<'_> {
    fn from(&self) -> &str {
        self.before.from.as_deref().unwrap_or_default()
    }

    fn to(&self) -> &str {
        self.before.to.as_deref().unwrap_or_default()
    }

    fn first(&self) -> Option<&CopySeen> {
        first(self.operation, self.seen)
    }

    /// Back to where it was. Before the first copy was stopped there is no way to go.
    fn back(&self, why: String) -> Decision {
        let stage = self.operation.status.as_ref().and_then(|status| status.stage).unwrap_or_default();
        if matches!(stage, Stage::Checking | Stage::HandingOver) {
            let (phase, reason) = match why.strip_prefix("cancelled") {
                Some(_) => (Phase::Cancelled, "Cancelled"),
                None => (Phase::Failed, "DeadlineExceeded"),
            };
            return Decision::of(phase, reason, why);
        }
        let before = Before { going_back: Some(why.clone()), ..self.before.clone() };
        Decision {
            before: Some(before),
            ..at(Stage::Returning, format!("{why}; the copies start again with version {}", self.from()))
        }
    }

    /// What holds for an operation that is given up though it cannot go back.
    fn beyond(&self, stage: Stage) -> String {
        match stage {
            Stage::Starting => format!(
                "; the data is of version {} by now: a copy that does not come is built anew by a Rebuild",
                self.to()
            ),
            _ => String::new(),
        }
    }

    fn whole(&self) -> Option<String> {
        let copies: Vec<moves::Copy> = self.seen.copies.iter().map(|seen| seen.copy.clone()).collect();
        moves::away(&copies, usize::try_from(self.target.instances).unwrap_or_default())
    }

    fn step(&self, stage: Stage) -> Next {
        match stage {
            Stage::Checking => self.check(),
            Stage::HandingOver => self.hand_over(),
            Stage::Draining => self.drain(),
            Stage::Stopping => match self.seen.copies.first() {
                Some(copy) => Next::Wait(format!("{} is stopping", copy.copy.name)),
                None => Next::Stage(
                    Stage::Working,
                    format!("every copy is stopped; {} gets to work", first_name(self.operation)),
                ),
            },
            Stage::Working => self.work(),
            Stage::Starting => self.start(),
            Stage::Returning => self.turn_back(),
            Stage::Finishing => self.finish(),
        }
    }

    fn check(&self) -> Next {
        let pod = self.before.primary.as_deref().unwrap_or_default();
        let answers = self.seen.copies.iter().filter_map(|copy| answer(copy, &self.id, &[Deed::Check])).next();
        match answers.map(|answer| (answer.step, answer.message.clone().unwrap_or_default())) {
            Some((Progress::Failed, why)) => {
                Next::Refused(format!("the trial before the upgrade failed, and nothing was changed: {why}"))
            }
            Some((Progress::Done, _)) => Next::Stage(
                Stage::HandingOver,
                format!("the schema goes into version {}, as a trial showed", self.to()),
            ),
            _ => Next::Wait(format!(
                "{pod} loads the schema into an empty database of version {}, for a trial",
                self.to()
            )),
        }
    }

    fn hand_over(&self) -> Next {
        let name = first_name(self.operation);
        if let Some(why) = self.whole() {
            return Next::Wait(why);
        }
        let Some(leads) = leader(self.seen) else { return Next::Wait("no copy leads right now".to_owned()) };
        if leads.name == name {
            return Next::Stage(
                Stage::Draining,
                format!("{name} leads; the other copies stop, and writes wait from now on"),
            );
        }
        match self.first().filter(|first| first.copy.confirms || !self.target.strict) {
            Some(_) => Next::Do(
                Act::HandOver(leads.name.clone(), name.clone()),
                format!("{} hands its work to {name}", leads.name),
            ),
            None => {
                Next::Wait(format!("{name} does not confirm writes right now; only a copy that does can take over"))
            }
        }
    }

    /// The others stop first, so that nobody takes over when the primary does.
    fn drain(&self) -> Next {
        let name = first_name(self.operation);
        if let Some(copy) = self.seen.copies.iter().find(|copy| copy.copy.name != name) {
            return Next::Wait(format!("{} is stopping", copy.copy.name));
        }
        match self.first() {
            Some(first) if first.copy.leads => Next::Stage(Stage::Stopping, format!("{name} alone is left, and stops")),
            _ => Next::Wait(format!("{name} does not lead yet")),
        }
    }

    fn work(&self) -> Next {
        let name = first_name(self.operation);
        let what = match self.operation.spec.action {
            Action::Upgrade => {
                format!("{name} makes data of version {} beside that of version {}", self.to(), self.from())
            }
            _ => format!("{name} gets ready to use the data of version {}", self.to()),
        };
        let Some(first) = self.first() else { return Next::Wait(format!("{what}: its pod starts")) };
        match answer(first, &self.id, &[Deed::Upgrade, Deed::Rollback]) {
            Some(Answer { step: Progress::Done, .. }) => {
                Next::Stage(Stage::Starting, format!("version {} is what counts from now on", self.to()))
            }
            Some(Answer { step: Progress::Failed, message, .. }) => Next::Back(message.clone().unwrap_or_default()),
            Some(Answer { message: Some(message), .. }) => Next::Wait(format!("{name}: {message}")),
            _ => Next::Wait(what),
        }
    }

    /// The pod that did the work has nothing else to do, and its successor starts PostgreSQL.
    fn worker(&self, message: &str) -> Option<Next> {
        let first = self.first().filter(|copy| !copy.copy.going)?;
        answer(first, &self.id, &[Deed::Upgrade, Deed::Rollback])?;
        let act = Act::Replace { name: first.copy.name.clone(), pod: first.pod.clone(), volume: None };
        // Not before the description of pods speaks of what is next.
        Some(if first.stale { Next::Do(act, message.to_owned()) } else { Next::Wait(message.to_owned()) })
    }

    fn start(&self) -> Next {
        let (name, to) = (first_name(self.operation), self.to());
        let wanted = PostgresVersion::of(to);
        if let Some(wanted) = wanted.filter(|_| self.target.version != wanted) {
            return Next::Do(Act::SetVersion(wanted), format!("version {to} is written into the spec"));
        }
        if let Some(next) = self.worker(&format!("{name} starts with version {to}")) {
            return next;
        }
        // Another copy may have taken over since: whoever leads now has what the first one had.
        let leads = self.seen.copies.iter().find(|copy| copy.copy.leads && copy.copy.ready);
        let Some(leads) = leads.filter(|leads| leads.data.version.as_deref() == Some(to)) else {
            return Next::Wait(format!("{name} starts with version {to}"));
        };
        if self.target.backups.as_ref().is_some_and(|backups| !backups.ordered) {
            return Next::Do(Act::OrderBackup, format!("a full backup of version {to} is asked for"));
        }
        if let Some(why) = self.whole() {
            return Next::Wait(format!("{} answers with version {to}; {why}", leads.copy.name));
        }
        if let Some(copy) = self.seen.copies.iter().find(|copy| copy.data.version.as_deref() != Some(to)) {
            return Next::Wait(format!("{name} answers with version {to}; {} has to say so too", copy.copy.name));
        }
        if self.first().is_some_and(|first| first.data.analyze) {
            if leads.copy.name != name {
                let from = leads.copy.name.clone();
                let said = format!("{from} hands its work to {name}, which renews statistics");
                return Next::Do(Act::HandOver(from, name), said);
            }
            return Next::Wait(format!("{name} answers with version {to}; its statistics are renewed"));
        }
        if self.target.data_version.as_deref() != Some(to) {
            return Next::Wait(format!("{name} answers with version {to}"));
        }
        Next::Done(match self.operation.spec.action {
            Action::Upgrade => format!(
                "version {to} runs; the data of version {} is kept on {name} until FinishUpgrade, and RollBack leads back to it",
                self.from()
            ),
            _ => format!("version {to} runs as it was before the upgrade; what was written since is gone"),
        })
    }

    fn turn_back(&self) -> Next {
        let why = self.before.going_back.clone().unwrap_or_default();
        if let Some(next) = self.worker(&format!("{why}; the copies start again with version {}", self.from())) {
            return next;
        }
        match self.whole() {
            Some(away) => Next::Wait(format!("{why}; the copies start again with version {}: {away}", self.from())),
            None => Next::Returned(format!("{why}; version {} runs as before", self.from())),
        }
    }

    fn finish(&self) -> Next {
        let name = first_name(self.operation);
        let old = self.to();
        let failed = self
            .first()
            .and_then(|first| answer(first, &self.id, &[Deed::Finish]))
            .filter(|said| said.step == Progress::Failed);
        if let Some(said) = failed {
            return Next::Refused(said.message.clone().unwrap_or_default());
        }
        match self.first() {
            Some(first) if first.data.version.is_some() && first.data.kept.is_none() => {
                Next::Done(format!("the data of version {old} is gone; there is no way back to it"))
            }
            _ => Next::Wait(format!("{name} throws the data of version {old} away")),
        }
    }
}

/// How the copies stand while an operation that runs is at work on their version.
pub fn course(operation: &DataOperation) -> Option<Course> {
    let status = operation.status.as_ref().filter(|status| status.phase == Some(Phase::Running))?;
    let stage = status.stage.filter(|_| is_of_version(operation.spec.action))?;
    let before = status.before.clone().unwrap_or_default();
    let (from, to) = (before.from.unwrap_or_default(), before.to.unwrap_or_default());
    let task =
        |act: Deed, pod: Option<String>| Some(Task { id: id(operation), act, from: from.clone(), to: to.clone(), pod });
    let old = Course { version: PostgresVersion::of(&from), ..Course::default() };
    Some(match stage {
        Stage::Checking => Course { told: task(Deed::Check, before.primary), ..old },
        Stage::HandingOver | Stage::Returning => old,
        Stage::Draining => Course { replicas: Some(1), ..old },
        Stage::Stopping => Course { replicas: Some(0), ..old },
        Stage::Working => {
            let act = if operation.spec.action == Action::Upgrade { Deed::Upgrade } else { Deed::Rollback };
            Course { replicas: Some(1), work: task(act, None), ..old }
        }
        Stage::Starting => {
            Course { version: PostgresVersion::of(&to), told: task(Deed::Follow, None), ..Course::default() }
        }
        Stage::Finishing => {
            let told = Task {
                id: id(operation),
                act: Deed::Finish,
                from: to.clone(),
                to: from.clone(),
                pod: Some(first_name(operation)),
            };
            Course { told: Some(told), ..old }
        }
    })
}
