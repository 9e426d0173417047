use super::*;
use crate::printer::Output;

const PLAIN: Look = Look { colour: false, unicode: true };

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn three_hosts() -> Plan {
    Plan::new(vec![
        Planned::new("cp-1", "images", "import", seconds(20)),
        Planned::new("cp-1", "control-plane", "init", seconds(10)),
        Planned::new("worker-1", "images", "import", seconds(20)),
        Planned::new("worker-2", "images", "import", seconds(20)),
        Planned::new(CLUSTER, "verify", "pods reach pods", seconds(10)),
    ])
}

fn started(host: &str, phase: &str, step: &str) -> Event {
    Event::StepStarted { host: host.into(), phase: phase.into(), step: step.into() }
}

fn finished(host: &str, phase: &str, step: &str, took: f64) -> Event {
    Event::StepFinished { host: host.into(), phase: phase.into(), step: step.into(), took, changed: true }
}

fn under_way() -> State {
    let mut state = State::new(&three_hosts());
    state.apply(&started("cp-1", "images", "import"), seconds(0));
    state.apply(&started("worker-1", "images", "import"), seconds(0));
    state.apply(&started("worker-2", "images", "import"), seconds(1));
    state.apply(
        &Event::StepProgress {
            host: "worker-1".into(),
            phase: "images".into(),
            step: "import".into(),
            fraction: 0.5,
            bytes: Some(412_000_000),
        },
        seconds(9),
    );
    state.apply(&finished("cp-1", "images", "import", 8.0), seconds(8));
    state.apply(
        &Event::StepFailed {
            host: "worker-2".into(),
            phase: "images".into(),
            step: "import".into(),
            took: 9.0,
            cause: "no space left on /var/lib/containerd\n(0 bytes of 40 GB free)".into(),
        },
        seconds(10),
    );
    state
}

#[test]
fn at_80_columns_each_host_has_its_line_and_the_bar_tells_the_time_left() {
    let lines = render(&under_way(), seconds(10), 80, 24, &PLAIN);
    assert_eq!(
        lines,
        [
            "· cp-1      images: import done, waiting                                   8.0s",
            "⠸ worker-1  images: import  50 %  412 MB                                    10s",
            "✗ worker-2  import: no space left on /var/lib/containerd (0 bytes of 4…    9.0s",
            "· cluster   waiting",
            "███████████████████████████████░░░░░░░░░░░░░░░░░░░   62 %  10s  about 9s left",
        ]
    );
}

#[test]
fn no_line_is_wider_or_the_whole_higher_than_the_terminal() {
    for width in 1..140 {
        for height in 1..12 {
            let lines = render(&under_way(), seconds(10), width, height, &PLAIN);
            assert!(lines.len() <= height.max(2) + 1, "{height}: {lines:#?}");
            for line in &lines {
                assert!(line.chars().count() <= width.max(10), "{width}: {line:?}");
            }
        }
    }
}

#[test]
fn at_40_columns_the_step_and_the_time_left_are_still_there() {
    let lines = render(&under_way(), seconds(10), 40, 24, &PLAIN);
    assert_eq!(lines[1], "⠸ worker-1  import  50 %  412 …     10s");
    assert!(lines[4].contains("left"), "{}", lines[4]);
}

#[test]
fn a_low_terminal_shows_who_failed_and_who_works_first() {
    let lines = render(&under_way(), seconds(10), 80, 5, &PLAIN);
    assert!(lines.iter().any(|line| line.contains("worker-1")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("worker-2")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("and 2 more hosts")), "{lines:#?}");
}

#[test]
fn without_unicode_or_colour_only_ascii_is_drawn() {
    let look = Look { colour: false, unicode: false };
    let mut state = State::new(&three_hosts());
    state.apply(&started("cp-1", "images", "import"), seconds(0));
    assert!(render(&state, seconds(1), 80, 24, &look).iter().all(|line| line.is_ascii()));
}

#[test]
fn the_bar_never_goes_back_while_steps_run_and_is_full_only_at_the_end() {
    let mut state = State::new(&three_hosts());
    let mut last = 0.0;
    state.apply(&started("cp-1", "images", "import"), seconds(0));
    for second in 0..300 {
        let now = state.fraction(seconds(second));
        assert!(now >= last && now < 1.0);
        last = now;
    }
    for planned in three_hosts().steps {
        state.apply(&finished(&planned.host, &planned.phase, &planned.step, 1.0), seconds(300));
    }
    assert_eq!(state.fraction(seconds(300)), 1.0);
    assert_eq!(state.left(seconds(300)), Duration::ZERO);
}

