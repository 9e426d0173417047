//! The primary PostgreSQL pod dies under a writer. Every row that was acknowledged must be there afterwards.

use anyhow::{Context, Result, ensure};

use super::{SETTLE, Scene, writer::Writer};
use crate::{
    cluster::{Cluster, HOSPITAL},
    run::until,
};

pub fn run(scene: &Scene) -> Result<()> {
    let cluster = scene.cluster();
    let writer = Writer::start(&cluster)?;
    let outcome = under_fire(&cluster, &writer);
    let rows = writer.end();
    outcome?;
    // `kubectl get NAME` prints no list, hence the field selector.
    let instance = format!("get postgresinstances.hz.hospital -n {HOSPITAL} --field-selector metadata.name=records");
    cluster.ready(&instance, SETTLE)?;
    eprintln!("    {}", rows?);
    Ok(())
}

/// Kill the primary in the midst of writes, and wait until rows are acknowledged again.
fn under_fire(cluster: &Cluster<'_>, writer: &Writer<'_>) -> Result<()> {
    writer.until_rows(50)?;
    let primary = cluster.pod_with_role("records", "primary")?;
    let uid = |pod: &str| -> Result<String> {
        Ok(cluster.json(&format!("get pod -n {HOSPITAL} {pod}"))?["metadata"]["uid"].to_string())
    };
    let victim = uid(&primary)?;
    cluster.kubectl(&format!("delete pod -n {HOSPITAL} {primary} --grace-period=0 --force"))?;
    let killed_at: u64 = cluster.kubectl("version >/dev/null; date +%s%3N")?.trim().parse().context("odd clock")?;
    until("a primary that is not the killed pod, and 50 rows after it", SETTLE, || {
        let now = cluster.pod_with_role("records", "primary")?;
        ensure!(uid(&now)? != victim, "the killed pod is still the primary");
        let n = writer.acknowledged()?.iter().filter(|(_, at)| *at > killed_at + 3000).count();
        ensure!(n >= 50, "{n} rows since the kill");
        Ok(())
    })
}
