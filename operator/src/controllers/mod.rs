//! One file a kind: look up, decide, apply, look again, report.

pub mod backup;
pub mod backup_plan;
pub mod cache;
mod cache_inputs;
mod cache_live;
pub mod copies;
pub mod drill;
mod encryption;
pub mod hands;
pub mod hospital;
pub mod observe;
pub mod operation;
pub mod pooler;
pub mod postgres;
pub mod restore;
mod room;
pub mod service;
mod settings;
pub mod store;
pub mod upgrade;
mod upkeep;
mod users;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hz_crds::backup::{Backup, BackupPlan, Restore, RestoreDrill};
use hz_crds::cache::CacheInstance;
use hz_crds::conditions::{self, Condition};
use hz_crds::operation::DataOperation;
use hz_crds::postgres::PostgresInstance;
use hz_crds::shared::Probe;
use hz_crds::{CertificateSlot, Certificates, Outcome, Passwords, Slot, Timestamp, Unfit};
use tokio::time::Instant;

use crate::engine::certificates::keep_or_issue;
use crate::engine::kinds::named;
use crate::engine::run::{Next, Objects};
use crate::engine::secrets::{Contents, random_password};
use crate::engine::{Changes, Engine, Error};
use crate::platform::PlatformCell;
use crate::probes::{Probes, Silent};

/// A good answer is believed for this long: our own status write wakes us at once, and is no reason to ask again.
const ANSWER_STANDS: Duration = Duration::from_secs(5);
/// What the API server found invalid is shown to the user and tried again this seldom.
const REJECTED_AGAIN: Duration = Duration::from_secs(300);

/// What every controller has at hand.
pub struct Context {
    /// Hands.
    pub engine: Arc<Engine>,
    /// The cluster as configured and counted.
    pub platform: PlatformCell,
    /// Questions to databases and caches.
    pub probes: Arc<dyn Probes>,
    /// How often to ask what is Ready whether it still answers.
    pub ask_again: Duration,
    /// Last good answers.
    pub answers: Answers,
    /// Names found once that do not change any more.
    pub known: Known,
    /// One hand at a time on each database and cache.
    pub turns: hands::Turns,
    /// Database servers as last seen.
    pub databases: Objects<PostgresInstance>,
    /// Caches as last seen.
    pub caches: Objects<CacheInstance>,
    /// Operations as last seen.
    pub operations: Objects<DataOperation>,
    /// Plans for backups as last seen.
    pub plans: Objects<BackupPlan>,
    /// Backups as last seen.
    pub backups: Objects<Backup>,
    /// Restores as last seen.
    pub restores: Objects<Restore>,
    /// Drills as last seen.
    pub drills: Objects<RestoreDrill>,
}

/// Lists that are looked up once and hold from then on, unless they were short.
#[derive(Default)]
pub struct Known(Mutex<HashMap<String, (Instant, Vec<String>)>>);

impl Known {
    /// How long a list holds before it is looked up anew.
    const HOLDS: Duration = Duration::from_secs(600);
    /// Patroni keeps its settings, its leader and its synchronous copies in maps of their own.
    const COMPLETE: usize = 3;

    /// The list, if it was complete when found.
    pub fn get(&self, key: &str) -> Option<Vec<String>> {
        let known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (since, names) = known.get(key)?;
        (since.elapsed() < Self::HOLDS && names.len() >= Self::COMPLETE).then(|| names.clone())
    }

    /// Remembers a list.
    pub fn note(&self, key: &str, names: &[String]) {
        let mut known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        known.insert(key.to_owned(), (Instant::now(), names.to_vec()));
    }
}

/// Remembers what answered well a moment ago.
#[derive(Default)]
pub struct Answers(Mutex<HashMap<String, Answer>>);

/// When, to which question, what.
type Answer = (Instant, String, Vec<String>);

impl Answers {
    /// The answer to this very question, if it is fresh.
    pub fn fresh(&self, object: &str, question: &str) -> Option<Vec<String>> {
        let answers = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (since, asked, answer) = answers.get(object)?;
        (since.elapsed() < ANSWER_STANDS && asked == question).then(|| answer.clone())
    }

    /// Remembers a good answer, or forgets it after a bad one.
    pub fn note(&self, object: &str, question: &str, answer: Option<Vec<String>>) {
        let mut answers = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match answer {
            Some(answer) => answers.insert(object.to_owned(), (Instant::now(), question.to_owned(), answer)),
            None => answers.remove(object),
        };
    }
}

