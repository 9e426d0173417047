//! Reads Secrets, and remembers them for as long as their version stands.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use hz_crds::labels;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::Api;

use super::apply::full_name;
use super::error::Error;
use super::kinds::named;
use super::world::{World, version_in};

/// One Secret, as read.
#[derive(Debug, Default)]
pub struct Contents {
    /// What it holds; values that are no text are left out.
    pub data: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl Contents {
    /// We made it.
    pub fn is_ours(&self) -> bool {
        self.label(labels::MANAGED_BY) == labels::MANAGER
    }

    /// We made it for this object of ours.
    pub fn belongs_to(&self, app: &str, instance: &str) -> bool {
        self.is_ours() && self.label(labels::NAME) == app && self.label(labels::INSTANCE) == instance
    }

    /// Whose it is, for people.
    pub fn holder(&self) -> String {
        match (self.label(labels::NAME), self.label(labels::INSTANCE)) {
            (app, instance) if !app.is_empty() && !instance.is_empty() => format!("{app} {instance}"),
            _ => "somebody else".to_owned(),
        }
    }

    /// Value of a label, empty if it is not there.
    pub fn label(&self, key: &str) -> &str {
        self.labels.get(key).map_or("", String::as_str)
    }
}

/// Secrets by namespace and name.
pub struct Secrets {
    client: Client,
    world: Arc<World>,
    known: Mutex<Known>,
}

/// By namespace and name: the version, and what it holds.
type Known = HashMap<(String, String), (u64, Arc<Contents>)>;

impl Secrets {
    /// Remembers nothing yet.
    pub fn new(client: Client, world: Arc<World>) -> Self {
        Self { client, world, known: Mutex::default() }
    }

    /// A Secret; from memory while the watch says that it has not changed.
    pub async fn get(&self, namespace: &str, name: &str) -> Result<Option<Arc<Contents>>, Error> {
        let key = (namespace.to_owned(), name.to_owned());
        let seen = self.world.get(named("Secret"), Some(namespace), name).map(|seen| seen.version);
        if let (Some(seen), Some((version, contents))) = (seen, self.lock().get(&key))
            && *version >= seen
        {
            return Ok(Some(Arc::clone(contents)));
        }
        let found = self.read(namespace, name).await?;
        match &found {
            Some((version, contents)) => self.lock().insert(key, (*version, Arc::clone(contents))),
            None => self.lock().remove(&key),
        };
        Ok(found.map(|(_, contents)| contents))
    }

    async fn read(&self, namespace: &str, name: &str) -> Result<Option<(u64, Arc<Contents>)>, Error> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = api.get_opt(name).await.map_err(|source| Error::Read {
            kind: "Secret",
            name: full_name(Some(namespace), name),
            source: Box::new(source),
        })?;
        Ok(secret.filter(|secret| secret.metadata.deletion_timestamp.is_none()).map(|secret| {
            let version = version_in(&secret.metadata);
            let labels = secret.metadata.labels.unwrap_or_default();
            let data = secret.data.unwrap_or_default().into_iter();
            let data = data.filter_map(|(key, value)| Some((key, String::from_utf8(value.0).ok()?))).collect();
            (version, Arc::new(Contents { data, labels }))
        }))
    }

    /// A namespace or its secrets are gone.
    pub fn forget(&self, namespace: &str) {
        self.lock().retain(|(ns, _), _| ns != namespace);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// 32 letters and digits: 190 bits, and nothing that a URI or a file would need to quote.
pub fn random_password() -> String {
    use rand::Rng as _;
    use rand::distr::Alphanumeric;
    // `rand::rng` is seeded by the operating system and reseeds itself.
    rand::rng().sample_iter(&Alphanumeric).take(32).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_long_plain_and_never_the_same() {
        let (a, b) = (random_password(), random_password());
        assert_ne!(a, b);
        assert!(a.len() == 32 && a.chars().all(|c| c.is_ascii_alphanumeric()));
    }
}
