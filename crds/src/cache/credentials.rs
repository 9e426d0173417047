//! Passwords of a cache's users, and how they give way to new ones while everybody goes on working.
//!
//! A new password is first accepted by every server, beside the old one. Then the Secrets hand it out, and services
//! start anew with it. The old one is accepted for a while longer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::users::{hash, names};
use super::{CacheInstance, CacheInstanceSpec};
use crate::Timestamp;

/// The most old passwords that are accepted; those before are given up early.
const MOST_OLD: usize = 4;

/// What the platform keeps of all users, in the Secret `<cache>-system`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// The `credentialsGeneration` that these passwords are of.
    pub generation: i64,
    /// By name.
    pub users: BTreeMap<String, Held>,
}

/// Passwords of one user.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// The one that its Secret hands out.
    pub password: String,
    /// The one that it will hand out, once every server accepts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Those it handed out before, still accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub old: Vec<Old>,
}

/// A password that was given up.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Old {
    /// Its hash.
    pub hash: String,
    /// Since when another is handed out.
    pub since: Timestamp,
}

impl std::fmt::Debug for Credentials {
    /// Names the users and never their passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("generation", &self.generation).field("users", &self.users.keys()).finish()
    }
}

impl Held {
    /// Hashes of all that is accepted, in an order of their own: which of them is handed out changes nothing.
    pub fn accepted(&self) -> Vec<String> {
        let mut all: Vec<String> = self.old.iter().map(|old| old.hash.clone()).collect();
        all.push(hash(&self.password));
        all.extend(self.next.as_deref().map(hash));
        all.sort();
        all.dedup();
        all
    }
}

/// What a pass finds besides the spec.
pub struct Found<'a> {
    /// What the platform kept, if it kept anything.
    pub held: Option<Credentials>,
    /// Passwords in Secrets from before the platform kept any, by user.
    pub before: BTreeMap<String, String>,
    /// Passwords of those whose Secret is a tenant's, by user; those whose Secret is wrong are left out.
    pub given: BTreeMap<String, String>,
    /// Makes a password.
    pub fresh: &'a mut dyn FnMut() -> String,
}

impl Credentials {
    /// What is kept from now on: passwords for those who have none, new ones where they are asked for, and without those
    /// whose time is over.
    pub fn next(cache: &CacheInstance, found: Found<'_>, now: Timestamp) -> Self {
        let Found { held, before, given, fresh } = found;
        let wanted = cache.spec.credentials_generation;
        let renew = held.as_ref().is_some_and(|held| held.generation != wanted);
        let mut users = held.map(|held| held.users).unwrap_or_default();
        let mut kept = BTreeMap::new();
        for name in names(cache) {
            let tenants = cache.spec.users.iter().any(|user| user.name == name && user.secret_ref.is_some());
            let given = given.get(name);
            let mut user = match (users.remove(name), tenants, given) {
                (Some(user), _, _) => user,
                (None, true, Some(password)) => Held { password: password.clone(), ..Held::default() },
                (None, true, None) => continue, // its Secret is wrong, and there is nothing to go on with
                (None, false, _) => {
                    Held { password: before.get(name).cloned().unwrap_or_else(&mut *fresh), ..Held::default() }
                }
            };
            match (tenants, given) {
                (true, Some(password)) => user.next = (user.password != *password).then(|| password.clone()),
                (false, _) if renew => user.next = Some(fresh()),
                _ => {}
            }
            user.old.retain(|old| ends(&cache.spec, old) > now.as_second());
            kept.insert(name.to_owned(), user);
        }
        Self { generation: wanted, users: kept }
    }

    /// Whether there are passwords that are accepted and not yet handed out.
    pub fn waits(&self) -> bool {
        self.users.values().any(|user| user.next.is_some())
    }

    /// Hands the new passwords out: every server accepts them.
    pub fn hand_out(&mut self, now: Timestamp) {
        for user in self.users.values_mut() {
            let Some(next) = user.next.take() else { continue };
            user.old.push(Old { hash: hash(&user.password), since: now });
            let many = user.old.len().saturating_sub(MOST_OLD);
            user.old.drain(..many);
            user.password = next;
        }
    }

    /// Second at which the next old password is given up.
    pub fn next_end(&self, spec: &CacheInstanceSpec) -> Option<i64> {
        self.users.values().flat_map(|user| &user.old).map(|old| ends(spec, old)).min()
    }
}

fn ends(spec: &CacheInstanceSpec, old: &Old) -> i64 {
    old.since.as_second() + i64::from(spec.rotation_overlap_seconds)
}
