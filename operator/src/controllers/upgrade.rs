//! The version of a database server: what its pods say of their data, and what an operation at work on it asks of them.

use std::time::Duration;

use hz_crds::backup::{Backup, BackupSpec, BackupType, UPGRADED};
use hz_crds::operation::decide::{CopySeen, LastBackup, TargetSeen};
use hz_crds::operation::upgrade;
use hz_crds::operation::{DataOperation, Target, TargetKind};
use hz_crds::postgres::upgrade::{Course, DataSeen, version};
use hz_crds::postgres::{PostgresInstance, PostgresVersion, parameters};
use hz_crds::{Timestamp, labels};
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use super::{Context, backup_plan, copies, operation};
use crate::engine::Error;
use crate::engine::kinds::named;
use crate::engine::run::in_namespace;

/// A backup that is older than this is none to begin an upgrade with.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// An instance as its pods are described: of the version of its data, with what an operation asks for.
pub struct Described {
    /// The instance; its version is that of the data.
    pub instance: PostgresInstance,
    /// What an operation asks for.
    pub course: Option<Course>,
    /// What the primary says of its data.
    pub data: Option<DataSeen>,
    /// What is to be said of a spec that asks for another version than the data is of.
    pub mismatch: Option<String>,
}

/// How the pods of an instance are to be described.
pub fn described(instance: &PostgresInstance, ctx: &Context) -> Described {
    let (namespace, name) = (instance.namespace().unwrap_or_default(), instance.name_any());
    let target = Target { kind: TargetKind::PostgresInstance, name };
    let course = operation::first(ctx, &namespace, &target).as_ref().and_then(upgrade::course);
    let data = data(ctx, &namespace, &target);
    let seen = data.as_ref().and_then(|data| data.version.as_deref());
    let (version, mismatch) = version(instance, course.as_ref(), seen);
    let mut instance = instance.clone();
    instance.spec.version = version;
    Described { instance, course, data, mismatch }
}

/// What the primary says of its data, and whether any copy keeps some of before an upgrade.
fn data(ctx: &Context, namespace: &str, target: &Target) -> Option<DataSeen> {
    let copies = copies::standing(&ctx.engine.world, target, namespace);
    let leads =
        |copy: &&CopySeen| copy.copy.ready && role(ctx, namespace, &copy.copy.name).as_deref() == Some("primary");
    let mut data = copies.iter().find(leads)?.data.clone();
    data.version.as_ref()?;
    data.kept = copies.iter().find_map(|copy| copy.data.kept.clone());
    Some(data)
}

fn role(ctx: &Context, namespace: &str, pod: &str) -> Option<String> {
    let seen = ctx.engine.world.get(named("Pod"), Some(namespace), pod)?;
    seen.facts["metadata"]["labels"][labels::ROLE].as_str().map(str::to_owned)
}

/// What an operation on the version has to know of its target, besides what all do.
pub fn look(
    operation: &DataOperation,
    instance: &PostgresInstance,
    target: &mut TargetSeen,
    copies: &[CopySeen],
    ctx: &Context,
) {
    let (namespace, name) = (instance.namespace().unwrap_or_default(), instance.name_any());
    let status = instance.status.as_ref();
    target.version = Some(instance.spec.version);
    target.data_version = status.and_then(|status| status.version.clone());
    target.mismatch = version(instance, None, None).1;
    let before = copies.iter().find_map(|copy| copy.data.kept.as_deref()).and_then(PostgresVersion::of);
    target.unknown_before =
        before.and_then(|before| parameters::unknown_to(before, &instance.spec.parameters)).cloned();
    target.backups = backup_plan::seen(ctx, &namespace, &name).map(|backups| {
        let made = backup_name(&backups.plan, operation);
        let now = Timestamp::now();
        let age =
            backups.last.as_ref().and_then(|last| last.parse::<Timestamp>().ok()).map(|last| now.duration_since(last));
        LastBackup {
            fresh: age.is_some_and(|age| age.unsigned_abs() <= FRESH),
            ordered: in_namespace(&ctx.backups, &namespace).iter().any(|backup| backup.name_any() == made),
            plan: backups.plan,
            last: backups.last,
        }
    });
}

/// One backup for each operation: asked for twice is once.
fn backup_name(plan: &str, operation: &DataOperation) -> String {
    let uid = operation.uid().unwrap_or_default();
    format!("{plan}-upgrade-{}", uid.get(..8).unwrap_or("first"))
}

/// Asks for a full backup: older ones are of another database.
pub async fn order_backup(ctx: &Context, namespace: &str, operation: &DataOperation) -> Result<(), Error> {
    let Some(backups) = backup_plan::seen(ctx, namespace, &operation.spec.target.name) else { return Ok(()) };
    let name = backup_name(&backups.plan, operation);
    let mut backup = Backup::new(&name, BackupSpec { plan: backups.plan, type_: BackupType::Full, cancel: false });
    backup.metadata.namespace = Some(namespace.to_owned());
    backup.metadata.annotations = Some([(UPGRADED.to_owned(), "true".to_owned())].into());
    let api: Api<Backup> = Api::namespaced(ctx.engine.client.clone(), namespace);
    match api.create(&PostParams::default(), &backup).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(source) => Err(Error::Apply { kind: "Backup", name, source: Box::new(source) }),
    }
}
