//! A program in the cluster that writes to the example's cache, one value after the other, and remembers what was acknowledged.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, HOSPITAL, is_ready},
    journey::SETTLE,
    run::until,
};

const POD: &str = "e2e-cache-writer";
/// The example's.
pub const CACHE: &str = "sessions";

/// A connection a value, as a client that has lost its own makes it anew.
const SCRIPT: &str = r#"
tls=
if [ -s /etc/hz/ca/ca.crt ]; then tls="--tls --cacert /etc/hz/ca/ca.crt"; fi
i=0
while true; do
  i=$((i+1))
  said=$(timeout 2 valkey-cli $tls --no-auth-warning -h "$HOST" -p "$PORT" set e2e:writer $i 2>&1)
  if [ "$said" = OK ]; then
    echo "ack $i $(date +%s%3N)"
  else
    echo "lost $i $(date +%s%3N) $(echo "$said" | head -c 120 | tr '\n' ' ')"
    sleep 0.05
  fi
done
"#;

/// The writer at work.
pub struct CacheWriter<'a>(&'a Cluster<'a>);

impl<'a> CacheWriter<'a> {
    /// Start it.
    pub fn start(cluster: &'a Cluster<'a>) -> Result<Self> {
        let writer = Self(cluster);
        writer.stop()?;
        cluster.kubectl_with("apply -f -", &pod(cluster)?.to_string())?;
        Ok(writer)
    }

    /// When values were acknowledged (ms).
    pub fn acknowledged(&self) -> Result<Vec<u64>> {
        Ok(acknowledged(&self.0.kubectl(&format!("logs -n {HOSPITAL} {POD}"))?))
    }

    /// Wait until so many were acknowledged later than that.
    pub fn until_more(&self, more: usize, since: u64) -> Result<()> {
        until(&format!("{more} values in the cache after the fault"), SETTLE, || {
            let end = self.0.kubectl(&format!("logs -n {HOSPITAL} {POD} --tail=200"))?;
            let taken = acknowledged(&end).iter().filter(|at| **at > since).count();
            let last = end.lines().last().unwrap_or("nothing");
            ensure!(taken >= more, "{taken} values; its last words: {last}");
            Ok(())
        })
    }

    /// End it.
    pub fn stop(&self) -> Result<()> {
        let remove = format!("delete pod -n {HOSPITAL} {POD} --grace-period=0 --force --ignore-not-found");
        self.0.kubectl(&remove).map(drop)
    }
}

/// Every server ready, and one of them the master.
pub fn is_whole(cluster: &Cluster<'_>) -> Result<()> {
    until("the cache to be whole", SETTLE, || {
        let cache = cluster.json(&format!("get cacheinstance -n {HOSPITAL} {CACHE}"))?;
        ensure!(is_ready(&cache), "it is not Ready: {}", cache["status"]["conditions"]);
        let pods = cluster.items(&format!(
            "get pods -n {HOSPITAL} -l app.kubernetes.io/instance={CACHE},app.kubernetes.io/name=cache"
        ))?;
        let ready = pods.iter().filter(|pod| is_ready(pod) && pod["metadata"]["deletionTimestamp"].is_null()).count();
        let wanted = cache["spec"]["replicas"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(3);
        ensure!(ready == wanted, "{ready} of {wanted} servers are ready");
        cluster.pod_with_role(CACHE, "master").map(drop)
    })
}

fn acknowledged(log: &str) -> Vec<u64> {
    let ack = |line: &str| line.strip_prefix("ack ")?.split(' ').nth(1)?.parse().ok();
    log.lines().filter_map(ack).collect()
}

fn pod(cluster: &Cluster<'_>) -> Result<Value> {
    let master = cluster.pod_with_role(CACHE, "master")?;
    let master = cluster.json(&format!("get pod -n {HOSPITAL} {master}"))?;
    let containers = master["spec"]["containers"].as_array().cloned().unwrap_or_default();
    let image =
        containers.iter().find(|one| one["name"] == "valkey").context("the master has no such container")?["image"]
            .clone();
    let from = format!("{CACHE}-auth");
    let secret = |variable: &str, key: &str| json!({ "name": variable, "valueFrom": { "secretKeyRef": { "name": from, "key": key } } });
    let door = format!("cache.hz.hospital/{CACHE}");
    Ok(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": POD, "namespace": HOSPITAL, "labels": { door: "true" } },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "securityContext": { "runAsNonRoot": true, "runAsUser": 10003, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "client", "image": image, "imagePullPolicy": "Never",
                "command": ["bash", "-c", SCRIPT],
                "env": [secret("HOST", "host"), secret("PORT", "port"), secret("REDISCLI_AUTH", "password")],
                "resources": { "requests": { "cpu": "50m", "memory": "32Mi" }, "limits": { "memory": "64Mi" } },
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
                "volumeMounts": [{ "name": "ca", "mountPath": "/etc/hz/ca", "readOnly": true }]
            }],
            "volumes": [{ "name": "ca", "secret": {
                "secretName": from, "optional": true, "items": [{ "key": "ca.crt", "path": "ca.crt" }]
            } }]
        }
    }))
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_acknowledged_values_count() {
        assert_eq!(super::acknowledged("ack 1 1000\nlost 2 1500 timeout\nack 3 4000\nack"), [1000, 4000]);
    }
}
