//! `hzctl db drill`: Prove now that a database server can be restored.

use hz_crds::Timestamp;
use hz_crds::backup::drill::RUN;
use hz_crds::backup::{DrillRun, RestoreDrill};
use hz_crds::conditions::{READY, STALLED};
use hz_crds::operation::Phase;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;
use serde_json::json;

use super::drills::{NOUNS, seconds};
use super::plan::{Of, Planned};
use crate::cluster::nearest::nearest;
use crate::commands::data::FIELD_MANAGER;
use crate::commands::follow::ended::{Ended, took};
use crate::commands::follow::{self, Told, Work};
use crate::commands::reach::{Place, list, refused};
use crate::commands::table::{plain, trimmed};
use crate::exit::{ExitStatus, Failure};
use crate::printer::{Output, Printer};

/// Arguments of `hzctl db drill`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    of: Of,
    /// The RestoreDrill, where there are several
    #[arg(long, value_name = "DRILL")]
    drill: Option<String>,
    /// Follow it to its end
    #[arg(long)]
    wait: bool,
}

/// Run it.
pub async fn run(args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let client = args.of.reach.client().await?;
    let planned = args.of.find(&client).await?;
    let place = &planned.place;
    let drills: Vec<RestoreDrill> = list(&client, Some(&place.namespace), NOUNS.1).await?;
    let drill = one(&planned, &drills, args.drill.as_deref())?;
    // To the nanosecond: another one within the same second is another one.
    let request = Timestamp::now().to_string();
    let asked = ask(&client, drill, &request).await?;
    let again = format!("hzctl db drills {} -n {}{}", place.name, place.namespace, args.of.reach.spelt());
    let hint = format!("to see what came of it: {again}");
    if !args.wait {
        let row = Row::of(&asked, place, &request);
        printer.value(&row, |row| format!("the drill {} was asked to run now\n{hint}", row.name))?;
        return Ok(ExitStatus::Success);
    }
    let deed = format!("the drill of {}", place.name);
    if printer.output() != Output::Json {
        printer.say(format!("drill {}: {deed}", asked.name_any()));
    }
    let work = Work { noun: "drill", place: Place::of(&asked), hint };
    let ended = follow::to_end(&client, &work, |drill| told(drill, &request, &deed), printer).await?;
    tell(&ended, place, &request, deed, printer)
}

/// The drill of this plan that is meant.
fn one<'a>(planned: &Planned, drills: &'a [RestoreDrill], asked: Option<&str>) -> Result<&'a RestoreDrill, Failure> {
    let own: Vec<&RestoreDrill> = drills.iter().filter(|drill| drill.spec.plan == planned.plan()).collect();
    let names: Vec<String> = own.iter().map(|drill| drill.name_any()).collect();
    let (list, plan) = (names.join(", "), planned.plan());
    if own.is_empty() {
        let message =
            format!("nothing proves that {} can be restored: its plan has no RestoreDrill", planned.place.name);
        return Err(Failure::input(message).hint(format!(
            "write one, and put it into the cluster with `kubectl apply -f`; it runs at once, and then on its schedule:\n{}",
            manifest(&planned.place.namespace, &plan)
        )));
    }
    let Some(asked) = asked else {
        return match own.as_slice() {
            [only] => Ok(only),
            several => Err(Failure::input(format!("the plan {plan} has {} RestoreDrills: {list}", several.len()))
                .hint(format!("name one with --drill, such as --drill {}", names[0]))),
        };
    };
    own.into_iter().find(|drill| drill.name_any() == asked).ok_or_else(|| {
        let failure = Failure::input(format!("the plan {plan} has no RestoreDrill `{asked}`"));
        match nearest(asked, names.iter().map(String::as_str)) {
            Some(near) => failure.hint(format!("did you mean `{near}`? RestoreDrills: {list}")),
            None => failure.hint(format!("RestoreDrills: {list}")),
        }
    })
}

/// The least that a drill needs, with a name that is short enough for any plan.
fn manifest(namespace: &str, plan: &str) -> String {
    let short = plan.get(..34).unwrap_or(plan).trim_end_matches('-');
    format!(
        "apiVersion: hz.hospital/v1alpha1\n\
         kind: RestoreDrill\n\
         metadata: {{ name: {short}, namespace: {namespace} }}\n\
         spec: {{ plan: {plan} }}"
    )
}

async fn ask(client: &Client, drill: &RestoreDrill, request: &str) -> Result<RestoreDrill, Failure> {
    let Place { namespace, name } = Place::of(drill);
    let api: Api<RestoreDrill> = Api::namespaced(client.clone(), &namespace);
    let who = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { RUN: request } } }));
    let asked = api.patch(&name, &who, &patch).await;
    asked.map_err(|error| refused(format!("the drill {name} cannot be asked to run now"), &error))
}

/// The run that came of a request, once it has begun.
fn run_of<'a>(drill: &'a RestoreDrill, request: &str) -> Option<&'a DrillRun> {
    let run = drill.status.as_ref()?.last_run.as_ref()?;
    Some(run).filter(|run| run.requested.as_deref() == Some(request))
}

