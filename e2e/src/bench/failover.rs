//! How long nothing is written when something fails, many times over: the database's process killed, its server frozen, the
//! cache's master killed. Each gap counts only with the fault that made it; what is usual when nothing happens is measured first.

use std::{fmt, time::Duration};

use anyhow::{Context, Result};

use super::{
    cache::{self, CACHE, CacheWriter},
    stats::{Gap, gaps, matched, percentile},
};
use crate::{
    cluster::{Cluster, HOSPITAL},
    journey::{
        Scene, guard, is_whole,
        writer::{Place, Writer, now},
    },
    limit::pause,
    run::{cmd, output},
};

/// How long nothing is done, to see what is usual.
const QUIET: Duration = Duration::from_secs(60);
/// Between a whole database and the next fault.
const REST: Duration = Duration::from_secs(3);

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// The primary's PostgreSQL is killed with SIGKILL
    Process,
    /// The primary's server is frozen until another leads
    Server,
    /// The cache master's process is killed with SIGKILL
    Cache,
}

impl Fault {
    const ALL: [Self; 3] = [Self::Process, Self::Server, Self::Cache];

    /// Seconds without a write that are still good.
    fn bar(self) -> f64 {
        match self {
            Self::Process => 5.0,
            Self::Server => 25.0,
            Self::Cache => 7.0,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "database: primary's process killed",
            Self::Server => "database: primary's server frozen",
            Self::Cache => "cache: master's process killed",
        })
    }
}

/// When things were acknowledged, and when faults struck (ms).
#[derive(Default)]
struct Measured {
    acknowledged: Vec<u64>,
    quiet: (u64, u64),
    faults: Vec<u64>,
    /// Why it ended before it should have.
    stopped: Option<String>,
    /// What the writer said at its end.
    proved: String,
}

/// Measure and print.
pub fn run(scene: &Scene, runs: usize, faults: &[Fault]) -> Result<String> {
    let cluster = scene.cluster();
    let chosen = if faults.is_empty() { &Fault::ALL[..] } else { faults };
    let mut rows = Vec::new();
    for fault in chosen {
        eprintln!("bench: {fault}, {runs} times");
        let measured = match fault {
            Fault::Cache => cache_killed(&cluster, runs)?,
            Fault::Process | Fault::Server => database(scene, &cluster, *fault, runs)?,
        };
        rows.push((*fault, measured));
    }
    Ok(markdown(&rows))
}

fn database(scene: &Scene, cluster: &Cluster<'_>, fault: Fault, runs: usize) -> Result<Measured> {
    is_whole(cluster, "records")?;
    let writer = Writer::start_at(cluster, &Place::away_from_all(cluster)?)?;
    let mut measured = Measured::default();
    let done = writer.until_rows(20).and_then(|()| {
        measured.quiet = quiet()?;
        for run in 1..=runs {
            let at = strike(scene, cluster, &writer, fault).with_context(|| format!("run {run}"))?;
            measured.faults.push(at);
            is_whole(cluster, "records").with_context(|| format!("run {run}"))?;
            eprintln!("bench: {run} of {runs}");
            pause(REST)?;
        }
        Ok(())
    });
    measured.stopped = done.err().map(|cause| format!("{cause:#}"));
    measured.acknowledged = writer.acknowledged()?.iter().map(|(_, at)| *at).collect();
    measured.proved = writer.end()?;
    Ok(measured)
}

fn strike(scene: &Scene, cluster: &Cluster<'_>, writer: &Writer<'_>, fault: Fault) -> Result<u64> {
    let primary = cluster.pod_with_role("records", "primary")?;
    if fault == Fault::Process {
        let process = guard::postmaster(&primary).with_context(|| format!("no PostgreSQL runs in {primary}"))?;
        let at = now();
        kill(process)?;
        writer.until_more(10, at)?;
        return Ok(at);
    }
    let pod = cluster.json(&format!("get pod -n {HOSPITAL} {primary}"))?;
    let server = pod["spec"]["nodeName"].as_str().context("the primary runs nowhere")?;
    let at = now();
    scene.lab.freeze(server)?;
    let rows = writer.until_more(10, at);
    scene.lab.thaw(server)?;
    rows.map(|()| at)
}

