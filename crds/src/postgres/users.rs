//! Users of databases besides their owners: who they are, what they may do, and their passwords.

use kube::KubeSchema;
use kube::core::ResourceExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Inputs, PASSWORD_KEY, PostgresInstance, database_secret, owner_slot};
use crate::shared::digest;
use crate::{Passwords, Slot, Unfit};

/// The condition that databases, users and their passwords are as the spec says.
pub const PROVISIONED: &str = "Provisioned";

/// A user of databases on the instance. It is never a superuser and owns no database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// Its name: lower-case letters, digits and underscores, a letter first.
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z][a-z0-9_]*$"))]
    #[x_kube(validation = (
        "!(self in ['postgres', 'public', 'none', 'user', 'standby', 'rewinder', 'pooler']) && !self.startsWith('pg_') && !self.startsWith('hz_')",
        "this name belongs to PostgreSQL or to the platform"
    ))]
    pub name: String,

    /// A Secret of your own, in the same namespace, that holds the password. Without it the operator makes the
    /// password and puts it into the Secret `<instance>-user-<name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<PasswordRef>,

    /// What it may do, database by database. What is not named here it may not do, also if somebody granted it by hand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["database".into()]))]
    pub grants: Vec<Grant>,

    /// The most connections it may have at a time; default: as many as the server takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub connection_limit: Option<i32>,
}

/// Where a password of your own is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasswordRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,

    /// Key in the Secret.
    #[serde(default = "password")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// What a user may do in a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// One of `spec.databases`.
    #[schemars(length(min = 1, max = 40))]
    pub database: String,

    /// How much.
    #[serde(default)]
    pub access: Access,

    /// Only in these schemas; default: in all that there are and will be. `Owner` always means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 63), regex(pattern = r"^[a-z_][a-z0-9_]*$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub schemas: Vec<String>,
}

/// How much a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Access {
    /// Read every table, also those that the owner makes later.
    #[default]
    ReadOnly,
    /// Read, insert, change and delete rows in every table, also in those that the owner makes later.
    ReadWrite,
    /// Whatever the owner may: also make, change and drop tables. What it makes belongs to the owner.
    Owner,
}

/// A user and its credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserStatus {
    /// Its name.
    #[schemars(length(max = 40))]
    pub name: String,

    /// Secret with its password: the operator's own, or the one that secretRef names.
    #[schemars(length(max = 253))]
    pub secret: String,
}

/// Secret with the credentials of a user whose password the operator makes.
pub fn user_secret(instance: &str, user: &str) -> String {
    format!("{instance}-user-{}", user.replace('_', "-"))
}

pub(crate) fn user_slot(instance: &str, user: &User) -> Option<Slot> {
    user.secret_ref.is_none().then(|| Slot::new(user_secret(instance, &user.name), PASSWORD_KEY))
}

impl User {
    /// Who it is and where its password stands, for the status.
    pub(super) fn status(&self, instance: &str) -> UserStatus {
        let own = || user_secret(instance, &self.name);
        let secret = self.secret_ref.as_ref().map_or_else(own, |from| from.name.clone());
        UserStatus { name: self.name.clone(), secret }
    }

    /// The database it is meant for, if that is clear.
    pub(super) fn database(&self) -> Option<&str> {
        self.grants.first().map(|grant| grant.database.as_str())
    }
}

/// The password in a Secret of the tenant's, or what is wrong with it: field, key, and what is expected.
pub fn password_from(number: usize, from: &PasswordRef, held: Option<Option<&str>>) -> Result<String, String> {
    let (field, PasswordRef { name, key }) = (format!("spec.users[{number}].secretRef"), from);
    let expected = "8 to 128 visible ASCII characters without spaces";
    match held {
        None => Err(format!("{field}.name: there is no Secret {name}; expected one with key {key}: {expected}")),
        Some(None) => Err(format!("{field}.key: Secret {name} has no key {key} that is text; expected {expected}")),
        Some(Some(password)) => {
            // A line break at the end is how many an editor leaves a file, and nobody means it.
            let password = password.strip_suffix('\n').unwrap_or(password);
            let problem = match password.chars().find(|letter| !letter.is_ascii_graphic()) {
                Some(letter) => Some(format!("has the character {}", letter.escape_unicode())),
                None if !(8..=128).contains(&password.len()) => Some(format!("has {} characters", password.len())),
                None => None,
            };
            match problem {
                None => Ok(password.to_owned()),
                Some(problem) => Err(format!("{field}: Secret {name} key {key} {problem}; expected {expected}")),
            }
        }
    }
}

/// What no schema can see: names that meet, and grants on databases that are not there.
pub(super) fn check(instance: &PostgresInstance) -> Result<(), Unfit> {
    let (name, spec) = (instance.name_any(), &instance.spec);
    for (number, user) in spec.users.iter().enumerate() {
        if let Some(database) = spec.databases.iter().find(|database| {
            database.name == user.name || database_secret(&name, &database.name) == user_secret(&name, &user.name)
        }) {
            let what = if database.name == user.name { "owner" } else { "Secret" };
            return Err(Unfit::refused(
                format!("spec.users[{number}].name"),
                &user.name,
                format!("the database {} has {what} of that name", database.name),
                "choose another name",
            ));
        }
        for (place, grant) in user.grants.iter().enumerate() {
            if !spec.databases.iter().any(|database| database.name == grant.database) {
                let known: Vec<&str> = spec.databases.iter().map(|database| database.name.as_str()).collect();
                return Err(Unfit::refused(
                    format!("spec.users[{number}].grants[{place}].database"),
                    &grant.database,
                    "it is not one of spec.databases",
                    format!("possible: {}", if known.is_empty() { "none yet".into() } else { known.join(", ") }),
                ));
            }
        }
    }
    Ok(())
}

/// The generation of passwords that is asked for and not yet everywhere. An instance that was never provisioned begins
/// with the one of its spec.
pub fn turning(instance: &PostgresInstance) -> Option<i64> {
    let status = instance.status.as_ref().filter(|status| status.provisioned.is_some())?;
    let wanted = instance.spec.credentials_generation;
    (wanted > status.credentials_generation).then_some(wanted)
}

/// Where the next passwords come from while they are on their way: kept until they are in the server and in the Secrets,
/// so that an operator that is stopped between the two goes on with the same.
pub(super) fn turn_slot(instance: &PostgresInstance) -> Option<Slot> {
    let generation = turning(instance)?;
    Some(Slot::new(format!("{}-rotation-{generation}", instance.name_any()), SEED_KEY))
}

const SEED_KEY: &str = "seed";

/// The inputs with the passwords that come next, for all that the operator made for tenants; the same inputs when none
/// are on their way.
pub fn turned(instance: &PostgresInstance, inputs: &Inputs) -> Result<Inputs, Unfit> {
    let Some(slot) = turn_slot(instance) else { return Ok(inputs.clone()) };
    let (seed, name) = (inputs.passwords.get(&slot)?, instance.name_any());
    let owners = instance.spec.databases.iter().map(|database| owner_slot(&name, database));
    let users = instance.spec.users.iter().filter_map(|user| user_slot(&name, user));
    let mut passwords: Passwords = inputs.passwords.clone();
    for slot in owners.chain(users) {
        let next = digest([seed.as_bytes(), slot.secret.as_bytes()])[..40].to_owned();
        passwords = passwords.with(slot, next);
    }
    Ok(Inputs { passwords, ..inputs.clone() })
}

fn password() -> String {
    PASSWORD_KEY.to_owned()
}
