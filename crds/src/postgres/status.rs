//! What the platform says of a database server.

use k8s_openapi::jiff::Timestamp;
use kube::core::ResourceExt;

use super::pooler::{POOLED, pooled, pooler_name};
use super::tls::ENCRYPTED;
use super::users::{PROVISIONED, turning};
use super::{
    CONFIGURED, DatabaseStatus, Observed, PostgresInstance, PostgresInstanceStatus, Provisioned, Synchronous,
    database_secret, room,
};
use crate::backup::HEALTHY;
use crate::conditions::{Conditions, Verdict};
use crate::shared::{Member, Probe, trouble, unobserved};
use crate::{Outcome, Platform};

/// The condition that every copy is there.
pub const REDUNDANT: &str = "Redundant";
/// The condition that a confirmed write survives the loss of a machine.
pub const DURABLE: &str = "Durable";

/// The status after a pass.
pub fn status(
    instance: &PostgresInstance,
    observed: &Observed,
    platform: &Platform,
    now: Timestamp,
) -> PostgresInstanceStatus {
    let before = instance.status.clone().unwrap_or_default();
    let generation = instance.metadata.generation.unwrap_or_else(unobserved);
    let ready = i32::try_from(observed.pods.iter().filter(|pod| pod.ready).count()).unwrap_or(i32::MAX);
    let conditions = Conditions::from(&before.conditions, generation, now)
        .ready(&observed.outcome, || answers(instance, observed))
        .with(REDUNDANT, redundant(instance, observed, ready))
        .with(DURABLE, durable(instance, observed));
    let conditions = match observed.settings.verdict() {
        Some(verdict) => conditions.with(CONFIGURED, verdict),
        None => conditions,
    };
    let conditions = match observed.encryption.verdict(instance, &observed.settings) {
        Some(verdict) => conditions.with(ENCRYPTED, verdict),
        None => conditions,
    };
    let conditions = conditions.with(HEALTHY, backed_up(observed));
    let conditions = match provisioned(instance, observed) {
        Some(verdict) => conditions.with(PROVISIONED, verdict),
        None => conditions,
    };
    let conditions = match pooled(instance, &observed.poolers) {
        Some(verdict) => conditions.with(POOLED, verdict),
        None => conditions.without(POOLED),
    };
    let name = instance.name_any();
    let conditions = match room::verdict(&name, &observed.rooms) {
        Some(verdict) => conditions.with(room::STORAGE_HEALTHY, verdict),
        None => conditions,
    };
    let namespace = instance.namespace().unwrap_or_default();
    let endpoint = |service: &str| Some(format!("{}:5432", platform.host(service, &namespace)));
    let mut members: Vec<Member> = observed.pods.iter().map(Member::from).collect();
    members.sort_by(|one, other| one.name.cmp(&other.name));
    PostgresInstanceStatus {
        observed_generation: generation,
        conditions: conditions.into_vec(),
        primary: primary(observed),
        instances: Some(format!("{ready}/{}", instance.spec.instances)),
        ready_instances: ready,
        members,
        endpoint: endpoint(&name),
        read_only_endpoint: endpoint(&format!("{name}-ro")),
        databases: instance
            .spec
            .databases
            .iter()
            .map(|database| DatabaseStatus {
                name: database.name.clone(),
                secret: database_secret(&name, &database.name),
            })
            .collect(),
        users: instance.spec.users.iter().map(|user| user.status(&name)).collect(),
        pooler_endpoint: instance.spec.pooler.as_ref().and_then(|_| endpoint(&pooler_name(&name))),
        credentials_generation: match turning(instance) {
            Some(_) if !observed.turned => before.credentials_generation,
            _ => instance.spec.credentials_generation,
        },
        last_backup: observed.backups.as_ref().and_then(|backups| backups.last.clone()),
        last_proved_restore: observed.backups.as_ref().and_then(|backups| backups.proved.clone()),
        version: observed.data.as_ref().and_then(|data| data.version.clone()).or(before.version),
        kept_version: match &observed.data {
            Some(data) => data.kept.clone(),
            None => before.kept_version,
        },
        operation: observed.operation.clone(),
        provisioned: match &observed.provisioned {
            Provisioned::Done(fingerprint) => Some(fingerprint.clone()),
            Provisioned::NotTried | Provisioned::Failed(_) => before.provisioned,
        },
        granted: match &observed.granted {
            Provisioned::Done(fingerprint) => Some(fingerprint.clone()),
            Provisioned::NotTried | Provisioned::Failed(_) => before.granted,
        },
    }
}

