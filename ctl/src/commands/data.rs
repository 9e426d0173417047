//! What `hzctl db` and `hzctl cache` have in common: both are copies in pods, with one that takes writes.

use std::fmt::Debug;

use hz_crds::cache::CacheInstance;
use hz_crds::operation::TargetKind;
use hz_crds::postgres::PostgresInstance;
use kube::api::PostParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::commands::reach::{Place, find, refused};
use crate::exit::Failure;

pub mod actions;
pub mod exec;
pub mod logs;
pub mod pods;
pub mod rows;

/// Who writes, as the API server remembers it.
pub const FIELD_MANAGER: &str = "hzctl";

/// A sort of data service.
#[derive(Debug, PartialEq, Eq)]
pub struct Sort {
    /// Its kind.
    pub kind: TargetKind,
    /// Its command: `hzctl db`.
    pub command: &'static str,
    /// What people call one, and many.
    pub nouns: (&'static str, &'static str),
    /// Value of the label of its pods that names the application.
    pub app: &'static str,
    /// Container of its pods that holds the data.
    pub container: &'static str,
    /// Value of the role label of the pod that takes writes.
    pub leader: &'static str,
}

/// PostgreSQL.
pub static DATABASE: Sort = Sort {
    kind: TargetKind::PostgresInstance,
    command: "db",
    nouns: ("database server", "database servers"),
    app: hz_crds::postgres::APP,
    container: "postgres",
    leader: "primary",
};

/// Valkey.
pub static CACHE: Sort = Sort {
    kind: TargetKind::CacheInstance,
    command: "cache",
    nouns: ("cache", "caches"),
    app: hz_crds::cache::APP,
    container: "valkey",
    leader: "master",
};

impl Sort {
    /// Where the one of this name is.
    pub async fn find(&self, client: &Client, namespace: Option<&str>, name: &str) -> Result<Place, Failure> {
        Ok(match self.kind {
            TargetKind::PostgresInstance => {
                Place::of(&find::<PostgresInstance>(client, namespace, name, self.nouns).await?)
            }
            TargetKind::CacheInstance => Place::of(&find::<CacheInstance>(client, namespace, name, self.nouns).await?),
        })
    }
}

/// Make an object, by which the operator is asked for something. `deed` says for what: `the restart of records`.
pub async fn create<K>(client: &Client, object: &K, deed: &str) -> Result<K, Failure>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Serialize + DeserializeOwned + Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let who = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
    let made = api.create(&who, object).await;
    made.map_err(|error| refused(format!("{deed} cannot be asked for"), &error))
}