/// How a request stands: what came of it, or why it has to wait, or why nothing will come of it.
fn stands(drill: &RestoreDrill, request: &str) -> (Phase, Option<String>) {
    if let Some(run) = run_of(drill, request) {
        return (run.phase, Some(run.message.clone()));
    }
    if drill.annotations().get(RUN).is_some_and(|asked| asked != request) {
        return (Phase::Cancelled, Some("another run was asked for before this one began".into()));
    }
    let Some(status) = &drill.status else { return (Phase::Pending, None) };
    if let Some(run) = status.last_run.as_ref().filter(|run| !run.phase.is_final()) {
        return (Phase::Pending, Some(format!("waits for the run that is under way: {}", run.message)));
    }
    let condition = |type_: &str| status.conditions.iter().find(|condition| condition.type_ == type_);
    let seen = drill.metadata.generation.is_none_or(|generation| status.observed_generation >= generation);
    if let Some(stalled) = condition(STALLED).filter(|stalled| seen && stalled.status == "True") {
        return (Phase::Failed, Some(stalled.message.clone()));
    }
    // Without a run, Ready tells what it waits for, such as the first backup.
    let waits = condition(READY).filter(|ready| ready.status == "False" && ready.reason == "Waiting");
    (Phase::Pending, waits.map(|ready| ready.message.clone()))
}

fn told(drill: &RestoreDrill, request: &str, deed: &str) -> Told {
    let (phase, message) = stands(drill, request);
    Told { deed: deed.to_owned(), phase, message, ..Told::default() }
}

fn tell(
    drill: &RestoreDrill,
    place: &Place,
    request: &str,
    deed: String,
    printer: &mut Printer,
) -> Result<ExitStatus, Failure> {
    let row = Row::of(drill, place, request);
    let run = row.run.as_ref();
    let ended = Ended {
        deed,
        phase: stands(drill, request).0,
        took: run.and_then(|run| took(Some(&run.start_time), run.completion_time.as_deref())),
        message: row.message.clone(),
        late: false,
    };
    let namespace = &place.namespace;
    let failure = ended.failure(None, |_| match run {
        Some(_) => format!(
            "the backups of {} are not proved; `hzctl db backups {} -n {namespace}` tells how they stand",
            place.name, place.name
        ),
        None => format!("`kubectl describe restoredrill {} -n {namespace}` tells more", row.name),
    });
    // What was measured is worth seeing, most of all when it is not as it should be.
    if run.is_some() {
        printer.value(&row, |row| text(row, drill, ended.sentence()))?;
    }
    failure.map_or(Ok(ExitStatus::Success), Err)
}

/// A request for a drill, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    namespace: String,
    name: String,
    plan: String,
    instance: String,
    requested: String,
    phase: &'static str,
    message: Option<String>,
    run: Option<DrillRun>,
}

impl Row {
    fn of(drill: &RestoreDrill, place: &Place, request: &str) -> Self {
        let (phase, message) = stands(drill, request);
        Row {
            namespace: drill.namespace().unwrap_or_default(),
            name: drill.name_any(),
            plan: drill.spec.plan.clone(),
            instance: place.name.clone(),
            requested: request.to_owned(),
            phase: phase.word(),
            message,
            run: run_of(drill, request).cloned(),
        }
    }
}

