//! The API of the cluster, as hzctl reaches it, and one look at what it says.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::{Duration, Instant};

use base64::Engine;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret};
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Api as Kind, Client, ResourceExt};

use super::fault::Fault;
use super::render::API_PORT;
use super::server::Server;
use crate::cluster::{Cluster, Role};
use crate::node::types::Member;

/// Path of the administrator's kubeconfig on a control plane.
pub const ADMIN_CONF: &str = "/etc/kubernetes/admin.conf";
/// Label of a release with the digest of the chart and values it was made from.
pub const DIGEST_LABEL: &str = "hz.hospital-digest";

/// A connection to the API, through one control plane.
pub struct Api {
    /// The client.
    pub client: Client,
    /// The control plane it goes through.
    pub through: String,
    /// A kubeconfig that works from here.
    pub kubeconfig: String,
}

/// A node as the API has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeLook {
    /// Whether its kubelet says that all is well.
    pub ready: bool,
    /// What the kubelet says if not.
    pub message: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A release of helm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReleaseLook {
    /// `deployed`, `pending-install`, …
    pub status: String,
    /// Digest of the chart and values it was made from.
    pub digest: String,
    /// Objects of it that are not there.
    pub missing: Vec<String>,
}

/// What the API says, all at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Nodes by name.
    pub nodes: BTreeMap<String, NodeLook>,
    /// What a finished `kubeadm init` leaves and that is not there.
    pub unfinished: Vec<String>,
    /// Members of etcd.
    pub members: Vec<Member>,
    /// Releases by name.
    pub releases: BTreeMap<String, ReleaseLook>,
}

