//! One journey after the other, each within its time. A failed one does not stop the rest.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};

use super::{BOOTSTRAP, From, HOSPITAL, Journey, Scene};
use crate::{
    limit::{self, Failure},
    run::{cmd, output, until},
};

/// Longest until a hospital that a failed journey left behind is fit for the next one. A new one takes less than thrice that.
const RECOVER: Duration = Duration::from_secs(120);

/// How a journey ended.
struct Stage {
    name: &'static str,
    took: Duration,
    /// The first cause, if it failed.
    cause: Option<String>,
}

/// How all of them ended.
#[derive(Default)]
pub struct Tour(Vec<Stage>);

impl Tour {
    /// How many failed.
    pub fn failed(&self) -> usize {
        self.0.iter().filter(|stage| stage.cause.is_some()).count()
    }

    /// First causes, then what each cost, the dearest first, then the closing line.
    pub fn summary(&self) -> String {
        let mut out = String::new();
        for stage in &self.0 {
            if let Some(cause) = &stage.cause {
                out += &format!("\nfirst cause of {}: {cause}\n", stage.name);
            }
        }
        let mut dear: Vec<&Stage> = self.0.iter().collect();
        dear.sort_by_key(|stage| std::cmp::Reverse(stage.took));
        out += "\nwhat they took:\n";
        for stage in dear {
            out += &format!("{:>6.0} s  {}\n", stage.took.as_secs_f64(), stage.name);
        }
        let all: Duration = self.0.iter().map(|stage| stage.took).sum();
        out += &format!("{:>6.0} s  all, {:.0} minutes\n", all.as_secs_f64(), all.as_secs_f64() / 60.0);
        out + &format!("\n{} passed, {} failed\n", self.0.len() - self.failed(), self.failed())
    }
}

/// Is there a hospital to run on? The error is why there can be none.
type Hospital = Option<Result<(), String>>;

