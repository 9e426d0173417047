use serde_json::{Value, json};

use super::decide::{Act, CopySeen, Decision, Seen, TargetSeen, decide};
use super::moves::Copy;
use super::*;
use crate::Timestamp;
use crate::quantity::Amount;
use crate::testing::at;

fn operation(spec: Value) -> DataOperation {
    let mut whole = json!({ "target": { "kind": "PostgresInstance", "name": "records" } });
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "apiVersion": "hz.hospital/v1alpha1", "kind": "DataOperation",
        "metadata": { "name": "trial", "namespace": "hospital-st-anna", "generation": 1 }, "spec": whole,
    }))
    .unwrap()
}

/// Three copies on three of five servers; `records-0` leads and `records-1` confirms.
fn three() -> Seen {
    let copy = |number: usize| CopySeen {
        copy: Copy {
            name: format!("records-{number}"),
            leads: number == 0,
            ready: true,
            in_step: true,
            confirms: number == 1,
            ..Copy::default()
        },
        pod: format!("pod-{number}"),
        volume: Some((format!("volume-{number}"), Amount::from("2Gi"))),
        stale: false,
        ..CopySeen::default()
    };
    Seen {
        target: Some(TargetSeen {
            instances: 3,
            size: Some(Amount::from("2Gi")),
            strict: true,
            told: true,
            workers: Some(5),
            ..TargetSeen::default()
        }),
        copies: (0..3).map(copy).collect(),
        ..Seen::default()
    }
}

fn noon() -> Timestamp {
    at("12:00:00")
}

/// Decides, and writes the status down, as the operator does.
fn pass(operation: &mut DataOperation, seen: &Seen, now: Timestamp) -> Decision {
    let decision = decide(operation, seen, now).expect("it has not ended");
    operation.status = Some(status(operation, &decision, now));
    decision
}

/// Passes until it ends; the world does what is asked.
fn run(operation: &mut DataOperation, seen: &mut Seen) -> Vec<String> {
    let mut said = Vec::new();
    for _ in 0..50 {
        let decision = pass(operation, seen, noon());
        said.push(decision.message.clone());
        if decision.phase.is_final() {
            return said;
        }
        obey(seen, &decision.act);
    }
    panic!("it never ends: {said:?}")
}

fn obey(seen: &mut Seen, act: &Act) {
    match act {
        Act::Nothing => {}
        Act::Replace { name, pod, volume } => {
            let copy = seen.copies.iter_mut().find(|seen| seen.copy.name == *name).unwrap();
            assert_eq!(copy.pod, *pod);
            copy.pod = format!("new-{pod}");
            if volume.is_some() {
                let room = seen.target.as_ref().unwrap().size.clone().unwrap();
                copy.volume = Some((format!("new-{name}"), room));
            }
        }
        Act::HandOver(from, to) => {
            for copy in &mut seen.copies {
                copy.copy.leads = copy.copy.name == *to;
                copy.copy.confirms = copy.copy.name == *from;
            }
        }
        Act::SetInstances(wanted) => {
            let wanted = usize::try_from(*wanted).unwrap();
            let model = three().copies[2].clone();
            seen.target.as_mut().unwrap().instances = i32::try_from(wanted).unwrap();
            seen.copies.truncate(wanted);
            for number in seen.copies.len()..wanted {
                let name = format!("records-{number}");
                seen.copies.push(CopySeen { copy: Copy { name, ..model.copy.clone() }, ..model.clone() });
            }
        }
        Act::SetSize(size) => {
            seen.target.as_mut().unwrap().size = Some(size.clone());
            seen.copies.iter_mut().for_each(|copy| copy.volume.as_mut().unwrap().1 = size.clone());
        }
        Act::SetVersion(_) | Act::OrderBackup => panic!("only an upgrade does that"),
    }
}

#[test]
fn a_restart_takes_every_copy_once_and_the_primary_last() {
    let mut restart = operation(json!({ "action": "Restart" }));
    let mut seen = three();
    let said = run(&mut restart, &mut seen);
    assert_eq!(
        said,
        [
            "begins",
            "records-1 is started anew",
            "records-2 is started anew",
            "records-0 hands its work to records-1",
            "records-0 is started anew",
            "every copy was started anew",
        ]
    );
    assert!(seen.copies.iter().all(|copy| copy.pod.starts_with("new-")));
    assert!(seen.copies.iter().all(|copy| copy.volume.as_ref().unwrap().0.starts_with("volume")), "disks stay");
    let status = restart.status.unwrap();
    assert_eq!((status.phase, status.progress.as_deref()), (Some(Phase::Succeeded), Some("3/3")));
    assert_eq!(status.completion_time.as_deref(), Some("2026-07-01T12:00:00Z"));
}

#[test]
fn a_rebuild_takes_one_disk_and_no_other() {
    let mut rebuild = operation(json!({ "action": "Rebuild", "member": "records-2" }));
    let mut seen = three();
    let said = run(&mut rebuild, &mut seen);
    assert_eq!(said.last().unwrap(), "records-2 was built anew and is in step");
    let volumes: Vec<_> = seen.copies.iter().map(|copy| copy.volume.as_ref().unwrap().0.as_str()).collect();
    assert_eq!(volumes, ["volume-0", "volume-1", "new-records-2"]);
    assert_eq!(seen.copies[0].pod, "pod-0");
}

