//! Transactions through the pooler, against directly: `pgbench`, read only, with connections that last and with a new one for each
//! transaction, turn about.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::stats::median;
use crate::{
    cluster::{Cluster, HOSPITAL},
    journey::{
        SETTLE, Scene,
        writer::{Target, client, with_variable},
    },
    limit,
    run::until,
};

const POD: &str = "e2e-bench-client";
const TARGET: Target = Target { instance: "records", database: "appointments" };
/// A hundred thousand accounts each.
const SCALE: u32 = 2;
const CLIENTS: u32 = 16;
const SECONDS: u32 = 15;
/// The commands are run in it, one after the other.
const SCRIPT: &str = "trap 'exit 0' TERM; sleep 7200 & wait";
/// Where pgbench and psql are in every image, whatever its version.
const TOOLS: &str = "for b in /usr/lib/postgresql/*/bin; do PATH=$b:$PATH; done";

/// What `pgbench` measured.
#[derive(Clone, Copy)]
struct Speed {
    /// Transactions a second.
    throughput: f64,
    /// Milliseconds that 99 of a hundred transactions did not exceed.
    p99: f64,
}

/// How clients connect.
struct Way {
    name: &'static str,
    options: &'static str,
}

const WAYS: [Way; 2] = [
    Way { name: "connections that last", options: "" },
    Way { name: "a connection for each transaction", options: "-C" },
];

/// Measure and print.
pub fn run(scene: &Scene, runs: usize) -> Result<String> {
    let cluster = scene.cluster();
    let before = cluster.json(&format!("get postgresinstance -n {HOSPITAL} records"))?["spec"]["pooler"].clone();
    if before.is_null() {
        patch(&cluster, &json!({}))?;
    }
    let measured = (|| {
        cluster.condition(&format!("postgresinstance -n {HOSPITAL} records"), "Pooled", "True", SETTLE).context(
            "there is no pooler in front of `records`: `kubectl explain postgresinstance.spec.pooler` tells whether there can be",
        )?;
        all(&cluster, runs)
    })();
    cluster.kubectl(&format!("delete pod -n {HOSPITAL} {POD} --grace-period=0 --force --ignore-not-found"))?;
    let drop = "drop table if exists pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers;";
    cluster.sql(TARGET.database, drop)?;
    if before.is_null() {
        patch(&cluster, &Value::Null)?;
    }
    measured
}

fn patch(cluster: &Cluster<'_>, pooler: &Value) -> Result<()> {
    let patch = json!({ "spec": { "pooler": pooler } }).to_string();
    let command = format!("patch postgresinstance -n {HOSPITAL} records --type merge --patch-file /dev/stdin");
    cluster.kubectl_with(&command, &patch).map(drop)
}

