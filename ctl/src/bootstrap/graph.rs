//! Steps in a graph: each starts as soon as what it needs is there, on each host for itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use serde::Serialize;

use super::fault::Fault;
use super::site::Site;
use crate::progress::CLUSTER;

/// How long a step may go on trying what fails for the moment.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a probe found: what is to be done, in words, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// It is as it should be.
    Nothing,
    /// This is to be done.
    Do(Vec<String>),
}

/// A step: find out what is to be done, do it, make sure.
pub trait Work: Send + Sync {
    /// What is to be done, from what is known and by looking. Changes nothing.
    fn probe<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<Plan, Fault>>;

    /// Do it. Safe to repeat after being cut off anywhere.
    fn act<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<(), Fault>>;

    /// Make sure that it is as it should be.
    fn verify<'a>(&'a self, _site: &'a Site) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async { Ok(()) })
    }
}

/// A step in the graph.
pub struct Step {
    /// Unique name, such as `join/worker-1`.
    pub id: String,
    /// Phase that it is counted under.
    pub phase: &'static str,
    /// What it does, in two or three words.
    pub title: &'static str,
    /// Host that it works on; none for the cluster.
    pub host: Option<String>,
    /// Steps that must have succeeded.
    pub needs: Vec<String>,
    /// Steps that must be over, however they ended.
    pub after: Vec<String>,
    /// Whether the run cannot go on without it. A worker's steps are not.
    pub essential: bool,
    /// The work.
    pub work: Arc<dyn Work>,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing was to be done.
    Unchanged,
    /// Done.
    Changed,
    /// Failed for good.
    Failed(Fault),
    /// Not begun, since this one that it needs failed.
    Blocked(String),
}

impl End {
    fn ok(&self) -> bool {
        matches!(self, End::Unchanged | End::Changed)
    }
}

/// How long a step took, and when.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timing {
    /// The step.
    pub id: String,
    /// Its phase.
    pub phase: &'static str,
    /// Its host.
    pub host: Option<String>,
    /// Seconds from the start of the run.
    pub begun: f64,
    /// Seconds from the start of the run.
    pub ended: f64,
    /// Whether anything was changed.
    pub changed: bool,
}

/// The whole run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How each step ended.
    pub ends: BTreeMap<String, End>,
    /// How long each step took.
    pub timings: Vec<Timing>,
}

impl Outcome {
    /// Steps that failed, with why.
    pub fn faults(&self) -> Vec<(&str, &Fault)> {
        self.ends
            .iter()
            .filter_map(|(id, end)| match end {
                End::Failed(fault) => Some((id.as_str(), fault)),
                _ => None,
            })
            .collect()
    }

    /// How many steps changed something.
    pub fn changes(&self) -> usize {
        self.ends.values().filter(|end| **end == End::Changed).count()
    }
}

/// Run all steps. Ends early when one fails that the run cannot do without.
pub async fn run(site: &Site, steps: Vec<Step>, epoch: Instant) -> Outcome {
    let mut outcome = Outcome::default();
    let mut waiting = steps;
    let mut running = FuturesUnordered::new();
    let mut broken = false;
    loop {
        settle_blocked(&mut waiting, &mut outcome.ends);
        if !broken {
            let (ready, rest): (Vec<Step>, Vec<Step>) =
                waiting.into_iter().partition(|step| is_ready(step, &outcome.ends));
            waiting = rest;
            running.extend(ready.into_iter().map(|step| one(site, step, epoch)));
        }
        let Some((step, end, timing)) = running.next().await else { break };
        broken |= step.essential && !end.ok();
        outcome.ends.insert(step.id, end);
        outcome.timings.push(timing);
        if broken {
            // The others would go on for minutes on a cluster that cannot come up. They are safe to cut off.
            break;
        }
    }
    drop(running);
    for step in waiting {
        outcome.ends.entry(step.id).or_insert_with(|| End::Blocked(String::new()));
    }
    outcome
}

/// Everything that is needed is done, and everything to wait for is over.
fn is_ready(step: &Step, ends: &BTreeMap<String, End>) -> bool {
    step.needs.iter().all(|id| ends.get(id).is_some_and(End::ok)) && step.after.iter().all(|id| ends.contains_key(id))
}

