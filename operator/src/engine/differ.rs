//! Does the live object already say what we want?
//!
//! A server-side apply that changes nothing is still a write: it costs an fsync on the API server's side and may wake
//! every watcher. So we look first. The server itself tells which fields are ours (`metadata.managedFields`), which
//! makes the comparison exact: a field we own and no longer want must go, a field we want must be there with our
//! value, and what others own is none of our business.

use serde_json::{Map, Value};

/// Metadata that identifies an object rather than describing it; the server never tracks who owns these.
const IDENTITY: [&str; 4] = ["name", "namespace", "uid", "resourceVersion"];

/// True when applying `wanted` as `manager` would change `live`.
pub fn differs(wanted: &Value, live: &Value, manager: &str) -> bool {
    let Some(owned) = owned_fields(live, manager) else {
        return true; // we never applied it, or somebody took our name off it
    };
    let (Some(wanted), Some(live), Some(owned)) = (wanted.as_object(), live.as_object(), owned.as_object()) else {
        return true;
    };
    map_differs(wanted, live, owned, &Path::root())
}

/// What the server says we own, or nothing if we never wrote the object. Secrets are created outright the first
/// time (`Update`), everything else is applied.
fn owned_fields<'a>(live: &'a Value, manager: &str) -> Option<&'a Value> {
    let entries = live.pointer("/metadata/managedFields")?.as_array()?;
    let by = |operation: &str| {
        entries.iter().find(|entry| {
            entry["manager"] == manager
                && entry["operation"] == operation
                && entry.get("subresource").is_none_or(|subresource| subresource == "")
        })
    };
    by("Apply").or_else(|| by("Update"))?.get("fieldsV1")
}

/// Where we are in the object; only what a rule below needs to know.
#[derive(Clone, Copy)]
struct Path<'a> {
    depth: usize,
    parent: &'a str,
    quantities: bool,
}

impl<'a> Path<'a> {
    fn root() -> Self {
        Self { depth: 0, parent: "", quantities: false }
    }

    fn at(self, field: &'a str) -> Self {
        let quantities = self.quantities || matches!(field, "requests" | "limits" | "hard" | "sizeLimit" | "capacity");
        Self { depth: self.depth + 1, parent: field, quantities }
    }
}

fn map_differs(
    wanted: &Map<String, Value>,
    live: &Map<String, Value>,
    owned: &Map<String, Value>,
    path: &Path,
) -> bool {
    let leftover = owned
        .keys()
        .any(|key| key.strip_prefix("f:").is_some_and(|field| !wanted.contains_key(field) && live.contains_key(field)));
    leftover || wanted.iter().any(|(field, value)| field_differs(field, value, live, owned, path))
}

fn field_differs(
    field: &str,
    wanted: &Value,
    live: &Map<String, Value>,
    owned: &Map<String, Value>,
    path: &Path,
) -> bool {
    let identity = path.depth == 0 && matches!(field, "apiVersion" | "kind")
        || path.depth == 1 && path.parent == "metadata" && IDENTITY.contains(&field);
    if identity {
        return false;
    }
    let Some(live) = live.get(field) else {
        return !is_zero(wanted); // the server leaves zero values out
    };
    let Some(owned) = owned.get(&format!("f:{field}")) else {
        // Not (any longer) ours. Taking back an empty value would gain nothing.
        return !(is_zero(wanted) && is_zero(live));
    };
    value_differs(wanted, live, owned, &path.at(field))
}

fn value_differs(wanted: &Value, live: &Value, owned: &Value, path: &Path) -> bool {
    let no_fields = Map::new();
    let owned = owned.as_object().unwrap_or(&no_fields);
    let whole = owned.keys().all(|key| key == "."); // owned as one piece: nothing inside is tracked
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) if whole => {
            !covers(&Value::Object(wanted.clone()), &Value::Object(live.clone()), path)
        }
        (Value::Object(wanted), Value::Object(live)) => map_differs(wanted, live, owned, path),
        (Value::Array(wanted), Value::Array(live)) if whole => !list_covers(wanted, live, path),
        (Value::Array(wanted), Value::Array(live)) => list_differs(wanted, live, owned, path),
        (wanted, live) => !scalar_equal(wanted, live, path),
    }
}

