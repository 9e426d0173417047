//! The kinds of objects we make or look at, and how much of each we keep.
//!
//! A fixed table rather than discovery: it needs no call, and the chart's rights are tested against it.

use hz_crds::labels;
use hz_crds::postgres::upgrade;
use kube::api::ApiResource;
use serde_json::{Value, json};

/// How a kind is followed.
#[derive(Clone, Copy, Debug)]
pub enum Watch {
    /// Metadata of all that is ours, in the whole cluster, cut down to what the controllers need.
    Metadata(fn(&Value) -> Value),
    /// Whole objects that are ours, cut down at once to what the controllers need.
    Reduced(fn(&Value) -> Value),
    /// Metadata of all that is ours, namespace by namespace: nobody may list Secrets cluster-wide.
    PerHospital,
}

/// One kind of object.
#[derive(Debug)]
pub struct Kind {
    /// API group, empty for the core.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Resource name in URLs.
    pub plural: &'static str,
    /// Lives in a namespace.
    pub namespaced: bool,
    /// We write it (pods and volumes are only looked at).
    pub written: bool,
    /// Which of them are ours.
    pub selector: &'static str,
    /// How we follow it.
    pub watch: Watch,
}

/// The label that every object we write carries. What Patroni writes for itself changes every few seconds and is none
/// of our business.
const WRITTEN: &str = "app.kubernetes.io/managed-by=hz-operator,!hz.hospital/patroni";
/// Pods are made by workloads, whose selectors name the application.
const RUNNING: &str = "app.kubernetes.io/name in (postgres,pooler,cache,store,service,backup),hz.hospital/data-class";
/// Volumes are claimed by workloads in the same way.
const HELD: &str = "app.kubernetes.io/name in (postgres,cache,store),app.kubernetes.io/instance";

/// Where a kind stands in [`KINDS`].
pub type KindId = usize;

const fn ours(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    watch: Watch,
) -> Kind {
    Kind { group, version, kind, plural, namespaced: true, written: true, selector: WRITTEN, watch }
}

const RBAC: &str = "rbac.authorization.k8s.io";

/// All of them.
pub static KINDS: &[Kind] = &[
    Kind { namespaced: false, ..ours("", "v1", "Namespace", "namespaces", Watch::Metadata(reduce_namespace)) },
    ours("", "v1", "ResourceQuota", "resourcequotas", Watch::Reduced(reduce_quota)),
    ours("", "v1", "LimitRange", "limitranges", Watch::Metadata(nothing)),
    ours("", "v1", "ServiceAccount", "serviceaccounts", Watch::Metadata(nothing)),
    ours("", "v1", "ConfigMap", "configmaps", Watch::Metadata(nothing)),
    ours("", "v1", "Secret", "secrets", Watch::PerHospital),
    ours("", "v1", "Service", "services", Watch::Reduced(reduce_service)),
    ours("apps", "v1", "StatefulSet", "statefulsets", Watch::Reduced(reduce_workload)),
    ours("apps", "v1", "Deployment", "deployments", Watch::Reduced(reduce_workload)),
    ours("batch", "v1", "Job", "jobs", Watch::Reduced(reduce_job)),
    ours("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", Watch::Metadata(nothing)),
    ours("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", Watch::Metadata(nothing)),
    ours(RBAC, "v1", "Role", "roles", Watch::Metadata(nothing)),
    ours(RBAC, "v1", "RoleBinding", "rolebindings", Watch::Metadata(nothing)),
    ours("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes", Watch::Reduced(reduce_route)),
    Kind {
        written: false,
        selector: HELD,
        ..ours("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", Watch::Reduced(reduce_claim))
    },
    Kind { written: false, selector: RUNNING, ..ours("", "v1", "Pod", "pods", Watch::Reduced(reduce_pod)) },
];

impl Kind {
    /// `v1` or `group/version`.
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// As kube wants it.
    pub fn resource(&self) -> ApiResource {
        ApiResource {
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            api_version: self.api_version(),
            kind: self.kind.to_owned(),
            plural: self.plural.to_owned(),
        }
    }
}

/// The kind of this API version and name.
pub fn find(api_version: &str, kind: &str) -> Option<KindId> {
    KINDS.iter().position(|known| known.kind == kind && known.api_version() == api_version)
}

/// The kind of this name; names are unique in the table.
pub fn named(kind: &str) -> KindId {
    KINDS.iter().position(|known| known.kind == kind).expect("only kinds of the table are asked for by name")
}

fn nothing(_: &Value) -> Value {
    Value::Null
}

fn reduce_namespace(namespace: &Value) -> Value {
    namespace["metadata"]["labels"][labels::HOSPITAL].clone()
}

fn reduce_quota(quota: &Value) -> Value {
    json!({"status": {"hard": quota["status"]["hard"], "used": quota["status"]["used"]}})
}

