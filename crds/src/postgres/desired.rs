//! What a database server turns into.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::core::ResourceExt;
use serde_json::{Value, json};

use super::patroni::{FOLDER, PORT, REST_PORT, VOLUME};
use super::users::{User, turn_slot, user_secret, user_slot};
use super::{
    Database, Inputs, PASSWORD_KEY, PostgresInstance, PostgresInstanceSpec, REPLICATION, REPLICATION_KEY, REST_KEY,
    REST_USER, REWIND, REWIND_KEY, SUPERUSER, SUPERUSER_KEY, database_secret, exporter, owner_slot, parameters,
    patroni, pooler, pooler_objects, slots, system_secret, tls, upgrade, users,
};
use crate::object::without_nulls;
use crate::object::{DynamicObject, object};
use crate::quantity::Amount;
use crate::shared::digest;
use crate::{KeyPair, Plan, Platform, Unfit, backup, certificates, labels, network, pod, rbac};

/// Word for it in labels.
pub const APP: &str = "postgres";
/// User in the image.
pub(crate) const USER: i64 = 10002;
/// The most copies the schema takes; names of their pods are known before they exist.
const MOST_INSTANCES: i32 = 7;

/// Everything a database server owns.
pub fn desired(instance: &PostgresInstance, inputs: &Inputs, platform: &Platform) -> Result<Plan, Unfit> {
    let server = Server {
        name: &instance.name_any(),
        namespace: &instance.namespace().unwrap_or_default(),
        spec: &instance.spec,
        course: inputs.course.as_ref(),
    };
    pod::fits("spec.instances", server.spec.instances, platform)?;
    parameters::check(server.spec)?;
    users::check(instance)?;
    pooler::check(instance)?;
    refuse_foreign_secrets(instance, inputs)?;

    let keep = server.spec.deletion_policy.retains();
    let slot = tls::certificate(instance, platform);
    let pair = inputs.certificates.get(&slot)?;
    let mut plan =
        Plan::owned_by(instance, APP).keeping_if(keep, server.system_secret(inputs)?).with(pair.secret(&slot));
    for database in &server.spec.databases {
        let extra = |password: &str| pooler::keys(instance, platform, (&database.name, password, &database.name));
        plan = plan.keeping_if(keep, server.database_secret(database, inputs, pair, platform, extra)?);
    }
    for user in &server.spec.users {
        if let Some(secret) = server.user_secret(user, inputs, pair, platform)? {
            plan = plan.keeping_if(keep, secret);
        }
    }
    if let Some(secret) = server.next_passwords(instance, inputs)? {
        plan = plan.with(secret);
    }
    let adopted = if keep { &[][..] } else { &inputs.patroni_maps[..] };
    let role = labels::ROLE;
    Ok(plan
        .with_all(adopted.iter().map(|name| server.adopt(name)))
        .with(rbac::service_account(server.name))
        .with(rbac::role(server.name, &patroni_rules(server.name)))
        .with(rbac::binding(server.name, "Role", server.name, vec![rbac::account(server.namespace, server.name)]))
        .with(server.wall(platform))
        .with(server.configuration())
        .with(pod::headless(&server.pods(), &server.selector(), &[("postgres", PORT), ("patroni", REST_PORT)]))
        .with(pod::service(server.name, &server.selected(role, "primary"), ("postgres", PORT, "postgres")))
        .with(pod::service(&server.read_only(), &server.selected(role, "replica"), ("postgres", PORT, "postgres")))
        .with(pod::one_at_a_time(server.name, &server.selector()))
        .with(server.stateful_set(platform))
        .with_all(pooler_objects::objects(instance, inputs, platform)?))
}

fn refuse_foreign_secrets(instance: &PostgresInstance, inputs: &Inputs) -> Result<(), Unfit> {
    let passwords = slots(instance).into_iter().map(|slot| slot.secret);
    let wanted: Vec<String> = passwords.chain([tls::secret(&instance.name_any())]).collect();
    match inputs.foreign.iter().find(|(secret, _)| wanted.contains(secret)) {
        None => Ok(()),
        Some((secret, holder)) => {
            Err(Unfit::Taken { kind: "Secret".into(), name: secret.clone(), holder: holder.clone() })
        }
    }
}