/// A list whose elements are tracked one by one: by key (`k:{...}`), or by value (`v:...`).
fn list_differs(wanted: &[Value], live: &[Value], owned: &Map<String, Value>, path: &Path) -> bool {
    let mut keys_in_use = 0;
    let keys = || owned.iter().filter(|(key, _)| key.starts_with("k:") || key.starts_with("v:"));
    for element in wanted {
        let found = keys().find_map(|(key, fields)| {
            if let Some(text) = key.strip_prefix("v:") {
                let value: Value = serde_json::from_str(text).ok()?;
                return scalar_equal(element, &value, path).then_some((None, fields));
            }
            let key: Map<String, Value> = serde_json::from_str(key.strip_prefix("k:")?).ok()?;
            matches_key(element, &key).then_some((Some(key), fields))
        });
        keys_in_use += 1;
        let differs = match found {
            None => true,
            Some((None, _)) => !live.iter().any(|live| scalar_equal(element, live, path)),
            Some((Some(key), fields)) => live
                .iter()
                .find(|live| matches_key(live, &key))
                .is_none_or(|live| value_differs(element, live, fields, path)),
        };
        if differs {
            return true;
        }
    }
    keys().count() != keys_in_use // an element we once applied and no longer want
}

/// An element is the one of this key; a key field the element leaves out was filled in by the server's default.
fn matches_key(element: &Value, key: &Map<String, Value>) -> bool {
    key.iter().all(|(field, value)| match element.get(field) {
        Some(own) => own == value,
        None => field == "protocol" && value == "TCP",
    })
}

/// Everything wanted is there; what the server filled in besides does not count.
fn covers(wanted: &Value, live: &Value, path: &Path) -> bool {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => wanted.iter().all(|(field, value)| match live.get(field) {
            Some(live) => covers(value, live, &path.at(field)),
            None => is_zero(value),
        }),
        (Value::Array(wanted), Value::Array(live)) => list_covers(wanted, live, path),
        (wanted, live) => scalar_equal(wanted, live, path),
    }
}

fn list_covers(wanted: &[Value], live: &[Value], path: &Path) -> bool {
    wanted.len() == live.len() && wanted.iter().zip(live).all(|(wanted, live)| covers(wanted, live, path))
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(is_zero),
    }
}

fn scalar_equal(wanted: &Value, live: &Value, path: &Path) -> bool {
    if wanted == live || (is_zero(wanted) && is_zero(live)) {
        return true;
    }
    if !path.quantities && path.parent != "storage" {
        return false;
    }
    match (quantity(wanted), quantity(live)) {
        (Some(a), Some(b)) => a == b, // the server writes "1000m" as "1"
        _ => false,
    }
}

