//! What servers are given while they run: users, passwords and settings.

use std::collections::BTreeMap;

use super::users::Acl;
use super::{CacheInstance, Inputs, parameters, system_slot};
use crate::Unfit;

/// Users and settings of every server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Live {
    /// Users.
    pub acl: Acl,
    /// Settings, as the server prints them.
    pub settings: BTreeMap<String, String>,
}

/// What every server of a cache is to work with.
pub fn live(cache: &CacheInstance, inputs: &Inputs) -> Result<Live, Unfit> {
    let system = inputs.passwords.get(&system_slot(cache))?;
    Ok(Live { acl: Acl::of(cache, system, &inputs.credentials), settings: parameters::live(&cache.spec)? })
}

/// How far users, passwords and settings have come to the servers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Given {
    /// Nobody looked in this pass; what the status says stays.
    #[default]
    NotSeen,
    /// These many servers that are ready have them, and they are all that are.
    Everywhere(usize),
    /// Not yet, and why.
    Short(String),
}
