//! A run that only pretends, to look at the live lines: `cargo run -p hzctl --example progress [SPEED] [fail]`.

use std::time::Duration;

use hzctl::printer::{Output, Printer};
use hzctl::progress::{CLUSTER, Event, Plan, Planned, Progress};

const PHASES: [(&str, &str, u64); 4] =
    [("preflight", "probe", 3), ("bundle", "copy", 12), ("images", "import", 10), ("join", "kubeadm join", 8)];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let speed: f64 = arguments.iter().find_map(|word| word.parse().ok()).unwrap_or(1.0);
    let fail = arguments.iter().any(|word| word == "fail");
    let hosts = ["cp-1", "cp-2", "cp-3", "worker-1", "worker-2", "worker-3", "worker-4", "worker-5"];
    let mut steps: Vec<Planned> = Vec::new();
    for host in hosts {
        steps
            .extend(PHASES.map(|(phase, step, seconds)| Planned::new(host, phase, step, Duration::from_secs(seconds))));
    }
    steps.push(Planned::new(CLUSTER, "verify", "pods reach pods", Duration::from_secs(5)));
    let plan = Plan { expected: Some(Duration::from_secs_f64(42.0 / speed)), steps };
    let mut printer = Printer::standard(Output::Table, false);
    let progress = Progress::start(&printer, plan);
    for (phase, step, seconds) in PHASES {
        let begun = progress.elapsed();
        std::thread::scope(|scope| {
            for (index, host) in hosts.iter().enumerate() {
                let progress = &progress;
                scope.spawn(move || {
                    let step = progress.step(*host, phase, step);
                    let length = seconds as f64 * (0.6 + 0.1 * index as f64) / speed;
                    for part in 0..50_u32 {
                        std::thread::sleep(Duration::from_secs_f64(length / 50.0));
                        if phase == "bundle" {
                            step.at(f64::from(part) / 50.0, Some(u64::from(part) * 16_000_000));
                        }
                        if phase == "images" && *host == "worker-3" && part == 20 {
                            step.retry("connection reset by 10.77.0.23");
                        }
                    }
                    if fail && phase == "join" && *host == "worker-4" {
                        step.fail("port 10250 is closed between cp-1 and worker-4");
                    } else {
                        step.finish(true);
                    }
                });
            }
        });
        let took = (progress.elapsed() - begun).as_secs_f64();
        progress.emit(Event::PhaseFinished { phase: phase.to_owned(), took });
    }
    let step = progress.step(CLUSTER, "verify", "pods reach pods");
    std::thread::sleep(Duration::from_secs_f64(5.0 / speed));
    step.finish(false);
    progress.finish(!fail);
    printer.say(if fail { "worker-4 did not join; the cluster runs without it" } else { "done" });
}
