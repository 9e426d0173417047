//! Upgrades in a small world: pods that die, an operator that forgets, people who cancel.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::decide::{Act, CopySeen, Decision, LastBackup, Seen, TargetSeen, decide};
use super::moves::Copy;
use super::upgrade::course;
use super::*;
use crate::Timestamp;
use crate::postgres::PostgresVersion;
use crate::postgres::upgrade::{Answer, DataSeen, Deed, Progress};
use crate::testing::at;

fn operation(spec: Value) -> DataOperation {
    let mut whole = json!({ "target": { "kind": "PostgresInstance", "name": "records" } });
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "apiVersion": "hz.hospital/v1alpha1", "kind": "DataOperation",
        "metadata": { "name": "trial", "namespace": "hospital-st-anna", "generation": 1, "uid": "one" }, "spec": whole,
    }))
    .unwrap()
}

fn upgrade() -> DataOperation {
    operation(json!({ "action": "Upgrade", "version": "17" }))
}

fn roll_back() -> DataOperation {
    operation(json!({ "action": "RollBack", "acceptLossSince": true }))
}

/// What is on a volume.
#[derive(Clone, Debug, Default, PartialEq)]
struct Volume {
    data: Option<&'static str>,
    made: Option<&'static str>,
    kept: Option<&'static str>,
    back: bool,
    analyze: bool,
}

/// What runs on it.
#[derive(Clone, Debug, PartialEq)]
struct Pod {
    uid: usize,
    version: PostgresVersion,
    work: Option<Deed>,
    answer: Option<Answer>,
    up: bool,
}

/// A server with three copies, the operator's own controller, and pods that do what `upgrade.py` does.
struct World {
    operation: DataOperation,
    spec: PostgresVersion,
    data_version: String,
    volumes: Vec<Volume>,
    pods: Vec<Option<Pod>>,
    leader: Option<usize>,
    next: usize,
    fails: bool,
    acted: Vec<Act>,
    handed_back: bool,
}

fn word(version: &str) -> &'static str {
    PostgresVersion::of(version).unwrap().word()
}

impl World {
    fn new(operation: DataOperation) -> Self {
        let version =
            if operation.spec.action == Action::Upgrade { PostgresVersion::V15 } else { PostgresVersion::V17 };
        let kept = (version == PostgresVersion::V17).then_some("15");
        let volumes = (0..3).map(|number| Volume {
            data: Some(version.word()),
            kept: kept.filter(|_| number == 0),
            ..Volume::default()
        });
        let pods = (0..3).map(|uid| Some(Pod { uid, version, work: None, answer: None, up: true }));
        Self {
            operation,
            spec: version,
            data_version: version.word().into(),
            volumes: volumes.collect(),
            pods: pods.collect(),
            leader: Some(1),
            next: 3,
            fails: false,
            acted: Vec::new(),
            handed_back: false,
        }
    }

    fn course(&self) -> Option<crate::postgres::upgrade::Course> {
        course(&self.operation)
    }

    /// The version of the pods' description.
    fn described(&self) -> (PostgresVersion, Option<Deed>) {
        let course = self.course();
        let known = PostgresVersion::of(&self.data_version).unwrap();
        let version = course.as_ref().and_then(|course| course.version).unwrap_or(known);
        (version, course.and_then(|course| course.work).map(|work| work.act))
    }

    /// The database's own controller and Kubernetes.
    fn controllers(&mut self) {
        let wanted = self.course().and_then(|course| course.replicas).unwrap_or(3);
        let (version, work) = self.described();
        for number in 0..3 {
            let runs = i32::try_from(number).unwrap() < wanted;
            match (&self.pods[number], runs) {
                (Some(_), false) => self.pods[number] = None,
                (None, true) => {
                    self.pods[number] = Some(Pod { uid: self.next, version, work, answer: None, up: false });
                    self.next += 1;
                }
                _ => {}
            }
        }
        if self.leader.is_some_and(|leader| self.pods[leader].as_ref().is_none_or(|pod| !pod.up)) {
            self.leader = None;
        }
        if let Some(data) = self.leader.and_then(|leader| self.volumes[leader].data) {
            self.data_version = data.into();
        }
    }

