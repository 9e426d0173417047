//! Objects as they are read in a manifest.

use kube::core::{ObjectMeta, TypeMeta};
use serde_json::Value;

pub use kube::core::DynamicObject;

/// An object of a Kubernetes kind, its body written as in a manifest. Nulls fall away, so that an absent
/// option needs no branch. Tests read every object back into its type, and refuse unknown fields.
///
/// # Panics
/// When `body` is no object, or its metadata is none: both are written down in this crate.
pub fn object<K: k8s_openapi::Resource>(name: impl Into<String>, body: Value) -> DynamicObject {
    foreign(K::API_VERSION, K::KIND, name, body)
}

/// An object of a kind that Kubernetes itself does not have.
///
/// # Panics
/// As [`object`].
pub fn foreign(api_version: &str, kind: &str, name: impl Into<String>, body: Value) -> DynamicObject {
    let mut body = without_nulls(body);
    let metadata = body
        .as_object_mut()
        .expect("the body of an object is a map")
        .remove("metadata")
        .map(|metadata| serde_json::from_value(metadata).expect("metadata of our own making is well formed"))
        .unwrap_or_default();
    DynamicObject {
        types: Some(TypeMeta { api_version: api_version.to_owned(), kind: kind.to_owned() }),
        metadata: ObjectMeta { name: Some(name.into()), ..metadata },
        data: body,
    }
}

/// The value without the nulls in its maps and lists.
pub fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(list) => {
            list.into_iter().filter(|value| !value.is_null()).map(without_nulls).collect::<Vec<_>>().into()
        }
        other => other,
    }
}