fn reduce_service(service: &Value) -> Value {
    json!({"spec": {"clusterIP": service["spec"]["clusterIP"]}})
}

fn reduce_claim(claim: &Value) -> Value {
    json!({
        "spec": {"asked": claim["spec"]["resources"]["requests"]["storage"]},
        "status": {"room": claim["status"]["capacity"]["storage"]},
    })
}

fn reduce_workload(workload: &Value) -> Value {
    let conditions: Vec<Value> = list(&workload["status"]["conditions"])
        .map(|c| json!({"type": c["type"], "status": c["status"], "reason": c["reason"], "message": c["message"]}))
        .collect();
    let status = &workload["status"];
    json!({
        "metadata": {"generation": workload["metadata"]["generation"]},
        "spec": {
            "replicas": workload["spec"]["replicas"],
            "room": workload["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"],
        },
        "status": {
            "observedGeneration": status["observedGeneration"],
            "replicas": status["replicas"],
            "readyReplicas": status["readyReplicas"],
            "updatedReplicas": status["updatedReplicas"],
            "availableReplicas": status["availableReplicas"],
            "currentRevision": status["currentRevision"],
            "updateRevision": status["updateRevision"],
            "conditions": conditions,
        },
    })
}

fn reduce_job(job: &Value) -> Value {
    let conditions: Vec<Value> = list(&job["status"]["conditions"])
        .map(|c| json!({"type": c["type"], "status": c["status"], "reason": c["reason"], "message": c["message"]}))
        .collect();
    json!({"status": {"active": job["status"]["active"], "conditions": conditions}})
}

fn reduce_route(route: &Value) -> Value {
    let parents: Vec<Value> = list(&route["status"]["parents"])
        .map(|parent| {
            let conditions: Vec<Value> = list(&parent["conditions"])
                .map(|c| {
                    json!({"type": c["type"], "status": c["status"], "reason": c["reason"], "message": c["message"],
                                "observedGeneration": c["observedGeneration"]})
                })
                .collect();
            json!({"parentRef": parent["parentRef"], "conditions": conditions})
        })
        .collect();
    json!({"metadata": {"generation": route["metadata"]["generation"]}, "status": {"parents": parents}})
}

fn reduce_pod(pod: &Value) -> Value {
    let conditions: Vec<Value> = list(&pod["status"]["conditions"])
        .filter(|c| matches!(c["type"].as_str(), Some("Ready" | "PodScheduled")))
        .map(|c| json!({"type": c["type"], "status": c["status"], "reason": c["reason"], "message": c["message"]}))
        .collect();
    let containers: Vec<Value> = list(&pod["status"]["containerStatuses"])
        .map(|c| {
            json!({"name": c["name"], "ready": c["ready"], "restartCount": c["restartCount"],
                   "image": "", "imageID": "", "state": {"waiting": c["state"]["waiting"], "terminated": last_words(c)}})
        })
        .collect();
    json!({
        "metadata": {"name": pod["metadata"]["name"], "labels": pod["metadata"]["labels"], "annotations": said(pod),
                     "deletionTimestamp": pod["metadata"]["deletionTimestamp"]},
        "spec": {"nodeName": pod["spec"]["nodeName"], "containers": []},
        "status": {"phase": pod["status"]["phase"], "podIP": pod["status"]["podIP"],
                   "conditions": conditions, "containerStatuses": containers},
    })
}

/// What a pod says of its data and of what it was asked for.
fn said(pod: &Value) -> Value {
    let annotations = &pod["metadata"]["annotations"];
    json!({ upgrade::DATA: annotations[upgrade::DATA], upgrade::TASK: annotations[upgrade::TASK] })
}

/// What a container that ended said of itself; only Jobs have something to say.
fn last_words(container: &Value) -> Value {
    let ended = &container["state"]["terminated"];
    match ended["message"].as_str() {
        Some(message) => json!({"exitCode": ended["exitCode"], "message": message, "finishedAt": ended["finishedAt"]}),
        None => Value::Null,
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_found_by_its_full_name_only() {
        assert_eq!(KINDS[find("apps/v1", "Deployment").unwrap()].plural, "deployments");
        assert!(find("v1", "Deployment").is_none());
    }

    #[test]
    fn no_name_is_in_the_table_twice() {
        for kind in KINDS {
            assert_eq!(KINDS.iter().filter(|other| other.kind == kind.kind).count(), 1, "{}", kind.kind);
        }
    }

    #[test]
    fn reducing_bears_objects_without_a_status() {
        for kind in KINDS {
            if let Watch::Reduced(reduce) | Watch::Metadata(reduce) = kind.watch {
                reduce(&json!({"metadata": {"name": "x"}, "spec": "not a map"}));
            }
        }
    }
}
