//! What a plan and a backup turn into.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::core::ResourceExt;
use serde_json::{Value, json};

use super::conf::{Access, FOLDER, PORT, Repository, STORE_CA};
use super::{Backup, BackupPlan, schedule};
use crate::certificates::{CertificateSlot, Certificates};
use crate::object::{DynamicObject, object};
use crate::postgres::{self, PostgresInstance};
use crate::quantity::Amount;
use crate::shared::DataClass;
use crate::{Passwords, Plan, Platform, Slot, Unfit, labels, network, pod};

/// Word for plans in labels.
pub const PLAN_APP: &str = "backup-plan";
/// Word for backups in labels.
pub const BACKUP_APP: &str = "backup";
/// Plan that a pod's data is restored from, in its labels.
pub const SOURCE: &str = "hz.hospital/restored-from";
/// Port of our own stores.
const STORE_PORT: u16 = 8333;
const PASSPHRASE: &str = "passphrase";
const MAKE: &str = include_str!("backup.py");

/// What the operator looks up before it decides on a plan.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// The instance that is backed up, if it is there.
    pub instance: Option<PostgresInstance>,
    /// The store, or why there is none.
    pub access: Result<Access, Unfit>,
    /// The passphrase, in its [`slot`].
    pub passwords: Passwords,
    /// The certificate, in its [`certificate`].
    pub certificates: Certificates,
}

/// Where the passphrase of a plan is kept: for as long as there may be backups.
pub fn slot(plan: &str) -> Slot {
    Slot::new(format!("{plan}-encryption"), PASSPHRASE)
}

/// The certificate by which copies of an instance and Jobs of its plan know each other.
pub fn certificate(plan: &BackupPlan, platform: &Platform) -> CertificateSlot {
    let instance = &plan.spec.instance;
    CertificateSlot {
        secret: format!("{}-backup-tls", plan.name_any()),
        common_name: format!("backup-{}", plan.name_any()),
        dns_names: vec![format!("*.{}", pods_host(instance, &plan.namespace().unwrap_or_default(), platform))],
    }
}

fn pods_host(instance: &str, namespace: &str, platform: &Platform) -> String {
    platform.host(&format!("{instance}-pods"), namespace)
}

/// Secret with the configuration of the copies of an instance and of the Jobs that back it up.
pub fn configuration_secret(instance: &str) -> String {
    format!("{instance}-backup")
}

/// Secret with the configuration of instances that are restored from a plan.
pub fn source_secret(plan: &str) -> String {
    format!("{plan}-source")
}

/// Everything a plan owns.
pub fn desired(plan: &BackupPlan, inputs: &Inputs, platform: &Platform) -> Result<Plan, Unfit> {
    let (name, namespace) = (plan.name_any(), plan.namespace().unwrap_or_default());
    schedule::parse("spec.schedule.full", &plan.spec.schedule.full)?;
    if let Some(differential) = &plan.spec.schedule.differential {
        schedule::parse("spec.schedule.differential", differential)?;
    }
    let access = inputs.access.as_ref().map_err(Clone::clone)?;
    let slot = slot(&name);
    let passphrase = inputs.passwords.get(&slot)?;
    let repository = Repository { access, path: &format!("/{name}"), passphrase, full: plan.spec.retention.full };
    let source = BTreeMap::from([("restore.conf", Some(repository.for_restore())), (STORE_CA, access.ca.clone())]);
    // Where backups are, and the passphrase without which they are nothing, are known for as long as the plan is there;
    // the instance may be gone.
    let objects = Plan::owned_by(plan, PLAN_APP)
        .keeping(secret(slot.secret.clone(), BTreeMap::from([(PASSPHRASE, Some(passphrase.to_owned()))])))
        .with(secret(source_secret(&name), source))
        .with_all(doors(plan))
        .with(object::<ConfigMap>(format!("{name}-backup"), json!({ "data": { "backup.py": MAKE } })));
    let Some(instance) = &inputs.instance else { return Ok(objects) };
    stays_in(plan, instance)?;

    let certificate = certificate(plan, platform);
    let pair = inputs.certificates.get(&certificate)?;
    let hosts: Vec<String> = (0..instance.spec.instances)
        .map(|number| {
            format!("{}-{number}.{}", plan.spec.instance, pods_host(&plan.spec.instance, &namespace, platform))
        })
        .collect();
    let configuration = BTreeMap::from([
        ("pgbackrest.conf", Some(repository.for_copies(&certificate.common_name))),
        ("job.conf", Some(repository.for_job(&hosts))),
        ("ca.crt", Some(pair.ca_crt.clone())),
        ("tls.crt", Some(pair.tls_crt.clone())),
        ("tls.key", Some(pair.tls_key.clone())),
        (STORE_CA, access.ca.clone()),
    ]);
    Ok(objects.with(pair.secret(&certificate)).with(secret(configuration_secret(&plan.spec.instance), configuration)))
}

fn secret(name: String, data: BTreeMap<&str, Option<String>>) -> DynamicObject {
    let data: BTreeMap<&str, ByteString> =
        data.into_iter().filter_map(|(key, value)| Some((key, ByteString(value?.into_bytes())))).collect();
    object::<Secret>(name, json!({ "type": "Opaque", "data": data }))
}

