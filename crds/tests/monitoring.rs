//! The alerts in examples/monitoring name only what there is: gauges, reasons and runbooks.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)] // files and programs are what this test is about

use std::path::{Path, PathBuf};
use std::process::Command;

use hz_crds::postgres::exporter;
use hz_crds::runbooks::TABLE;
use serde_json::Value;

/// Gauges of PostgreSQL's exporter that the alerts use, as its version 0.17.1 names them.
const EXPORTER: &[&str] =
    &["pg_up", "pg_replication_lag_seconds", "pg_stat_database_numbackends", "pg_settings_max_connections"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn folder() -> PathBuf {
    root().join("examples/monitoring")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn alerts() -> Vec<Value> {
    let file: Value = serde_yaml::from_str(&read(&folder().join("alerts.yml"))).unwrap();
    let groups = file["groups"].as_array().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// The words of an expression.
fn words(expression: &str) -> impl Iterator<Item = &str> {
    expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// What stands behind `label=`, `label!=` and so on, each alternative by itself.
fn values<'a>(expression: &'a str, label: &str) -> Vec<&'a str> {
    let parts = ["=\"", "!=\"", "=~\"", "!~\""].map(|operator| format!("{label}{operator}"));
    let found = parts.iter().flat_map(|start| expression.split(start.as_str()).skip(1));
    found.flat_map(|rest| rest.split('"').next().unwrap().split('|')).collect()
}

#[test]
fn every_gauge_that_an_alert_looks_at_exists() {
    let ours = format!("{}{}", read(&root().join("operator/src/engine/standing.rs")), exporter::SERVE)
        + &read(&root().join("operator/src/engine/metrics.rs"));
    for alert in alerts() {
        let expression = alert["expr"].as_str().unwrap();
        let gauges: Vec<&str> = words(expression).filter(|w| w.starts_with("hz_") || w.starts_with("pg_")).collect();
        for gauge in &gauges {
            let known = EXPORTER.contains(gauge) || ours.contains(&format!("\"{gauge}\""));
            assert!(known, "{}: there is no {gauge}", alert["alert"]);
        }
        assert!(!gauges.is_empty(), "{expression}");
    }
}

#[test]
fn every_alert_names_conditions_that_there_are_and_a_runbook() {
    for alert in alerts() {
        let (name, expression) = (&alert["alert"], alert["expr"].as_str().unwrap());
        let id = alert["annotations"]["runbook"].as_str().unwrap();
        assert!(TABLE.iter().any(|row| row.id == id), "{name}: no condition leads to {id}");
        for (label, of) in [
            ("kind", (|row| row.kind) as fn(&hz_crds::runbooks::Row) -> &'static str),
            ("type", |row| row.type_),
            ("reason", |row| row.reason),
        ] {
            for value in values(expression, label) {
                assert!(TABLE.iter().any(|row| of(row) == value), "{name}: no condition has the {label} {value}");
            }
        }
        assert!(["page", "ticket"].contains(&alert["labels"]["severity"].as_str().unwrap()), "{name}");
    }
}

#[test]
fn what_is_scraped_has_the_ports_and_labels_of_our_pods() {
    let text = read(&folder().join("prometheus.yml"));
    serde_yaml::from_str::<Value>(&text).unwrap();
    assert!(text.contains(exporter::MONITORING));
    assert!(text.contains(&format!("regex: {};metrics", hz_crds::postgres::APP)));
    let chart = read(&root().join("charts/hz-operator/templates/deployment.yaml"));
    assert!(text.contains("regex: hz-operator;http") && chart.contains("name: http, containerPort: 8080"));
}

/// Prometheus' own opinion, where its tool is installed (Debian's package `promtool`).
#[test]
fn promtool_takes_the_configuration_and_the_alerts() {
    let tool = std::env::var("PROMTOOL").unwrap_or_else(|_| "promtool".to_owned());
    for arguments in [["check", "config", "prometheus.yml"], ["test", "rules", "alerts_test.yml"]] {
        match Command::new(&tool).args(arguments).current_dir(folder()).output() {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{arguments:?}: {said}");
            }
            Err(error) => return eprintln!("left out: {tool} is not installed ({error})"),
        }
    }
}
