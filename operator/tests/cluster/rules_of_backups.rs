//! The rules of stores, plans, backups, restores and drills: cases for the test in `rules`.

use serde_json::{Value, json};

use crate::rules::{Case, case};

fn spec(spec: Value) -> Value {
    json!({"spec": spec})
}

fn named(name: impl Into<String>) -> Value {
    json!({"metadata": {"name": name.into()}})
}

/// What is refused when it is made.
pub fn at_birth() -> Vec<Case> {
    let s3 = json!({"endpoint": "https://store.example", "bucket": "backups", "secret": "key"});
    let check = |rest: Value| {
        let check = crate::rules::merged(json!({"name": "c", "database": "d", "query": "SELECT 1"}), &rest);
        spec(json!({"checks": [check]}))
    };
    vec![
        case("ObjectStore", "take 1 or 3", spec(json!({"instances": 2})), spec(json!({"instances": 1}))),
        case("ObjectStore", "names of pods and Services", named("1st"), named("first")),
        case("BackupPlan", "names of Jobs and Secrets", named("x".repeat(41)), named("x".repeat(40))),
        case(
            "BackupPlan",
            "take one of objectStore and s3",
            spec(json!({"destination": {"s3": s3}})),
            spec(json!({"destination": {"objectStore": null, "s3": s3}})),
        ),
        case("Backup", "that of a Job", named("x".repeat(64)), named("x".repeat(63))),
        case("Restore", "at most 63 letters", named("x".repeat(64)), named("x".repeat(63))),
        case(
            "Restore",
            "take one of backup and targetTime",
            spec(json!({"backup": "b", "targetTime": "2026-07-01T12:30:00Z"})),
            spec(json!({"targetTime": "2026-07-01T12:30:00Z"})),
        ),
        case("RestoreDrill", "part of an instance's", named("x".repeat(35)), named("x".repeat(34))),
        case("RestoreDrill", "take one of equals and minimum", check(json!({})), check(json!({"minimum": 3}))),
    ]
}

/// What may not change.
pub fn later() -> Vec<(Value, Case)> {
    let as_it_is = || spec(json!({}));
    let labelled = || json!({"metadata": {"labels": {"ward": "3"}}});
    let cancelled = |cancel: bool| spec(json!({"cancel": cancel}));
    let disk = |class: &str| spec(json!({"storage": {"storageClass": class}}));
    vec![
        (as_it_is(), case("ObjectStore", "number of servers cannot change", spec(json!({"instances": 1})), labelled())),
        (
            as_it_is(),
            case("ObjectStore", "volumes of a store are fixed", spec(json!({"storage": {"size": "5Gi"}})), labelled()),
        ),
        (disk("fast"), case("ObjectStore", "make a new store", disk("slow"), spec(json!({"suspend": true})))),
        (
            as_it_is(),
            case(
                "BackupPlan",
                "stays with its instance",
                spec(json!({"instance": "other"})),
                spec(json!({"suspend": true})),
            ),
        ),
        (
            as_it_is(),
            case(
                "BackupPlan",
                "stays with its store",
                spec(json!({"destination": {"objectStore": {"name": "other"}}})),
                spec(json!({"retention": {"full": 2}})),
            ),
        ),
        (as_it_is(), case("Backup", "cannot become another", spec(json!({"type": "Incremental"})), labelled())),
        (as_it_is(), case("Backup", "cannot become another", spec(json!({"plan": "other"})), cancelled(true))),
        (cancelled(true), case("Backup", "stays cancelled", cancelled(false), labelled())),
        (as_it_is(), case("Restore", "cannot become another", spec(json!({"instance": "other"})), labelled())),
        (as_it_is(), case("Restore", "cannot become another", spec(json!({"sealed": true})), cancelled(true))),
        (cancelled(true), case("Restore", "stays cancelled", cancelled(false), labelled())),
        (
            as_it_is(),
            case("RestoreDrill", "stays with its plan", spec(json!({"plan": "other"})), spec(json!({"suspend": true}))),
        ),
        (
            spec(json!({"restoreFrom": {"plan": "nightly"}})),
            case(
                "PostgresInstance",
                "counts only when the instance is made",
                spec(json!({"restoreFrom": {"plan": "other"}})),
                spec(json!({"restoreFrom": {"plan": "nightly"}})),
            ),
        ),
    ]
}
