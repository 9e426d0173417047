//! After Ready, silence.

use std::time::Duration;

use serde_json::Value;

use crate::lab::{HOSPITAL, Lab, server};

/// Writes of the operator in the audit log after the first `skip` lines.
fn writes(skip: usize) -> Vec<String> {
    let log = std::fs::read_to_string(server().audit_log()).unwrap();
    log.lines()
        .skip(skip)
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["user"]["username"] == "system:serviceaccount:hz-system:hz-operator")
        .map(|line| {
            format!("{} {}", line["verb"].as_str().unwrap_or_default(), line["requestURI"].as_str().unwrap_or_default())
        })
        .collect()
}

fn lines() -> usize {
    std::fs::read_to_string(server().audit_log()).unwrap().lines().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_ready_nothing_is_written_while_everything_is_asked() {
    let lab = Lab::new().await;
    let operator = lab.operator();
    let from = lines();
    lab.open_example().await;
    operator.at_rest().await;
    assert!(writes(from).len() > 30, "the audit log sees the operator");

    let seconds = std::env::var("HZ_SILENCE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let (from, asked, calls) =
        (lines(), operator.probes.asked.load(std::sync::atomic::Ordering::SeqCst), operator.metrics.calls_of("get"));
    // A kubelet goes on talking about its pods all the while.
    let until = tokio::time::Instant::now() + Duration::from_secs(seconds);
    let mut beat = 0;
    while tokio::time::Instant::now() < until {
        beat += 1;
        let status = serde_json::json!({"message": format!("beat {beat}")});
        lab.play("Pod", HOSPITAL, "records-0", status).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(writes(from), Vec::<String>::new(), "in {seconds} s");
    assert_eq!(operator.metrics.calls_of("get"), calls, "nothing had to be read either");
    let asked = operator.probes.asked.load(std::sync::atomic::Ordering::SeqCst) - asked;
    assert!(asked >= 4, "databases and caches were asked {asked} times meanwhile");
}