/// Run them. `total` is the longest that all may take.
pub fn travel(scene: &Arc<Scene>, chosen: &[&'static Journey], here: bool, total: Option<Duration>) -> Tour {
    let begun = Instant::now();
    let mut tour = Tour::default();
    let mut hospital: Hospital = (here && scene.lab.is_up()).then_some(Ok(()));
    let mut stopped: Option<String> = None;
    for journey in chosen {
        let start = Instant::now();
        let left = total.map_or(Duration::MAX, |total| total.saturating_sub(begun.elapsed()));
        if left.is_zero() {
            stopped.get_or_insert_with(|| "the time of all journeys was over before it began".to_owned());
        }
        let end = match &stopped {
            Some(why) => Err(Failure::Failed(anyhow!("not run: {why}"))),
            None => {
                eprintln!("==> {}", journey.name);
                one(scene, journey, &mut hospital, left)
            }
        };
        let took = start.elapsed();
        let cause = end.err().map(|failure| match failure {
            Failure::Failed(cause) => cause,
            Failure::Stuck(cause) => {
                stopped = Some(format!("the journey {} does not end", journey.name));
                cause
            }
        });
        // One line each, as they end: `make test` shows them.
        match &cause {
            None => println!("journey {} ... ok, {:.0} s", journey.name, took.as_secs_f64()),
            Some(cause) => {
                println!("journey {} ... FAILED after {:.0} s: {cause:#}", journey.name, took.as_secs_f64());
                if stopped.is_none() {
                    keep_logs(scene, journey.name);
                    after_failure(scene, journey, &mut hospital);
                }
            }
        }
        tour.0.push(Stage { name: journey.name, took, cause: cause.map(|cause| format!("{cause:#}")) });
    }
    tour
}

fn one(scene: &Arc<Scene>, journey: &'static Journey, hospital: &mut Hospital, left: Duration) -> Result<(), Failure> {
    let shared = Arc::clone(scene);
    match journey.from {
        From::Bare => {
            limit::within(BOOTSTRAP.min(left), move || shared.lab.up())?;
            *hospital = None;
        }
        From::Hospital => {
            if hospital.is_none() {
                let up = limit::within(BOOTSTRAP.min(left), move || bring_up(&shared));
                *hospital = Some(match up {
                    Ok(()) => Ok(()),
                    Err(Failure::Failed(cause)) => Err(format!("{cause:#}")),
                    Err(stuck) => return Err(stuck),
                });
            }
            if let Some(Err(cause)) = hospital {
                return Err(Failure::Failed(anyhow!("there is no hospital to run on: {cause}")));
            }
        }
    }
    let shared = Arc::clone(scene);
    let limit = Duration::from_secs(journey.minutes * 60).min(left);
    limit::within(limit, move || (journey.run)(&shared))?;
    match (journey.from, journey.name) {
        (_, "reset") => *hospital = None,
        // The next journey on a hospital finds this one's.
        (From::Bare, _) => *hospital = Some(Ok(())),
        (From::Hospital, _) => {}
    }
    Ok(())
}

fn bring_up(scene: &Scene) -> Result<()> {
    limit::part("a hospital to run on");
    scene.lab.up()?;
    scene.hzctl.bootstrap("prelude", BOOTSTRAP)?.expect(0).map(drop)
}

/// What the next journey finds: the hospital that is there if it is fit, a new one if not, none if none can be made.
fn after_failure(scene: &Arc<Scene>, journey: &Journey, hospital: &mut Hospital) {
    match (journey.from, &*hospital) {
        (From::Bare, _) if journey.name == "up" => *hospital = Some(Err("the journey `up` failed".to_owned())),
        (From::Bare, _) => *hospital = None,
        (From::Hospital, Some(Ok(()))) => {
            let shared = Arc::clone(scene);
            let fit = limit::within(RECOVER + Duration::from_secs(60), move || fit(&shared));
            if let Err(Failure::Failed(cause) | Failure::Stuck(cause)) = fit {
                eprintln!("    the hospital is not fit for the next journey, which gets a new one: {cause:#}");
                *hospital = None;
            }
        }
        // That none could be made is told to each that needs one.
        (From::Hospital, _) => {}
    }
}

/// Hosts as they were, nodes Ready, and everything of ours in the example hospital.
fn fit(scene: &Scene) -> Result<()> {
    limit::part("a look at what the failed journey left");
    scene.lab.mend().context("a host could not be put right")?;
    let cluster = scene.cluster();
    until("eight Ready nodes", RECOVER, || {
        let nodes = cluster.items("get nodes")?;
        let ready = nodes.iter().filter(|node| crate::cluster::is_ready(node)).count();
        ensure!(ready == 8, "{ready} are Ready");
        Ok(())
    })?;
    for kind in ["postgresinstances", "cacheinstances", "medicalservices"] {
        let names = ["records", "sessions", "imaging", "appointments"];
        until(&format!("Ready {kind} of the example"), RECOVER, || {
            let all = cluster.items(&format!("get {kind}.hz.hospital -n {HOSPITAL}"))?;
            let own = all.iter().filter(|object| names.contains(&crate::cluster::name(object).as_str()));
            for object in own {
                ensure!(crate::cluster::is_ready(object), "{}: {}", crate::cluster::name(object), object["status"]);
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Kept apart from what later journeys write.
fn keep_logs(scene: &Scene, name: &str) {
    let _ = scene.lab.logs();
    let dir = scene.lab.place.logs.display();
    let copy = format!("cd {dir} && rm -rf failed-{name} && mkdir failed-{name} && cp -r cp-* worker-* failed-{name}/");
    let _ = output(&mut cmd("sh", ["-c", &copy]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_has_causes_then_costs_with_the_dearest_first_then_the_counts() {
        let stage = |name, took, cause: Option<&str>| Stage {
            name,
            took: Duration::from_secs(took),
            cause: cause.map(str::to_owned),
        };
        let tour = Tour(vec![stage("up", 110, None), stage("faults", 400, Some("rain")), stage("imaging", 9, None)]);
        assert_eq!(
            tour.summary(),
            "\nfirst cause of faults: rain\n\nwhat they took:\n   400 s  faults\n   110 s  up\n     9 s  imaging\n   \
             519 s  all, 9 minutes\n\n2 passed, 1 failed\n"
        );
    }
}
