//! A backup and a restore, against a plain copy of the same bytes over the same way: from a database's pod to the store with
//! `curl`, one large object, and back. What the backup does beyond that (encryption, many files, checks) is in the ratio.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::stats::median;
use crate::{
    cluster::{Cluster, HOSPITAL, name},
    journey::{SETTLE, Scene},
    limit,
};

const EXAMPLE: &str = include_str!("../../../examples/eight-node-cluster/backups.yaml");
const PLAN: &str = "records-nightly";
const TABLE: &str = "e2e_bulk";
/// Made at a time, in MiB: a longer statement makes one transaction of it all.
const BATCH: u64 = 16;

/// In a copy's pod, with the store's key as the backup has it. Prints bytes, and milliseconds up and down.
const RAW: &str = r#"
set -eu
conf=/etc/pgbackrest/pgbackrest.conf
get() { sed -n "s/^repo1-$1=//p" $conf | head -n 1; }
file=/var/lib/postgresql/data/e2e-raw
trap 'rm -f $file $file.back' EXIT
tar -C /var/lib/postgresql/data/pgdata -cf $file base 2>/dev/null || [ $? = 1 ]
sync
url="https://$(get s3-endpoint):$(get storage-port)/$(get s3-bucket)/e2e-raw"
s3() {
    curl --silent --show-error --fail --aws-sigv4 "aws:amz:$(get s3-region):s3" --user "$(get s3-key):$(get s3-key-secret)" \
        --cacert /etc/pgbackrest/store-ca.crt --header 'x-amz-content-sha256: UNSIGNED-PAYLOAD' "$@" "$url"
}
one=$(date +%s%3N)
s3 --upload-file $file --output /dev/null
two=$(date +%s%3N)
s3 --output $file.back
sync $file.back
three=$(date +%s%3N)
cmp $file $file.back
s3 --request DELETE --output /dev/null
echo "$(stat -c %s $file) $((two - one)) $((three - two))"
"#;

/// One copy, one way.
#[derive(Clone, Copy)]
struct Moved {
    bytes: f64,
    seconds: f64,
}

impl Moved {
    /// MiB in a second.
    fn rate(self) -> f64 {
        self.bytes / f64::from(1 << 20) / self.seconds.max(0.001)
    }
}

#[derive(Default)]
struct Measured {
    backup: Vec<Moved>,
    up: Vec<Moved>,
    restore: Vec<Moved>,
    down: Vec<Moved>,
}

/// Measure and print.
pub fn run(scene: &Scene, runs: usize, mebibytes: u64) -> Result<String> {
    let cluster = scene.cluster();
    let parts = EXAMPLE.split("\n---\n");
    let needed: Vec<&str> = parts.filter(|part| !part.contains("kind: RestoreDrill")).collect();
    cluster.kubectl_with("apply -f -", &needed.join("\n---\n"))?;
    cluster.condition(&format!("backupplan -n {HOSPITAL} {PLAN}"), "BackupHealthy", "True", SETTLE)?;
    fill(&cluster, mebibytes)?;
    let mut measured = Measured::default();
    let done = (1..=runs).try_for_each(|run| {
        once(scene, &cluster, run, &mut measured).with_context(|| format!("run {run}"))?;
        eprintln!("bench: {run} of {runs}");
        Ok(())
    });
    cluster.sql("appointments", &format!("drop table if exists {TABLE};"))?;
    match done {
        Err(cause) if measured.down.is_empty() || measured.restore.is_empty() => Err(cause),
        Err(cause) => Ok(markdown(&measured) + &format!("\n**Stopped: {cause:#}**\n")),
        Ok(()) => Ok(markdown(&measured)),
    }
}

/// Bytes that do not compress, so that all of them travel.
fn fill(cluster: &Cluster<'_>, mebibytes: u64) -> Result<()> {
    limit::part("data to copy");
    let make = format!(
        "drop table if exists {TABLE}; create table {TABLE} (n bigint, data bytea); \
         alter table {TABLE} alter column data set storage external;"
    );
    cluster.sql("appointments", &make)?;
    let mut made = 0;
    while made < mebibytes {
        let batch = BATCH.min(mebibytes - made);
        // 128 digests of 64 bytes are 8 KiB, 128 of those a mebibyte.
        let rows = format!(
            "insert into {TABLE} select n, (select string_agg(sha512((n || ':' || m || ':' || random())::bytea), ''::bytea) \
             from generate_series(1, 128) m) from generate_series({}, {}) n;",
            made * 128 + 1,
            (made + batch) * 128
        );
        cluster.sql("appointments", &rows)?;
        made += batch;
    }
    let primary = cluster.pod_with_role("records", "primary")?;
    cluster.psql_in(&primary, "checkpoint").map(drop)
}