/// What Patroni may do: keep its state in ConfigMaps of fixed names, and label pods of this instance.
fn patroni_rules(name: &str) -> Vec<k8s_openapi::api::rbac::v1::PolicyRule> {
    let pods = (0..MOST_INSTANCES).map(|number| format!("{name}-{number}")).collect();
    vec![
        // Creating, listing and watching cannot be narrowed to names.
        rbac::rule("", &["configmaps"], &["create", "list", "watch"]),
        rbac::named_rule("", &["configmaps"], patroni::store(name), &["get", "update", "patch", "delete"]),
        rbac::rule("", &["pods"], &["get", "list", "watch"]),
        rbac::named_rule("", &["pods"], pods, &["update", "patch"]),
    ]
}

/// A volume from a Secret that may not be there, or not yet.
fn optional(name: &str, secret: &str) -> Value {
    json!({ "name": name, "secret": { "secretName": secret, "optional": true, "defaultMode": 0o440 } })
}

/// An instance under the names its objects go by.
struct Server<'a> {
    name: &'a str,
    namespace: &'a str,
    spec: &'a PostgresInstanceSpec,
    course: Option<&'a upgrade::Course>,
}

impl Server<'_> {
    fn pods(&self) -> String {
        format!("{}-pods", self.name)
    }

    fn read_only(&self) -> String {
        format!("{}-ro", self.name)
    }

    fn configuration_name(&self) -> String {
        format!("{}-patroni", self.name)
    }

    fn selector(&self) -> BTreeMap<String, String> {
        labels::selector(APP, self.name)
    }

    fn selected(&self, label: &str, value: &str) -> BTreeMap<String, String> {
        let mut selector = self.selector();
        selector.insert(label.to_owned(), value.to_owned());
        selector
    }

    fn system_secret(&self, inputs: &Inputs) -> Result<DynamicObject, Unfit> {
        let secret = system_secret(self.name);
        let mut data = BTreeMap::new();
        for key in [SUPERUSER_KEY, REPLICATION_KEY, REWIND_KEY, REST_KEY, exporter::KEY] {
            let password = inputs.passwords.get(&crate::Slot::new(secret.as_str(), key))?;
            data.insert(key, ByteString(password.into()));
        }
        Ok(object::<Secret>(
            secret,
            json!({ "type": "Opaque", "data": data, "metadata": { "labels": { labels::COMPONENT: "system" } } }),
        ))
    }

    fn database_secret(
        &self,
        database: &Database,
        inputs: &Inputs,
        pair: &KeyPair,
        platform: &Platform,
        extra: impl Fn(&str) -> Vec<(&'static str, String)>,
    ) -> Result<DynamicObject, Unfit> {
        let password = inputs.passwords.get(&owner_slot(self.name, database))?;
        let host = platform.host(self.name, self.namespace);
        let name = &database.name;
        let uri = format!("postgresql://{name}:{password}@{host}:{PORT}/{name}{}", tls::query(self.spec.tls));
        let port = PORT.to_string();
        let data = [
            ("host", &host),
            ("port", &port),
            ("dbname", name),
            ("user", name),
            (PASSWORD_KEY, &password.to_owned()),
            ("uri", &uri),
        ]
        .map(|(key, value)| (key, value.clone()));
        let data = data.into_iter().chain(tls::for_tenants(self.spec.tls, pair)).chain(extra(password));
        let data: BTreeMap<&str, ByteString> = data.map(|(key, value)| (key, ByteString(value.into_bytes()))).collect();
        let class = database.data_class.unwrap_or(self.spec.data_class);
        Ok(object::<Secret>(
            database_secret(self.name, name),
            json!({
                "type": "Opaque",
                "data": data,
                "metadata": { "labels": { labels::COMPONENT: "credentials", labels::DATA_CLASS: class.word() } },
            }),
        ))
    }

    /// Credentials of a user whose password the operator makes.
    fn user_secret(
        &self,
        user: &User,
        inputs: &Inputs,
        pair: &KeyPair,
        platform: &Platform,
    ) -> Result<Option<DynamicObject>, Unfit> {
        let Some(slot) = user_slot(self.name, user) else { return Ok(None) };
        let (name, password) = (&user.name, inputs.passwords.get(&slot)?);
        let host = platform.host(self.name, self.namespace);
        let mut data: BTreeMap<&str, String> =
            BTreeMap::from([("port", PORT.to_string()), ("user", name.clone()), (PASSWORD_KEY, password.to_owned())]);
        if let Some(database) = user.database() {
            let query = tls::query(self.spec.tls);
            data.insert("uri", format!("postgresql://{name}:{password}@{host}:{PORT}/{database}{query}"));
            data.insert("dbname", database.to_owned());
        }
        data.insert("host", host);
        data.extend(tls::for_tenants(self.spec.tls, pair));
        let data: BTreeMap<&str, ByteString> =
            data.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes()))).collect();
        let class = self.spec.data_class.word();
        Ok(Some(object::<Secret>(
            user_secret(self.name, name),
            json!({
                "type": "Opaque",
                "data": data,
                "metadata": { "labels": { labels::COMPONENT: "credentials", labels::DATA_CLASS: class } },
            }),
        )))
    }

    /// What the next passwords come from, while they are on their way into the server.
    fn next_passwords(&self, instance: &PostgresInstance, inputs: &Inputs) -> Result<Option<DynamicObject>, Unfit> {
        let Some(slot) = turn_slot(instance) else { return Ok(None) };
        let seed = ByteString(inputs.passwords.get(&slot)?.into());
        let metadata = json!({ "labels": { labels::COMPONENT: "rotation" } });
        Ok(Some(object::<Secret>(
            slot.secret,
            json!({ "type": "Opaque", "data": { slot.key: seed }, "metadata": metadata }),
        )))
    }

    /// A ConfigMap of Patroni's: only its owner is ours to say, so that it goes with the instance.
    fn adopt(&self, name: &str) -> DynamicObject {
        object::<ConfigMap>(name, json!({ "metadata": { "labels": { labels::MANAGED_BY: "patroni" } } }))
    }

    fn wall(&self, platform: &Platform) -> DynamicObject {
        let own = network::pods(&self.selector());
        let bound = network::pods(&labels::map([(&labels::may_use(APP, self.name), "true")]));
        let mut doors =
            vec![network::from(vec![own.clone(), network::operator(platform)], network::tcp([PORT, REST_PORT]))];
        if self.spec.pooler.is_some() {
            doors.push(network::from(vec![pooler::pooler_pods(self.name)], network::tcp([PORT])));
        }
        doors.push(network::from(vec![network::operator(platform)], network::tcp([exporter::PORT])));
        if !self.spec.sealed {
            doors.insert(0, network::from(vec![bound], network::tcp([PORT])));
            doors.push(exporter::door());
        }
        network::wall(
            self.name,
            &self.selector(),
            doors,
            vec![network::to(vec![own], network::tcp([PORT, REST_PORT])), network::to_api(platform)],
        )
    }

    fn configuration(&self) -> DynamicObject {
        // As JSON, which is YAML too: Patroni's parser takes a bare `off` for a boolean, and JSON has quotes.
        let file = serde_json::to_string_pretty(&patroni::file(self.name, self.spec)).expect("a value is plain data");
        object::<ConfigMap>(
            self.configuration_name(),
            json!({ "data": {
                "patroni.yml": file,
                "take_over.py": patroni::TAKE_OVER,
                exporter::FILE: exporter::SERVE,
                "pgbackrest.sh": backup::ARCHIVE,
                "server.sh": backup::SERVE,
                "restore.py": self.spec.restore_from.as_ref().map(|_| backup::RESTORE),
                "upgrade.py": upgrade::SCRIPT,
                upgrade::TASK_FILE: upgrade::task_file(self.course),
            } }),
        )
    }

    fn replicas(&self) -> i32 {
        let all = if self.spec.suspend { 0 } else { self.spec.instances };
        self.course.and_then(|course| course.replicas).unwrap_or(all)
    }

    fn stateful_set(&self, platform: &Platform) -> DynamicObject {
        let retention = if self.spec.deletion_policy.retains() { "Retain" } else { "Delete" };
        object::<StatefulSet>(
            self.name,
            json!({ "spec": {
                "serviceName": self.pods(),
                "replicas": self.replicas(),
                "podManagementPolicy": "Parallel",
                // Who goes when is for the operator to say: it knows who leads and who is in step.
                "updateStrategy": { "type": "OnDelete" },
                "revisionHistoryLimit": 3,
                "persistentVolumeClaimRetentionPolicy": { "whenDeleted": retention, "whenScaled": "Retain" },
                "selector": { "matchLabels": self.selector() },
                "template": { "metadata": self.pod_metadata(), "spec": self.pod(platform) },
                "volumeClaimTemplates": [pod::volume_claim("data", &self.spec.storage, platform)],
            } }),
        )
    }

    fn pod_metadata(&self) -> Value {
        let mut labels = self.selected(labels::PATRONI, self.name);
        labels.insert(labels::PART_OF.into(), labels::hospital_of(self.namespace).into());
        labels.insert(labels::DATA_CLASS.into(), self.spec.data_class.word().into());
        // What is agreed on changes without a restart; only what a pod reads at its start is counted.
        let mut file = patroni::file(self.name, self.spec);
        if let Some(file) = file.as_object_mut() {
            file.remove("bootstrap");
        }
        labels.insert(tls::OFFERED.into(), "offered".into());
        if let Some(from) = &self.spec.restore_from {
            labels.insert(backup::SOURCE.into(), from.plan.clone());
        }
        let scripts = [patroni::TAKE_OVER, backup::SERVE, exporter::SERVE, upgrade::SCRIPT];
        let file = file.to_string();
        let start = digest(std::iter::once(file.as_str()).chain(scripts).map(str::as_bytes));
        let container = "kubectl.kubernetes.io/default-container";
        json!({ "labels": labels, "annotations": { "hz.hospital/configuration": start[..16], container: "postgres" } })
    }

    fn pod(&self, platform: &Platform) -> Value {
        let quarter = Amount::mebibytes((self.spec.resources.limit().units().unwrap_or_default() >> 22).max(16));
        json!({
            "serviceAccountName": self.name,
            "automountServiceAccountToken": true,
            "enableServiceLinks": false,
            "dnsConfig": pod::dns(),
            "securityContext": pod::restricted(Some(USER)),
            // Room for a last checkpoint; a copy takes over as soon as the primary has written it.
            "terminationGracePeriodSeconds": 120,
            "affinity": pod::apart(&self.selector(), &platform.spread_over),
            "tolerations": pod::steadfast(),
            "containers": [
                self.container(platform),
                self.backups(platform),
                exporter::container(self.name, platform),
            ],
            "volumes": without_nulls(json!([
                { "name": "configuration", "configMap": { "name": self.configuration_name() } },
                // There whenever a plan for backups is, without a restart.
                optional("backup", &backup::configuration_secret(self.name)),
                self.spec.restore_from.as_ref().map(|from| optional("source", &backup::source_secret(&from.plan))),
                certificates::volume("tls", &tls::secret(self.name)),
                pod::scratch("sockets", &Amount::from("16Mi")),
                pod::scratch("tmp", &Amount::from("64Mi")),
                // Parallel queries share memory here; the 64 MiB that containers get are soon full.
                { "name": "shared-memory", "emptyDir": { "medium": "Memory", "sizeLimit": quarter.to_string() } },
            ])),
        })
    }

    /// What serves backups: beside PostgreSQL, whose socket and files it needs.
    fn backups(&self, platform: &Platform) -> Value {
        json!({
            "name": "backup",
            "image": platform.images.postgres,
            "imagePullPolicy": pod::PULL,
            "command": ["sh", format!("{FOLDER}/server.sh")],
            // By these it tells how far an upgrade is.
            "env": [
                pod::from_field("POD_NAME", "metadata.name"),
                pod::from_field("POD_NAMESPACE", "metadata.namespace"),
                pod::variable("HZ_VERSION", self.spec.version.word()),
            ],
            "ports": [{ "name": "backup", "containerPort": backup::conf::PORT, "protocol": "TCP" }],
            "resources": pod::resources(&Amount::from("10m"), &Amount::from("24Mi"), &Amount::from("256Mi")),
            "securityContext": pod::locked(),
            "volumeMounts": [
                { "name": "configuration", "mountPath": FOLDER, "readOnly": true },
                { "name": "backup", "mountPath": backup::conf::FOLDER, "readOnly": true },
                { "name": "data", "mountPath": VOLUME },
                { "name": "sockets", "mountPath": "/var/run/postgresql" },
                { "name": "tmp", "mountPath": "/tmp" },
            ],
        })
    }

    fn container(&self, platform: &Platform) -> Value {
        let source = self.spec.restore_from.as_ref();
        // Starts Patroni, once it knows that the data is of the version that is to be started.
        let start = ["python3", &format!("{FOLDER}/upgrade.py"), "start", self.name].map(str::to_owned);
        let rest = |path: &str| json!({ "path": path, "port": "patroni", "scheme": "HTTP" });
        json!({
            "name": "postgres",
            "image": platform.images.postgres,
            "imagePullPolicy": pod::PULL,
            "command": match source {
                None => start.to_vec(),
                Some(_) => {
                    let resume = format!("python3 {FOLDER}/restore.py resume {}", self.name);
                    vec!["sh".to_owned(), "-c".to_owned(), format!("{resume} && exec {}", start.join(" "))]
                }
            },
            "env": self.environment(),
            "ports": [
                { "name": "postgres", "containerPort": PORT, "protocol": "TCP" },
                { "name": "patroni", "containerPort": REST_PORT, "protocol": "TCP" },
            ],
            "readinessProbe": { "httpGet": rest("/readiness"), "periodSeconds": 2, "timeoutSeconds": 3, "failureThreshold": 3 },
            // Alive is Patroni's loop, not PostgreSQL: what a stopped PostgreSQL needs, Patroni knows best.
            "livenessProbe": {
                "httpGet": rest("/liveness"),
                "initialDelaySeconds": 30, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6,
            },
            "resources": pod::resources_of(&self.spec.resources),
            "securityContext": pod::locked(),
            "volumeMounts": without_nulls(json!([
                { "name": "configuration", "mountPath": FOLDER, "readOnly": true },
                { "name": "backup", "mountPath": backup::conf::FOLDER, "readOnly": true },
                { "name": "tls", "mountPath": tls::FOLDER, "readOnly": true },
                source.map(|_| json!({ "name": "source", "mountPath": backup::conf::SOURCE_FOLDER, "readOnly": true })),
                { "name": "data", "mountPath": VOLUME },
                { "name": "sockets", "mountPath": "/var/run/postgresql" },
                { "name": "tmp", "mountPath": "/tmp" },
                { "name": "shared-memory", "mountPath": "/dev/shm" },
            ])),
        })
    }

    fn environment(&self) -> Value {
        let system = system_secret(self.name);
        let mut variables = vec![
            pod::from_field("POD_NAME", "metadata.name"),
            pod::from_field("POD_NAMESPACE", "metadata.namespace"),
            pod::variable("PATRONI_NAME", "$(POD_NAME)"),
            pod::variable("PATRONI_KUBERNETES_NAMESPACE", "$(POD_NAMESPACE)"),
            pod::from_field("PATRONI_KUBERNETES_POD_IP", "status.podIP"),
            pod::variable("PATRONI_RESTAPI_CONNECT_ADDRESS", format!("$(PATRONI_KUBERNETES_POD_IP):{REST_PORT}")),
            pod::variable("PATRONI_POSTGRESQL_CONNECT_ADDRESS", format!("$(PATRONI_KUBERNETES_POD_IP):{PORT}")),
            pod::variable("PATRONI_RESTAPI_USERNAME", REST_USER),
            pod::from_secret("PATRONI_RESTAPI_PASSWORD", &system, REST_KEY),
            pod::variable("PATRONI_SUPERUSER_USERNAME", SUPERUSER),
            pod::from_secret("PATRONI_SUPERUSER_PASSWORD", &system, SUPERUSER_KEY),
            pod::variable("PATRONI_REPLICATION_USERNAME", REPLICATION),
            pod::from_secret("PATRONI_REPLICATION_PASSWORD", &system, REPLICATION_KEY),
            pod::variable("PATRONI_REWIND_USERNAME", REWIND),
            pod::from_secret("PATRONI_REWIND_PASSWORD", &system, REWIND_KEY),
            // For who runs psql in the pod with a tenant's URI.
            pod::variable("PGSSLROOTCERT", format!("{}/{}", tls::FOLDER, certificates::CA_CRT)),
        ];
        variables.extend(upgrade::environment(self.spec.version, self.course));
        json!(variables)
    }
}