#[test]
fn a_rebuild_is_not_done_while_the_old_disk_is_still_there() {
    let mut rebuild = operation(json!({ "action": "Rebuild", "member": "records-2" }));
    let mut seen = three();
    pass(&mut rebuild, &seen, noon());
    seen.copies[2].pod = "new".into();
    let decision = pass(&mut rebuild, &seen, noon());
    assert!(matches!(decision.act, Act::Replace { volume: Some(volume), .. } if volume == "volume-2"));
}

#[test]
fn a_switchover_is_done_when_another_leads() {
    let mut switchover = operation(json!({ "action": "Switchover" }));
    let mut seen = three();
    let said = run(&mut switchover, &mut seen);
    assert_eq!(said.last().unwrap(), "records-1 took over from records-0");
    assert!(seen.copies[1].copy.leads);
}

#[test]
fn a_switchover_to_a_copy_that_lacks_writes_waits_and_to_another_fails() {
    let mut switchover = operation(json!({ "action": "Switchover", "candidate": "records-2" }));
    let mut seen = three();
    pass(&mut switchover, &seen, noon());
    let decision = pass(&mut switchover, &seen, noon());
    assert_eq!(decision.act, Act::Nothing);
    assert!(decision.message.contains("records-2 does not confirm"), "{}", decision.message);
    obey(&mut seen, &Act::HandOver("records-0".into(), "records-1".into()));
    let decision = pass(&mut switchover, &seen, noon());
    assert_eq!(
        (decision.phase, decision.message.as_str()),
        (Phase::Failed, "records-1 took over instead of records-2")
    );
}

#[test]
fn the_work_moves_before_the_pod_that_leads_is_scaled_away() {
    let mut seen = three();
    obey(&mut seen, &Act::SetInstances(5));
    obey(&mut seen, &Act::HandOver("records-0".into(), "records-4".into()));
    let mut scale = operation(json!({ "action": "Scale", "instances": 3 }));
    let said = run(&mut scale, &mut seen);
    assert_eq!(
        said[1..],
        ["records-4 hands its work to records-0", "3 copies are asked for", "there are 3 copies, and all are in step"]
    );
}

#[test]
fn scaling_is_not_done_while_a_copy_is_behind_or_knows_another_number() {
    let mut scale = operation(json!({ "action": "Scale", "instances": 3 }));
    let mut seen = three();
    pass(&mut scale, &seen, noon());
    seen.copies[2].copy.in_step = false;
    let decision = pass(&mut scale, &seen, noon());
    assert_eq!((decision.phase, decision.progress.as_deref()), (Phase::Running, Some("2/3")));
    seen.copies[2].copy.in_step = true;
    seen.copies[2].stale = true;
    assert_eq!(pass(&mut scale, &seen, noon()).phase, Phase::Running);
    seen.copies[2].stale = false;
    assert_eq!(pass(&mut scale, &seen, noon()).phase, Phase::Succeeded);
}

