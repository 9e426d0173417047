//! What the cluster looks like, as far as we must know: a small record for each object that is ours.
//!
//! Filled by watches, so that a pass over an unchanged hospital asks the API server nothing. Kept small: of most kinds
//! only identity and a version are kept, of the rest a few fields.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;

use futures::channel::mpsc::UnboundedSender;
use kube::api::ObjectMeta;
use serde_json::Value;
use tokio::sync::watch;

use super::kinds::{KINDS, KindId};

/// Who made an object: one of our kinds, and its name. The namespace is the object's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Kind of the custom resource.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// One object as last seen.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The object's unique id.
    pub uid: Box<str>,
    /// Its resource version.
    pub version: u64,
    /// Changes whenever something that we might own has changed.
    pub token: u64,
    /// The custom resource it belongs to.
    pub owner: Option<Owner>,
    /// The owner reference's uid, if it has one of ours.
    pub owner_uid: Option<Box<str>>,
    /// On its way out.
    pub deleting: bool,
    /// What was kept of it; null for kinds of which we keep nothing.
    pub facts: Value,
    /// Hash of what we wanted, and the token, when both last agreed.
    verified: Option<(u64, u64)>,
}

type Place = (String, String);

/// Something of ours changed: the namespace and name of the custom resource to look at.
pub type Nudge = (Option<String>, String);

