//! What the server that only pretends holds besides what is asked of it.

use serde_json::{Value, json};

/// Database servers.
pub fn databases() -> Vec<Value> {
    [("hospital-anna", "records"), ("hospital-anna", "billing"), ("hospital-berta", "billing")]
        .map(|(namespace, name)| {
            json!({
                "apiVersion": "hz.hospital/v1alpha1",
                "kind": "PostgresInstance",
                "metadata": { "name": name, "namespace": namespace, "creationTimestamp": "2026-03-01T08:00:00Z" },
                "spec": { "storage": { "size": "20Gi" }, "databases": [{ "name": "findings" }] },
                "status": {
                    "primary": format!("{name}-1"),
                    "readyInstances": 3,
                    "endpoint": format!("{name}.{namespace}.svc:5432"),
                    "conditions": [{
                        "type": "Ready", "status": "True", "reason": "Serving", "message": "",
                        "lastTransitionTime": "2026-03-01T08:01:00Z",
                    }],
                },
            })
        })
        .to_vec()
}

/// Caches.
pub fn caches() -> Vec<Value> {
    vec![json!({
        "apiVersion": "hz.hospital/v1alpha1",
        "kind": "CacheInstance",
        "metadata": { "name": "sessions", "namespace": "hospital-anna", "creationTimestamp": "2026-03-01T08:00:00Z" },
        "spec": {},
        "status": { "master": "sessions-0", "readyReplicas": 3 },
    })]
}

/// Pods that fit a selector of labels.
pub fn pods(selector: Option<&String>) -> Vec<Value> {
    let wanted: Vec<(&str, &str)> =
        selector.map(|text| text.split(',').filter_map(|pair| pair.split_once('=')).collect()).unwrap_or_default();
    let pods = [
        ("records-0", "postgres", "records", "replica"),
        ("records-1", "postgres", "records", "primary"),
        ("sessions-0", "cache", "sessions", "master"),
    ];
    let pods = pods.map(|(name, app, instance, role)| {
        json!({
            "metadata": { "name": name, "namespace": "hospital-anna", "labels": {
                "app.kubernetes.io/name": app, "app.kubernetes.io/instance": instance, "hz.hospital/role": role,
            } },
            "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
        })
    });
    let fits = |pod: &Value| wanted.iter().all(|(key, value)| pod["metadata"]["labels"][*key] == **value);
    pods.into_iter().filter(fits).collect()
}
