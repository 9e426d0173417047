//! What a store turns into.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::core::ResourceExt;
use serde_json::{Value, json};

use super::{ACCESS_KEY, Inputs, ObjectStore, ObjectStoreSpec, SECRET_KEY, certificate, client_secret, slots};
use crate::object::{DynamicObject, object};
use crate::quantity::Amount;
use crate::shared::digest;
use crate::{KeyPair, Plan, Platform, Unfit, certificates, labels, network, pod, rbac};

/// Word for it in labels.
pub const APP: &str = "store";
/// Port for clients: S3 over TLS.
pub const PORT: u16 = 8333;
/// What clients sign for. A store has no regions, but S3 wants the word.
pub const REGION: &str = "us-east-1";
/// User in the image.
const USER: i64 = 10006;
const MASTER: u16 = 9333;
const VOLUME: u16 = 8080;
const FILER: u16 = 8888;
/// Each port for HTTP has one for gRPC beside it.
const GRPC: u16 = 10000;
const MEBIBYTE: i128 = 1 << 20;

/// Every object of this many servers is on two of them, or on the only one.
fn replication(instances: i32) -> &'static str {
    if instances > 1 { "001" } else { "000" }
}

/// Where clients connect.
pub(super) fn endpoint(name: &str, namespace: &str, platform: &Platform) -> String {
    format!("https://{}:{PORT}", platform.host(name, namespace))
}

/// Everything a store owns.
pub fn desired(store: &ObjectStore, inputs: &Inputs, platform: &Platform) -> Result<Plan, Unfit> {
    let server =
        Server { name: &store.name_any(), namespace: &store.namespace().unwrap_or_default(), spec: &store.spec };
    pod::fits("spec.instances", server.spec.instances, platform)?;
    if let Some((secret, holder)) = inputs.foreign.first() {
        return Err(Unfit::Taken { kind: "Secret".into(), name: secret.clone(), holder: holder.clone() });
    }
    let [access, secret] = slots(store);
    let keys = Keys { access: inputs.passwords.get(&access)?, secret: inputs.passwords.get(&secret)? };
    let slot = certificate(store, platform);
    let pair = inputs.certificates.get(&slot)?;
    Ok(Plan::owned_by(store, APP)
        .keeping_if(server.spec.deletion_policy.retains(), server.client_secret(&keys, pair, platform))
        .with(pair.secret(&slot))
        .with(server.identities(&keys))
        .with(rbac::service_account(server.name))
        .with(server.wall(platform))
        .with(pod::headless(&server.pods(), &server.selector(), &[("s3", PORT), ("master", MASTER), ("filer", FILER)]))
        .with(server.service())
        .with(pod::one_at_a_time(server.name, &server.selector()))
        .with(server.stateful_set(&keys, pair, &slot.secret, platform)))
}

/// What a client signs with.
struct Keys<'a> {
    access: &'a str,
    secret: &'a str,
}

/// A store under the names its objects go by.
struct Server<'a> {
    name: &'a str,
    namespace: &'a str,
    spec: &'a ObjectStoreSpec,
}