    /// What the pods do in a moment.
    fn pods(&mut self) {
        let told = self.course().and_then(|course| course.told);
        for number in 0..3 {
            let Some(mut pod) = self.pods[number].clone() else { continue };
            let volume = &mut self.volumes[number];
            if let (Some(act), Some(data)) = (pod.work, volume.data) {
                let step = if self.fails { Progress::Failed } else { Progress::Done };
                match act {
                    Deed::Upgrade if data == "15" && !self.fails => volume.made = Some("17"),
                    Deed::Rollback if data == "17" && !self.fails => volume.back = true,
                    _ => {}
                }
                let message = self.fails.then(|| "no room".to_owned());
                pod.answer = Some(Answer { id: "one".into(), act, step, message });
                self.pods[number] = Some(pod);
                continue;
            }
            let wanted = pod.version.word();
            if volume.data != Some(wanted) {
                match (volume.data, wanted) {
                    (Some("15"), "17") if volume.made == Some("17") => {
                        *volume = Volume { data: Some("17"), kept: Some("15"), analyze: true, ..Volume::default() };
                    }
                    (Some("17"), "15") if volume.back => *volume = Volume { data: Some("15"), ..Volume::default() },
                    _ => {
                        let leads = self.leader.filter(|leader| *leader != number);
                        let may = told.as_ref().is_some_and(|task| task.act == Deed::Follow);
                        if !may || leads.is_none() {
                            continue;
                        }
                        self.volumes[number] = Volume { data: Some(wanted), ..Volume::default() };
                    }
                }
            } else {
                volume.made = None;
                volume.back = false;
            }
            pod.up = true;
            if self.leader.is_none() && number == 0 {
                self.leader = Some(0);
            }
            if self.leader == Some(number) {
                self.volumes[number].analyze = false;
            }
            if let Some(task) = told.as_ref().filter(|task| task.pod.as_ref() == Some(&format!("records-{number}"))) {
                match task.act {
                    Deed::Finish => self.volumes[number].kept = None,
                    Deed::Check => {
                        pod.answer =
                            Some(Answer { id: "one".into(), act: Deed::Check, step: Progress::Done, message: None });
                    }
                    _ => {}
                }
            }
            self.pods[number] = Some(pod);
        }
    }

    fn seen(&self) -> Seen {
        let (version, work) = self.described();
        let copies = self.pods.iter().enumerate().filter_map(|(number, pod)| {
            let pod = pod.as_ref()?;
            let volume = &self.volumes[number];
            Some(CopySeen {
                copy: Copy {
                    name: format!("records-{number}"),
                    leads: self.leader == Some(number) && pod.up,
                    ready: pod.up,
                    in_step: pod.up && self.leader.is_some(),
                    confirms: pod.up && self.leader.is_some_and(|leader| leader != number),
                    ..Copy::default()
                },
                pod: format!("pod-{}", pod.uid),
                stale: pod.version != version || pod.work != work,
                data: DataSeen {
                    version: volume.data.map(Into::into),
                    kept: volume.kept.map(Into::into),
                    analyze: volume.analyze,
                    ..DataSeen::default()
                },
                answer: pod.answer.clone(),
                ..CopySeen::default()
            })
        });
        let target = TargetSeen {
            instances: 3,
            strict: true,
            told: true,
            version: Some(self.spec),
            data_version: Some(self.data_version.clone()),
            backups: Some(LastBackup {
                plan: "nightly".into(),
                fresh: true,
                ordered: self.acted.contains(&Act::OrderBackup),
                ..LastBackup::default()
            }),
            ..TargetSeen::default()
        };
        Seen { target: Some(target), copies: copies.collect(), ..Seen::default() }
    }

    fn obey(&mut self, act: &Act) {
        self.acted.push(act.clone());
        match act {
            Act::Replace { name, pod, volume } => {
                assert_eq!((name.as_str(), volume), ("records-0", &None), "no volume is ever thrown away");
                if self.pods[0].as_ref().is_some_and(|there| format!("pod-{}", there.uid) == *pod) {
                    self.pods[0] = None;
                }
            }
            Act::HandOver(_, to) => {
                assert_eq!(to, "records-0");
                self.leader = Some(0);
                self.handed_back = true;
            }
            Act::SetVersion(version) => self.spec = *version,
            Act::Nothing | Act::OrderBackup => {}
            other => panic!("an upgrade never does {other:?}"),
        }
    }

    /// One pass of the operator. It may die after it wrote the status down.
    fn pass(&mut self, now: Timestamp, dies: bool) -> Option<Decision> {
        let decision = decide(&self.operation, &self.seen(), now)?;
        self.operation.status = Some(status(&self.operation, &decision, now));
        if !dies {
            self.obey(&decision.act);
        }
        Some(decision)
    }

