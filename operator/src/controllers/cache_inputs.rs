//! What is looked up before a cache is decided on: passwords, certificates, Secrets of tenants, and servers that run.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hz_crds::cache::credentials::Found;
use hz_crds::cache::users::{self, Given, password_of};
use hz_crds::cache::{
    APP, CREDENTIALS_KEY, CacheInstance, Credentials, Inputs, PASSWORD_KEY, SENTINEL_PORT, SERVER_PORT, TLS_LABEL, Tls,
    certificate, slots, system_secret, system_slot, user_secret,
};
use hz_crds::{Certificates, Timestamp};
use kube::ResourceExt;

use super::Context;
use crate::engine::Error;
use crate::engine::kinds::named;
use crate::engine::secrets::random_password;
use crate::probes::{Cache, Trust};

/// Inputs, and what is wrong with Secrets that users name.
#[derive(Default)]
pub struct Looked {
    pub inputs: Inputs,
    pub wrong: Vec<String>,
}

/// Looks everything up.
pub async fn look(cache: &CacheInstance, ctx: &Context) -> Result<Looked, Error> {
    let (namespace, name) = (cache.namespace().unwrap_or_default(), cache.name_any());
    let platform = ctx.platform.get();
    let (passwords, mut foreign) = ctx.passwords(&namespace, APP, &name, slots(cache)).await?;
    let mut certificates = Certificates::default();
    if cache.spec.tls == Tls::Required {
        let (kept, others) = ctx.certificates(&namespace, APP, &name, &[certificate(cache, &platform)]).await?;
        certificates = kept;
        foreign.extend(others);
    }
    let (before, others) = handed_out(cache, &namespace, ctx).await?;
    foreign.extend(others);
    let (given, wrong) = given(cache, &namespace, ctx).await?;
    let held = held(&namespace, &name, ctx).await?;
    let found = Found { held, before, given, fresh: &mut random_password };
    let credentials = Credentials::next(cache, found, Timestamp::now());
    let running = running(&namespace, &name, ctx);
    Ok(Looked { inputs: Inputs { passwords, certificates, credentials, foreign, running }, wrong })
}

/// What the platform kept of users. What cannot be read counts as not there: then passwords are taken from the Secrets
/// that hand them out.
async fn held(namespace: &str, name: &str, ctx: &Context) -> Result<Option<Credentials>, Error> {
    let secret = ctx.engine.secrets.get(namespace, &system_secret(name)).await?;
    let secret = secret.filter(|secret| secret.belongs_to(APP, name));
    Ok(secret.and_then(|secret| serde_json::from_str(secret.data.get(CREDENTIALS_KEY)?).ok()))
}

type HandedOut = (BTreeMap<String, String>, Vec<(String, String)>);

/// Passwords in the Secrets of users, and those of these Secrets that are somebody else's.
async fn handed_out(cache: &CacheInstance, namespace: &str, ctx: &Context) -> Result<HandedOut, Error> {
    let name = cache.name_any();
    let (mut before, mut foreign) = (BTreeMap::new(), Vec::new());
    for user in users::names(cache) {
        let place = user_secret(&name, user);
        let Some(secret) = ctx.engine.secrets.get(namespace, &place).await? else { continue };
        if !secret.belongs_to(APP, &name) {
            foreign.push((place, secret.holder()));
            continue;
        }
        before.extend(secret.data.get(PASSWORD_KEY).map(|password| (user.to_owned(), password.clone())));
    }
    Ok((before, foreign))
}

/// Passwords from Secrets of tenants, and what is wrong with those Secrets.
async fn given(
    cache: &CacheInstance,
    namespace: &str,
    ctx: &Context,
) -> Result<(BTreeMap<String, String>, Vec<String>), Error> {
    let (mut given, mut wrong) = (BTreeMap::new(), Vec::new());
    for (number, user) in cache.spec.users.iter().enumerate() {
        let Some(reference) = &user.secret_ref else { continue };
        let secret = ctx.engine.secrets.get(namespace, &reference.name).await?;
        let found = match secret.as_deref() {
            None => Given::Missing,
            Some(secret) if secret.is_ours() => Given::Platforms,
            Some(secret) => Given::Holds(&secret.data),
        };
        match password_of(number, reference, found) {
            Ok(password) => {
                given.insert(user.name.clone(), password);
            }
            Err(why) => wrong.push(why),
        }
    }
    Ok((given, wrong))
}

/// How the servers that run were started; one that goes counts, for it still answers.
fn running(namespace: &str, name: &str, ctx: &Context) -> Option<Tls> {
    let pods = ctx.engine.world.select(named("Pod"), namespace, |_, seen| {
        seen.owner.as_ref().is_some_and(|owner| owner.kind == "CacheInstance" && owner.name == name)
    });
    let first = pods.first()?;
    Some(Tls::of_label(first.1.facts["metadata"]["labels"][TLS_LABEL].as_str()))
}

/// Who the platform is at a server of a cache, and by what name the server is known there.
fn target(cache: &CacheInstance, inputs: &Inputs, address: IpAddr, host: String, ctx: &Context) -> Option<Cache> {
    let password = inputs.passwords.get(&system_slot(cache)).ok()?.to_owned();
    let trust = match cache.spec.tls {
        Tls::Disabled => None,
        Tls::Required => {
            let slot = certificate(cache, &ctx.platform.get());
            Some(Trust { host, authority: inputs.certificates.get(&slot).ok()?.ca_crt.clone(), required: true })
        }
    };
    Some(Cache { address, port: SERVER_PORT, user: Some(users::SYSTEM.into()), password, trust })
}

/// The master, by the Service of the cache.
pub fn master_of(cache: &CacheInstance, inputs: &Inputs, ctx: &Context) -> Option<Cache> {
    let (namespace, name) = (cache.namespace().unwrap_or_default(), cache.name_any());
    let host = ctx.platform.get().host(&name, &namespace);
    target(cache, inputs, ctx.service_address(&namespace, &name)?, host, ctx)
}

/// A server, by its pod.
pub fn server_of(cache: &CacheInstance, inputs: &Inputs, pod: &str, ctx: &Context) -> Option<Cache> {
    let namespace = cache.namespace().unwrap_or_default();
    let host = ctx.platform.get().host(&format!("{}-pods", cache.name_any()), &namespace);
    target(cache, inputs, ctx.pod_address(&namespace, pod)?, format!("{pod}.{host}"), ctx)
}

/// The sentinel in a pod.
pub fn sentinel_of(cache: &CacheInstance, inputs: &Inputs, pod: &str, ctx: &Context) -> Option<Cache> {
    let server = server_of(cache, inputs, pod, ctx)?;
    Some(Cache { port: SENTINEL_PORT, user: None, ..server })
}