fn once(scene: &Scene, cluster: &Cluster<'_>, run: usize, measured: &mut Measured) -> Result<()> {
    limit::part("a backup");
    let begun = Instant::now();
    scene.ask(&["db", "backup", "records", "--type", "full"])?;
    let seconds = begun.elapsed().as_secs_f64();
    let bytes = newest(cluster)?;
    measured.backup.push(Moved { bytes, seconds });

    limit::part("a plain copy");
    let replicas = "-l app.kubernetes.io/instance=records,app.kubernetes.io/name=postgres,hz.hospital/role=replica";
    let replicas = cluster.items(&format!("get pods -n {HOSPITAL} {replicas}"))?;
    let replica = name(replicas.first().context("there is no replica")?);
    let said = cluster.kubectl_with(&format!("exec -i -n {HOSPITAL} {replica} -c backup -- sh -s"), RAW)?;
    let (up, down) = raw(&said)?;
    measured.up.push(up);
    measured.down.push(down);

    limit::part("a restore");
    let back = format!("records-copied-{run}");
    let begun = Instant::now();
    let restored = scene.ask(&["db", "restore", "records", "--into", &back, "--instances", "1"]);
    let seconds = begun.elapsed().as_secs_f64();
    let gone =
        cluster.kubectl(&format!("delete postgresinstance -n {HOSPITAL} {back} --ignore-not-found --timeout=180s"));
    cluster.kubectl(&format!("delete pvc -n {HOSPITAL} data-{back}-0 --ignore-not-found --timeout=120s"))?;
    restored?;
    gone?;
    measured.restore.push(Moved { bytes, seconds });
    Ok(())
}

/// Size of what the last full backup copied.
fn newest(cluster: &Cluster<'_>) -> Result<f64> {
    let all = cluster.items(&format!("get backups -n {HOSPITAL}"))?;
    let done = all.iter().filter(|backup| backup["status"]["phase"] == "Succeeded" && backup["spec"]["type"] == "Full");
    let last = done.max_by_key(|backup| backup["status"]["completionTime"].as_str().unwrap_or_default().to_owned());
    let last = last.context("no full backup has succeeded")?;
    last["status"]["sizeBytes"]
        .as_f64()
        .with_context(|| format!("the backup does not tell its size: {}", last["status"]))
}

fn raw(said: &str) -> Result<(Moved, Moved)> {
    let told: Vec<f64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [bytes, up, down] = told[..] else { anyhow::bail!("the plain copy said: {said}") };
    ensure!(bytes > 0.0, "the plain copy copied nothing");
    Ok((Moved { bytes, seconds: up / 1000.0 }, Moved { bytes, seconds: down / 1000.0 }))
}

fn markdown(measured: &Measured) -> String {
    let mut out = String::from("| what | MiB | seconds | MiB/s, median of all | ratio |\n|---|---|---|---|---|\n");
    let pairs = [
        ("backup", &measured.backup, "plain copy to the store", &measured.up),
        ("restore", &measured.restore, "plain copy from the store", &measured.down),
    ];
    for (ours, moved, plain, copied) in pairs {
        let rate = |all: &[Moved]| median(all.iter().map(|one| one.rate()).collect());
        let row = |what: &str, all: &[Moved], ratio: String| {
            let size = median(all.iter().map(|one| one.bytes).collect()) / f64::from(1 << 20);
            let each: Vec<String> = all.iter().map(|one| format!("{:.1}", one.seconds)).collect();
            format!("| {what} | {size:.0} | {} | {:.1} | {ratio} |\n", each.join(", "), rate(all))
        };
        out += &row(plain, copied, String::new());
        out += &row(ours, moved, format!("**{:.2}**", rate(moved) / rate(copied)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_compared_and_not_times() {
        let moved = |mebibytes: f64, seconds| Moved { bytes: mebibytes * 1_048_576.0, seconds };
        let measured = Measured {
            backup: vec![moved(100.0, 10.0)],
            up: vec![moved(120.0, 6.0)],
            restore: vec![moved(100.0, 20.0)],
            down: vec![moved(120.0, 3.0)],
        };
        let table = markdown(&measured);
        assert!(
            table.contains(
                "| plain copy to the store | 120 | 6.0 | 20.0 |  |\n| backup | 100 | 10.0 | 10.0 | **0.50** |"
            )
        );
        assert!(table.ends_with("| restore | 100 | 20.0 | 5.0 | **0.12** |\n"), "{table}");
    }

    #[test]
    fn the_plain_copy_s_words_are_read() {
        let (up, down) = raw("1048576 500 250\n").unwrap();
        assert_eq!((up.rate(), down.rate()), (2.0, 4.0));
        assert!(raw("curl: (6)").is_err());
    }

    #[test]
    fn the_example_has_a_store_and_a_plan_beside_its_drill() {
        let kinds = ["ObjectStore", "BackupPlan", "RestoreDrill"].map(|kind| format!("\nkind: {kind}\n"));
        let parts: Vec<&str> = EXAMPLE.split("\n---\n").collect();
        assert!(parts.iter().zip(&kinds).all(|(part, kind)| part.contains(kind.as_str())));
    }
}
