//! Users of a cache: who may do what, as the spec says it and as Valkey reads it.

use std::collections::BTreeMap;

use kube::KubeSchema;
use kube::core::ResourceExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::credentials::Credentials;
use super::{CacheInstance, PASSWORD_KEY, commands};
use crate::Unfit;
use crate::shared::digest;

/// The user that clients are who name none.
pub const DEFAULT: &str = "default";
/// The platform's own user: copies, sentinels, metrics and the operator.
pub const SYSTEM: &str = "hz-system";
/// Begins the name of a user that nobody can be: it says which users a server was given last.
const MARK: &str = "hz-acl-";
/// What clients ask that stands among the dangerous commands, and is not.
const NEEDED: [&str; 4] = ["-@admin", "-@dangerous", "+info", "+role"];

/// Somebody who may connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CacheUser {
    /// Name, by which the user connects. What it needs to connect stands in the Secret `<cache>-<name>`.
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    #[x_kube(validation = (
        "!(self in ['default', 'auth', 'system', 'tls']) && !self.startsWith('hz-')",
        "this name is the platform's: take another than default, auth, system, tls and names that begin with hz-"
    ))]
    pub name: String,

    /// A Secret of yours with the password: 16 to 128 letters, digits, `-`, `.`, `_` and `~`. Without it the operator
    /// makes a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,

    /// What the user may do with the keys: `ReadWrite` or `ReadOnly`. Commands that act on the whole server or on other
    /// clients are nobody's but the platform's.
    #[serde(default)]
    pub access: Access,

    /// Keys, and channels of messages, that the user may touch, as patterns: `session:*`. Default: all.
    #[serde(default = "everything")]
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 128), regex(pattern = r"^[-A-Za-z0-9:*?./_{}#@+=,\[\]^]+$"))
    )]
    pub keys: Vec<String>,

    /// Commands and groups of commands that the user may give, instead of all that its access allows: `get`, `@hash`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 2, max = 64), regex(pattern = r"^@?[a-z][-a-z_|]*$")))]
    pub commands: Vec<String>,
}

/// A key of a Secret in the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// Key in it.
    #[serde(default = "password_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// What a user may do with keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Access {
    /// Read and write.
    #[default]
    ReadWrite,
    /// Read.
    ReadOnly,
}

fn everything() -> Vec<String> {
    vec!["*".into()]
}

fn password_key() -> String {
    PASSWORD_KEY.into()
}

/// Secret with what a user needs to connect.
pub fn user_secret(instance: &str, user: &str) -> String {
    if user == DEFAULT { super::auth_secret(instance) } else { format!("{instance}-{user}") }
}

/// Names of the users that tenants are, `default` first.
pub fn names(cache: &CacheInstance) -> Vec<&str> {
    std::iter::once(DEFAULT).chain(cache.spec.users.iter().map(|user| user.name.as_str())).collect()
}

/// What is said of a Secret of a tenant's that holds a password.
#[derive(Debug, Clone, Copy)]
pub enum Given<'a> {
    /// It is not there.
    Missing,
    /// It was made by the platform, for something else.
    Platforms,
    /// What it holds.
    Holds(&'a BTreeMap<String, String>),
}

/// The password in a tenant's Secret, or what is wrong with it, naming field and what is expected. What the Secret
/// holds is never said.
pub fn password_of(number: usize, secret: &SecretRef, given: Given<'_>) -> Result<String, String> {
    let say = |field: &str, value: &str, problem: &str| {
        let expected = "expected a Secret of yours whose key holds 16 to 128 letters, digits, -, ., _ and ~, and no \
                        line break at its end";
        Err(format!("spec.users[{number}].secretRef.{field} is `{value}`: {problem}; {expected}"))
    };
    let data = match given {
        Given::Missing => return say("name", &secret.name, "there is no such Secret in this namespace"),
        Given::Platforms => return say("name", &secret.name, "this Secret is the platform's"),
        Given::Holds(data) => data,
    };
    let Some(password) = data.get(&secret.key) else {
        return say("key", &secret.key, &format!("Secret {} has no text under this key", secret.name));
    };
    let length = password.chars().count();
    if !(16..=128).contains(&length) {
        return say("key", &secret.key, &format!("the password in Secret {} has {length} characters", secret.name));
    }
    if !password.chars().all(|letter| letter.is_ascii_alphanumeric() || "-._~".contains(letter)) {
        let problem = format!("the password in Secret {} has a character that a URI would have to quote", secret.name);
        return say("key", &secret.key, &problem);
    }
    Ok(password.clone())
}

