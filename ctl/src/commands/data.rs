//! What `hzctl db` and `hzctl cache` have in common: both are copies in pods, with one that takes writes.

use hz_crds::cache::CacheInstance;
use hz_crds::operation::TargetKind;
use hz_crds::postgres::PostgresInstance;
use kube::Client;

use crate::commands::reach::{Place, find};
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