    fn phase(&self) -> Phase {
        self.operation.status.as_ref().and_then(|status| status.phase).unwrap_or_default()
    }

    fn stage(&self) -> Option<Stage> {
        self.operation.status.as_ref().and_then(|status| status.stage)
    }

    /// To its end, with what is said on the way.
    fn run(&mut self) -> Vec<String> {
        let mut said: Vec<String> = Vec::new();
        for _ in 0..100 {
            let decision = self.pass(at("12:00:00"), false).unwrap();
            if said.last() != Some(&decision.message) {
                said.push(decision.message);
            }
            if self.phase().is_final() {
                return said;
            }
            self.controllers();
            self.pods();
        }
        panic!("it never ends: {said:#?}")
    }

    /// Whatever happened, the copies run one version, with data of that version.
    fn is_whole(&self, version: &str) {
        let data: Vec<_> = self.volumes.iter().map(|volume| volume.data).collect();
        assert_eq!(data, vec![Some(word(version)); 3]);
        assert!(self.pods.iter().all(|pod| pod.as_ref().is_some_and(|pod| pod.up && pod.version.word() == version)));
        assert!(self.leader.is_some());
    }
}

#[test]
fn an_upgrade_says_every_step_and_keeps_the_data_of_before() {
    let mut world = World::new(upgrade());
    insta::assert_yaml_snapshot!(world.run());
    assert_eq!((world.phase(), world.spec), (Phase::Succeeded, PostgresVersion::V17));
    world.is_whole("17");
    assert_eq!(world.volumes[0].kept, Some("15"));
    assert!(world.acted.contains(&Act::OrderBackup) && world.handed_back);
}

#[test]
fn the_way_back_leads_to_the_version_of_before() {
    let mut world = World::new(roll_back());
    world.leader = Some(2);
    insta::assert_yaml_snapshot!(world.run());
    assert_eq!((world.phase(), world.spec), (Phase::Succeeded, PostgresVersion::V15));
    world.is_whole("15");
}

#[test]
fn finishing_throws_the_data_of_before_away_and_nothing_else() {
    let mut world = World::new(operation(json!({ "action": "FinishUpgrade" })));
    let said = world.run();
    assert_eq!(said.last().unwrap(), "the data of version 15 is gone; there is no way back to it");
    world.is_whole("17");
    assert_eq!(world.volumes[0].kept, None);
}

#[test]
fn work_that_fails_leads_back_and_says_why() {
    let mut world = World::new(upgrade());
    world.fails = true;
    let said = world.run();
    assert_eq!(said.last().unwrap(), "no room; version 15 runs as before");
    assert_eq!((world.phase(), world.spec), (Phase::Failed, PostgresVersion::V15));
    world.controllers();
    world.is_whole("15");
}

#[test]
fn a_trial_that_fails_refuses_before_anything_is_touched() {
    let mut world = World::new(upgrade());
    world.pass(at("12:00:00"), false);
    let answer =
        Answer { id: "one".into(), act: Deed::Check, step: Progress::Failed, message: Some("adminpack".into()) };
    world.pods[1].as_mut().unwrap().answer = Some(answer);
    let decision = world.pass(at("12:00:00"), false).unwrap();
    assert_eq!((decision.phase, decision.reason), (Phase::Failed, "Refused"));
    assert!(decision.message.contains("adminpack"));
    world.is_whole("15");
}

