//! Names by which objects find each other.

use std::collections::BTreeMap;

/// The group of all our kinds.
pub const GROUP: &str = "hz.hospital";
/// The version of all our kinds.
pub const VERSION: &str = "v1alpha1";
/// The field manager, and the value of `app.kubernetes.io/managed-by`.
pub const MANAGER: &str = "hz-operator";

/// Whose namespace this is.
pub const HOSPITAL: &str = "hz.hospital/hospital";
/// What a database or cache pod is right now: `primary`, `master` or `replica`.
pub const ROLE: &str = "hz.hospital/role";
/// On objects that outlive their owner: they hold data or the way to it.
pub const RETAIN: &str = "hz.hospital/retain";
/// Marks the objects in which Patroni keeps its leader, history and settings. The operator does not manage them.
pub const PATRONI: &str = "hz.hospital/patroni";
/// How strictly the data behind an object is kept.
pub const DATA_CLASS: &str = "hz.hospital/data-class";

/// Kind of the application: `postgres`, `cache`, `store`, `service`, `hospital`.
pub const NAME: &str = "app.kubernetes.io/name";
/// Name of the object of ours it belongs to.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// Part of the application.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// Who writes it.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The hospital it serves.
pub const PART_OF: &str = "app.kubernetes.io/part-of";

/// Labels that select what belongs to one object of ours. Part of immutable selectors: never change them.
pub fn selector(app: &str, instance: &str) -> BTreeMap<String, String> {
    map([(NAME, app), (INSTANCE, instance)])
}

/// Label that lets a pod through to a database, cache or store of its namespace; pods get it by a binding only.
pub fn may_use(app: &str, instance: &str) -> String {
    format!("{app}.hz.hospital/{instance}")
}

/// Namespace of a hospital.
pub fn namespace_of(hospital: &str) -> String {
    format!("hospital-{hospital}")
}

/// Hospital of a namespace; namespaces that we did not make stand for themselves.
pub fn hospital_of(namespace: &str) -> &str {
    namespace.strip_prefix("hospital-").unwrap_or(namespace)
}

/// A label map from pairs.
pub fn map<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