impl Context {
    /// The hospital a namespace belongs to. The operator has rights in no other namespace.
    pub fn hospital(&self, namespace: &str) -> Result<String, Unfit> {
        let seen = self.engine.world.get(named("Namespace"), None, namespace);
        seen.and_then(|seen| seen.facts.as_str().map(str::to_owned)).ok_or_else(|| {
            Unfit::waiting(
                "metadata.namespace",
                format!("a Hospital whose namespace is {namespace}; databases, caches and services live there"),
            )
        })
    }

    /// The address of one of our Services.
    pub fn service_address(&self, namespace: &str, name: &str) -> Option<IpAddr> {
        let seen = self.engine.world.get(named("Service"), Some(namespace), name)?;
        seen.facts.pointer("/spec/clusterIP")?.as_str()?.parse().ok()
    }

    /// The address of a pod of ours.
    pub fn pod_address(&self, namespace: &str, name: &str) -> Option<IpAddr> {
        let seen = self.engine.world.get(named("Pod"), Some(namespace), name)?;
        seen.facts.pointer("/status/podIP")?.as_str()?.parse().ok()
    }

    /// The passwords that are kept, and new ones where there are none; with the Secrets that are somebody else's.
    pub async fn passwords(
        &self,
        namespace: &str,
        app: &str,
        instance: &str,
        slots: Vec<Slot>,
    ) -> Result<(Passwords, Vec<(String, String)>), Error> {
        let (mut passwords, mut foreign) = (Passwords::default(), Vec::new());
        let mut read: HashMap<String, Option<Arc<Contents>>> = HashMap::new(); // several slots share a Secret
        for slot in slots {
            if !read.contains_key(&slot.secret) {
                let secret = self.engine.secrets.get(namespace, &slot.secret).await?;
                read.insert(slot.secret.clone(), secret);
            }
            let kept = match read.get(&slot.secret).and_then(Option::as_ref) {
                Some(secret) if !secret.belongs_to(app, instance) => {
                    foreign.push((slot.secret.clone(), secret.holder()));
                    None
                }
                Some(secret) => secret.data.get(slot.key).filter(|password| !password.is_empty()).cloned(),
                None => None,
            };
            passwords = passwords.with(slot, kept.unwrap_or_else(random_password));
        }
        foreign.dedup();
        Ok((passwords, foreign))
    }

    /// The certificates that are kept and will do, and new ones where there are none or they end soon; with the Secrets
    /// that are somebody else's.
    pub async fn certificates(
        &self,
        namespace: &str,
        app: &str,
        instance: &str,
        slots: &[CertificateSlot],
    ) -> Result<(Certificates, Vec<(String, String)>), Error> {
        let (mut certificates, mut foreign) = (Certificates::default(), Vec::new());
        for slot in slots {
            let secret = self.engine.secrets.get(namespace, &slot.secret).await?;
            if let Some(secret) = secret.as_ref().filter(|secret| !secret.belongs_to(app, instance)) {
                foreign.push((slot.secret.clone(), secret.holder()));
                continue;
            }
            let pair = keep_or_issue(slot, secret.as_deref(), Timestamp::now())
                .map_err(|source| Error::Issue { name: slot.secret.clone(), source })?;
            certificates = certificates.with(slot, pair);
        }
        Ok((certificates, foreign))
    }
}

/// What became of a decision. An API server that cannot be reached is no outcome: there is nobody to tell.
pub fn outcome(applied: Result<Changes, Error>) -> Result<(Outcome, Option<Next>), Error> {
    match applied {
        Ok(_) => Ok((Outcome::Applied, None)),
        Err(Error::Foreign { kind, name, holder }) => {
            let unfit = Unfit::Taken { kind: kind.to_owned(), name, holder };
            Ok((Outcome::Unfit(unfit), Some(Next::Retry)))
        }
        Err(error) if error.is_gone() || error.reason() == "ApiUnreachable" => Err(error),
        Err(error) => {
            let next = if error.is_final() { Next::After(REJECTED_AGAIN) } else { Next::Retry };
            Ok((Outcome::Failed(error.to_string()), Some(next)))
        }
    }
}

/// When to look again after a pass that ended with these conditions.
pub fn next_look(outcome: &Outcome, said: Option<Next>, conditions: &[Condition], when_ready: Next) -> Next {
    match (outcome, said) {
        (_, Some(next)) => next,
        // What is missing makes itself known when it comes; look now and then all the same.
        (Outcome::Unfit(unfit), None) if unfit.may_pass() => Next::Retry,
        (Outcome::Unfit(_), None) => Next::OnChange,
        _ if conditions::is_true(conditions, conditions::READY) => when_ready,
        _ => Next::Soon,
    }
}

/// A probe's answer in the words of the status.
pub fn told<T>(answer: &Result<T, Silent>) -> Probe {
    match answer {
        Ok(_) => Probe::Answered,
        Err(silent) => Probe::Failed(silent.to_string()),
    }
}