/// Whether databases, users and passwords are as the spec says; nothing new if the server could not be asked.
fn provisioned(instance: &PostgresInstance, observed: &Observed) -> Option<Verdict> {
    if !observed.unusable.is_empty() {
        return Some(Verdict::no("SecretNotUsable", observed.unusable.join("; ")));
    }
    if let Provisioned::Failed(act) = &observed.provisioned {
        return Some(Verdict::no("NotProvisioned", act.clone()));
    }
    if let Provisioned::Failed(act) = &observed.granted {
        return Some(Verdict::no("UsersNotProvisioned", act.clone()));
    }
    if let Some(generation) = turning(instance).filter(|_| !observed.turned) {
        return Some(Verdict::no("Rotating", format!("new passwords of generation {generation} are on their way")));
    }
    if observed.probe != Probe::Answered || !is_provisioned(instance, observed) {
        return None;
    }
    let (databases, users) = (instance.spec.databases.len(), instance.spec.users.len());
    let generation = instance.spec.credentials_generation;
    let said = format!(
        "{databases} databases, {users} users and their passwords of generation {generation} are as the spec says"
    );
    Some(Verdict::yes("AsInSpec", said))
}

/// The pod that says it takes writes. Right after a failover two pods may say so; then nobody is named.
fn primary(observed: &Observed) -> Option<String> {
    let mut primaries = observed.pods.iter().filter(|pod| pod.role.as_deref() == Some("primary"));
    let first = primaries.next()?;
    primaries.next().is_none().then(|| first.name.clone())
}

fn answers(instance: &PostgresInstance, observed: &Observed) -> Verdict {
    if instance.spec.suspend {
        return Verdict::no(
            "Suspended",
            "all copies are stopped and their data is kept; set spec.suspend to false to start",
        );
    }
    match (&observed.probe, &observed.provisioned) {
        (Probe::Answered, Provisioned::Failed(act)) => Verdict::no("NotProvisioned", act.clone()),
        (Probe::Answered, _) if !is_provisioned(instance, observed) => {
            Verdict::no("Provisioning", "the server answers; its databases are being made")
        }
        (Probe::Answered, _) => Verdict::yes("Answering", "SELECT 1 through the Service was answered"),
        (Probe::Failed(what), _) => {
            let failed = format!("SELECT 1 through the Service failed: {what}");
            match trouble(&observed.pods) {
                Some(trouble) => Verdict::no("PodsNotRunning", format!("{failed}; {trouble}")),
                None => Verdict::no("NotAnswering", failed),
            }
        }
        (Probe::NotAsked, _) => match trouble(&observed.pods) {
            Some(trouble) => Verdict::no("PodsNotRunning", trouble),
            None => Verdict::no("Starting", "no primary yet"),
        },
    }
}

fn is_provisioned(instance: &PostgresInstance, observed: &Observed) -> bool {
    matches!(observed.provisioned, Provisioned::Done(_))
        || instance.status.as_ref().is_some_and(|status| status.provisioned.is_some())
}

fn redundant(instance: &PostgresInstance, observed: &Observed, ready: i32) -> Verdict {
    let wanted = instance.spec.instances;
    if instance.spec.suspend {
        return Verdict::no("Suspended", "all copies are stopped");
    }
    if wanted == 1 {
        return Verdict::no("SingleInstance", "one copy was asked for; the loss of its machine stops the database");
    }
    if ready >= wanted {
        return Verdict::yes("AllReady", format!("all {wanted} copies are ready"));
    }
    let missing = trouble(&observed.pods).map_or_else(String::new, |trouble| format!("; {trouble}"));
    Verdict::no("CopiesMissing", format!("{ready} of {wanted} copies are ready{missing}"))
}

/// What the plan says; that there is none is no healthy backup either.
fn backed_up(observed: &Observed) -> Verdict {
    let Some(backups) = &observed.backups else {
        return Verdict::no("NoPlan", "nothing backs this database up: make a BackupPlan for it");
    };
    let said = format!("{}: {}", backups.plan, backups.healthy.1);
    match backups.healthy.0 {
        Some(true) => Verdict::yes("AsPlanned", said),
        Some(false) => Verdict::no("NotAsPlanned", said),
        None => Verdict::unknown("NotSeen", said),
    }
}

fn durable(instance: &PostgresInstance, observed: &Observed) -> Verdict {
    let confirming = observed.confirming.join(" or ");
    match (instance.spec.synchronous, observed.confirming.is_empty()) {
        (Synchronous::Disabled, _) => {
            Verdict::no("Asynchronous", "asked for: the last writes may be lost at a failover")
        }
        (Synchronous::Strict, false) | (Synchronous::Preferred, false) => {
            Verdict::yes("Synchronous", format!("writes are confirmed by {confirming}"))
        }
        // Nothing is lost here: whatever was confirmed was confirmed by two machines.
        (Synchronous::Strict, true) if observed.outcome == Outcome::Applied => {
            Verdict::yes("WritesWait", "no second copy confirms right now, so writes wait for one")
        }
        (Synchronous::Strict, true) => Verdict::unknown("NotSeen", "nobody could look"),
        (Synchronous::Preferred, true) => {
            Verdict::no("NoSecondCopy", "writes go on with the primary alone and may be lost with its machine")
        }
    }
}
