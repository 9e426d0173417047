//! The charts say what the code says.

use std::path::{Path, PathBuf};

use hz_operator::engine::kinds::{KINDS, Watch};
use serde::Deserialize as _;
use serde_json::Value;

fn charts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(charts().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The file must be this text; `UPDATE=1` makes it so.
fn same(path: &str, wanted: &str) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(charts().join(path), wanted).unwrap();
    }
    let there = std::fs::read_to_string(charts().join(path)).unwrap_or_default();
    assert!(
        there == wanted,
        "charts/{path} is not what the code says; run UPDATE=1 cargo test -p hz-operator --test cluster charts"
    );
}

fn tenant_rules() -> String {
    let rules = serde_json::json!({"rules": hz_crds::rbac::operator_in_namespace()});
    format!("# Generated from crds/src/rbac.rs; do not edit.\n{}", serde_yaml::to_string(&rules).unwrap())
}

/// What the chart gives the operator, rendered by hand: the template has but three expressions.
pub fn operator_rights() -> Vec<Value> {
    let text = read("hz-operator/templates/rbac.yaml")
        .replace("{{ .Release.Namespace }}", "hz-system")
        .replace("{{- include \"hz-operator.labels\" . | nindent 4 }}", "{}")
        .replace("{{ .Files.Get \"files/tenant-rules.yaml\" }}", &read("hz-operator/files/tenant-rules.yaml"));
    assert!(!text.contains("{{"), "the template has an expression that this test does not know");
    serde_yaml::Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap()).collect()
}

fn rules(name: &str) -> Vec<Value> {
    let role = operator_rights().into_iter().find(|object| object["metadata"]["name"] == name).unwrap();
    role["rules"].as_array().unwrap().clone()
}

fn allows(rules: &[Value], group: &str, resource: &str, verb: &str) -> bool {
    let has = |rule: &Value, field: &str, word: &str| {
        rule[field].as_array().is_some_and(|list| list.iter().any(|w| w == word))
    };
    rules.iter().any(|rule| {
        rule.get("resourceNames").is_none()
            && has(rule, "apiGroups", group)
            && has(rule, "resources", resource)
            && has(rule, "verbs", verb)
    })
}

#[test]
fn the_definitions_in_the_chart_are_the_generated_ones() {
    for (file, text) in hz_crds::crd::manifests() {
        // Uninstalling the chart must not take every hospital along.
        let kept = text.replacen("metadata:\n", "metadata:\n  annotations:\n    helm.sh/resource-policy: keep\n", 1);
        assert_ne!(kept, text);
        same(&format!("hz-crds/templates/{file}"), &kept);
    }
}

#[test]
fn the_rights_inside_a_hospital_are_the_generated_ones() {
    same("hz-operator/files/tenant-rules.yaml", &tenant_rules());
}

#[test]
fn no_right_is_a_wildcard_and_no_secret_can_be_read_everywhere() {
    for object in operator_rights() {
        for rule in object["rules"].as_array().into_iter().flatten() {
            for field in ["apiGroups", "resources", "verbs"] {
                assert!(rule[field].as_array().unwrap().iter().all(|word| word != "*"), "{rule}");
            }
        }
    }
    for verb in ["get", "list", "watch"] {
        assert!(!allows(&rules("hz-operator"), "", "secrets", verb));
    }
}

#[test]
fn every_kind_we_follow_may_be_watched_and_every_kind_we_write_may_be_written_in_a_hospital() {
    let (everywhere, inside) = (rules("hz-operator"), rules("hz-operator-tenant"));
    for kind in KINDS {
        let watched_in = if matches!(kind.watch, Watch::PerHospital) { &inside } else { &everywhere };
        for verb in ["list", "watch"] {
            assert!(allows(watched_in, kind.group, kind.plural, verb), "{verb} {}", kind.plural);
        }
        if kind.written && kind.namespaced {
            for verb in ["get", "create", "patch", "delete"] {
                assert!(allows(&inside, kind.group, kind.plural, verb), "{verb} {}", kind.plural);
            }
        }
    }
}

#[test]
fn the_operator_can_let_itself_in_by_one_role_only() {
    let everywhere = rules("hz-operator");
    let binds: Vec<&Value> =
        everywhere.iter().filter(|rule| rule["verbs"].as_array().unwrap().iter().any(|v| v == "bind")).collect();
    assert_eq!(binds.len(), 1);
    assert_eq!(binds[0]["resourceNames"], serde_json::json!(["hz-operator-tenant"]));
    assert!(!everywhere.iter().any(|rule| rule["verbs"].as_array().unwrap().iter().any(|v| v == "escalate")));
}

#[test]
fn settings_in_the_values_are_settings_the_operator_knows() {
    let schema: Value = serde_json::from_str(&read("hz-operator/values.schema.json")).unwrap();
    let platform = serde_json::to_value(hz_crds::Platform::default()).unwrap();
    let offered = schema["properties"]["platform"]["properties"].as_object().unwrap();
    for (name, field) in offered {
        let known = platform.get(name).unwrap_or_else(|| panic!("platform.{name} is no setting"));
        for inner in field["properties"].as_object().into_iter().flatten().map(|(inner, _)| inner) {
            assert!(known.get(inner).is_some(), "platform.{name}.{inner} is no setting");
        }
    }
    // `operator` is filled in by the chart itself.
    for name in platform.as_object().unwrap().keys().filter(|name| *name != "operator") {
        assert!(offered.contains_key(name), "platform.{name} cannot be set by the chart");
    }
}