/// The checks, and what was measured against what is wanted.
fn text(row: &Row, drill: &RestoreDrill, sentence: String) -> String {
    let Some(run) = &row.run else { return sentence };
    let measured = |what: &str, measured: Option<i64>, objective: Option<i64>| {
        let objective = objective.map(|objective| format!(" (objective: {})", seconds(Some(objective))));
        format!("{what}: {}{}", seconds(measured), objective.unwrap_or_default())
    };
    let spec = &drill.spec;
    let mut parts = vec![
        sentence,
        measured("recovery time (RTO)", run.recovery_seconds, spec.recovery_time_objective),
        measured("lost writes (RPO)", run.loss_seconds, spec.recovery_point_objective),
    ];
    if !run.checks.is_empty() {
        let mut table = plain(&["CHECK", "RESULT", "ANSWER"]);
        for check in &run.checks {
            let result = if check.passed { "pass" } else { "FAIL" };
            table.add_row([check.name.as_str(), result, check.answer.as_str()]);
        }
        parts.push(format!("\n{}", trimmed(&table)));
    }
    parts.join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::drills::tests::drill;
    use super::super::plan::tests::plan;
    use super::*;
    use crate::printer::Output;

    const REQUEST: &str = "2026-03-02T12:00:00.123456789Z";

    fn place() -> Place {
        Place { namespace: "hospital-anna".into(), name: "records".into() }
    }

    fn planned() -> Planned {
        Planned { place: place(), plan: plan("nightly", "records", json!({})), servers: Vec::new() }
    }

    fn asked(status: serde_json::Value) -> RestoreDrill {
        let mut drill = drill("weekly", "nightly", status);
        drill.annotations_mut().insert(RUN.into(), REQUEST.into());
        drill
    }

    fn run(phase: &str, requested: Option<&str>) -> serde_json::Value {
        json!({
            "restore": "weekly-1", "requested": requested, "phase": phase, "message": "begins",
            "startTime": "2026-03-02T12:00:01Z",
        })
    }

    #[test]
    fn a_request_waits_for_the_run_under_way_and_then_is_followed_itself() {
        let stands = |status| super::stands(&asked(status), REQUEST);
        assert_eq!(stands(json!({})), (Phase::Pending, None));
        let other = stands(json!({ "lastRun": run("Running", None) }));
        assert_eq!(other, (Phase::Pending, Some("waits for the run that is under way: begins".into())));
        assert_eq!(stands(json!({ "lastRun": run("Succeeded", Some("2026-03-01T12:00:00Z")) })).0, Phase::Pending);
        assert_eq!(stands(json!({ "lastRun": run("Running", Some(REQUEST)) })).0, Phase::Running);
        assert_eq!(stands(json!({ "lastRun": run("Failed", Some(REQUEST)) })).0, Phase::Failed);
    }

    #[test]
    fn a_request_that_nothing_will_come_of_ends() {
        let condition = |type_: &str, status: &str, reason: &str| {
            json!({
                "type": type_, "status": status, "reason": reason, "message": "told",
                "lastTransitionTime": "2026-03-02T12:00:00Z",
            })
        };
        let stalled = |observed: i64| {
            let conditions = [condition("Stalled", "True", "Refused")];
            super::stands(&asked(json!({ "observedGeneration": observed, "conditions": conditions })), REQUEST)
        };
        assert_eq!(stalled(1), (Phase::Failed, Some("told".into())));
        assert_eq!(stalled(0), (Phase::Pending, None), "the operator has not seen what was mended");
        let waits = json!({ "observedGeneration": 1, "conditions": [condition("Ready", "False", "Waiting")] });
        assert_eq!(super::stands(&asked(waits), REQUEST), (Phase::Pending, Some("told".into())));
        assert_eq!(super::stands(&asked(json!({})), "2026-03-02T11:00:00Z").0, Phase::Cancelled);
    }

    #[test]
    fn without_a_drill_the_least_of_one_is_shown_and_it_is_a_drill() {
        let failure = one(&planned(), &[], None).unwrap_err();
        assert_eq!(failure.message, "nothing proves that records can be restored: its plan has no RestoreDrill");
        let hint = failure.hint.unwrap();
        let drill: RestoreDrill = serde_yaml::from_str(hint.split_once('\n').unwrap().1).unwrap();
        assert_eq!((drill.spec.plan.as_str(), drill.namespace().as_deref()), ("nightly", Some("hospital-anna")));
        let long = manifest("x", "a-plan-with-a-name-that-is-as-long-as-it");
        assert!(long.contains("name: a-plan-with-a-name-that-is-as-long,"), "{long}");
    }

    #[test]
    fn of_several_drills_one_is_named() {
        let drills = [drill("weekly", "nightly", json!({})), drill("monthly", "nightly", json!({}))];
        assert_eq!(
            one(&planned(), &drills, None).unwrap_err().message,
            "the plan nightly has 2 RestoreDrills: weekly, monthly"
        );
        assert_eq!(one(&planned(), &drills, Some("monthly")).unwrap().name_any(), "monthly");
        let hint = one(&planned(), &drills, Some("weakly")).unwrap_err().hint;
        assert_eq!(hint.as_deref(), Some("did you mean `weekly`? RestoreDrills: weekly, monthly"));
    }

    #[test]
    fn a_run_shows_its_checks_and_measures_also_when_it_failed() {
        let mut status = run("Failed", Some(REQUEST));
        status["message"] = json!("restored, and not as it should be: patients");
        status["completionTime"] = json!("2026-03-02T12:01:15Z");
        status["recoverySeconds"] = json!(61);
        status["lossSeconds"] = json!(0);
        status["checks"] = json!([
            { "name": "every row of findings can be read", "passed": true, "answer": "12 rows in 3 tables" },
            { "name": "patients", "passed": false, "answer": "0" },
        ]);
        let mut drill = asked(json!({ "lastRun": status }));
        drill.spec.recovery_time_objective = Some(300);
        let (mut printer, captured) = Printer::captured(Output::Table);
        let failure = tell(&drill, &place(), REQUEST, "the drill of records".into(), &mut printer).unwrap_err();
        assert_eq!((failure.code, failure.message.as_str()), (ExitStatus::Fault, "the drill of records failed"));
        insta::assert_snapshot!(captured.stdout(), @r"
        the drill of records failed: restored, and not as it should be: patients
        recovery time (RTO): 1m 01s (objective: 5m 00s)
        lost writes (RPO): 0s

        CHECK                              RESULT  ANSWER
        every row of findings can be read  pass    12 rows in 3 tables
        patients                           FAIL    0
        ");
    }
}
