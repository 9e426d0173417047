//! What is told at the end: how long what took, where the hospital is, what to do next.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Serialize;

use super::graph::{Timing, idle_share};
use super::steps::verify::Route;

/// The end of a run, as data.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Name of the cluster.
    pub cluster: String,
    /// Seconds in all.
    pub took: f64,
    /// Steps that changed something.
    pub changes: usize,
    /// Share of the time in which no step ran.
    pub idle: f64,
    /// Phases: name, begun, ended, in seconds from the start.
    pub phases: Vec<PhaseTime>,
    /// The longest step.
    pub longest: Option<Timing>,
    /// Hosts that are not part of the cluster, with why.
    pub failed_hosts: BTreeMap<String, String>,
    /// Services and where they are.
    pub services: Vec<Route>,
    /// Addresses of the gateway.
    pub doors: Vec<SocketAddr>,
    /// Commands to go on with.
    pub next: Vec<String>,
}

/// When a phase was.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PhaseTime {
    /// Its name.
    pub phase: &'static str,
    /// Seconds from the start of the run.
    pub begun: f64,
    /// Seconds from the start of the run.
    pub ended: f64,
}

/// Phases in the order they begin. They overlap.
pub fn phases(timings: &[Timing]) -> Vec<PhaseTime> {
    let mut phases: Vec<PhaseTime> = Vec::new();
    for timing in timings {
        match phases.iter_mut().find(|phase| phase.phase == timing.phase) {
            Some(phase) => {
                phase.begun = phase.begun.min(timing.begun);
                phase.ended = phase.ended.max(timing.ended);
            }
            None => phases.push(PhaseTime { phase: timing.phase, begun: timing.begun, ended: timing.ended }),
        }
    }
    phases.sort_by(|a, b| a.begun.total_cmp(&b.begun));
    phases
}

/// The step that took longest.
pub fn longest(timings: &[Timing]) -> Option<Timing> {
    timings.iter().max_by(|a, b| (a.ended - a.begun).total_cmp(&(b.ended - b.begun))).cloned()
}

/// Share of the time in which nothing ran.
pub fn idle(timings: &[Timing], took: f64) -> f64 {
    idle_share(timings, took)
}

/// For people.
pub fn text(summary: &Summary) -> String {
    let mut lines = Vec::new();
    if summary.changes == 0 && summary.failed_hosts.is_empty() {
        lines.push(format!(
            "Cluster {} is as it should be; nothing was changed ({:.1} s).",
            summary.cluster, summary.took
        ));
    } else {
        lines.push(format!("Cluster {} runs ({:.0} s).", summary.cluster, summary.took));
        lines.push(String::new());
        lines.push(format!("  {:<16}{:>8}{:>8}{:>8}", "phase", "from", "to", "took"));
        for phase in &summary.phases {
            let took = phase.ended - phase.begun;
            lines.push(format!("  {:<16}{:>7.1}s{:>7.1}s{:>7.1}s", phase.phase, phase.begun, phase.ended, took));
        }
        if let Some(longest) = &summary.longest {
            lines.push(format!(
                "  longest step: {}, {:.1} s; nothing ran for {:.1} % of the time",
                longest.id,
                longest.ended - longest.begun,
                summary.idle * 100.0
            ));
        }
    }
    if !summary.failed_hosts.is_empty() {
        lines.push(String::new());
        lines.push("Hosts that are not part of it:".into());
        lines.extend(summary.failed_hosts.iter().map(|(host, why)| format!("  {host}: {why}")));
    }
    if !summary.services.is_empty() {
        lines.push(String::new());
        lines.push("Services:".into());
        lines.extend(
            summary.services.iter().map(|route| format!("  {:<16} http://{}{}", route.service, route.host, route.path)),
        );
        let doors: Vec<String> = summary.doors.iter().map(SocketAddr::to_string).collect();
        lines.push(format!("  have these names lead to {}", doors.join(", ")));
    }
    lines.push(String::new());
    lines.push("Next:".into());
    lines.extend(summary.next.iter().map(|command| format!("  {command}")));
    lines.join("\n")
}