#[test]
fn time_left_starts_from_what_is_expected_and_follows_what_is_measured() {
    let plan = Plan { expected: Some(seconds(40)), ..three_hosts() };
    let mut state = State::new(&plan);
    assert_eq!(state.left(Duration::ZERO).as_secs(), 40);
    // Twice as slow as expected: a quarter of the weight after 20 s of 40.
    state.apply(&finished("cp-1", "images", "import", 20.0), seconds(20));
    let left = state.left(seconds(20)).as_secs();
    assert!((38..=45).contains(&left), "{left}");
}

#[test]
fn steps_of_one_host_may_run_side_by_side() {
    let mut state = State::new(&Plan::default());
    state.apply(&started("cp-1", "platform", "storage"), seconds(0));
    state.apply(&started("cp-1", "platform", "gateway"), seconds(1));
    state.apply(&finished("cp-1", "platform", "gateway", 1.0), seconds(2));
    let line = render(&state, seconds(3), 80, 24, &PLAIN).remove(0);
    assert!(line.contains("platform: storage") && line.ends_with("3.0s"), "{line}");
}

fn learn(events: &[(f64, Event)]) -> Weights {
    let lines: Vec<String> = events
        .iter()
        .map(|(at, event)| serde_json::to_string(&Stamped { at: *at, event: event.clone() }).unwrap())
        .collect();
    Weights::learn(format!("{}\n{{\"at\":9.0,\"eve", lines.join("\n")).as_bytes())
}

fn nothing_to_do(host: &str, phase: &str, step: &str) -> Event {
    Event::StepFinished { host: host.into(), phase: phase.into(), step: step.into(), took: 0.1, changed: false }
}

#[test]
fn the_next_run_expects_what_the_last_one_measured() {
    let weights = learn(&[
        (4.0, finished("worker-1", "images", "import", 4.0)),
        (4.0, finished("worker-2", "images", "import", 8.0)),
        (4.0, nothing_to_do("cp-1", "images", "import")),
        (6.0, Event::RunFinished { took: 6.0, succeeded: true }),
    ]);
    assert_eq!(weights.of("worker-1", "images", "import"), Some(seconds(4)));
    let average = weights.of("cp-1", "images", "import");
    assert_eq!(average, Some(seconds(6)), "a host that had nothing to do goes by the others");
    assert_eq!(weights.of("cp-1", "control-plane", "init"), None);
    // 6 + 10 + 4 + 8 + 10 seconds of work, two at a time.
    assert_eq!(three_hosts().learnt(&weights).expected, Some(seconds(19)));
}

#[test]
fn a_run_that_found_all_done_does_not_promise_a_quick_next_one() {
    let weights = learn(&[
        (90.0, finished("cp-1", "images", "import", 90.0)),
        (90.0, Event::RunFinished { took: 90.0, succeeded: false }),
        (0.2, nothing_to_do("cp-1", "images", "import")),
        (3.0, Event::RunFinished { took: 3.0, succeeded: true }),
    ]);
    assert_eq!(weights.pace(), Some(1.0));
}

#[test]
fn away_from_a_terminal_each_event_is_one_line_of_json_on_stderr() {
    let (printer, captured) = Printer::captured(Output::Table);
    let progress = Progress::start(&printer, three_hosts());
    progress.step("cp-1", "images", "import").finish(true);
    drop(progress.step("worker-1", "images", "import"));
    progress.step("worker-2", "images", "import").fail("no space left");
    progress.finish(false);
    let events: Vec<Stamped> = captured.stderr().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<String> = events
        .iter()
        .map(|stamped| serde_json::to_value(&stamped.event).unwrap()["event"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        kinds,
        [
            "runStarted",
            "stepStarted",
            "stepFinished",
            "stepStarted",
            "stepStopped",
            "stepStarted",
            "stepFailed",
            "runFinished"
        ]
    );
    assert_eq!(captured.stdout(), "");
}

#[test]
fn a_copy_in_a_thousand_chunks_is_not_a_thousand_lines() {
    let (printer, captured) = Printer::captured(Output::Json);
    let progress = Progress::start(&printer, Plan::default());
    let step = progress.step("cp-1", "bundle", "copy");
    for chunk in 0..1000_u64 {
        step.at(chunk as f64 / 1000.0, Some(chunk));
    }
    step.finish(true);
    assert!(captured.stderr().lines().count() < 10);
}