impl Server<'_> {
    fn pods(&self) -> String {
        format!("{}-pods", self.name)
    }

    fn identities_name(&self) -> String {
        format!("{}-identities", self.name)
    }

    fn selector(&self) -> BTreeMap<String, String> {
        labels::selector(APP, self.name)
    }

    fn client_secret(&self, keys: &Keys<'_>, pair: &KeyPair, platform: &Platform) -> DynamicObject {
        let endpoint = endpoint(self.name, self.namespace, platform);
        let data = [
            ("endpoint", endpoint.as_str()),
            ("region", REGION),
            (ACCESS_KEY, keys.access),
            (SECRET_KEY, keys.secret),
            (certificates::CA_CRT, &pair.ca_crt),
        ]
        .map(|(key, value)| (key, ByteString(value.as_bytes().to_vec())));
        let labels = json!({ labels::COMPONENT: "credentials", labels::DATA_CLASS: self.spec.data_class.word() });
        object::<Secret>(
            client_secret(self.name),
            json!({ "type": "Opaque", "data": BTreeMap::from(data), "metadata": { "labels": labels } }),
        )
    }

    /// Who may do what, as SeaweedFS reads it. Without it everybody might do everything.
    fn identities(&self, keys: &Keys<'_>) -> DynamicObject {
        let identities = json!({ "identities": [{
            "name": "owner",
            "credentials": [{ "accessKey": keys.access, "secretKey": keys.secret }],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }] });
        let data = BTreeMap::from([("s3.json", ByteString(identities.to_string().into_bytes()))]);
        object::<Secret>(self.identities_name(), json!({ "type": "Opaque", "data": data }))
    }

    /// Between themselves the servers ask nobody who he is, so nobody else may come near those ports.
    fn wall(&self, platform: &Platform) -> DynamicObject {
        let own = network::pods(&self.selector());
        let bound = network::pods(&labels::map([(&labels::may_use(APP, self.name), "true")]));
        let inner = network::tcp([MASTER, MASTER + GRPC, VOLUME, VOLUME + GRPC, FILER, FILER + GRPC, PORT + GRPC]);
        network::wall(
            self.name,
            &self.selector(),
            vec![
                network::from(vec![bound, network::operator(platform)], network::tcp([PORT])),
                network::from(vec![own.clone()], inner.clone()),
            ],
            vec![network::to(vec![own], inner)],
        )
    }

    /// Each server tells the others of an object a moment after it took it. So a client stays with one, as long as that
    /// one is there, and finds at once what it wrote.
    fn service(&self) -> DynamicObject {
        object::<Service>(
            self.name,
            json!({ "spec": {
                "type": "ClusterIP",
                "selector": self.selector(),
                "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 10800 } },
                "ports": [{ "name": "s3", "port": PORT, "targetPort": "s3", "protocol": "TCP" }],
            } }),
        )
    }

    fn stateful_set(&self, keys: &Keys<'_>, pair: &KeyPair, tls: &str, platform: &Platform) -> DynamicObject {
        let retention = if self.spec.deletion_policy.retains() { "Retain" } else { "Delete" };
        object::<StatefulSet>(
            self.name,
            json!({ "spec": {
                "serviceName": self.pods(),
                "replicas": if self.spec.suspend { 0 } else { self.spec.instances },
                "podManagementPolicy": "Parallel",
                "updateStrategy": { "type": "RollingUpdate" },
                // The next server is restarted only when this one has read what it missed.
                "minReadySeconds": 20,
                "revisionHistoryLimit": 3,
                "persistentVolumeClaimRetentionPolicy": { "whenDeleted": retention, "whenScaled": "Retain" },
                "selector": { "matchLabels": self.selector() },
                "template": { "metadata": self.pod_metadata(keys, pair), "spec": self.pod(tls, platform) },
                "volumeClaimTemplates": [pod::volume_claim("data", &self.spec.storage, platform)],
            } }),
        )
    }

    /// Keys and authority are read as a server starts; a renewed certificate is read while it runs.
    fn pod_metadata(&self, keys: &Keys<'_>, pair: &KeyPair) -> Value {
        let mut labels = self.selector();
        labels.insert(labels::PART_OF.into(), labels::hospital_of(self.namespace).into());
        labels.insert(labels::DATA_CLASS.into(), self.spec.data_class.word().into());
        let read_at_start = [keys.access, keys.secret, &pair.ca_crt].map(str::as_bytes);
        json!({
            "labels": labels,
            "annotations": { "hz.hospital/configuration": digest(read_at_start)[..16] },
        })
    }

    fn pod(&self, tls: &str, platform: &Platform) -> Value {
        json!({
            "serviceAccountName": self.name,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "dnsConfig": pod::dns(),
            "securityContext": pod::restricted(Some(USER)),
            "terminationGracePeriodSeconds": 60,
            "affinity": pod::apart(&self.selector(), &platform.spread_over),
            "tolerations": pod::steadfast(),
            "containers": [self.container(platform)],
            "volumes": [
                { "name": "identities", "secret": { "secretName": self.identities_name(), "defaultMode": 0o440 } },
                certificates::volume("tls", tls),
                pod::scratch("tmp", &Amount::from("64Mi")),
            ],
        })
    }

    fn container(&self, platform: &Platform) -> Value {
        json!({
            "name": "seaweedfs",
            "image": platform.images.seaweedfs,
            "imagePullPolicy": pod::PULL,
            "command": ["/usr/bin/weed"],
            "args": self.arguments(platform),
            "env": self.environment(),
            "ports": [
                { "name": "s3", "containerPort": PORT, "protocol": "TCP" },
                { "name": "master", "containerPort": MASTER, "protocol": "TCP" },
                { "name": "filer", "containerPort": FILER, "protocol": "TCP" },
            ],
            "readinessProbe": {
                "httpGet": { "path": "/healthz", "port": "s3", "scheme": "HTTPS" },
                "periodSeconds": 5, "timeoutSeconds": 4, "failureThreshold": 3,
            },
            "resources": pod::resources_of(&self.spec.resources),
            "securityContext": pod::locked(),
            "volumeMounts": [
                { "name": "data", "mountPath": "/data" },
                { "name": "tmp", "mountPath": "/tmp" },
                { "name": "identities", "mountPath": "/etc/hz/identities", "readOnly": true },
                { "name": "tls", "mountPath": "/etc/hz/tls", "readOnly": true },
            ],
        })
    }

    fn arguments(&self, platform: &Platform) -> Vec<String> {
        let domain = platform.host(&self.pods(), self.namespace);
        let masters: Vec<String> =
            (0..self.spec.instances).map(|number| format!("{}-{number}.{domain}:{MASTER}", self.name)).collect();
        let (size, most) = self.volumes();
        [
            "-logtostderr=true".into(),
            "server".into(),
            "-dir=/data".into(),
            // Names and not addresses: pods change their addresses and keep their names.
            format!("-ip=$(POD_NAME).{domain}"),
            "-ip.bind=0.0.0.0".into(),
            format!("-master.port={MASTER}"),
            format!("-master.peers={}", masters.join(",")),
            format!("-master.defaultReplication={}", replication(self.spec.instances)),
            format!("-master.volumeSizeLimitMB={size}"),
            "-master.electionTimeout=5s".into(),
            "-master.telemetry=false".into(),
            format!("-volume.port={VOLUME}"),
            format!("-volume.max={most}"),
            // Of the server's whole disk, where volumes are folders on it; a share of that would mean nothing.
            "-volume.minFreeSpace=1GiB".into(),
            "-volume.preStopSeconds=2".into(),
            "-volume.concurrentUploadLimitMB=32".into(),
            "-volume.concurrentDownloadLimitMB=64".into(),
            "-filer".into(),
            format!("-filer.port={FILER}"),
            "-filer.disableDirListing=true".into(),
            "-filer.exposeDirectoryData=false".into(),
            "-filer.concurrentUploadLimitMB=32".into(),
            "-s3".into(),
            format!("-s3.port={PORT}"),
            "-s3.port.iceberg=0".into(),
            "-s3.port.lance=0".into(),
            "-s3.cert.file=/etc/hz/tls/tls.crt".into(),
            "-s3.key.file=/etc/hz/tls/tls.key".into(),
            "-s3.config=/etc/hz/identities/s3.json".into(),
            "-s3.iam=false".into(),
            "-s3.autoCreateBucket=false".into(),
            "-s3.allowDeleteBucketNotEmpty=false".into(),
            "-s3.concurrentUploadLimitMB=32".into(),
            "-s3.readerCacheSizeMB=64".into(),
        ]
        .into()
    }

    /// Size of a volume in MiB and how many a server may have. Objects lie in volumes, and every bucket has its own, so
    /// a small disk needs small ones; together they do not promise more than the disk holds, but for those just begun.
    fn volumes(&self) -> (i128, i128) {
        let room = self.spec.storage.size.units().unwrap_or_default() / MEBIBYTE;
        let size = (room / 16).clamp(64, 1024);
        let buckets = i128::try_from(self.spec.buckets.len()).unwrap_or_default();
        (size, room / size + 4 * (buckets + 1))
    }

    fn environment(&self) -> Value {
        let limit = self.spec.resources.limit().units().unwrap_or_default() / MEBIBYTE;
        json!([
            pod::from_field("POD_NAME", "metadata.name"),
            pod::variable("HOME", "/tmp"),
            // The rest is for what Go does not count, first of all the program itself.
            pod::variable("GOMEMLIMIT", format!("{}MiB", limit * 5 / 8)),
            pod::variable("WEED_MASTER_VOLUME_GROWTH_COPY_1", "1"),
            pod::variable("WEED_MASTER_VOLUME_GROWTH_COPY_2", "3"),
            // What a lost server held is copied to the servers that are left, and what was not finished is swept up.
            pod::variable("WEED_MASTER_MAINTENANCE_SCRIPTS", MAINTENANCE),
            pod::variable("WEED_MASTER_MAINTENANCE_SLEEP_MINUTES", "17"),
        ])
    }
}

/// The leader does this every quarter of an hour.
const MAINTENANCE: &str = "lock
volume.deleteEmpty -quietFor=24h -apply
volume.fix.replication -apply
s3.clean.uploads -timeAgo=24h
fs.log.purge -daysAgo=7
unlock
";
