//! One of the replicas leads; a Lease says which.
//!
//! Clocks of two servers never agree, so the times written into the Lease are for people. A candidate instead watches
//! the *record* with its own monotonic clock: a record that has not changed for the lease's whole duration has been
//! left, whatever its timestamps say. The leader stops by itself well before that: it must give up at the renew
//! deadline, which is shorter than the duration.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::health::Health;

/// Lease writes go under a name of their own: they say nothing about the hospital's objects.
pub const LEASE_MANAGER: &str = "hz-operator-lease";

/// The timing of an election.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// A record unchanged for this long is up for grabs.
    pub duration: Duration,
    /// A leader that could not renew for this long must stop. Shorter than `duration`.
    pub renew_deadline: Duration,
    /// How often the leader renews.
    pub renew_every: Duration,
    /// How often a candidate looks, and a failed renewal is tried again.
    pub retry_every: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            renew_every: Duration::from_secs(5),
            retry_every: Duration::from_secs(2),
        }
    }
}

/// A replica that wants to lead, or does.
#[derive(Clone)]
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    identity: String,
    timing: Timing,
    health: Arc<Health>,
}

/// The record as last seen, and when it last changed by our own clock.
struct Seen {
    lease: Lease,
    since: Instant,
}

impl Candidate {
    /// `identity` must differ between replicas; the pod's name does.
    pub fn new(
        client: Client,
        namespace: &str,
        name: &str,
        identity: &str,
        timing: Timing,
        health: Arc<Health>,
    ) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            timing,
            health,
        }
    }

    /// Waits for its turn; returns the Lease as we hold it.
    pub async fn acquire(&self) -> Lease {
        let mut seen: Option<Seen> = None;
        loop {
            match self.try_acquire(&mut seen).await {
                Ok(Some(lease)) => {
                    info!(identity = self.identity, "leading");
                    return lease;
                }
                Ok(None) => self.health.set_ready(true),
                Err(error) => warn!(%error, "could not look at the lease"),
            }
            tokio::time::sleep(super::backoff::jittered(self.timing.retry_every)).await;
        }
    }

    async fn try_acquire(&self, seen: &mut Option<Seen>) -> Result<Option<Lease>, kube::Error> {
        let Some(lease) = self.api.get_opt(&self.name).await? else {
            return self.won(self.api.create(&params(), &self.fresh()).await);
        };
        let changed = seen.as_ref().is_none_or(|seen| seen.lease.resource_version() != lease.resource_version());
        if changed {
            *seen = Some(Seen { lease: lease.clone(), since: Instant::now() });
        }
        let held_by = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        let free = held_by.is_empty() || held_by == self.identity;
        let left = seen.as_ref().is_some_and(|seen| seen.since.elapsed() >= self.duration_of(&lease));
        if !free && !left {
            debug!(held_by, "someone else leads");
            return Ok(None);
        }
        self.won(self.api.replace(&self.name, &params(), &self.taken(&lease)).await)
    }

    /// The holder's own duration counts: it may run with other settings than ours.
    fn duration_of(&self, lease: &Lease) -> Duration {
        let told = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).and_then(|s| u64::try_from(s).ok());
        told.map_or(self.timing.duration, Duration::from_secs)
    }

    /// A conflict means that another was faster: no error, just not our turn.
    fn won(&self, answer: Result<Lease, kube::Error>) -> Result<Option<Lease>, kube::Error> {
        match answer {
            Ok(lease) => {
                self.health.set_ready(true);
                Ok(Some(lease))
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Renews until that fails for good; then the caller must stop everything at once.
    pub async fn keep(&self, mut lease: Lease) {
        let mut renewed = Instant::now();
        let mut wait = self.timing.renew_every;
        loop {
            tokio::time::sleep(wait).await;
            let Some(left) = self.timing.renew_deadline.checked_sub(renewed.elapsed()) else {
                warn!("could not renew the lease in time");
                return;
            };
            let started = Instant::now();
            match tokio::time::timeout(left, self.renew(&lease)).await {
                Ok(Ok(Some(fresh))) => {
                    lease = fresh;
                    // From before the call: the server may have stamped it at any time since.
                    renewed = started;
                    wait = self.timing.renew_every;
                }
                Ok(Ok(None)) => {
                    warn!("another replica took the lease");
                    return;
                }
                Ok(Err(error)) => {
                    warn!(%error, "could not renew the lease");
                    wait = self.timing.retry_every.min(left);
                }
                Err(_) => {
                    warn!("could not renew the lease in time");
                    return;
                }
            }
        }
    }

    async fn renew(&self, lease: &Lease) -> Result<Option<Lease>, kube::Error> {
        match self.api.replace(&self.name, &params(), &self.renewed(lease)).await {
            Ok(fresh) => Ok(Some(fresh)),
            // Someone wrote meanwhile (a label by hand, or our own write whose answer was lost): still ours?
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let now = self.api.get(&self.name).await?;
                let holder = now.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
                if holder != Some(&self.identity) {
                    return Ok(None);
                }
                self.api.replace(&self.name, &params(), &self.renewed(&now)).await.map(Some)
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives the lease back, so that the other replica need not wait for it to run out.
    pub async fn release(&self) {
        let Ok(mut lease) = self.api.get(&self.name).await else { return };
        let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(&self.identity))
        else {
            return;
        };
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        if let Err(error) = self.api.replace(&self.name, &params(), &lease).await {
            debug!(%error, "could not give the lease back; it will run out");
        }
    }

    fn fresh(&self) -> Lease {
        let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
        self.taken(&Lease { metadata, spec: None })
    }

    fn taken(&self, lease: &Lease) -> Lease {
        let before = lease.spec.as_ref();
        let now = MicroTime(Timestamp::now());
        let same = before.and_then(|spec| spec.holder_identity.as_deref()) == Some(&self.identity);
        let turns = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        Lease {
            metadata: lease.metadata.clone(),
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(self.timing.duration.as_secs().max(1)).ok(),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                lease_transitions: Some(turns + i32::from(!same && before.is_some())),
                ..LeaseSpec::default()
            }),
        }
    }

    fn renewed(&self, lease: &Lease) -> Lease {
        let mut lease = lease.clone();
        if let Some(spec) = lease.spec.as_mut() {
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        lease
    }
}

fn params() -> PostParams {
    PostParams { dry_run: false, field_manager: Some(LEASE_MANAGER.to_owned()) }
}
