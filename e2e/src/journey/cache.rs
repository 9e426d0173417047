//! The hospital's cache under a client that writes all the time: clear text is refused, users do what they may and
//! nothing else, passwords give way to new ones, a setting changes without a restart, and a killed master is replaced.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{SETTLE, Scene};
use crate::{
    cluster::{Cluster, HOSPITAL, name},
    run::until,
};

const CACHE: &str = "sessions";
const CLIENT: &str = "e2e-cache-client";
/// A Secret reaches a pod that runs within two minutes at most; both passwords must be good for longer.
const OVERLAP: u64 = 180;

/// One write a connection, with the password as the mounted Secret has it then: what a program does that reads it when
/// it connects.
const SCRIPT: &str = r#"
i=0
while true; do
  i=$((i+1))
  said=$(REDISCLI_AUTH="$(cat /credentials/password)" timeout 5 valkey-cli --no-auth-warning --tls \
    --cacert /credentials/ca.crt --user booking -h "$(cat /credentials/host)" set session:e2e "$i" 2>&1)
  if [ "$said" = OK ]; then echo "ack $i $(date +%s%3N)"; else echo "lost $i $(date +%s%3N) $said"; fi
  sleep 0.1
done
"#;

pub fn run(scene: &Scene) -> Result<()> {
    let cluster = scene.cluster();
    let travelled = travel(&cluster);
    // As it was, for whoever comes next; passwords stay new.
    let _ = remove(&cluster);
    let restored = patch(&cluster, &json!({ "users": null, "parameters": null, "rotationOverlapSeconds": null }));
    travelled?;
    restored?;
    applied(&cluster, "the cache as it was")
}

fn travel(cluster: &Cluster<'_>) -> Result<()> {
    let users = json!([{ "name": "booking", "keys": ["session:*"] }, { "name": "report", "access": "ReadOnly" }]);
    patch(cluster, &json!({ "users": users, "rotationOverlapSeconds": OVERLAP }))?;
    applied(cluster, "users of the cache")?;
    encrypted(cluster).context("encryption")?;
    permitted(cluster).context("what users may do")?;
    let before = pods(cluster)?;
    start(cluster)?;
    writes(cluster, 20, "the first writes of the client")?;
    rotated(cluster).context("new passwords")?;
    set_live(cluster).context("a setting")?;
    ensure!(pods(cluster)? == before, "a server of the cache was started again for what it takes while it runs");
    killed(cluster).context("the master killed")
}

/// Over TLS a server answers, and in the clear it does not.
fn encrypted(cluster: &Cluster<'_>) -> Result<()> {
    let condition = condition(cluster, "Encrypted")?;
    ensure!(condition["status"] == "True", "the condition Encrypted says {condition}");
    let pod = cluster.pod_with_role(CACHE, "master")?;
    let password = password(cluster, "auth")?;
    let said = say(cluster, &pod, "default", &password, "ping")?;
    ensure!(said == "PONG", "over TLS a PING was answered by `{said}`");
    let clear = format!(
        "exec -n {HOSPITAL} {pod} -c valkey -- timeout 5 env REDISCLI_AUTH={password} valkey-cli -h {CACHE} ping"
    );
    match cluster.kubectl(&clear) {
        Ok(said) if said.contains("PONG") => bail!("in the clear a PING was answered as well"),
        _ => Ok(()),
    }
}

fn permitted(cluster: &Cluster<'_>) -> Result<()> {
    let pod = cluster.pod_with_role(CACHE, "master")?;
    let users = ["auth", "booking", "report"].map(|user| password(cluster, user));
    let [default, booking, report] = users;
    let (default, booking, report) = (default?, booking?, report?);
    for (user, password, command, may) in [
        ("booking", &booking, "set session:1 x", true),
        ("booking", &booking, "get other", false),
        ("report", &report, "get session:1", true),
        ("report", &report, "set session:1 y", false),
        ("default", &default, "info server", true),
        ("default", &default, "flushall", false),
        ("default", &default, "config get maxmemory", false),
        ("default", &default, "acl list", false),
    ] {
        let said = say(cluster, &pod, user, password, command)?;
        let refused = said.contains("NOPERM");
        ensure!(refused != may && !said.contains("WRONGPASS"), "`{command}` of user {user} was answered by `{said}`");
    }
    Ok(())
}