/// Steps whose need failed are over; so are those that need them.
fn settle_blocked(waiting: &mut Vec<Step>, ends: &mut BTreeMap<String, End>) {
    loop {
        let failed = |id: &String| ends.get(id).is_some_and(|end| !end.ok());
        let Some(at) = waiting.iter().position(|step| step.needs.iter().any(failed)) else { return };
        let step = waiting.remove(at);
        let by = step.needs.iter().find(|id| failed(id)).cloned().unwrap_or_default();
        ends.insert(step.id, End::Blocked(by));
    }
}

async fn one(site: &Site, step: Step, epoch: Instant) -> (Step, End, Timing) {
    let begun = epoch.elapsed().as_secs_f64();
    let host = step.host.clone().unwrap_or_else(|| CLUSTER.to_owned());
    let told = site.progress.step(host, step.phase, step.title);
    let end = attempt(site, step.work.as_ref(), |cause| told.retry(cause)).await;
    match &end {
        End::Failed(fault) => told.fail(fault.to_string()),
        end => told.finish(*end == End::Changed),
    }
    let timing = Timing {
        id: step.id.clone(),
        phase: step.phase,
        host: step.host.clone(),
        begun,
        ended: epoch.elapsed().as_secs_f64(),
        changed: end == End::Changed,
    };
    (step, end, timing)
}

/// Probe, do, verify; what fails for the moment is tried again within the patience of a step.
async fn attempt(site: &Site, work: &dyn Work, mut retried: impl FnMut(String)) -> End {
    // Time lost to failures counts, not the time a long step takes to do its work.
    let mut lost = Duration::ZERO;
    let mut changed = false;
    loop {
        let begun = Instant::now();
        let fault = match round(site, work, &mut changed).await {
            Ok(()) => return if changed { End::Changed } else { End::Unchanged },
            Err(fault) => fault,
        };
        lost += begun.elapsed().min(Duration::from_secs(10));
        if !fault.transient || lost > PATIENCE {
            return End::Failed(fault);
        }
        retried(fault.to_string());
        lost += Duration::from_millis(250);
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

async fn round(site: &Site, work: &dyn Work, changed: &mut bool) -> Result<(), Fault> {
    if work.probe(site).await? == Plan::Nothing {
        return Ok(());
    }
    *changed = true;
    work.act(site).await?;
    work.verify(site).await
}

/// What each step would do, without doing it.
pub async fn dry(site: &Site, steps: &[Step]) -> Vec<(String, Result<Plan, Fault>)> {
    let mut plans = Vec::new();
    for step in steps {
        plans.push((step.id.clone(), step.work.probe(site).await));
    }
    plans
}

/// Share of the run in which no step ran.
pub fn idle_share(timings: &[Timing], total: f64) -> f64 {
    let mut spans: Vec<(f64, f64)> = timings.iter().map(|timing| (timing.begun, timing.ended)).collect();
    spans.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut busy, mut until) = (0.0, 0.0f64);
    for (begun, ended) in spans {
        busy += (ended - begun.max(until)).max(0.0);
        until = until.max(ended);
    }
    if total > 0.0 { (1.0 - busy / total).max(0.0) } else { 0.0 }
}

/// Names of steps that are needed and not there, and rings: mistakes of ours, found by a test.
pub fn flaws(steps: &[Step]) -> Vec<String> {
    let names: BTreeSet<&str> = steps.iter().map(|step| step.id.as_str()).collect();
    let mut flaws: Vec<String> = steps
        .iter()
        .flat_map(|step| step.needs.iter().chain(&step.after).map(move |need| (step, need)))
        .filter(|(_, need)| !names.contains(need.as_str()))
        .map(|(step, need)| format!("{} waits for {need}, which is no step", step.id))
        .collect();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    loop {
        let before = done.len();
        for step in steps {
            if step.needs.iter().chain(&step.after).all(|need| done.contains(need.as_str())) {
                done.insert(&step.id);
            }
        }
        if done.len() == before {
            break;
        }
    }
    flaws.extend(names.difference(&done).map(|name| format!("{name} is never reached")));
    flaws
}
