use serde_json::json;

use super::*;
use crate::backup::RestoreStatus;
use crate::testing::at;

fn drill() -> RestoreDrill {
    let spec = json!({ "plan": "nightly", "schedule": "0 4 * * *", "recoveryTimeObjective": 600, "checks": [
        { "name": "patients", "database": "records", "query": "SELECT count(*) FROM patients", "minimum": 3 },
        { "name": "version", "database": "records", "query": "SELECT v FROM version", "equals": "7" },
    ] });
    RestoreDrill::new("proof", serde_json::from_value(spec).unwrap())
}

fn running(start: &str) -> DrillRun {
    DrillRun {
        restore: "proof-1".into(),
        phase: Phase::Running,
        start_time: start.into(),
        last_commit: Some("2026-07-01T03:59:58Z".into()),
        ..DrillRun::default()
    }
}

fn with(run: DrillRun) -> RestoreDrill {
    let mut drill = drill();
    drill.status = Some(RestoreDrillStatus { last_run: Some(run), ..RestoreDrillStatus::default() });
    drill
}

fn restored(phase: Phase) -> Restore {
    let mut restore =
        Restore::new("proof-1", serde_json::from_value(json!({ "plan": "nightly", "instance": "proof-1" })).unwrap());
    restore.status = Some(RestoreStatus {
        phase: Some(phase),
        message: Some("the store is gone".into()),
        recovered_to: Some("2026-07-01T03:59:50Z".into()),
        recovery_seconds: Some(42),
        ..RestoreStatus::default()
    });
    restore
}

#[test]
fn a_drill_is_made_at_once_then_on_schedule_and_when_asked_for() {
    let step = |drill: &RestoreDrill, now| step(drill, None, true, now).unwrap();
    assert_eq!(step(&drill(), at("12:00:00")), Step::Begin);
    assert!(super::step(&drill(), None, false, at("12:00:00")).unwrap_err().may_pass(), "there is nothing to restore");
    let ended = DrillRun { phase: Phase::Succeeded, ..running("2026-07-01T04:00:00Z") };
    let tomorrow: Timestamp = "2026-07-02T04:00:00Z".parse().unwrap();
    let mut drill = with(ended);
    assert_eq!(step(&drill, at("12:00:00")), Step::Wait(Some(tomorrow)));
    assert_eq!(step(&drill, tomorrow), Step::Begin);
    drill.annotations_mut().insert(RUN.into(), "now".into());
    drill.spec.suspend = true;
    assert_eq!(step(&drill, at("12:00:00")), Step::Begin, "asked for by hand");
    drill.status.as_mut().unwrap().last_run.as_mut().unwrap().requested = Some("now".into());
    assert_eq!(step(&drill, tomorrow), Step::Wait(None), "once, and suspended otherwise");
}

#[test]
fn a_run_follows_its_restore_to_the_end() {
    let (drill, now) = (with(running("2026-07-01T04:00:00Z")), at("04:01:00"));
    let step = |restored: Option<&Restore>, now| step(&drill, restored, true, now).unwrap();
    assert_eq!(step(None, now), Step::Restoring);
    assert_eq!(step(Some(&restored(Phase::Running)), now), Step::Restoring);
    assert_eq!(step(Some(&restored(Phase::Succeeded)), now), Step::Ask);
    assert_eq!(step(Some(&restored(Phase::Failed)), now), Step::GiveUp("the store is gone".into()));
    assert!(matches!(step(Some(&restored(Phase::Running)), at("08:00:01")), Step::GiveUp(_)), "its deadline");
}

#[test]
fn a_drill_measures_and_an_answer_that_is_wrong_fails_it() {
    let drill = with(running("2026-07-01T04:00:00Z"));
    let run = drill.status.as_ref().unwrap().last_run.clone().unwrap();
    let [patients, version] = [&drill.spec.checks[0], &drill.spec.checks[1]];
    let good = vec![judge(patients, Ok(Some("3".into()))), judge(version, Ok(Some("7".into())))];
    let done = finish(&drill, &run, &restored(Phase::Succeeded), good, at("04:01:00"));
    assert_eq!((done.phase, done.recovery_seconds, done.loss_seconds), (Phase::Succeeded, Some(42), Some(8)));
    let status = drill_status(&drill, &Outcome::Applied, Some(done), at("04:01:00"));
    assert_eq!(status.last_proved_restore.as_deref(), Some("2026-07-01T04:01:00Z"));
    assert_eq!(status.conditions[0].reason, "Proved");

    for bad in [Ok(Some("2".into())), Ok(Some("many".into())), Ok(None), Err("no such table".into())] {
        let checks = vec![judge(patients, bad)];
        let done = finish(&drill, &run, &restored(Phase::Succeeded), checks, at("04:01:00"));
        assert_eq!((done.phase, done.message.as_str()), (Phase::Failed, "restored, and not as it should be: patients"));
    }
    let mut hasty = drill.clone();
    hasty.spec.recovery_time_objective = Some(30);
    let done = finish(&hasty, &run, &restored(Phase::Succeeded), vec![], at("04:01:00"));
    assert_eq!(done.message, "recovery time was 42 s, and the objective is 30 s");
}

#[test]
fn while_a_drill_is_under_way_the_last_proof_stands() {
    let mut drill = with(DrillRun { phase: Phase::Succeeded, ..running("2026-06-30T04:00:00Z") });
    let first = drill.status.clone().unwrap().last_run;
    drill.status = Some(drill_status(&drill, &Outcome::Applied, first, at("03:00:00")));
    let status = drill_status(&drill, &Outcome::Applied, Some(running("2026-07-01T04:00:00Z")), at("04:00:00"));
    assert_eq!(status.conditions[0].status, "True");
    let failed = DrillRun { phase: Phase::Failed, ..running("2026-07-01T04:00:00Z") };
    let status = drill_status(&drill, &Outcome::Applied, Some(failed), at("04:10:00"));
    assert_eq!((status.conditions[0].status.as_str(), status.conditions[0].reason.as_str()), ("False", "NotProved"));
}