impl Api {
    /// Connect through a control plane, with the credentials that kubeadm left there.
    pub async fn through(cluster: &Cluster, server: &Server) -> Result<Self, Fault> {
        let act = "failed to read the kubeconfig of the cluster";
        let files: BTreeMap<String, String> = server.node(act, &["read"], &[ADMIN_CONF]).await?;
        let none = || Fault::permanent(act, format!("{ADMIN_CONF} is not there")).on(server.name());
        let encoded = files.get(ADMIN_CONF).ok_or_else(none)?;
        let wrong = |cause: &dyn ToString| Fault::permanent(act, cause.to_string()).on(server.name());
        let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).map_err(|error| wrong(&error))?;
        let address = cluster.target(&server.spec).address;
        let kubeconfig = reachable(
            &String::from_utf8_lossy(&bytes),
            &cluster.metadata.name,
            &format!("https://{address}:{API_PORT}"),
        )
        .map_err(|error| wrong(&error))?;
        let parsed = Kubeconfig::from_yaml(&kubeconfig).map_err(|error| wrong(&error))?;
        let mut config = kube::Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
            .await
            .map_err(|error| wrong(&error))?;
        config.connect_timeout = Some(Duration::from_secs(5));
        let client = Client::try_from(config).map_err(|error| wrong(&error))?;
        Ok(Api { client, through: server.name().to_owned(), kubeconfig })
    }

    /// Whether it answers and is ready.
    pub async fn ready(&self) -> bool {
        let Ok(request) = http::Request::get("/readyz").body(Vec::new()) else { return false };
        let asked = tokio::time::timeout(Duration::from_secs(3), self.client.request_text(request)).await;
        matches!(asked, Ok(Ok(_)))
    }

    /// Wait until it is.
    pub async fn until_ready(&self, limit: Duration) -> bool {
        let begun = Instant::now();
        loop {
            if self.ready().await {
                return true;
            }
            if begun.elapsed() > limit {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// One look at everything; `server` is asked for the members of etcd.
    pub async fn look(&self, server: &Server) -> Result<Look, Fault> {
        let members = server.node::<_, Vec<Member>>("failed to list the members of etcd", &["etcd-members"], &());
        let (nodes, unfinished, releases, members) =
            tokio::join!(self.nodes(), self.unfinished(), self.releases(), members);
        Ok(Look { nodes: nodes?, unfinished: unfinished?, releases: releases?, members: members.unwrap_or_default() })
    }

    /// Nodes by name.
    pub async fn nodes(&self) -> Result<BTreeMap<String, NodeLook>, Fault> {
        let nodes = Kind::<Node>::all(self.client.clone()).list(&ListParams::default()).await;
        let nodes = nodes.map_err(|error| failed("failed to list the nodes", &error))?;
        Ok(nodes.into_iter().map(|node| (node.name_any(), node_look(&node))).collect())
    }

    async fn unfinished(&self) -> Result<Vec<String>, Fault> {
        let system = "kube-system";
        let maps = Kind::<ConfigMap>::namespaced(self.client.clone(), system);
        let public = Kind::<ConfigMap>::namespaced(self.client.clone(), "kube-public");
        let deployments = Kind::<Deployment>::namespaced(self.client.clone(), system);
        let daemons = Kind::<DaemonSet>::namespaced(self.client.clone(), system);
        let (config, kubelet, info, dns, proxy) = tokio::join!(
            maps.get_metadata_opt("kubeadm-config"),
            maps.get_metadata_opt("kubelet-config"),
            public.get_metadata_opt("cluster-info"),
            deployments.get_metadata_opt("coredns"),
            daemons.get_metadata_opt("kube-proxy"),
        );
        let mut missing = Vec::new();
        let mut see = |what: &str, there: Result<bool, kube::Error>| -> Result<(), Fault> {
            if !there.map_err(|error| failed("failed to look at kube-system", &error))? {
                missing.push(what.to_owned());
            }
            Ok(())
        };
        see("the configuration of kubeadm", config.map(|found| found.is_some()))?;
        see("the configuration of kubelets", kubelet.map(|found| found.is_some()))?;
        see("cluster-info", info.map(|found| found.is_some()))?;
        see("CoreDNS", dns.map(|found| found.is_some()))?;
        see("kube-proxy", proxy.map(|found| found.is_some()))?;
        Ok(missing)
    }

    /// The newest revision of each release, with those of its objects that are not there.
    pub async fn releases(&self) -> Result<BTreeMap<String, ReleaseLook>, Fault> {
        let list = ListParams::default().labels("owner=helm");
        let secrets = Kind::<Secret>::all(self.client.clone()).list(&list).await;
        let secrets = secrets.map_err(|error| failed("failed to list the releases", &error))?;
        let mut newest: BTreeMap<String, (u64, Secret)> = BTreeMap::new();
        for secret in secrets {
            let label = |key: &str| secret.labels().get(key).cloned().unwrap_or_default();
            let version = label("version").parse().unwrap_or(0);
            let name = label("name");
            if newest.get(&name).is_none_or(|(old, _)| *old < version) {
                newest.insert(name, (version, secret));
            }
        }
        let looks = newest.into_iter().map(|(name, (_, secret))| async move {
            let label = |key: &str| secret.labels().get(key).cloned().unwrap_or_default();
            let namespace = secret.namespace().unwrap_or_default();
            let missing = self.missing_objects(&release_objects(&secret, &namespace)).await;
            (name, ReleaseLook { status: label("status"), digest: label(DIGEST_LABEL), missing })
        });
        let looks: Vec<BoxFuture<'_, (String, ReleaseLook)>> = looks.map(FutureExt::boxed).collect();
        Ok(stream::iter(looks).buffer_unordered(8).collect().await)
    }

    async fn missing_objects(&self, objects: &[ObjectName]) -> Vec<String> {
        let looks = objects.iter().map(|object| async move {
            let resource = ApiResource::from_gvk(&object.kind);
            let api: Kind<DynamicObject> = match &object.namespace {
                Some(namespace) => Kind::namespaced_with(self.client.clone(), namespace, &resource),
                None => Kind::all_with(self.client.clone(), &resource),
            };
            // What cannot be looked at is not called missing: an upgrade for nothing would be a change.
            matches!(api.get_metadata_opt(&object.name).await, Ok(None)).then(|| object.to_string())
        });
        // Boxed one by one: the compiler cannot see that futures made by a closure in a stream may move between threads.
        let looks: Vec<BoxFuture<'_, Option<String>>> = looks.map(FutureExt::boxed).collect();
        let missing: Vec<Option<String>> = stream::iter(looks).buffer_unordered(16).collect().await;
        missing.into_iter().flatten().collect()
    }
}

/// The kubeconfig of kubeadm, named after the cluster and pointed at an address that is reached from here.
pub fn reachable(text: &str, cluster: &str, server: &str) -> Result<String, String> {
    let mut value: serde_json::Value = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let user = format!("{cluster}-admin");
    let set = |value: &mut serde_json::Value, pointer: &str, to: &str| match value.pointer_mut(pointer) {
        Some(place) => {
            *place = to.into();
            Ok(())
        }
        None => Err(format!("{pointer} is missing")),
    };
    set(&mut value, "/clusters/0/cluster/server", server)?;
    set(&mut value, "/clusters/0/name", cluster)?;
    set(&mut value, "/users/0/name", &user)?;
    set(&mut value, "/contexts/0/name", cluster)?;
    set(&mut value, "/contexts/0/context/cluster", cluster)?;
    set(&mut value, "/contexts/0/context/user", &user)?;
    set(&mut value, "/current-context", cluster)?;
    serde_yaml::to_string(&value).map_err(|error| error.to_string())
}

/// An object by kind and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    /// Its kind.
    pub kind: GroupVersionKind,
    /// Its namespace, if it lives in one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind.kind, self.name)
    }
}

/// Kinds without a namespace among those that charts make.
const CLUSTER_KINDS: [&str; 12] = [
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "Namespace",
    "StorageClass",
    "GatewayClass",
    "IngressClass",
    "PriorityClass",
    "APIService",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "Hospital",
];