#[test]
fn what_cannot_be_is_refused_with_the_way_to_mend_it() {
    let said = |operation: &DataOperation, change: &dyn Fn(&mut Seen)| {
        let world = World::new(operation.clone());
        let mut seen = world.seen();
        change(&mut seen);
        decide(operation, &seen, at("12:00:00")).unwrap()
    };
    let refused = |operation: &DataOperation, change: &dyn Fn(&mut Seen)| {
        let decision = said(operation, change);
        assert_eq!((decision.phase, decision.reason), (Phase::Failed, "Refused"), "{}", decision.message);
        decision.message
    };
    let target = |seen: &mut Seen| seen.target.clone().unwrap();
    let newest = refused(&upgrade(), &|seen| seen.target.as_mut().unwrap().version = Some(PostgresVersion::V17));
    assert_eq!(newest, "spec.version: records runs version 17 already; there is no newer one");
    assert!(refused(&upgrade(), &|seen| seen.copies[2].copy.in_step = false).contains("records-2 is not yet in step"));
    assert!(
        refused(&upgrade(), &|seen| seen.copies[0].data.kept = Some("13".into()))
            .contains("FinishUpgrade or RollBack first")
    );
    let old = |seen: &mut Seen| {
        let backups =
            LastBackup { plan: "nightly".into(), last: Some("2026-06-01T00:00:00Z".into()), ..LastBackup::default() };
        seen.target = Some(TargetSeen { backups: Some(backups), ..target(seen) });
    };
    assert!(refused(&upgrade(), &old).contains("spec.skipBackup: true"));
    let without = operation(json!({ "action": "Upgrade", "version": "17", "skipBackup": true }));
    assert_eq!(said(&without, &old).phase, Phase::Running);
    assert!(refused(&roll_back(), &|seen| seen.copies[0].data.kept = None).contains("holds no data of before"));
    let setting = |seen: &mut Seen| {
        seen.target = Some(TargetSeen { unknown_before: Some("transaction_timeout".into()), ..target(seen) });
    };
    assert!(refused(&roll_back(), &setting).contains("spec.parameters.transaction_timeout"));
    let rebuild = operation(json!({ "action": "Rebuild", "member": "records-0" }));
    assert!(refused(&rebuild, &|seen| seen.copies[0].data.kept = Some("15".into())).contains("of before the upgrade"));
}

#[test]
fn cancelling_leads_back_until_the_new_version_counts_and_is_told_so_after() {
    let mut world = World::new(upgrade());
    while world.stage() != Some(Stage::Starting) {
        world.pass(at("12:00:00"), false);
        world.controllers();
        world.pods();
    }
    world.operation.spec.cancel = true;
    let said = world.run();
    assert!(said.iter().any(|said| said.contains("past the point of no return")), "{said:#?}");
    world.is_whole("17");
}

#[test]
fn only_one_operation_of_these_fields_is_taken() {
    for bad in [
        json!({ "action": "Upgrade" }),
        json!({ "action": "Restart", "version": "17" }),
        json!({ "action": "RollBack" }),
        json!({ "action": "RollBack", "acceptLossSince": false }),
        json!({ "action": "Upgrade", "version": "17", "acceptLossSince": true }),
        json!({ "action": "RollBack", "acceptLossSince": true, "skipBackup": true }),
        json!({ "action": "FinishUpgrade", "target": { "kind": "CacheInstance", "name": "sessions" } }),
    ] {
        assert!(operation(bad.clone()).validate_cel().is_err(), "{bad}");
    }
    for good in [upgrade(), roll_back(), operation(json!({ "action": "FinishUpgrade" }))] {
        assert!(good.validate_cel().is_ok());
    }
}

proptest! {
    /// The operator dies after writing and before acting, pods die and are late, a person cancels, the work may fail: it ends, with one
    /// version everywhere, and no volume was thrown away.
    #[test]
    fn whatever_dies_it_ends_whole(
        back in any::<bool>(), fails in any::<bool>(), cancel_at in 0usize..60,
        events in prop::collection::vec((any::<bool>(), 0usize..6, any::<bool>(), any::<bool>()), 0..60),
    ) {
        let mut world = World::new(if back { roll_back() } else { upgrade() });
        world.fails = fails;
        for (step, (dies, victim, controllers, pods)) in events.into_iter().enumerate() {
            if step == cancel_at {
                world.operation.spec.cancel = true;
            }
            if world.phase().is_final() || world.pass(at("12:00:00"), dies).is_none() {
                break;
            }
            if victim < 3 {
                // A pod dies; what is on its volume stays.
                world.pods[victim] = None;
                if world.leader == Some(victim) {
                    let next = (0..3).find(|next| world.pods[*next].as_ref().is_some_and(|pod| pod.up));
                    world.leader = next;
                }
            }
            if controllers {
                world.controllers();
            }
            if pods {
                world.pods();
            }
        }
        if !world.phase().is_final() {
            world.run();
        }
        for _ in 0..3 {
            world.controllers();
            world.pods();
        }
        let version = world.spec.word();
        world.is_whole(version);
        let began = if back { "17" } else { "15" };
        prop_assert_eq!(version == began, world.phase() != Phase::Succeeded, "{:?}", world.operation.status);
    }
}
