//! What netguard tells about itself: readiness, liveness, metrics. Plain HTTP on a local address.

use std::{
    fmt::Write,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use serde::Serialize;
use tokio::sync::watch;

use crate::plan::Peers;

/// Longest time between two passes of a loop that is alive: it looks by itself every minute.
const SILENCE: Duration = Duration::from_secs(300);

/// What one pass came to.
#[derive(Clone, Debug, Default)]
pub struct Pass {
    /// Nodes reached.
    pub peers: Peers,
    /// Changes made in the kernel.
    pub changes: usize,
    /// Whether the translation table was written.
    pub table_written: bool,
    /// Whether the CNI file was written.
    pub cni_written: bool,
    /// What is not as it should be. Nothing means ready.
    pub problems: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

#[derive(Debug, Default)]
struct Totals {
    passes: u64,
    changes: u64,
    failed: u64,
    table_writes: u64,
    cni_writes: u64,
    last: Option<(Instant, Pass)>,
}

/// Shared between the loop, which tells, and the HTTP server, which repeats.
#[derive(Debug)]
pub struct Health {
    totals: Mutex<Totals>,
    born: Instant,
    ready: watch::Sender<bool>,
}

#[derive(Serialize)]
struct Answer {
    ready: bool,
    direct: usize,
    tunnel: usize,
    problems: Vec<String>,
}

impl Default for Health {
    fn default() -> Self {
        Self { totals: Mutex::default(), born: Instant::now(), ready: watch::Sender::new(false) }
    }
}

impl Health {
    /// Take in the outcome of a pass.
    pub fn record(&self, pass: Pass) {
        let ready = pass.problems.is_empty();
        let mut totals = self.totals();
        totals.passes += 1;
        totals.changes += pass.changes as u64;
        totals.failed += u64::from(!ready);
        totals.table_writes += u64::from(pass.table_written);
        totals.cni_writes += u64::from(pass.cni_written);
        totals.last = Some((Instant::now(), pass));
        drop(totals);
        self.ready.send_if_modified(|before| std::mem::replace(before, ready) != ready);
    }

    /// Follow readiness.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    fn answer(&self) -> Answer {
        match &self.totals().last {
            None => Answer { ready: false, direct: 0, tunnel: 0, problems: vec!["the nodes are not known yet".into()] },
            Some((_, pass)) => Answer {
                ready: pass.problems.is_empty(),
                direct: pass.peers.direct,
                tunnel: pass.peers.tunnel,
                problems: pass.problems.clone(),
            },
        }
    }

    fn alive(&self) -> bool {
        // Without nodes (API not reachable) there are no passes, and a restart would not help.
        self.totals().last.as_ref().is_none_or(|(when, _)| when.elapsed() < SILENCE)
    }

    fn metrics(&self) -> String {
        let totals = self.totals();
        let pass = totals.last.as_ref().map(|(_, pass)| pass.clone()).unwrap_or_default();
        let ready = totals.last.is_some() && pass.problems.is_empty();
        let mut text = String::new();
        let mut tell = |name: &str, kind: &str, help: &str, samples: &[(&str, f64)]| {
            let _ = writeln!(text, "# HELP hz_netguard_{name} {help}\n# TYPE hz_netguard_{name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(text, "hz_netguard_{name}{labels} {value}");
            }
        };
        tell(
            "ready",
            "gauge",
            "1 when the way to the pods of every known node is in place.",
            &[("", f64::from(ready))],
        );
        tell(
            "peers",
            "gauge",
            "Other nodes by the way in which their pods are reached.",
            &[(r#"{way="direct"}"#, pass.peers.direct as f64), (r#"{way="tunnel"}"#, pass.peers.tunnel as f64)],
        );
        tell(
            "problems",
            "gauge",
            "What is not as it should be; /healthz names each.",
            &[("", pass.problems.len() as f64)],
        );
        tell("passes_total", "counter", "Comparisons of plan and kernel.", &[("", totals.passes as f64)]);
        tell("passes_unready_total", "counter", "Comparisons that ended with problems.", &[("", totals.failed as f64)]);
        tell("changes_total", "counter", "Changes made in the kernel.", &[("", totals.changes as f64)]);
        tell(
            "table_writes_total",
            "counter",
            "Times the nftables table was written.",
            &[("", totals.table_writes as f64)],
        );
        tell("cni_writes_total", "counter", "Times the CNI file was written.", &[("", totals.cni_writes as f64)]);
        tell("pass_seconds", "gauge", "How long the last comparison took.", &[("", pass.took.as_secs_f64())]);
        tell("uptime_seconds", "gauge", "Time since the start.", &[("", self.born.elapsed().as_secs_f64().floor())]);
        text
    }

    fn totals(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serve `/healthz` (ready, with the problems), `/livez` and `/metrics`.
pub async fn serve(health: Arc<Health>, listen: SocketAddr) -> std::io::Result<()> {
    let app = Router::new()
        .route(
            "/healthz",
            get(|State(health): State<Arc<Health>>| async move {
                let answer = health.answer();
                let status = if answer.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                (status, axum::Json(answer))
            }),
        )
        .route(
            "/livez",
            get(|State(health): State<Arc<Health>>| async move {
                if health.alive() { (StatusCode::OK, "alive\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "stuck\n") }
            }),
        )
        .route("/metrics", get(|State(health): State<Arc<Health>>| async move { health.metrics() }))
        .with_state(health);
    axum::serve(tokio::net::TcpListener::bind(listen).await?, app).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_after_a_pass_without_problems() {
        let health = Health::default();
        assert!(!health.answer().ready);
        health.record(Pass { problems: vec!["node b: no route".into()], ..Pass::default() });
        assert!(!health.answer().ready);
        assert!(!*health.ready().borrow());
        health.record(Pass { peers: Peers { direct: 7, tunnel: 0 }, changes: 8, ..Pass::default() });
        assert!(health.answer().ready);
        assert!(*health.ready().borrow());
        let metrics = health.metrics();
        assert!(metrics.contains("\nhz_netguard_ready 1\n") || metrics.contains("hz_netguard_ready 1\n"), "{metrics}");
        assert!(metrics.contains("hz_netguard_peers{way=\"direct\"} 7\n"), "{metrics}");
        assert!(metrics.contains("hz_netguard_passes_unready_total 1\n"), "{metrics}");
    }
}