fn cache_killed(cluster: &Cluster<'_>, runs: usize) -> Result<Measured> {
    cache::is_whole(cluster)?;
    let writer = CacheWriter::start(cluster)?;
    let mut measured = Measured::default();
    let done = writer.until_more(20, 0).and_then(|()| {
        measured.quiet = quiet()?;
        for run in 1..=runs {
            let master = cluster.pod_with_role(CACHE, "master")?;
            let process =
                guard::program(&master, "valkey-server").with_context(|| format!("no server runs in {master}"))?;
            let at = now();
            kill(process)?;
            measured.faults.push(at);
            // The gap may be shorter than a look at the log takes: what counts is a time well after it.
            pause(Duration::from_secs(2))?;
            writer.until_more(10, at + 2000).with_context(|| format!("run {run}"))?;
            // A container that was killed several times is started later and later; a new pod is not.
            if cluster.pod_with_role(CACHE, "master").is_ok_and(|next| next != master) {
                cluster.kubectl(&format!("delete pod -n {HOSPITAL} {master} --timeout=120s"))?;
            }
            cache::is_whole(cluster).with_context(|| format!("run {run}"))?;
            eprintln!("bench: {run} of {runs}");
            pause(REST)?;
        }
        Ok(())
    });
    measured.stopped = done.err().map(|cause| format!("{cause:#}"));
    measured.acknowledged = writer.acknowledged()?;
    writer.stop()?;
    "a cache follows a moment later: its last values may be lost".clone_into(&mut measured.proved);
    Ok(measured)
}

fn kill(process: u32) -> Result<()> {
    output(&mut cmd("kill", ["-KILL", &process.to_string()])).map(drop)
}

fn quiet() -> Result<(u64, u64)> {
    let from = now();
    pause(QUIET)?;
    Ok((from, now()))
}

fn markdown(rows: &[(Fault, Measured)]) -> String {
    let mut out = String::from(
        "| what happens | times | gaps that were its own | p50 s | p95 s | longest s | bar s | |\n|---|---|---|---|---|---|---|---|\n",
    );
    let mut notes = String::new();
    for (fault, measured) in rows {
        let all = gaps(&measured.acknowledged);
        let (from, to) = measured.quiet;
        let calm: Vec<f64> =
            all.iter().filter(|gap| gap.from >= from && gap.to <= to).map(|gap| gap.seconds()).collect();
        out += &row(&format!("{fault}: nothing, for {} s", QUIET.as_secs()), 1, &calm, None);
        let usual = (percentile(&calm, 100.0) * 1000.0) as u64;
        let own: Vec<Gap> = measured.faults.iter().filter_map(|at| matched(&all, *at, usual)).collect();
        let own: Vec<f64> = own.into_iter().map(Gap::seconds).collect();
        out += &row(&fault.to_string(), measured.faults.len(), &own, Some(fault.bar()));
        notes += &format!("\n{fault}: {}.", measured.proved);
        if let Some(why) = &measured.stopped {
            notes += &format!(" **Stopped after {} times: {why}**", measured.faults.len());
        }
        notes.push('\n');
    }
    out + &notes
}

/// The longest is what a bar is for.
fn row(what: &str, times: usize, gaps: &[f64], bar: Option<f64>) -> String {
    let at = |percent| percentile(gaps, percent);
    let verdict = match bar {
        None => String::from("| |"),
        Some(bar) if gaps.is_empty() => format!("{bar:.0} | nothing measured |"),
        Some(bar) if at(100.0) <= bar => format!("{bar:.0} | met |"),
        Some(bar) => format!("{bar:.0} | **not met** |"),
    };
    format!("| {what} | {times} | {} | {:.2} | {:.2} | {:.2} | {verdict}\n", gaps.len(), at(50.0), at(95.0), at(100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_whether_the_longest_gap_is_within_the_bar() {
        let told = row("killed", 3, &[2.0, 3.0, 6.0], Some(5.0));
        assert_eq!(told, "| killed | 3 | 3 | 3.00 | 6.00 | 6.00 | 5 | **not met** |\n");
        assert!(row("killed", 3, &[], Some(5.0)).ends_with("| 5 | nothing measured |\n"));
        assert!(row("nothing", 1, &[0.1], None).ends_with("| 0.10 | | |\n"));
    }

    #[test]
    fn the_table_counts_gaps_with_their_faults_and_says_where_it_stopped() {
        let quiet: Vec<u64> = (0..=600).map(|n| n * 100).collect();
        let after: Vec<u64> = (0..100).map(|n| 63_000 + n * 100).collect();
        let measured = Measured {
            acknowledged: [quiet, after].concat(),
            quiet: (0, 60_000),
            faults: vec![60_050, 70_000],
            stopped: Some("rain".into()),
            proved: "all there".into(),
        };
        let table = markdown(&[(Fault::Process, measured)]);
        assert!(
            table.contains("| database: primary's process killed | 2 | 1 | 3.00 | 3.00 | 3.00 | 5 | met |"),
            "{table}"
        );
        assert!(table.contains("all there. **Stopped after 2 times: rain**"), "{table}");
    }
}
