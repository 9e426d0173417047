//! Rules about encryption, users, passwords and settings of caches: each refuses once and accepts once.

use serde_json::{Value, json};

use crate::rules::{Case, case};

fn spec(spec: Value) -> Value {
    json!({ "spec": spec })
}

pub fn at_birth() -> Vec<Case> {
    let users = |name: &str| spec(json!({ "users": [{ "name": name }] }));
    let always = json!({ "appendfsync": "always" });
    let kept = json!({ "persistence": "AppendOnly", "storage": { "size": "1Gi" }, "parameters": always });
    let bind = |user: &str| spec(json!({ "bindings": [{ "cache": { "instance": "c", "user": user } }] }));
    vec![
        case("CacheInstance", "this name is the platform's", users("auth"), users("author")),
        case("CacheInstance", "appendfsync goes with persistence", spec(json!({ "parameters": always })), spec(kept)),
        case("MedicalService", "no user of a cache has this name", bind("system"), bind("booking")),
    ]
}

pub fn later() -> Vec<(Value, Case)> {
    vec![
        (
            spec(json!({ "suspend": true })),
            case(
                "CacheInstance",
                "tls can change only while",
                spec(json!({ "tls": "Disabled", "suspend": false })),
                spec(json!({ "tls": "Disabled" })),
            ),
        ),
        (
            spec(json!({ "credentialsGeneration": 2 })),
            case(
                "CacheInstance",
                "credentialsGeneration can only be raised",
                spec(json!({ "credentialsGeneration": 1 })),
                spec(json!({ "credentialsGeneration": 3 })),
            ),
        ),
    ]
}