/// Refuses commands that nobody may be given, and commands that do not exist: a server does not start with those.
pub fn check(cache: &CacheInstance) -> Result<(), Unfit> {
    for (number, user) in cache.spec.users.iter().enumerate() {
        for (place, word) in user.commands.iter().enumerate() {
            if let Some((problem, possible)) = commands::wrong(word) {
                return Err(Unfit::refused(format!("spec.users[{number}].commands[{place}]"), word, problem, possible));
            }
        }
    }
    Ok(())
}

/// Users as a server is to know them.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Acl {
    /// Names, and rules that begin from nothing. Passwords are in them as hashes only.
    pub users: Vec<(String, Vec<String>)>,
}

impl std::fmt::Debug for Acl {
    /// Names the users only.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.users.iter().map(|(name, _)| name)).finish()
    }
}

impl Acl {
    /// The platform's user, the default user and those of the spec that have a password.
    pub fn of(cache: &CacheInstance, system: &str, credentials: &Credentials) -> Self {
        let mut users = vec![(SYSTEM.to_owned(), words(&["on", &hashed(system), "~*", "&*", "+@all"]))];
        for name in names(cache) {
            let Some(held) = credentials.users.get(name) else { continue };
            let mut rules = vec!["on".to_owned()];
            rules.extend(held.accepted().into_iter().map(|hash| format!("#{hash}")));
            match cache.spec.users.iter().find(|user| user.name == name) {
                Some(user) => rules.extend(user.rules()),
                None => rules.extend(words(&["~*", "&*", "+@all"])),
            }
            rules.extend(words(&NEEDED));
            users.push((name.to_owned(), rules));
        }
        Self { users }
    }

    /// A user that nobody can be, whose name changes with any of the rules.
    pub fn mark(&self) -> String {
        let parts = self.users.iter().flat_map(|(name, rules)| std::iter::once(name).chain(rules));
        format!("{MARK}{}", &digest(parts.map(String::as_bytes))[..16])
    }

    /// As a server reads it when it starts.
    pub fn file(&self) -> String {
        let line = |(name, rules): &(String, Vec<String>)| format!("user {name} {}\n", rules.join(" "));
        let users: String = self.users.iter().map(line).collect();
        format!("{users}user {} off resetchannels -@all\n", self.mark())
    }
}

impl CacheUser {
    fn rules(&self) -> Vec<String> {
        let writes = self.access == Access::ReadWrite;
        let keys = self.keys.iter().map(|pattern| if writes { format!("~{pattern}") } else { format!("%R~{pattern}") });
        let channels = self.keys.iter().map(|pattern| format!("&{pattern}"));
        let mut rules: Vec<String> = std::iter::once("resetchannels".to_owned()).chain(keys).chain(channels).collect();
        match (self.commands.is_empty(), writes) {
            (true, true) => rules.push("+@all".into()),
            (true, false) => rules.extend(words(&[
                "-@all",
                "+@read",
                "+@connection",
                "+@transaction",
                "+@pubsub",
                "+eval_ro",
                "+evalsha_ro",
                "+fcall_ro",
                "-publish",
                "-spublish",
            ])),
            (false, _) => {
                rules.extend(words(&["-@all", "+@connection"]));
                rules.extend(self.commands.iter().map(|word| format!("+{word}")));
            }
        }
        if !writes {
            rules.push("-@write".into());
        }
        rules
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn hashed(password: &str) -> String {
    format!("#{}", hash(password))
}

/// A password as Valkey keeps it: SHA-256, in hexadecimal.
pub fn hash(password: &str) -> String {
    Sha256::digest(password.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The cache and all who are in it.
pub(super) fn secrets(cache: &CacheInstance) -> Vec<(String, String)> {
    let instance = cache.name_any();
    names(cache).into_iter().map(|user| (user.to_owned(), user_secret(&instance, user))).collect()
}
