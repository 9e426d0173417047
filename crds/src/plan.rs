//! Everything an object of ours owns, in the order in which it is written.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::{DynamicObject, Resource, ResourceExt};

use crate::labels;

/// Objects to write, first to last. Labels and owner references are stamped on each as it comes in.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    owner: OwnerReference,
    namespace: Option<String>,
    labels: BTreeMap<String, String>,
    objects: Vec<DynamicObject>,
}

impl Plan {
    /// An empty plan of what `owner` needs; `app` is the word for its kind in labels.
    pub fn owned_by<K: Resource<DynamicType = ()>>(owner: &K, app: &str) -> Self {
        let name = owner.name_any();
        let namespace = owner.namespace();
        let hospital = namespace.as_deref().map_or(name.as_str(), labels::hospital_of);
        Self {
            owner: OwnerReference {
                api_version: K::api_version(&()).into_owned(),
                kind: K::kind(&()).into_owned(),
                name: name.clone(),
                uid: owner.uid().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            },
            labels: labels::map([
                (labels::NAME, app),
                (labels::INSTANCE, &name),
                (labels::MANAGED_BY, labels::MANAGER),
                (labels::PART_OF, hospital),
            ]),
            namespace,
            objects: Vec::new(),
        }
    }

    /// Puts the objects that follow into a namespace; for owners that have none themselves.
    #[must_use]
    pub fn within(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Adds an object that goes when its owner goes.
    #[must_use]
    pub fn with(mut self, mut object: DynamicObject) -> Self {
        object.metadata.owner_references = Some(vec![self.owner.clone()]);
        self.push(object);
        self
    }

    /// Adds an object that stays when its owner goes, and that no pass prunes: it is data, or the way to it.
    #[must_use]
    pub fn keeping(mut self, mut object: DynamicObject) -> Self {
        let labels = object.metadata.labels.get_or_insert_default();
        labels.insert(labels::RETAIN.to_owned(), "true".to_owned());
        self.push(object);
        self
    }

    /// [`Plan::keeping`] or [`Plan::with`], as the owner's deletion policy says.
    #[must_use]
    pub fn keeping_if(self, keep: bool, object: DynamicObject) -> Self {
        if keep { self.keeping(object) } else { self.with(object) }
    }

    /// Adds several objects that go with their owner.
    #[must_use]
    pub fn with_all(self, objects: impl IntoIterator<Item = DynamicObject>) -> Self {
        objects.into_iter().fold(self, Self::with)
    }

    fn push(&mut self, mut object: DynamicObject) {
        let labels = object.metadata.labels.get_or_insert_default();
        for (key, value) in &self.labels {
            // An object may say its component or name better than the plan can.
            labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
        if object.metadata.namespace.is_none() && kind(&object) != "Namespace" {
            object.metadata.namespace = self.namespace.clone();
        }
        self.objects.push(object);
    }

    /// The objects, first to last.
    pub fn objects(&self) -> &[DynamicObject] {
        &self.objects
    }

    /// The objects, first to last, taken out.
    pub fn into_objects(self) -> Vec<DynamicObject> {
        self.objects
    }

    /// Who owns them.
    pub fn owner(&self) -> &OwnerReference {
        &self.owner
    }

    /// Labels by which everything this plan ever wrote is found again, for pruning. Never prune what carries
    /// [`labels::RETAIN`].
    pub fn selector(&self) -> String {
        [labels::NAME, labels::INSTANCE, labels::MANAGED_BY].map(|key| format!("{key}={}", self.labels[key])).join(",")
    }

    /// The object of this kind and name, for tests and for readers of a plan.
    pub fn find(&self, kind_name: &str, name: &str) -> Option<&DynamicObject> {
        self.objects.iter().find(|object| kind(object) == kind_name && object.metadata.name.as_deref() == Some(name))
    }
}

/// The kind of an object.
pub fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| types.kind.as_str())
}