/// Clinical data leaves the hospital in no form.
fn stays_in(plan: &BackupPlan, instance: &PostgresInstance) -> Result<(), Unfit> {
    match &plan.spec.destination.s3 {
        Some(s3) if !s3.on_premises && instance.spec.data_class == DataClass::Clinical => Err(Unfit::refused(
            "spec.destination.s3.endpoint",
            &s3.endpoint,
            format!("{} is Clinical, and its backups stay in the hospital", plan.spec.instance),
            "take an objectStore, or a store in the hospital and say so with onPremises: true",
        )),
        _ => Ok(()),
    }
}

/// The doors that backups need in the walls of others: Jobs to the copies, and all of them, as well as what is restored, to
/// the store.
fn doors(plan: &BackupPlan) -> Vec<DynamicObject> {
    let name = plan.name_any();
    let copies = labels::selector(postgres::APP, &plan.spec.instance);
    let jobs = jobs(&name);
    let restored = labels::map([(SOURCE, &name)]);
    let store = plan.spec.destination.object_store.as_ref();
    let store = store.map(|store| labels::map([(labels::NAME, "store"), (labels::INSTANCE, &store.name)]));
    let to_store = match (&store, &plan.spec.destination.s3) {
        (Some(store), _) => network::to(vec![network::pods(store)], network::tcp([STORE_PORT])),
        (None, s3) => {
            let port = s3.as_ref().and_then(|s3| s3.endpoint.rsplit_once(':')?.1.parse().ok()).unwrap_or(443);
            json!({ "ports": network::tcp([port]) })
        }
    };
    let serve = network::from(vec![network::pods(&jobs)], network::tcp([PORT]));
    let ask = network::to(vec![network::pods(&copies)], network::tcp([PORT]));
    let mut doors = vec![
        network::wall(&format!("{name}-copies"), &copies, vec![serve], vec![to_store.clone()]),
        network::wall(&format!("{name}-jobs"), &jobs, vec![], vec![ask, to_store.clone()]),
        network::wall(&format!("{name}-restored"), &restored, vec![], vec![to_store]),
    ];
    if let Some(store) = store {
        let all = vec![network::pods(&copies), network::pods(&jobs), network::pods(&restored)];
        let open = network::from(all, network::tcp([STORE_PORT]));
        doors.push(network::wall(&format!("{name}-store"), &store, vec![open], vec![]));
    }
    doors
}

fn jobs(plan: &str) -> BTreeMap<String, String> {
    labels::map([(labels::NAME, BACKUP_APP), ("hz.hospital/backup-plan", plan)])
}

/// Annotation of a backup before which the store takes the database in as a new one: after an upgrade, and after the way back. Without
/// it a database that is not the one in the store is refused, so that none is mixed up with another of its name.
pub const UPGRADED: &str = "hz.hospital/upgraded";

/// The Job that makes a backup.
pub fn job(backup: &Backup, plan: &BackupPlan, platform: &Platform) -> Plan {
    let name = backup.name_any();
    let hospital = backup.namespace().unwrap_or_default();
    let mut on_pods = jobs(&backup.spec.plan);
    on_pods.insert(labels::INSTANCE.into(), name.clone());
    on_pods.insert(labels::PART_OF.into(), labels::hospital_of(&hospital).into());
    on_pods.insert(labels::DATA_CLASS.into(), DataClass::Clinical.word().into());
    let whole = json!({ "spec": {
        // What failed for a moment is tried again; what is done is not done twice.
        "backoffLimit": 3,
        "activeDeadlineSeconds": plan.spec.deadline_seconds,
        "ttlSecondsAfterFinished": 86_400,
        "template": { "metadata": { "labels": on_pods }, "spec": pod_of(backup, platform, &plan.spec.instance) },
    } });
    Plan::owned_by(backup, BACKUP_APP).with(object::<Job>(name, whole))
}

fn pod_of(backup: &Backup, platform: &Platform, instance: &str) -> Value {
    let mut variables =
        vec![pod::variable("BACKUP_NAME", backup.name_any()), pod::variable("BACKUP_TYPE", backup.spec.type_.word())];
    if backup.annotations().get(UPGRADED).is_some_and(|said| said == "true") {
        variables.push(pod::variable("DATABASE_UPGRADED", "true"));
    }
    json!({
        "restartPolicy": "Never",
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "dnsConfig": pod::dns(),
        "securityContext": pod::restricted(Some(postgres::USER)),
        "containers": [{
            "name": "backup",
            "image": platform.images.postgres,
            "imagePullPolicy": pod::PULL,
            "command": ["python3", "/scripts/backup.py"],
            "env": variables,
            "resources": pod::resources(&Amount::from("100m"), &Amount::from("64Mi"), &Amount::from("512Mi")),
            "securityContext": pod::locked(),
            "volumeMounts": [
                { "name": "configuration", "mountPath": FOLDER, "readOnly": true },
                { "name": "scripts", "mountPath": "/scripts", "readOnly": true },
                { "name": "tmp", "mountPath": "/tmp" },
            ],
        }],
        "volumes": [
            { "name": "configuration", "secret": { "secretName": configuration_secret(instance), "defaultMode": 0o440 } },
            { "name": "scripts", "configMap": { "name": format!("{}-backup", backup.spec.plan) } },
            pod::scratch("tmp", &Amount::from("64Mi")),
        ],
    })
}
