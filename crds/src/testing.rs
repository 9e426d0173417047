//! What the tests of all kinds share.
#![allow(clippy::disallowed_methods)] // fixtures are files

use std::path::PathBuf;

use kube::core::DynamicObject;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::plan::kind;
use crate::shared::PodSeen;
use crate::{Passwords, Plan, Slot, Timestamp};

/// A time of day on the first of July.
pub fn at(clock: &str) -> Timestamp {
    format!("2026-07-01T{clock}Z").parse().unwrap()
}

/// An example of a kind, with the defaults the API server would fill in, and a uid so that it can own something.
pub fn fixture<K: DeserializeOwned + kube::core::Resource<DynamicType = ()>>(folder: &str, name: &str) -> K {
    let path: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "src", folder, "fixtures", &format!("{name}.yaml")].iter().collect();
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    parse(&text)
}

/// An object from a manifest.
pub fn parse<K: DeserializeOwned + kube::core::Resource<DynamicType = ()>>(text: &str) -> K {
    let mut object: K = serde_yaml::from_str(text).unwrap();
    object.meta_mut().uid = Some("00000000-0000-4000-8000-000000000001".into());
    object.meta_mut().generation = Some(1);
    object
}

/// A password for each slot that says where it is kept.
pub fn passwords(slots: Vec<Slot>) -> Passwords {
    slots.into_iter().map(|slot| (slot.clone(), format!("{}.{}", slot.secret, slot.key))).collect()
}

/// A pod that runs.
pub fn running(name: &str, role: &str) -> PodSeen {
    PodSeen { name: name.into(), node: Some("worker-1".into()), role: Some(role.into()), ready: true, trouble: None }
}

/// Reads every object back into its type: what gets lost on the way is a field that does not exist.
pub fn refuse_unknown_fields(plan: &Plan) {
    for object in plan.objects() {
        let there = serde_json::to_value(object).unwrap();
        let back = match kind(object) {
            "Namespace" => through::<k8s_openapi::api::core::v1::Namespace>(object),
            "ResourceQuota" => through::<k8s_openapi::api::core::v1::ResourceQuota>(object),
            "LimitRange" => through::<k8s_openapi::api::core::v1::LimitRange>(object),
            "Secret" => through::<k8s_openapi::api::core::v1::Secret>(object),
            "ConfigMap" => through::<k8s_openapi::api::core::v1::ConfigMap>(object),
            "Service" => through::<k8s_openapi::api::core::v1::Service>(object),
            "ServiceAccount" => through::<k8s_openapi::api::core::v1::ServiceAccount>(object),
            "Role" => through::<k8s_openapi::api::rbac::v1::Role>(object),
            "RoleBinding" => through::<k8s_openapi::api::rbac::v1::RoleBinding>(object),
            "NetworkPolicy" => through::<k8s_openapi::api::networking::v1::NetworkPolicy>(object),
            "PodDisruptionBudget" => through::<k8s_openapi::api::policy::v1::PodDisruptionBudget>(object),
            "StatefulSet" => through::<k8s_openapi::api::apps::v1::StatefulSet>(object),
            "Deployment" => through::<k8s_openapi::api::apps::v1::Deployment>(object),
            "Job" => through::<k8s_openapi::api::batch::v1::Job>(object),
            "HTTPRoute" => continue,
            other => panic!("the test does not know the kind {other} yet"),
        };
        assert_eq!(there, back, "{} {:?} has fields that its type does not know", kind(object), object.metadata.name);
    }
}

fn through<K: DeserializeOwned + serde::Serialize>(object: &DynamicObject) -> Value {
    let typed: K = object.clone().try_parse_as();
    serde_json::to_value(typed).unwrap()
}

trait TryParseAs {
    fn try_parse_as<K: DeserializeOwned>(self) -> K;
}

impl TryParseAs for DynamicObject {
    fn try_parse_as<K: DeserializeOwned>(self) -> K {
        serde_json::from_value(serde_json::to_value(self).unwrap()).unwrap()
    }
}

/// What Pod Security `restricted` asks of a pod, for the parts that plans of ours can get wrong.
pub fn refuse_what_restricted_refuses(plan: &Plan) {
    for object in plan.objects() {
        let Some(pod) = object.data.pointer("/spec/template/spec") else {
            continue;
        };
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        assert!(pod.get("hostNetwork").is_none() && pod.get("hostPID").is_none());
        for container in pod["containers"].as_array().unwrap() {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false);
            assert_eq!(security["capabilities"]["drop"][0], "ALL");
            assert_eq!(security["readOnlyRootFilesystem"], true);
            assert!(container["resources"]["limits"]["memory"].is_string(), "memory must be limited");
        }
        for volume in pod["volumes"].as_array().into_iter().flatten() {
            assert!(volume.get("hostPath").is_none(), "no volume of the server's own");
        }
    }
}

/// Every name fits where it stands, and everything is labelled and in its namespace.
pub fn refuse_misfits(plan: &Plan) {
    refuse_what_is_empty(plan);
    for object in plan.objects() {
        let name = object.metadata.name.as_deref().unwrap();
        // Services and pods of StatefulSets become DNS labels; the number of the pod needs two letters more.
        let most = match kind(object) {
            "Service" => 63,
            "StatefulSet" => 52,
            _ => 253,
        };
        assert!(name.len() <= most, "{} {name} has {} letters", kind(object), name.len());
        for (key, value) in object.metadata.labels.iter().flatten() {
            assert!(value.len() <= 63 && key.rsplit('/').next().unwrap().len() <= 63, "label {key}={value}");
        }
        assert!(object.metadata.labels.as_ref().unwrap().contains_key(crate::labels::MANAGED_BY));
        assert!(object.metadata.namespace.is_some() || kind(object) == "Namespace");
    }
}

/// The API server drops what is empty, and a difference would be found forever. An empty `podSelector` is a word
/// of its own.
fn refuse_what_is_empty(plan: &Plan) {
    for object in plan.objects() {
        let found = empty(&object.data, "");
        assert!(found.is_empty(), "{} {:?} has empty fields: {found:?}", kind(object), object.metadata.name);
    }
}

fn empty(value: &Value, path: &str) -> Vec<String> {
    match value {
        Value::Object(map) if map.is_empty() && !path.is_empty() && !path.ends_with(".podSelector") => {
            vec![path.to_owned()]
        }
        Value::Array(list) if list.is_empty() => vec![path.to_owned()],
        Value::Object(map) => map.iter().flat_map(|(key, value)| empty(value, &format!("{path}.{key}"))).collect(),
        Value::Array(list) => list.iter().flat_map(|value| empty(value, &format!("{path}[]"))).collect(),
        _ => Vec::new(),
    }
}