fn release_objects(secret: &Secret, namespace: &str) -> Vec<ObjectName> {
    let data = secret.data.as_ref().and_then(|data| data.get("release"));
    data.and_then(|bytes| unpack(&bytes.0)).map(|manifest| objects(&manifest, namespace)).unwrap_or_default()
}

/// Helm keeps a release as base64 of gzip of JSON.
fn unpack(bytes: &[u8]) -> Option<String> {
    let zipped = base64::engine::general_purpose::STANDARD.decode(bytes).ok()?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(zipped.as_slice()).read_to_string(&mut text).ok()?;
    let release: serde_json::Value = serde_json::from_str(&text).ok()?;
    release["manifest"].as_str().map(str::to_owned)
}

/// Names of the objects in a manifest.
pub fn objects(manifest: &str, namespace: &str) -> Vec<ObjectName> {
    // Only four scalars of each document matter, so large ones are not parsed as a whole.
    manifest.split("\n---").filter_map(|text| object_name(text, namespace)).collect()
}

fn object_name(text: &str, namespace: &str) -> Option<ObjectName> {
    let top = |key: &str| {
        text.lines().find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(':')?.trim().trim_matches(['"', '\''])))
    };
    let inside = |key: &str| {
        let meta = text
            .lines()
            .skip_while(|line| !line.starts_with("metadata:"))
            .skip(1)
            .take_while(|line| line.starts_with(' ') || line.is_empty());
        meta.filter_map(|line| line.strip_prefix("  ")?.strip_prefix(key)?.strip_prefix(':'))
            .next()
            .map(|value| value.trim().trim_matches(['"', '\'']))
    };
    let (version, kind, name) = (top("apiVersion")?, top("kind")?, inside("name")?);
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let namespace = inside("namespace").unwrap_or(namespace).to_owned();
    Some(ObjectName {
        kind: GroupVersionKind::gvk(group, version, kind),
        namespace: (!CLUSTER_KINDS.contains(&kind)).then_some(namespace),
        name: name.to_owned(),
    })
}

/// What a node says of itself.
pub fn node_look(node: &Node) -> NodeLook {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
    NodeLook {
        ready: ready.is_some_and(|condition| condition.status == "True"),
        message: ready.and_then(|condition| condition.message.clone()).unwrap_or_default(),
        labels: node.labels().clone(),
    }
}

/// An API call that failed. What the server refuses is permanent; what does not get through may pass.
pub fn failed(act: &str, error: &kube::Error) -> Fault {
    // What the server says is a sentence already; the rest of its answer would only repeat it.
    let (mut cause, mut next) = match error {
        kube::Error::Api(status) if !status.message.is_empty() => (status.message.clone(), None),
        _ => (error.to_string(), std::error::Error::source(error)),
    };
    while let Some(deeper) = next {
        cause = format!("{cause}: {deeper}");
        next = deeper.source();
    }
    let transient = match error {
        kube::Error::Api(status) => status.code >= 500 || status.code == 429 || status.code == 409,
        _ => true,
    };
    Fault { transient, ..Fault::permanent(act, cause) }
}

/// The first control plane whose API answers, within a time; asked all at once.
pub async fn find(cluster: &Cluster, servers: &[std::sync::Arc<Server>], limit: Duration) -> Option<Api> {
    let tries = servers.iter().filter(|server| server.spec.role == Role::ControlPlane).map(|server| async move {
        let api = Api::through(cluster, server).await.ok()?;
        api.until_ready(limit).await.then_some(api)
    });
    let mut tries: stream::FuturesUnordered<BoxFuture<'_, Option<Api>>> = tries.map(FutureExt::boxed).collect();
    while let Some(found) = tries.next().await {
        if found.is_some() {
            return found;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_read_for_its_objects() {
        let manifest = "---\n# Source: a\napiVersion: apps/v1\nkind: DaemonSet\nmetadata:\n  labels:\n    name: no\n  name: netguard\nspec: {}\n---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: \"x\"\n";
        let found = objects(manifest, "hz-system");
        assert_eq!(found[0].to_string(), "DaemonSet netguard");
        assert_eq!(found[0].namespace.as_deref(), Some("hz-system"));
        assert_eq!((found[1].name.as_str(), &found[1].namespace), ("x", &None));
    }

    #[test]
    fn the_kubeconfig_is_named_after_the_cluster_and_reached_from_here() {
        let text = "apiVersion: v1\nclusters: [{name: kubernetes, cluster: {server: 'https://127.0.0.1:16443', certificate-authority-data: QQ==}}]\ncontexts: [{name: a, context: {cluster: kubernetes, user: kubernetes-admin}}]\ncurrent-context: a\nkind: Config\nusers: [{name: kubernetes-admin, user: {}}]\n";
        let out = reachable(text, "st-anna", "https://10.77.0.11:6443").unwrap();
        for needle in ["server: https://10.77.0.11:6443", "current-context: st-anna", "user: st-anna-admin"] {
            assert!(out.contains(needle), "{out}");
        }
        assert!(reachable("kind: Config", "a", "b").is_err());
    }
}
