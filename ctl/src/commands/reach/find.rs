//! An object by its name, wherever it is.

use std::fmt::Debug;

use kube::api::{Api, ListParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::refused;
use crate::cluster::nearest::nearest;
use crate::exit::Failure;

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Place {
    /// Of this object.
    pub fn of<K: ResourceExt>(object: &K) -> Self {
        Place { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }
}

/// All objects of a kind, or those in one namespace. `nouns` is what people call them.
pub async fn list<K>(client: &Client, namespace: Option<&str>, nouns: &str) -> Result<Vec<K>, Failure>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let listed = api.list(&ListParams::default()).await;
    listed.map(|list| list.items).map_err(|error| refused(format!("failed to list the {nouns}"), &error))
}

/// The one object of this name.
pub async fn find<K>(client: &Client, namespace: Option<&str>, name: &str, nouns: (&str, &str)) -> Result<K, Failure>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let all: Vec<K> = list(client, namespace, nouns.1).await?;
    let places: Vec<Place> = all.iter().map(Place::of).collect();
    let index = choose(&places, namespace, name, nouns)?;
    all.into_iter().nth(index).ok_or_else(|| Failure::fault("a list changed while it was read"))
}

/// Which of these is meant; `nouns` is one of them and many of them.
pub fn choose(places: &[Place], namespace: Option<&str>, name: &str, nouns: (&str, &str)) -> Result<usize, Failure> {
    let (noun, nouns) = nouns;
    let named: Vec<usize> = (0..places.len()).filter(|index| places[*index].name == name).collect();
    match named.as_slice() {
        [only] => Ok(*only),
        [] => {
            let place = namespace.map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default();
            let failure = Failure::input(format!("there is no {noun} `{name}`{place}"));
            Err(failure.hint(others(places, namespace, name, nouns)))
        }
        several => {
            let mut found: Vec<&str> = several.iter().map(|index| places[*index].namespace.as_str()).collect();
            found.sort_unstable();
            Err(Failure::input(format!("there is a {noun} `{name}` in several namespaces: {}", found.join(", ")))
                .hint(format!("name one with -n, such as -n {}", found[0])))
        }
    }
}

/// The nearest name, then those that are there.
fn others(places: &[Place], namespace: Option<&str>, name: &str, nouns: &str) -> String {
    /// More would not be read.
    const MOST: usize = 10;
    if places.is_empty() {
        return match namespace {
            Some(_) => format!("there are no {nouns} in that namespace; without -n all are looked through"),
            None => format!("there are no {nouns} yet"),
        };
    }
    let mut names: Vec<String> = places
        .iter()
        .map(|place| match namespace {
            Some(_) => place.name.clone(),
            None => format!("{} ({})", place.name, place.namespace),
        })
        .collect();
    names.sort();
    let more = names.len().saturating_sub(MOST);
    names.truncate(MOST);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let meant = nearest(name, places.iter().map(|place| place.name.as_str()));
    let meant = meant.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
    format!("{meant}{nouns}: {}{more}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOUNS: (&str, &str) = ("database", "databases");

    fn places() -> Vec<Place> {
        [("hospital-anna", "records"), ("hospital-anna", "billing"), ("hospital-berta", "billing")]
            .map(|(namespace, name)| Place { namespace: namespace.into(), name: name.into() })
            .to_vec()
    }

    #[test]
    fn a_name_that_is_there_once_needs_no_namespace() {
        assert_eq!(choose(&places(), None, "records", NOUNS).unwrap(), 0);
    }

    #[test]
    fn a_name_in_several_namespaces_wants_one_named() {
        let failure = choose(&places(), None, "billing", NOUNS).unwrap_err();
        assert_eq!(
            failure.message,
            "there is a database `billing` in several namespaces: hospital-anna, hospital-berta"
        );
        assert_eq!(failure.hint.as_deref(), Some("name one with -n, such as -n hospital-anna"));
    }

    #[test]
    fn a_name_that_is_nowhere_is_answered_with_the_nearest_and_the_list() {
        let failure = choose(&places(), None, "record", NOUNS).unwrap_err();
        assert_eq!(failure.message, "there is no database `record`");
        assert_eq!(
            failure.hint.as_deref(),
            Some(
                "did you mean `records`? databases: billing (hospital-anna), billing (hospital-berta), records (hospital-anna)"
            )
        );
        let failure = choose(&[], Some("hospital-anna"), "records", NOUNS).unwrap_err();
        assert_eq!(failure.message, "there is no database `records` in namespace hospital-anna");
        assert!(failure.hint.is_some_and(|hint| hint.starts_with("there are no databases in that namespace")));
    }
}
