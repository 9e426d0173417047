//! The printed result.

use std::{fmt, time::Duration};

use super::{seconds, stats::median};

/// One measured run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// From the first command to a working hospital.
    pub wall: Duration,
    /// Processor time of the whole machine.
    pub cpu: Duration,
    /// Share of time in which nothing ran.
    pub idle: f64,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} s wall, {} s cpu, {:.1} % nothing running",
            seconds(self.wall),
            seconds(self.cpu),
            self.idle * 100.0
        )
    }
}

/// A row a run, then medians and the ratio of the second to the first; `who` names both.
pub fn markdown(who: [&str; 2], baseline: &[Run], ours: &[Run]) -> String {
    let mut out = String::from("| run | who | wall s | CPU s | nothing running % |\n|---|---|---|---|---|\n");
    for (n, (b, o)) in baseline.iter().zip(ours).enumerate() {
        for (who, run) in who.iter().zip([b, o]) {
            let idle = run.idle * 100.0;
            out += &format!("| {} | {who} | {} | {} | {idle:.1} |\n", n + 1, seconds(run.wall), seconds(run.cpu));
        }
    }
    let of = |runs: &[Run], get: fn(&Run) -> f64| median(runs.iter().map(get).collect());
    let wall = |r: &Run| r.wall.as_secs_f64();
    let cpu = |r: &Run| r.cpu.as_secs_f64();
    let row = |who: &str, runs: &[Run]| {
        format!(
            "| median | {who} | {:.1} | {:.1} | {:.1} |\n",
            of(runs, wall),
            of(runs, cpu),
            of(runs, |r| r.idle * 100.0)
        )
    };
    out += &row(who[0], baseline);
    out += &row(who[1], ours);
    let (w, c) = (of(ours, wall) / of(baseline, wall), of(ours, cpu) / of(baseline, cpu));
    out + &format!("| **ratio** | {} ÷ {} | **{w:.2}** | **{c:.2}** | |\n", who[1], who[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(wall: u64) -> Run {
        Run { wall: Duration::from_secs(wall), cpu: Duration::from_secs(wall / 2), idle: 0.01 }
    }

    #[test]
    fn the_table_ends_with_the_ratio_of_the_medians() {
        let table = markdown(["script", "hzctl"], &[run(100), run(300), run(200)], &[run(80), run(120), run(100)]);
        assert!(table.ends_with("| **ratio** | hzctl ÷ script | **0.50** | **0.50** | |\n"), "{table}");
    }
}
