//! Passwords are made once, by the operator, and kept in Secrets. A plan only says where.

use std::collections::BTreeMap;

use crate::Unfit;

/// Where a password is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// Name of the Secret, in the namespace of the object that needs it.
    pub secret: String,
    /// Key in the Secret.
    pub key: &'static str,
}

impl Slot {
    /// A place for a password.
    pub fn new(secret: impl Into<String>, key: &'static str) -> Self {
        Self { secret: secret.into(), key }
    }
}

/// Passwords by where they are kept: what the Secret holds, or, where there is none yet, what the operator has
/// just made (32 letters and digits, so that no URI or file needs quoting).
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Passwords(BTreeMap<Slot, String>);

impl Passwords {
    /// Adds a password.
    #[must_use]
    pub fn with(mut self, slot: Slot, password: impl Into<String>) -> Self {
        self.0.insert(slot, password.into());
        self
    }

    /// The password kept there.
    pub fn get(&self, slot: &Slot) -> Result<&str, Unfit> {
        self.0
            .get(slot)
            .map(String::as_str)
            .filter(|password| !password.is_empty())
            .ok_or_else(|| Unfit::waiting("spec", format!("a password in Secret {} key {}", slot.secret, slot.key)))
    }
}

impl FromIterator<(Slot, String)> for Passwords {
    fn from_iter<I: IntoIterator<Item = (Slot, String)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl std::fmt::Debug for Passwords {
    /// Names the slots and never what is in them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
