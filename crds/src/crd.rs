//! The definitions of our kinds, as the API server takes them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::CustomResourceExt;

use crate::cache::CacheInstance;
use crate::hospital::Hospital;
use crate::postgres::PostgresInstance;
use crate::service::MedicalService;

/// Every kind. A new kind is one line here.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![Hospital::crd(), PostgresInstance::crd(), CacheInstance::crd(), MedicalService::crd()]
}