/// The client connects anew for each write, and none of them may be refused, before, between and after.
fn rotated(cluster: &Cluster<'_>) -> Result<()> {
    let old = password(cluster, "booking")?;
    let object = cache(cluster)?;
    let generation = object["spec"]["credentialsGeneration"].as_u64().unwrap_or(1);
    patch(cluster, &json!({ "credentialsGeneration": generation + 1 }))?;
    told(cluster, "CredentialsApplied", &["OldStillAccepted"], "new passwords beside the old ones")?;
    until("the Secret of booking with another password", SETTLE, || {
        ensure!(password(cluster, "booking")? != old, "it is the old one");
        Ok(())
    })?;
    let pod = cluster.pod_with_role(CACHE, "master")?;
    let said = say(cluster, &pod, "booking", &old, "ping")?;
    ensure!(said == "PONG", "during the overlap the old password was answered by `{said}`");
    told(cluster, "CredentialsApplied", &["Applied"], "the end of the old passwords")?;
    let said = say(cluster, &pod, "booking", &old, "ping")?;
    ensure!(said.contains("WRONGPASS"), "after the overlap the old password was answered by `{said}`");
    let log = log(cluster)?;
    let lost: Vec<&str> = log.lines().filter(|line| line.starts_with("lost ")).collect();
    ensure!(
        lost.is_empty(),
        "{} writes were refused while passwords changed: {:?}",
        lost.len(),
        &lost[..lost.len().min(3)]
    );
    writes(cluster, acknowledged(&log).len() + 20, "writes after the old passwords are gone")?;
    eprintln!("    passwords changed under {} writes, none refused", acknowledged(&log).len());
    Ok(())
}

fn set_live(cluster: &Cluster<'_>) -> Result<()> {
    patch(cluster, &json!({ "parameters": { "slowlog-max-len": "77" } }))?;
    told(cluster, "Configured", &["InForce"], "the setting on every server")?;
    for (pod, _, _) in pods(cluster)? {
        let ask = format!("exec -n {HOSPITAL} {pod} -c valkey -- bash /etc/hz/cli.sh --raw config get slowlog-max-len");
        let said = cluster.kubectl(&ask)?;
        ensure!(said.lines().nth(1) == Some("77"), "{pod} says `{said}`");
    }
    Ok(())
}

fn killed(cluster: &Cluster<'_>) -> Result<()> {
    let master = cluster.pod_with_role(CACHE, "master")?;
    let uid =
        |pods: &[(String, String, u64)]| pods.iter().find(|(pod, _, _)| *pod == master).map(|(_, uid, _)| uid.clone());
    let victim = uid(&pods(cluster)?);
    let before = log(cluster)?;
    let killed_at = acknowledged(&before).last().map(|(_, at)| *at).context("the client has written nothing")?;
    cluster.kubectl(&format!("delete pod -n {HOSPITAL} {master} --grace-period=0 --force"))?;
    until("another master", SETTLE, || {
        let now = cluster.pod_with_role(CACHE, "master")?;
        ensure!(now != master || uid(&pods(cluster)?) != victim, "{master} still is the master");
        Ok(())
    })?;
    until("20 writes after the master was killed", SETTLE, || {
        let after = acknowledged(&log(cluster)?).into_iter().filter(|(_, at)| *at > killed_at + 1000).count();
        ensure!(after >= 20, "{after} so far");
        Ok(())
    })?;
    let since: Vec<u64> =
        acknowledged(&log(cluster)?).into_iter().map(|(_, at)| at).filter(|at| *at >= killed_at).collect();
    let gap = since.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or_default();
    eprintln!("    master killed; longest time without a write {:.1} s", f64::from(u32::try_from(gap)?) / 1000.0);
    let own = format!("get cacheinstances.hz.hospital -n {HOSPITAL} --field-selector metadata.name={CACHE}");
    cluster.ready(&own, SETTLE)?;
    until("three servers again", SETTLE, || {
        let redundant = condition(cluster, "Redundant")?;
        ensure!(redundant["status"] == "True", "{}", redundant["message"]);
        Ok(())
    })
}

fn cache(cluster: &Cluster<'_>) -> Result<Value> {
    cluster.json(&format!("get cacheinstance -n {HOSPITAL} {CACHE}"))
}

fn condition(cluster: &Cluster<'_>, type_: &str) -> Result<Value> {
    Ok(condition_of(&cache(cluster)?, type_))
}

fn condition_of(object: &Value, type_: &str) -> Value {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == type_).unwrap_or_default()
}

/// Until a condition holds for one of these reasons, for the spec as it is now.
fn told(cluster: &Cluster<'_>, type_: &str, reasons: &[&str], what: &str) -> Result<()> {
    until(&format!("{what}: condition {type_} for {}", reasons.join(" or ")), SETTLE, || {
        let object = cache(cluster)?;
        let told = condition_of(&object, type_);
        let for_this = told["observedGeneration"] == object["metadata"]["generation"];
        let holds = told["status"] == "True" && reasons.iter().any(|reason| told["reason"] == *reason);
        ensure!(for_this && holds, "{} {}: {}", told["status"], told["reason"], told["message"]);
        Ok(())
    })
}

fn applied(cluster: &Cluster<'_>, what: &str) -> Result<()> {
    told(cluster, "CredentialsApplied", &["Applied", "OldStillAccepted"], what)
}