/// The records, and who wants to hear of changes.
pub struct World {
    shelves: Vec<Mutex<HashMap<Place, Seen>>>,
    listeners: Mutex<HashMap<&'static str, UnboundedSender<Nudge>>>,
    unsynced: watch::Sender<HashSet<KindId>>,
    synced_secrets: Mutex<HashSet<String>>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            shelves: KINDS.iter().map(|_| Mutex::default()).collect(),
            listeners: Mutex::default(),
            unsynced: watch::Sender::new((0..KINDS.len()).collect()),
            synced_secrets: Mutex::default(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl World {
    /// From now on, changes of what belongs to `kind` are told to `sender`.
    pub fn listen(&self, kind: &'static str, sender: UnboundedSender<Nudge>) {
        lock(&self.listeners).insert(kind, sender);
    }

    /// Tells the controller of `kind` to look at one object.
    pub fn nudge(&self, kind: &str, namespace: Option<&str>, name: &str) {
        if let Some(sender) = lock(&self.listeners).get(kind) {
            // A closed channel means that we are shutting down.
            let _ = sender.unbounded_send((namespace.map(str::to_owned), name.to_owned()));
        }
    }

    /// The record of one object.
    pub fn get(&self, kind: KindId, namespace: Option<&str>, name: &str) -> Option<Seen> {
        lock(&self.shelves[kind]).get(&place(namespace, name)).cloned()
    }

    /// Records of one kind in one namespace that `keep` wants.
    pub fn select(&self, kind: KindId, namespace: &str, keep: impl Fn(&str, &Seen) -> bool) -> Vec<(String, Seen)> {
        let mut found: Vec<_> = lock(&self.shelves[kind])
            .iter()
            .filter(|((ns, name), seen)| ns == namespace && keep(name, seen))
            .map(|((_, name), seen)| (name.clone(), seen.clone()))
            .collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    /// Everything that one custom resource owns by reference, of kinds that we write.
    pub fn owned_by(&self, owner_uid: &str) -> Vec<(KindId, String, String, String)> {
        let mut found = Vec::new();
        for (kind, shelf) in self.shelves.iter().enumerate().filter(|(kind, _)| KINDS[*kind].written) {
            for ((namespace, name), seen) in lock(shelf).iter() {
                if seen.owner_uid.as_deref() == Some(owner_uid) && !seen.deleting {
                    found.push((kind, namespace.clone(), name.clone(), seen.uid.to_string()));
                }
            }
        }
        found.sort();
        found
    }

    /// True when this exact wish was found fulfilled, and nothing of ours has changed since.
    pub fn is_verified(&self, kind: KindId, namespace: Option<&str>, name: &str, wish: u64) -> bool {
        lock(&self.shelves[kind])
            .get(&place(namespace, name))
            .is_some_and(|seen| !seen.deleting && seen.verified == Some((wish, seen.token)))
    }

    /// The object, as just read or written, fulfils this wish.
    pub fn verify(&self, kind: KindId, object: &Value, wish: u64) {
        let Some(mut seen) = Seen::of(object, kind) else { return };
        seen.verified = Some((wish, seen.token));
        let mut shelf = lock(&self.shelves[kind]);
        let place = place_of(object);
        match shelf.get_mut(&place) {
            // The watch was faster: its news stays, and is compared by its token.
            Some(known) if known.version > seen.version => known.verified = seen.verified,
            _ => {
                shelf.insert(place, seen);
            }
        }
    }

    /// The object is known to be gone.
    pub fn forget(&self, kind: KindId, namespace: Option<&str>, name: &str) {
        lock(&self.shelves[kind]).remove(&place(namespace, name));
    }

    /// A watch saw the object.
    pub fn saw(&self, kind: KindId, object: &Value) {
        let Some(mut seen) = Seen::of(object, kind) else { return };
        let place = place_of(object);
        let owner = seen.owner.clone();
        {
            let mut shelf = lock(&self.shelves[kind]);
            if let Some(known) = shelf.get(&place) {
                if known.version > seen.version && known.uid == seen.uid {
                    return; // older than what our own write told us
                }
                if known.uid == seen.uid {
                    seen.verified = known.verified;
                }
                if known.version == seen.version && known.uid == seen.uid {
                    return; // the echo of our own write
                }
            }
            shelf.insert(place.clone(), seen);
        }
        self.tell(owner.as_ref(), kind, &place);
    }

    /// A watch saw the object go.
    pub fn lost(&self, kind: KindId, object: &Value) {
        let place = place_of(object);
        let gone = {
            let mut shelf = lock(&self.shelves[kind]);
            let uid = object.pointer("/metadata/uid").and_then(Value::as_str);
            match shelf.get(&place) {
                Some(known) if Some(&*known.uid) == uid => shelf.remove(&place),
                _ => None, // a namesake has taken its place already
            }
        };
        let owner = gone.map_or_else(|| owner_of(object).0, |seen| seen.owner);
        self.tell(owner.as_ref(), kind, &place);
    }

    /// A watch began anew and listed all there is: what it did not list is gone. An object that we made during the
    /// listing may be dropped by mistake; its own event brings it back, at the cost of one read.
    pub fn relisted(&self, kind: KindId, namespace: Option<&str>, listed: &HashSet<(String, String)>) {
        let gone: Vec<(Place, Seen)> = {
            let mut shelf = lock(&self.shelves[kind]);
            let places: Vec<Place> = shelf
                .keys()
                .filter(|place| namespace.is_none_or(|ns| ns == place.0) && !listed.contains(*place))
                .cloned()
                .collect();
            places.into_iter().filter_map(|place| shelf.remove_entry(&place)).collect()
        };
        for (place, seen) in gone {
            self.tell(seen.owner.as_ref(), kind, &place);
        }
        match namespace {
            Some(namespace) => {
                lock(&self.synced_secrets).insert(namespace.to_owned());
            }
            None => self.mark_synced(kind),
        }
    }

    /// This kind is listed, or will not be (its CRD is not installed).
    pub fn mark_synced(&self, kind: KindId) {
        self.unsynced.send_if_modified(|unsynced| unsynced.remove(&kind));
    }

    /// A kind's watch has delivered its first list.
    pub fn is_synced(&self, kind: KindId, namespace: &str) -> bool {
        match KINDS[kind].watch {
            super::kinds::Watch::PerHospital => lock(&self.synced_secrets).contains(namespace),
            _ => !self.unsynced.borrow().contains(&kind),
        }
    }

    /// A namespace is gone, and its watch with it.
    pub fn forget_secrets(&self, namespace: &str) {
        lock(&self.synced_secrets).remove(namespace);
        lock(&self.shelves[super::kinds::named("Secret")]).retain(|(ns, _), _| ns != namespace);
    }

    /// Waits until every cluster-wide watch has delivered its first list.
    pub async fn synced(&self) {
        let mut unsynced = self.unsynced.subscribe();
        // The sender lives as long as we do.
        let _ = unsynced.wait_for(HashSet::is_empty).await;
    }

    /// How many objects are remembered.
    pub fn len(&self) -> usize {
        self.shelves.iter().map(|shelf| lock(shelf).len()).sum()
    }

    /// Nothing is remembered yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn tell(&self, owner: Option<&Owner>, kind: KindId, (namespace, name): &Place) {
        // Services look into Secrets that others own.
        self.nudge(KINDS[kind].kind, Some(namespace), name);
        let Some(owner) = owner else { return };
        let namespace = (owner.kind != "Hospital" && KINDS[kind].namespaced).then_some(namespace.as_str());
        self.nudge(&owner.kind, namespace, &owner.name);
    }
}

impl Seen {
    fn of(object: &Value, kind: KindId) -> Option<Self> {
        let meta = object.get("metadata")?;
        let (owner, owner_uid) = owner_of(object);
        let facts = match KINDS[kind].watch {
            super::kinds::Watch::Reduced(reduce) | super::kinds::Watch::Metadata(reduce) => reduce(object),
            super::kinds::Watch::PerHospital => Value::Null,
        };
        Some(Self {
            uid: meta["uid"].as_str()?.into(),
            version: version_of(object),
            token: token_of(meta),
            owner,
            owner_uid,
            deleting: meta.get("deletionTimestamp").is_some_and(|stamp| !stamp.is_null()),
            facts,
            verified: None,
        })
    }
}

/// Resource versions are ordered numbers; Kubernetes has promised so since 1.35, and etcd always did.
pub fn version_of(object: &Value) -> u64 {
    object.pointer("/metadata/resourceVersion").and_then(Value::as_str).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The same for typed objects.
pub fn version_in(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// What changes when a field that we may own changes. Kinds with a `generation` raise it with every change of the
/// spec, so their status may move without making us look again.
fn token_of(meta: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    match meta.get("generation").and_then(Value::as_i64) {
        Some(generation) => {
            generation.hash(&mut hasher);
            for field in ["labels", "annotations", "ownerReferences"] {
                meta[field].to_string().hash(&mut hasher);
            }
        }
        None => meta["resourceVersion"].as_str().hash(&mut hasher),
    }
    hasher.finish()
}

fn owner_of(object: &Value) -> (Option<Owner>, Option<Box<str>>) {
    let references = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    for reference in references.into_iter().flatten() {
        let ours = reference["apiVersion"].as_str().is_some_and(|version| version.starts_with("hz.hospital/"));
        if let (true, Some(kind), Some(name)) = (ours, reference["kind"].as_str(), reference["name"].as_str()) {
            let owner = Owner { kind: kind.to_owned(), name: name.to_owned() };
            return (Some(owner), reference["uid"].as_str().map(Into::into));
        }
    }
    let labels: BTreeMap<&str, &str> = object
        .pointer("/metadata/labels")
        .and_then(Value::as_object)
        .map(|labels| labels.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect())
        .unwrap_or_default();
    (super::owner::by_labels(&labels), None)
}

fn place(namespace: Option<&str>, name: &str) -> Place {
    (namespace.unwrap_or_default().to_owned(), name.to_owned())
}

/// Namespace (empty if it has none) and name of an object.
pub fn place_of(object: &Value) -> Place {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    (text("/metadata/namespace"), text("/metadata/name"))
}
