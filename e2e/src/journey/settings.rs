//! Settings of a running PostgreSQL are changed under a writer: one that needs no restart, one that needs a restart of
//! every copy. All copies must work with them, and every acknowledged row must be there.

use anyhow::{Result, ensure};

use super::{SETTLE, Scene, writer::Writer};
use crate::{
    cluster::{Cluster, HOSPITAL},
    run::until,
};

const WANTED: [(&str, &str); 2] = [("work_mem", "12MB"), ("max_connections", "140")];

pub fn run(scene: &Scene) -> Result<()> {
    let cluster = scene.cluster();
    let before =
        cluster.kubectl(&format!("get postgresinstance -n {HOSPITAL} records -o 'jsonpath={{.spec.parameters}}'"))?;
    let writer = Writer::start(&cluster)?;
    let changed = change(&cluster, &writer);
    let log = writer.end();
    changed?;
    let gap = log?;
    eprintln!("    {gap}");
    // As it was, for whoever comes next.
    let before = if before.trim().is_empty() { "null".to_owned() } else { before };
    patch(&cluster, &before)?;
    configured(&cluster)?;
    ensure!(
        shown(&cluster, "records-0", "max_connections")? != "140",
        "a setting that was taken back is still in force"
    );
    Ok(())
}

fn change(cluster: &Cluster<'_>, writer: &Writer<'_>) -> Result<()> {
    writer.until_rows(50)?;
    let wanted: serde_json::Map<_, _> =
        WANTED.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    patch(cluster, &serde_json::to_string(&wanted)?)?;
    configured(cluster)?;
    for pod in ["records-0", "records-1", "records-2"] {
        for (name, value) in WANTED {
            let there = shown(cluster, pod, name)?;
            ensure!(there == value, "{name} is {there} on {pod} instead of {value}");
        }
    }
    writer.until_rows(writer.rows()? + 50)
}

fn patch(cluster: &Cluster<'_>, parameters: &str) -> Result<()> {
    let patch = format!(r#"{{"spec":{{"parameters":{parameters}}}}}"#);
    cluster.kubectl_with(
        &format!("patch postgresinstance -n {HOSPITAL} records --type merge --patch-file /dev/stdin"),
        &patch,
    )?;
    Ok(())
}

/// Until the operator says that every copy works with the settings of the spec as it is now.
fn configured(cluster: &Cluster<'_>) -> Result<()> {
    until("the settings of the spec to be in force", SETTLE, || {
        let instance = cluster.json(&format!("get postgresinstance -n {HOSPITAL} records"))?;
        let conditions = instance["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let told = conditions.iter().find(|condition| condition["type"] == "Configured").cloned().unwrap_or_default();
        ensure!(
            told["status"] == "True" && told["observedGeneration"] == instance["metadata"]["generation"],
            "{} ({})",
            told["message"],
            told["reason"]
        );
        Ok(())
    })
}

fn shown(cluster: &Cluster<'_>, pod: &str, setting: &str) -> Result<String> {
    let ask = format!("exec -n {HOSPITAL} {pod} -- psql -X -A -t -U postgres -c 'show {setting}'");
    Ok(cluster.kubectl(&ask)?.trim().to_owned())
}
