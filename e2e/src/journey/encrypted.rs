//! Nobody speaks to the database in clear text, and its certificate is renewed under a writer: every copy shows the new
//! one, no pod starts anew, and every acknowledged row is there.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{SETTLE, Scene, writer::Writer};
use crate::{
    cluster::{Cluster, HOSPITAL, name},
    run::until,
};

/// Says what certificate the server of this pod shows: a fingerprint. It is looked at and not believed.
const SHOWN: &str = r#"
import hashlib, socket, ssl, struct
plain = socket.create_connection(("127.0.0.1", 5432), 5)
plain.sendall(struct.pack("!ii", 8, 80877103))
assert plain.recv(1) == b"S", "it offers no TLS"
look = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
look.check_hostname = False
look.verify_mode = ssl.CERT_NONE
print(hashlib.sha256(look.wrap_socket(plain).getpeercert(True)).hexdigest())
"#;

const COPIES: [&str; 3] = ["records-0", "records-1", "records-2"];

pub fn run(scene: &Scene) -> Result<()> {
    let cluster = scene.cluster();
    encrypted(&cluster)?;
    let writer = Writer::start(&cluster)?;
    let outcome = clear_text_is_refused(&cluster).and_then(|()| renewed(&cluster, &writer));
    let rows = writer.end();
    outcome?;
    eprintln!("    {}", rows?);
    Ok(())
}

fn clear_text_is_refused(cluster: &Cluster<'_>) -> Result<()> {
    let own = cluster.sql("appointments", "select ssl from pg_stat_ssl where pid = pg_backend_pid()")?;
    ensure!(own.trim() == "t", "through the Service, with verify-full, pg_stat_ssl says `{}`", own.trim());
    let uri = cluster
        .kubectl(&format!("get secret -n {HOSPITAL} records-appointments -o 'jsonpath={{.data.uri}}' | base64 -d"))?;
    ensure!(uri.ends_with("?sslmode=verify-full"), "the tenant's URI does not insist on the right server");
    let primary = cluster.pod_with_role("records", "primary")?;
    let clear = uri.replace("sslmode=verify-full", "sslmode=disable");
    let ask = format!("exec -i -n {HOSPITAL} {primary} -- psql '{clear}' -X -A -t -f -");
    let refused = cluster.kubectl_with(&ask, "select 1");
    let said = format!("{refused:?}");
    ensure!(refused.is_err() && said.contains("no encryption"), "clear text was not refused: {said}");
    let question = "select count(*), bool_and(ssl) from pg_stat_replication join pg_stat_ssl using (pid)";
    let ask = format!("exec -n {HOSPITAL} {primary} -c postgres -- psql -X -A -t -U postgres -c '{question}'");
    let copies = cluster.kubectl(&ask)?;
    ensure!(copies.trim() == "2|t", "copies that follow, and whether all are encrypted: {}", copies.trim());
    Ok(())
}

fn renewed(cluster: &Cluster<'_>, writer: &Writer<'_>) -> Result<()> {
    writer.until_rows(50)?;
    let (before, pods) = (shown(cluster)?, pods(cluster)?);
    let gone = r#"[{"op":"remove","path":"/data/tls.crt"},{"op":"remove","path":"/data/tls.key"}]"#;
    cluster
        .kubectl_with(&format!("patch secret -n {HOSPITAL} records-tls --type json --patch-file /dev/stdin"), gone)?;
    let begun = std::time::Instant::now();
    until("every copy to show the new certificate", SETTLE, || {
        let now = shown(cluster)?;
        for (pod, print) in &now {
            ensure!(before.get(pod) != Some(print), "{pod} shows the old one");
        }
        ensure!(now.values().all(|print| Some(print) == now.values().next()), "they show different ones");
        Ok(())
    })?;
    eprintln!("    all three show the new certificate after {:.0} s", begun.elapsed().as_secs_f64());
    encrypted(cluster)?;
    ensure!(self::pods(cluster)? == pods, "a pod started anew: {pods:?} became {:?}", self::pods(cluster)?);
    writer.until_rows(writer.rows()? + 50)
}

/// Until the operator says so.
fn encrypted(cluster: &Cluster<'_>) -> Result<()> {
    until("the condition Encrypted", SETTLE, || {
        let instance = cluster.json(&format!("get postgresinstance -n {HOSPITAL} records"))?;
        let conditions = instance["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let told = conditions.into_iter().find(|condition| condition["type"] == "Encrypted").unwrap_or_default();
        ensure!(told["status"] == "True", "{} ({})", told["message"], told["reason"]);
        Ok(())
    })
}

/// What each copy shows.
fn shown(cluster: &Cluster<'_>) -> Result<BTreeMap<&'static str, String>> {
    let of = |pod: &&'static str| {
        let print = cluster.kubectl_with(&format!("exec -i -n {HOSPITAL} {pod} -c postgres -- python3 -"), SHOWN)?;
        Ok((*pod, print.trim().to_owned()))
    };
    COPIES.iter().map(of).collect()
}

/// Every pod of the databases and services, with its id and how often its containers started.
fn pods(cluster: &Cluster<'_>) -> Result<BTreeMap<String, String>> {
    let all = cluster.items(&format!("get pods -n {HOSPITAL} -l 'app.kubernetes.io/name in (postgres,service)'"))?;
    let of = |pod: &Value| {
        let starts = pod["status"]["containerStatuses"].as_array().context("a pod without containers")?;
        let starts: Vec<String> = starts.iter().map(|container| container["restartCount"].to_string()).collect();
        Ok((name(pod), format!("{} {}", pod["metadata"]["uid"], starts.join(","))))
    };
    all.iter().map(of).collect()
}
