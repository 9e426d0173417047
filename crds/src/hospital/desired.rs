//! What a hospital turns into: a namespace with a wall, and doors for those who belong there.

use k8s_openapi::api::core::v1::{LimitRange, Namespace, ResourceQuota};
use kube::core::ResourceExt;
use serde_json::{Value, json};

use super::{Hospital, HospitalSpec, Inputs, Subject, SubjectKind};
use crate::object::{DynamicObject, object};
use crate::{Plan, Platform, Unfit, labels, network, rbac};

/// Word for it in labels.
pub const APP: &str = "hospital";

/// Names with a dot cannot collide with those of databases and services, which have none.
const ADMINS: &str = "hospital.admins";
const OPERATOR: &str = "hospital.operator";

/// Everything a hospital owns. With `Retain` nothing of it refers to the hospital as its owner, so deleting the
/// hospital leaves namespace, walls and data as they are.
pub fn desired(hospital: &Hospital, inputs: &Inputs, platform: &Platform) -> Result<Plan, Unfit> {
    let name = hospital.name_any();
    let namespace = labels::namespace_of(&name);
    refuse_a_foreign_namespace(&name, &namespace, inputs)?;
    let keep = hospital.spec.deletion_policy.retains();
    let everything = [
        namespace_object(&namespace, &name),
        // Second, because all that follows is written by the right that this gives.
        rbac::binding(
            OPERATOR,
            "ClusterRole",
            &platform.operator.tenant_role,
            vec![rbac::account(&platform.operator.namespace, &platform.operator.service_account)],
        ),
        default_deny(),
        allow_dns(platform),
        quota(&hospital.spec),
        limits(),
        rbac::role(ADMINS, &rbac::hospital_admin()),
        rbac::binding(ADMINS, "Role", ADMINS, hospital.spec.admins.iter().map(subject).collect()),
    ];
    let plan = Plan::owned_by(hospital, APP).within(&namespace);
    Ok(everything.into_iter().fold(plan, |plan, object| plan.keeping_if(keep, object)))
}

fn refuse_a_foreign_namespace(name: &str, namespace: &str, inputs: &Inputs) -> Result<(), Unfit> {
    match &inputs.namespace {
        Some(owner) if owner.as_deref() != Some(name) => Err(Unfit::Taken {
            kind: "Namespace".into(),
            name: namespace.into(),
            holder: owner.as_ref().map_or_else(|| "nobody we know".into(), |other| format!("hospital {other}")),
        }),
        _ => Ok(()),
    }
}

fn namespace_object(namespace: &str, hospital: &str) -> DynamicObject {
    let level = "restricted";
    object::<Namespace>(
        namespace,
        json!({ "metadata": { "labels": {
            labels::HOSPITAL: hospital,
            "pod-security.kubernetes.io/enforce": level,
            "pod-security.kubernetes.io/enforce-version": "latest",
            "pod-security.kubernetes.io/audit": level,
            "pod-security.kubernetes.io/warn": level,
        } } }),
    )
}

/// Nothing in, nothing out. Services, databases and caches bring the doors they need.
fn default_deny() -> DynamicObject {
    network::wall("hospital.default-deny", &labels::map([]), vec![], vec![])
}

fn allow_dns(platform: &Platform) -> DynamicObject {
    object::<k8s_openapi::api::networking::v1::NetworkPolicy>(
        "hospital.allow-dns",
        json!({ "spec": { "podSelector": {}, "policyTypes": ["Egress"], "egress": [network::to_dns(platform)] } }),
    )
}

fn quota(spec: &HospitalSpec) -> DynamicObject {
    let amount =
        |amount: &Option<crate::quantity::Amount>| amount.as_ref().map(|amount| amount.canonical().to_string());
    object::<ResourceQuota>(
        "hospital.quota",
        json!({ "spec": { "hard": {
            "requests.cpu": amount(&spec.quota.cpu),
            "requests.memory": amount(&spec.quota.memory),
            "requests.storage": amount(&spec.quota.storage),
            "pods": spec.quota.pods.map(|pods| pods.to_string()),
            // The gateway is the only way in from outside.
            "services.nodeports": "0",
            "services.loadbalancers": "0",
        } } }),
    )
}

/// Pods that say nothing of themselves get a little, so that the quota can count them.
fn limits() -> DynamicObject {
    object::<LimitRange>(
        "hospital.limits",
        json!({ "spec": { "limits": [{
            "type": "Container",
            "defaultRequest": { "cpu": "50m", "memory": "64Mi" },
            "default": { "memory": "256Mi" },
        }] } }),
    )
}

fn subject(subject: &Subject) -> Value {
    match subject.kind {
        SubjectKind::ServiceAccount => rbac::account(subject.namespace.as_deref().unwrap_or_default(), &subject.name),
        kind => {
            json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": kind.word(), "name": subject.name })
        }
    }
}
