//! What the machine's processors did during a run, from /proc/stat.
//!
//! - *CPU seconds*: all that was not idle and not waiting for a disk, on the whole machine: hosts, kubelets, the SSH
//!   client, everything. Nothing else should run meanwhile.
//! - *Nothing running*: the share of 200 ms windows in which the processors together were idle for more than 95 %.
//!   Waiting for a disk is not idle: something is under way.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

const WINDOW: Duration = Duration::from_millis(200);
/// /proc/stat counts in hundredths of a second on every Linux that matters (USER_HZ).
const TICKS: f64 = 100.0;

/// Processor time since boot, in ticks, all processors together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    /// Did something.
    pub busy: u64,
    /// Did nothing, and waited for nothing.
    pub idle: u64,
    /// Did nothing because a disk was busy.
    pub waiting: u64,
}

/// What a run cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Processor time.
    pub cpu: Duration,
    windows: usize,
    still: usize,
}

impl Load {
    /// Share of windows in which nothing ran.
    pub fn idle_share(&self) -> f64 {
        if self.windows == 0 { 0.0 } else { self.still as f64 / self.windows as f64 }
    }
}

/// The first line of /proc/stat: user nice system idle iowait irq softirq steal; guests are in user already.
pub fn parse(stat: &str) -> Option<Ticks> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let n: Vec<u64> = line.split_whitespace().map_while(|w| w.parse().ok()).collect();
    let at = |i: usize| n.get(i).copied().unwrap_or(0);
    (n.len() >= 5).then(|| Ticks { busy: at(0) + at(1) + at(2) + at(5) + at(6), idle: at(3), waiting: at(4) })
}

/// Was the machine still between these two readings?
pub fn still(before: Ticks, after: Ticks) -> bool {
    let idle = after.idle.saturating_sub(before.idle) as f64;
    let rest = (after.busy.saturating_sub(before.busy) + after.waiting.saturating_sub(before.waiting)) as f64;
    idle + rest > 0.0 && idle / (idle + rest) > 0.95
}

/// Reads along until stopped.
pub struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Load>,
}

impl Sampler {
    /// Begin.
    pub fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        Self { stop, thread: std::thread::spawn(move || sample(&flag)) }
    }

    /// End, and tell.
    pub fn stop(self) -> Load {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

fn now() -> Ticks {
    fs::read_to_string("/proc/stat").ok().and_then(|s| parse(&s)).unwrap_or_default()
}

fn sample(stop: &AtomicBool) -> Load {
    let first = now();
    let mut load = Load::default();
    let mut last = first;
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(WINDOW);
        let next = now();
        load.windows += 1;
        load.still += usize::from(still(last, next));
        last = next;
    }
    load.cpu = Duration::from_secs_f64(last.busy.saturating_sub(first.busy) as f64 / TICKS);
    load
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_line_is_read_and_waiting_for_a_disk_is_not_idle() {
        let ticks = parse("cpu  10 1 5 100 7 2 3 9 0 0\ncpu0 1 1 1 1").unwrap();
        assert_eq!(ticks, Ticks { busy: 21, idle: 100, waiting: 7 });
        let busy_disk = Ticks { waiting: 7 + 4, idle: 136, ..ticks };
        assert!(!still(ticks, busy_disk));
    }

    #[test]
    fn a_window_is_still_only_above_95_percent() {
        let zero = Ticks::default();
        assert!(still(zero, Ticks { busy: 1, idle: 39, waiting: 0 }));
        assert!(!still(zero, Ticks { busy: 2, idle: 38, waiting: 0 }));
        assert!(!still(zero, zero));
    }
}
