//! Who may do what.
//!
//! The operator can only grant what it holds, so what it grants to pods and people in a hospital's namespace and
//! what it needs there itself stand in one file, and a test holds them together.

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding};
use serde_json::{Value, json};

use crate::labels::GROUP;
use crate::object::{DynamicObject, object};

/// Our kinds inside a namespace.
pub const TENANT_KINDS: [&str; 9] = [
    "postgresinstances",
    "cacheinstances",
    "medicalservices",
    "dataoperations",
    "backupplans",
    "backups",
    "restores",
    "restoredrills",
    "objectstores",
];

const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 7] = ["get", "list", "watch", "create", "update", "patch", "delete"];

/// A rule over resources of one group.
pub fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(owned(resources)),
        verbs: owned(verbs),
        ..PolicyRule::default()
    }
}

/// A rule over named objects only.
pub fn named_rule(group: &str, resources: &[&str], names: Vec<String>, verbs: &[&str]) -> PolicyRule {
    PolicyRule { resource_names: Some(names), ..rule(group, resources, verbs) }
}

/// What the operator may do inside a hospital's namespace: the rules of the ClusterRole `hz-operator-tenant`, which
/// a RoleBinding in that namespace gives it. It holds nothing of this anywhere else.
pub fn operator_in_namespace() -> Vec<PolicyRule> {
    vec![
        rule("", &["secrets", "configmaps", "services", "serviceaccounts", "resourcequotas", "limitranges"], &WRITE),
        rule("", &["pods"], &["get", "list", "watch", "patch", "update", "delete"]),
        rule("", &["pods/log"], &["get"]),
        rule("", &["events"], &["get", "list", "watch", "create", "patch"]),
        rule("", &["persistentvolumeclaims"], &["get", "list", "watch", "patch", "delete"]),
        rule("events.k8s.io", &["events"], &["get", "list", "watch", "create", "patch"]),
        rule("apps", &["deployments", "statefulsets"], &WRITE),
        rule("apps", &["replicasets"], &READ),
        rule("batch", &["jobs"], &WRITE),
        rule("policy", &["poddisruptionbudgets"], &WRITE),
        rule("networking.k8s.io", &["networkpolicies"], &WRITE),
        rule("gateway.networking.k8s.io", &["httproutes"], &WRITE),
        rule("rbac.authorization.k8s.io", &["roles", "rolebindings"], &WRITE),
        rule(GROUP, &TENANT_KINDS, &WRITE),
        rule(
            GROUP,
            &TENANT_KINDS.map(|kind| format!("{kind}/status")).each_ref().map(String::as_str),
            &["get", "patch", "update"],
        ),
    ]
}

/// What a hospital's admins may do in its namespace: our kinds, and reading what became of them. No Secret of any
/// sort: services get credentials by bindings, and nobody needs to look.
pub fn hospital_admin() -> Vec<PolicyRule> {
    vec![
        rule(GROUP, &TENANT_KINDS, &WRITE),
        rule("", &["pods", "services", "persistentvolumeclaims", "resourcequotas", "events"], &READ),
        rule("", &["pods/log"], &["get"]),
        rule("events.k8s.io", &["events"], &READ),
        rule("apps", &["deployments", "statefulsets", "replicasets"], &READ),
        rule("batch", &["jobs"], &READ),
        rule("gateway.networking.k8s.io", &["httproutes"], &READ),
    ]
}

/// A Role with these rules.
pub fn role(name: &str, rules: &[PolicyRule]) -> DynamicObject {
    object::<Role>(name, json!({ "rules": rules }))
}

/// Gives a Role or ClusterRole to subjects.
pub fn binding(name: &str, role_kind: &str, role: &str, subjects: Vec<Value>) -> DynamicObject {
    object::<RoleBinding>(
        name,
        json!({
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role },
            "subjects": (!subjects.is_empty()).then_some(subjects),
        }),
    )
}

/// A ServiceAccount as a subject.
pub fn account(namespace: &str, name: &str) -> Value {
    json!({ "kind": "ServiceAccount", "namespace": namespace, "name": name })
}

/// An identity for pods. Whether its token is mounted, the pods say.
pub fn service_account(name: &str) -> DynamicObject {
    object::<ServiceAccount>(name, json!({ "automountServiceAccountToken": false }))
}

/// True when whoever holds `held` may grant `wanted`, by the API server's rule against escalation.
pub fn covers(held: &[PolicyRule], wanted: &PolicyRule) -> bool {
    let all = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    all(&wanted.api_groups).iter().all(|group| {
        all(&wanted.resources).iter().all(|resource| {
            wanted.verbs.iter().all(|verb| {
                held.iter().any(|rule| {
                    rule.resource_names.is_none()
                        && all(&rule.api_groups).contains(group)
                        && all(&rule.resources).contains(resource)
                        && rule.verbs.contains(verb)
                })
            })
        })
    })
}
