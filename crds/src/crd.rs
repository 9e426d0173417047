//! The definitions of our kinds, as the API server takes them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::core::{CustomResourceExt, ResourceExt};
use serde_json::json;

use crate::backup::{Backup, BackupPlan, Restore, RestoreDrill};
use crate::cache::CacheInstance;
use crate::hospital::Hospital;
use crate::operation::DataOperation;
use crate::postgres::PostgresInstance;
use crate::service::MedicalService;
use crate::shared::unobserved;
use crate::store::ObjectStore;

/// Every kind. A new kind is one line here.
pub fn all() -> Vec<CustomResourceDefinition> {
    let kinds = [
        Hospital::crd(),
        PostgresInstance::crd(),
        CacheInstance::crd(),
        MedicalService::crd(),
        DataOperation::crd(),
        BackupPlan::crd(),
        Backup::crd(),
        Restore::crd(),
        RestoreDrill::crd(),
        ObjectStore::crd(),
    ];
    kinds.into_iter().map(finished).collect()
}

/// Every definition as a manifest: file name and text.
pub fn manifests() -> Vec<(String, String)> {
    all()
        .into_iter()
        .map(|crd| {
            let yaml = serde_yaml::to_string(&crd).expect("a definition is plain data");
            (format!("{}.yaml", crd.name_any()), format!("# Generated from crds/src; do not edit.\n{yaml}"))
        })
        .collect()
}

fn finished(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let root = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
        if let Some(root) = root {
            born_unobserved(root);
            without_null(root);
        }
    }
    crd
}

/// A new object says at once that nobody has looked, so that tools that compare generations wait.
fn born_unobserved(root: &mut JSONSchemaProps) {
    if let Some(status) = root.properties.as_mut().and_then(|properties| properties.get_mut("status")) {
        status.default = Some(JSON(json!({ "observedGeneration": unobserved() })));
    }
}

/// A field that is null is one that is left out: the API server drops it, and no rule meets a null.
fn without_null(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(without_null);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => without_null(item),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(without_null),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// YAML 1.1, which Kubernetes tools read, takes these for truth values: a choice of that name could not be chosen.
    #[test]
    fn no_choice_is_a_truth_value_to_yaml() {
        let words = ["y", "n", "yes", "no", "on", "off", "true", "false"];
        for crd in all() {
            let text = serde_json::to_value(&crd).unwrap();
            choices(&text, &mut |choice| {
                assert!(!words.contains(&choice.to_lowercase().as_str()), "{}: {choice}", crd.name_any());
            });
        }
    }

    fn choices(value: &serde_json::Value, see: &mut impl FnMut(&str)) {
        if let Some(list) = value["enum"].as_array() {
            list.iter().filter_map(serde_json::Value::as_str).for_each(&mut *see);
        }
        match value {
            serde_json::Value::Object(map) => map.values().for_each(|value| choices(value, see)),
            serde_json::Value::Array(list) => list.iter().for_each(|value| choices(value, see)),
            _ => {}
        }
    }
}
