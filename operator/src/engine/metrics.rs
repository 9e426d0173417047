//! Numbers about ourselves, in the Prometheus text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::standing::Standing;

/// Upper bounds of the duration buckets, in seconds.
const BUCKETS: [f64; 9] = [0.001, 0.005, 0.02, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0];

#[derive(Debug, Default, Clone)]
struct Histogram {
    counts: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

/// All our counters. Cheap enough to touch on every call.
#[derive(Debug, Default)]
pub struct Metrics {
    reconciles: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    durations: Mutex<BTreeMap<&'static str, Histogram>>,
    calls: Mutex<BTreeMap<(&'static str, u16), u64>>,
    writes: AtomicU64,
    leading: AtomicBool,
    standing: Standing,
}

/// Counters are plain sums: what a panicking thread left behind is still good.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Metrics {
    /// One pass over one object ended.
    pub fn reconciled(&self, kind: &'static str, result: &'static str, took: Duration) {
        *lock(&self.reconciles).entry((kind, result)).or_default() += 1;
        let mut durations = lock(&self.durations);
        let histogram = durations.entry(kind).or_default();
        let seconds = took.as_secs_f64();
        histogram.count += 1;
        histogram.sum += seconds;
        for (count, _) in histogram.counts.iter_mut().zip(BUCKETS).filter(|(_, bound)| seconds <= *bound) {
            *count += 1;
        }
    }

    /// One call to the API server was answered, or failed on the way (code 0).
    pub fn called(&self, verb: &'static str, code: u16) {
        *lock(&self.calls).entry((verb, code)).or_default() += 1;
        if matches!(verb, "create" | "update" | "patch" | "delete") {
            self.writes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// We became the leader, or stopped being it.
    pub fn set_leading(&self, leading: bool) {
        self.leading.store(leading, Ordering::Relaxed);
    }

    /// An object stands like this now.
    pub fn stands(&self, uid: &str, kind: &'static str, meta: &ObjectMeta, status: &Value) {
        self.standing.note(uid, kind, meta, status);
    }

    /// An object is gone.
    pub fn gone(&self, uid: &str) {
        self.standing.forget(uid);
    }

    /// Calls to the API server so far, watches included.
    pub fn calls(&self) -> u64 {
        lock(&self.calls).values().sum()
    }

    /// Calls of one verb so far.
    pub fn calls_of(&self, verb: &str) -> u64 {
        lock(&self.calls).iter().filter(|((v, _), _)| *v == verb).map(|(_, n)| n).sum()
    }

    /// Writes to the API server so far, leases included.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// Passes over objects of one kind so far.
    pub fn reconciles(&self, kind: &str) -> u64 {
        lock(&self.reconciles).iter().filter(|((k, _), _)| *k == kind).map(|(_, n)| n).sum()
    }

    /// The page that Prometheus reads.
    pub fn render(&self) -> String {
        let mut page = String::with_capacity(2048);
        header(&mut page, "hz_operator_reconciles_total", "counter", "Passes over objects, by kind and result.");
        for ((kind, result), count) in lock(&self.reconciles).iter() {
            let _ = writeln!(page, "hz_operator_reconciles_total{{kind=\"{kind}\",result=\"{result}\"}} {count}");
        }
        header(&mut page, "hz_operator_reconcile_seconds", "histogram", "How long a pass took.");
        for (kind, histogram) in lock(&self.durations).iter() {
            render_histogram(&mut page, kind, histogram);
        }
        header(
            &mut page,
            "hz_operator_api_calls_total",
            "counter",
            "Calls to the API server, by verb and status code.",
        );
        for ((verb, code), count) in lock(&self.calls).iter() {
            let _ = writeln!(page, "hz_operator_api_calls_total{{verb=\"{verb}\",code=\"{code}\"}} {count}");
        }
        header(&mut page, "hz_operator_leader", "gauge", "1 while this replica leads.");
        let _ = writeln!(page, "hz_operator_leader {}", u8::from(self.leading.load(Ordering::Relaxed)));
        self.standing.render(&mut page);
        if let Some(bytes) = resident_bytes() {
            header(&mut page, "process_resident_memory_bytes", "gauge", "Resident memory.");
            let _ = writeln!(page, "process_resident_memory_bytes {bytes}");
        }
        page
    }
}

pub(super) fn header(page: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn render_histogram(page: &mut String, kind: &str, histogram: &Histogram) {
    let name = "hz_operator_reconcile_seconds";
    for (bound, count) in BUCKETS.iter().zip(histogram.counts) {
        let _ = writeln!(page, "{name}_bucket{{kind=\"{kind}\",le=\"{bound}\"}} {count}");
    }
    let _ = writeln!(page, "{name}_bucket{{kind=\"{kind}\",le=\"+Inf\"}} {}", histogram.count);
    let _ = writeln!(page, "{name}_sum{{kind=\"{kind}\"}} {}", histogram.sum);
    let _ = writeln!(page, "{name}_count{{kind=\"{kind}\"}} {}", histogram.count);
}

/// Resident memory of this process, where the kernel tells.
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_number_in_the_text_format() {
        let metrics = Metrics::default();
        metrics.reconciled("Hospital", "ok", Duration::from_millis(3));
        metrics.called("patch", 200);
        metrics.called("watch", 200);
        let page = metrics.render();
        assert!(page.contains("hz_operator_reconciles_total{kind=\"Hospital\",result=\"ok\"} 1\n"));
        assert!(page.contains("hz_operator_reconcile_seconds_bucket{kind=\"Hospital\",le=\"0.001\"} 0\n"));
        assert!(page.contains("hz_operator_reconcile_seconds_bucket{kind=\"Hospital\",le=\"0.005\"} 1\n"));
        assert!(page.contains("hz_operator_reconcile_seconds_bucket{kind=\"Hospital\",le=\"+Inf\"} 1\n"));
        assert!(page.contains("hz_operator_api_calls_total{verb=\"patch\",code=\"200\"} 1\n"));
        assert!(page.contains("hz_operator_leader 0\n"));
        assert_eq!((metrics.calls(), metrics.writes()), (2, 1));
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let value = line.rsplit(' ').next().unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
}