fn all(cluster: &Cluster<'_>, runs: usize) -> Result<String> {
    limit::part("a client and its data");
    let pod = client(cluster, POD, TARGET, SCRIPT, None, "")?;
    let mut pod = with_variable(pod, &json!({ "name": "PGSSLROOTCERT", "value": "/etc/hz/ca/ca.crt" }));
    // The client must not be what holds them up.
    pod["spec"]["containers"][0]["resources"] =
        json!({ "requests": { "cpu": "100m", "memory": "128Mi" }, "limits": { "memory": "512Mi" } });
    cluster.kubectl(&format!("delete pod -n {HOSPITAL} {POD} --grace-period=0 --force --ignore-not-found"))?;
    cluster.kubectl_with("apply -f -", &pod.to_string())?;
    until("the client's pod", Duration::from_secs(120), || {
        let pod = cluster.json(&format!("get pod -n {HOSPITAL} {POD}"))?;
        ensure!(pod["status"]["phase"] == "Running", "it is {}", pod["status"]["phase"]);
        Ok(())
    })?;
    inside(cluster, &format!("{TOOLS}; pgbench -q -i -s {SCALE} 2>&1 | tail -n 1"))?;

    let host = inside(cluster, "echo $PGHOST")?;
    let hosts = [host.trim().to_owned(), host.trim().replacen("records", "records-pooler", 1)];
    let mut out = String::from(
        "| clients | run | direct tps | pooler tps | ratio | direct p99 ms | pooler p99 ms | ratio |\n|---|---|---|---|---|---|---|---|\n",
    );
    for way in &WAYS {
        let mut pairs = Vec::new();
        for run in 1..=runs {
            limit::part(way.name);
            let direct = bench(cluster, &hosts[0], way.options)?;
            let pooled = bench(cluster, &hosts[1], way.options)?;
            eprintln!(
                "bench: {run} of {runs}: {:.0} tps directly, {:.0} through the pooler",
                direct.throughput, pooled.throughput
            );
            out += &row(way.name, &run.to_string(), direct, pooled);
            pairs.push((direct, pooled));
        }
        let middle = |pick: fn(&(Speed, Speed)) -> Speed| Speed {
            throughput: median(pairs.iter().map(|pair| pick(pair).throughput).collect()),
            p99: median(pairs.iter().map(|pair| pick(pair).p99).collect()),
        };
        out += &row(way.name, "**median**", middle(|pair| pair.0), middle(|pair| pair.1));
    }
    Ok(out + &format!("\n{CLIENTS} clients, {SECONDS} s each, read only, {SCALE}00,000 accounts.\n"))
}

fn row(way: &str, run: &str, direct: Speed, pooled: Speed) -> String {
    format!(
        "| {way} | {run} | {:.0} | {:.0} | {:.2} | {:.1} | {:.1} | {:.2} |\n",
        direct.throughput,
        pooled.throughput,
        pooled.throughput / direct.throughput.max(0.001),
        direct.p99,
        pooled.p99,
        pooled.p99 / direct.p99.max(0.001)
    )
}

fn inside(cluster: &Cluster<'_>, script: &str) -> Result<String> {
    cluster.kubectl_with(&format!("exec -i -n {HOSPITAL} {POD} -- sh -s"), script)
}

/// `pgbench` tells an average only; each transaction's time is in its logs.
fn bench(cluster: &Cluster<'_>, host: &str, options: &str) -> Result<Speed> {
    let script = format!(
        "{TOOLS}; cd /tmp && rm -f log.*; \
         pgbench -n -S {options} -c {CLIENTS} -j 2 -T {SECONDS} -l --log-prefix=log -h {host} 2>/tmp/why >/tmp/said </dev/null; \
         code=$?; grep '^tps' /tmp/said; [ $code = 0 ] || {{ tail -n 5 /tmp/why; exit $code; }}; \
         all=$(cat log.* | wc -l); echo \"p99 $(cat log.* | cut -d' ' -f3 | sort -n | sed -n \"$(((all * 99 + 99) / 100))p\")\"; \
         rm -f log.*"
    );
    let said = inside(cluster, &script).with_context(|| format!("pgbench against {host}"))?;
    speed(&said)
}

fn speed(said: &str) -> Result<Speed> {
    let number = |start: &str| -> Option<f64> {
        said.lines().find_map(|line| line.strip_prefix(start)?.split_whitespace().next()?.parse().ok())
    };
    let (throughput, micros) = number("tps = ").zip(number("p99 ")).with_context(|| format!("pgbench said: {said}"))?;
    Ok(Speed { throughput, p99: micros / 1000.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pgbench_says_is_read() {
        let told = speed("tps = 1234.56 (without initial connection time)\np99 8500\n").unwrap();
        assert_eq!((told.throughput, told.p99), (1234.56, 8.5));
        assert!(speed("pgbench: error: connection failed").is_err());
        assert_eq!(
            row("short", "1", told, Speed { throughput: 617.28, p99: 17.0 }),
            "| short | 1 | 1235 | 617 | 0.50 | 8.5 | 17.0 | 2.00 |\n"
        );
    }
}