fn patch(cluster: &Cluster<'_>, spec: &Value) -> Result<()> {
    let patch = format!("patch cacheinstance -n {HOSPITAL} {CACHE} --type merge --patch-file /dev/stdin");
    cluster.kubectl_with(&patch, &json!({ "spec": spec }).to_string()).map(drop)
}

/// What the Secret of a user hands out.
fn password(cluster: &Cluster<'_>, user: &str) -> Result<String> {
    let ask = format!("get secret -n {HOSPITAL} {CACHE}-{user} -o 'jsonpath={{.data.password}}' | base64 -d");
    let password = cluster.kubectl(&ask)?;
    ensure!(!password.is_empty(), "Secret {CACHE}-{user} holds no password");
    Ok(password)
}

/// What a server says to a user, through the Service of the cache.
fn say(cluster: &Cluster<'_>, pod: &str, user: &str, password: &str, command: &str) -> Result<String> {
    let client = "valkey-cli --no-auth-warning --tls --cacert /etc/hz-tls/ca.crt";
    let ask = format!("env REDISCLI_AUTH={password} {client} --user {user} -h {CACHE} {command}");
    Ok(cluster.kubectl(&format!("exec -n {HOSPITAL} {pod} -c valkey -- {ask} 2>&1"))?.trim().to_owned())
}

/// Pods of the cache: names, ids, and how often their containers were started again.
fn pods(cluster: &Cluster<'_>) -> Result<Vec<(String, String, u64)>> {
    let pods = cluster
        .items(&format!("get pods -n {HOSPITAL} -l app.kubernetes.io/name=cache,app.kubernetes.io/instance={CACHE}"))?;
    Ok(pods
        .iter()
        .map(|pod| {
            let containers = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
            let again = containers.iter().filter_map(|container| container["restartCount"].as_u64()).sum();
            (name(pod), pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned(), again)
        })
        .collect())
}

fn start(cluster: &Cluster<'_>) -> Result<()> {
    let master = cluster.pod_with_role(CACHE, "master")?;
    let image = cluster.json(&format!("get pod -n {HOSPITAL} {master}"))?["spec"]["containers"][0]["image"].clone();
    let limits = json!({ "cpu": "100m", "memory": "64Mi" });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": CLIENT, "namespace": HOSPITAL, "labels": { format!("cache.hz.hospital/{CACHE}"): "true" } },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "securityContext": { "runAsNonRoot": true, "runAsUser": 10003, "fsGroup": 10003,
                                 "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "client", "image": image, "imagePullPolicy": "Never",
                "command": ["bash", "-c", SCRIPT],
                "resources": { "requests": limits, "limits": limits },
                "volumeMounts": [{ "name": "credentials", "mountPath": "/credentials", "readOnly": true }],
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
            }],
            "volumes": [{ "name": "credentials", "secret": { "secretName": format!("{CACHE}-booking"), "defaultMode": 0o440 } }],
        },
    });
    remove(cluster)?;
    cluster.kubectl_with("apply -f -", &pod.to_string()).map(drop)
}

fn remove(cluster: &Cluster<'_>) -> Result<()> {
    let remove = format!("delete pod -n {HOSPITAL} {CLIENT} --grace-period=0 --force --ignore-not-found");
    cluster.kubectl(&remove).map(drop)
}

fn log(cluster: &Cluster<'_>) -> Result<String> {
    until("the log of the client", Duration::from_secs(120), || {
        cluster.kubectl(&format!("logs -n {HOSPITAL} {CLIENT}"))
    })
}

fn writes(cluster: &Cluster<'_>, wanted: usize, what: &str) -> Result<()> {
    until(&format!("{what}: {wanted} acknowledged"), SETTLE, || {
        let log = cluster.kubectl(&format!("logs -n {HOSPITAL} {CLIENT}"))?;
        let there = acknowledged(&log).len();
        ensure!(there >= wanted, "{there} so far; the last line is `{}`", log.lines().last().unwrap_or_default());
        Ok(())
    })
}

/// Numbers and times (ms) of acknowledged writes.
fn acknowledged(log: &str) -> Vec<(u64, u64)> {
    let ack = |line: &str| {
        let mut words = line.strip_prefix("ack ")?.split(' ');
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    };
    log.lines().filter_map(ack).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_acknowledged_writes_count() {
        assert_eq!(acknowledged("ack 1 1000\nlost 2 1100 NOAUTH\nack 3 1200\nack"), [(1, 1000), (3, 1200)]);
    }

    #[test]
    fn a_condition_that_was_never_said_is_nothing() {
        assert_eq!(
            condition_of(&json!({ "status": { "conditions": [{ "type": "Ready" }] } }), "Encrypted"),
            Value::Null
        );
    }
}