/// A Kubernetes quantity in thousandths, as far as whole thousandths go.
fn quantity(value: &Value) -> Option<i128> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-' || c == '+')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let factor: i128 = match suffix {
        "m" => 1,
        "" => 1_000,
        "k" => 1_000_000,
        "M" => 1_000_000_000,
        "G" => 1_000_000_000_000,
        "T" => 1_000_000_000_000_000,
        "P" => 1_000_000_000_000_000_000,
        "Ki" => 1_000 << 10,
        "Mi" => 1_000 << 20,
        "Gi" => 1_000 << 30,
        "Ti" => 1_000 << 40,
        "Pi" => 1_000 << 50,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    digits.checked_mul(factor).map(|scaled| scaled / scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn live(spec: Value, fields: Value) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Thing",
            "metadata": {
                "name": "a", "labels": {"app": "x"}, "resourceVersion": "7",
                "managedFields": [
                    {"manager": "somebody", "operation": "Update", "fieldsV1": {}},
                    {"manager": "hz-operator", "operation": "Apply", "subresource": "status", "fieldsV1": {"f:status": {}}},
                    {"manager": "hz-operator", "operation": "Apply",
                     "fieldsV1": {"f:metadata": {"f:labels": {"f:app": {}}}, "f:spec": fields}},
                ],
            },
            "spec": spec,
        })
    }

    fn wanted(spec: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "a", "labels": {"app": "x"}}, "spec": spec})
    }

    fn differ(want: Value, have: Value, fields: Value) -> bool {
        differs(&wanted(want), &live(have, fields), "hz-operator")
    }

    #[test]
    fn what_the_server_defaulted_is_no_difference() {
        assert!(!differ(json!({"a": 1}), json!({"a": 1, "policy": "Default"}), json!({"f:a": {}})));
    }

    #[test]
    fn a_changed_value_is_a_difference() {
        assert!(differ(json!({"a": 1}), json!({"a": 2}), json!({"f:a": {}})));
    }

    #[test]
    fn a_field_we_own_and_no_longer_want_is_a_difference() {
        assert!(differ(json!({"a": 1}), json!({"a": 1, "b": 2}), json!({"f:a": {}, "f:b": {}})));
    }

    #[test]
    fn an_object_we_never_applied_differs() {
        assert!(differs(&wanted(json!({})), &json!({"metadata": {"name": "a"}}), "hz-operator"));
    }

    #[test]
    fn elements_that_others_add_to_a_keyed_list_are_theirs() {
        let fields = json!({"f:containers": {"k:{\"name\":\"db\"}": {".": {}, "f:name": {}, "f:image": {}}}});
        let have = json!({"containers": [{"name": "sidecar"}, {"name": "db", "image": "i", "pull": "Always"}]});
        assert!(!differ(json!({"containers": [{"name": "db", "image": "i"}]}), have.clone(), fields.clone()));
        assert!(differ(json!({"containers": [{"name": "db", "image": "j"}]}), have.clone(), fields.clone()));
        assert!(differ(json!({"containers": []}), have, fields), "ours must go");
    }

    #[test]
    fn a_port_is_found_by_the_protocol_that_the_server_filled_in() {
        let fields =
            json!({"f:ports": {"k:{\"port\":5432,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}, "f:name": {}}}});
        let have = json!({"ports": [{"name": "pg", "port": 5432, "protocol": "TCP", "targetPort": 5432}]});
        assert!(!differ(json!({"ports": [{"name": "pg", "port": 5432}]}), have, fields));
    }

    #[test]
    fn an_atomic_list_must_match_as_a_whole() {
        let fields = json!({"f:rules": {}});
        let rule = json!({"verbs": ["get"]});
        assert!(!differ(json!({"rules": [rule]}), json!({"rules": [rule]}), fields.clone()));
        assert!(differ(json!({"rules": [rule]}), json!({"rules": [rule, rule]}), fields), "a smuggled rule is drift");
    }

    #[test]
    fn quantities_are_compared_as_numbers_and_only_where_quantities_live() {
        let fields = json!({"f:limits": {"f:cpu": {}, "f:memory": {}}});
        let have = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        assert!(!differ(json!({"limits": {"cpu": "1000m", "memory": "1024Mi"}}), have.clone(), fields.clone()));
        assert!(differ(json!({"limits": {"cpu": "1001m", "memory": "1024Mi"}}), have, fields));
        assert!(differ(json!({"name": "1000m"}), json!({"name": "1"}), json!({"f:name": {}})));
    }

    #[test]
    fn zero_values_that_the_server_leaves_out_are_no_difference() {
        assert!(!differ(json!({"a": 1, "hostNetwork": false, "x": {}}), json!({"a": 1}), json!({"f:a": {}})));
        assert!(differ(json!({"a": 1, "replicas": 3}), json!({"a": 1}), json!({"f:a": {}})));
    }

    #[test]
    fn a_set_is_compared_by_its_values() {
        let fields = json!({"f:finalizers": {"v:\"ours\"": {}}});
        assert!(!differ(json!({"finalizers": ["ours"]}), json!({"finalizers": ["theirs", "ours"]}), fields.clone()));
        assert!(differ(json!({"finalizers": ["ours", "more"]}), json!({"finalizers": ["theirs", "ours"]}), fields));
    }

    #[test]
    fn fractions_of_quantities_are_exact() {
        assert_eq!(quantity(&json!("0.5")), quantity(&json!("500m")));
        assert_eq!(quantity(&json!("1.5Gi")), quantity(&json!("1536Mi")));
        assert_eq!(quantity(&json!(2)), quantity(&json!("2")));
        assert_eq!(quantity(&json!("zwei")), None);
    }
}