#[test]
fn expanding_asks_for_room_and_waits_until_every_volume_has_it() {
    let mut expand = operation(json!({ "action": "Expand", "size": "3Gi" }));
    let mut seen = three();
    pass(&mut expand, &seen, noon());
    assert_eq!(pass(&mut expand, &seen, noon()).act, Act::SetSize(Amount::from("3Gi")));
    seen.target.as_mut().unwrap().size = Some(Amount::from("3Gi"));
    seen.target.as_mut().unwrap().doing = Some("records-2 is built anew".into());
    seen.copies[1].volume = Some(("new".into(), Amount::from("3Gi")));
    let decision = pass(&mut expand, &seen, noon());
    assert_eq!((decision.message.as_str(), decision.progress.as_deref()), ("records-2 is built anew", Some("1/3")));
    obey(&mut seen, &Act::SetSize(Amount::from("3Gi")));
    assert_eq!(pass(&mut expand, &seen, noon()).phase, Phase::Succeeded);
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_done() {
    for (spec, says) in [
        (json!({ "action": "Rebuild", "member": "records-7" }), "it has records-0, records-1, records-2"),
        (json!({ "action": "Switchover", "candidate": "records-9" }), "spec.candidate"),
        (json!({ "action": "Switchover", "candidate": "records-0" }), "is the primary already"),
        (json!({ "action": "Scale", "instances": 7 }), "there are 5"),
        (json!({ "action": "Scale", "instances": 1 }), "needs a second copy"),
        (json!({ "action": "Expand", "size": "1Gi" }), "never shrinks"),
    ] {
        let mut refused = operation(spec);
        let decision = pass(&mut refused, &three(), noon());
        assert_eq!((decision.phase, decision.reason, &decision.act), (Phase::Failed, "Refused", &Act::Nothing));
        assert!(decision.message.contains(says), "{}", decision.message);
    }
    let mut two = three();
    two.copies.pop();
    two.target.as_mut().unwrap().instances = 2;
    let mut expand = operation(json!({ "action": "Expand", "size": "3Gi" }));
    assert!(pass(&mut expand, &two, noon()).message.contains("needs 3 copies; there are 2"));
    two.target.as_mut().unwrap().grows = true;
    let mut expand = operation(json!({ "action": "Expand", "size": "3Gi" }));
    assert_eq!(pass(&mut expand, &two, noon()).phase, Phase::Running);
}

#[test]
fn without_a_target_or_with_one_that_sleeps_it_fails_at_once() {
    let mut none = operation(json!({ "action": "Restart" }));
    let decision = pass(&mut none, &Seen::default(), noon());
    assert!(decision.message.contains("there is no PostgresInstance records"), "{}", decision.message);
    let mut asleep = three();
    asleep.target.as_mut().unwrap().suspended = true;
    let mut restart = operation(json!({ "action": "Restart" }));
    assert!(pass(&mut restart, &asleep, noon()).message.contains("suspended"));
}

#[test]
fn an_operation_waits_for_the_one_ahead_and_for_an_answer() {
    let mut restart = operation(json!({ "action": "Restart" }));
    let seen = Seen { ahead: Some("first".into()), ..three() };
    assert_eq!(pass(&mut restart, &seen, noon()).message, "waits for the operation first");
    let seen = Seen { silent: Some("nobody answers".into()), ..three() };
    assert_eq!(pass(&mut restart, &seen, noon()).phase, Phase::Pending);
    assert!(restart.status.unwrap().start_time.is_none());
}

#[test]
fn a_deadline_ends_it_with_what_it_waited_for() {
    let mut restart = operation(json!({ "action": "Restart", "deadlineSeconds": 60 }));
    let mut seen = three();
    pass(&mut restart, &seen, noon());
    seen.copies[2].copy.in_step = false;
    assert_eq!(pass(&mut restart, &seen, at("12:00:59")).phase, Phase::Running);
    let decision = pass(&mut restart, &seen, at("12:01:00"));
    assert_eq!(decision.reason, "DeadlineExceeded");
    assert_eq!(decision.message, "not done after 60 seconds: records-2 is not yet in step with the others");
}

#[test]
fn cancelling_begins_no_further_step_and_what_is_done_is_done() {
    let mut restart = operation(json!({ "action": "Restart" }));
    let mut seen = three();
    pass(&mut restart, &seen, noon());
    let decision = pass(&mut restart, &seen, noon());
    obey(&mut seen, &decision.act);
    restart.spec.cancel = true;
    let decision = pass(&mut restart, &seen, noon());
    assert_eq!((decision.phase, &decision.act), (Phase::Cancelled, &Act::Nothing));
    assert!(decision.message.contains("1/3"), "{}", decision.message);
    let mut late = operation(json!({ "action": "Switchover" }));
    pass(&mut late, &seen, noon());
    obey(&mut seen, &Act::HandOver("records-0".into(), "records-1".into()));
    late.spec.cancel = true;
    assert_eq!(pass(&mut late, &seen, noon()).phase, Phase::Succeeded, "there was nothing left to do");
}

#[test]
fn how_it_ended_never_changes() {
    let mut restart = operation(json!({ "action": "Restart" }));
    run(&mut restart, &mut three());
    let ended = restart.status.clone();
    assert!(decide(&restart, &Seen::default(), noon()).is_none());
    let other = Decision {
        phase: Phase::Failed,
        reason: "Failed",
        message: "no".into(),
        progress: None,
        before: None,
        stage: None,
        act: Act::Nothing,
    };
    assert_eq!(Some(status(&restart, &other, at("13:00:00"))), ended);
}

#[test]
fn it_is_removed_a_while_after_its_end_and_never_before() {
    let mut restart = operation(json!({ "action": "Restart", "ttlSecondsAfterFinished": 60 }));
    assert_eq!(expires(&restart), None);
    pass(&mut restart, &three(), noon());
    assert_eq!(expires(&restart), None, "it runs");
    restart.spec.cancel = true;
    pass(&mut restart, &three(), noon());
    assert_eq!(expires(&restart), Some(at("12:01:00")));
}

#[test]
fn what_runs_goes_on_and_then_the_oldest_is_next() {
    let made = |name: &str, clock: &str, phase: Option<Phase>| {
        let mut made = operation(json!({ "action": "Restart" }));
        made.metadata.name = Some(name.into());
        made.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(clock)));
        made.status = phase.map(|phase| DataOperationStatus { phase: Some(phase), ..DataOperationStatus::default() });
        made
    };
    let target = operation(json!({ "action": "Restart" })).spec.target;
    let mut all = vec![
        made("b", "12:00:00", None),
        made("a", "12:00:00", None),
        made("z", "13:00:00", Some(Phase::Running)),
        made("old", "11:00:00", Some(Phase::Failed)),
    ];
    assert_eq!(first(&all, &target).unwrap().metadata.name.as_deref(), Some("z"));
    all.remove(2);
    assert_eq!(first(&all, &target).unwrap().metadata.name.as_deref(), Some("a"));
    let other = Target { name: "other".into(), ..target };
    assert!(first(&all, &other).is_none());
}
