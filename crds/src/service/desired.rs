//! What a service turns into.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use kube::core::ResourceExt;
use serde_json::{Value, json};

use super::{Binding, Inputs, MedicalService, Probes, Via, effective_class, network, secrets, trust};
use crate::object::{DynamicObject, object};
use crate::{Plan, Platform, Unfit, cache, labels, pod, postgres, rbac};

/// Word for it in labels.
pub const APP: &str = "service";

/// Keys of a database's Secret, and the ends of the variables they become.
const DATABASE_KEYS: [(&str, &str); 6] = [
    ("HOST", "host"),
    ("PORT", "port"),
    ("NAME", "dbname"),
    ("USER", "user"),
    ("PASSWORD", "password"),
    ("URI", "uri"),
];
/// The keys that stand for the way through a pooler.
const POOLER_KEYS: [(&str, &str); 2] = [("host", "pooler-host"), ("uri", "pooler-uri")];
const POOLER_RO_KEYS: [(&str, &str); 2] = [("host", "pooler-ro-host"), ("uri", "pooler-ro-uri")];
/// The same of a cache's Secret.
const CACHE_KEYS: [(&str, &str); 5] =
    [("HOST", "host"), ("PORT", "port"), ("USER", "username"), ("PASSWORD", "password"), ("URI", "uri")];

/// Everything a service owns.
pub fn desired(service: &MedicalService, inputs: &Inputs, platform: &Platform) -> Result<Plan, Unfit> {
    let name = service.name_any();
    let selector = labels::selector(APP, &name);
    let route = network::route(service, inputs, platform)?;
    let deployment = deployment(service, inputs, platform)?;
    Ok(Plan::owned_by(service, APP)
        .with(rbac::service_account(&name))
        .with(network::wall(service, platform))
        .with(pod::service(&name, &selector, ("http", 80, "http")))
        .with_all(route)
        .with(pod::one_at_a_time(&name, &selector))
        .with(deployment)) // last: pods find their wall standing
}

fn deployment(service: &MedicalService, inputs: &Inputs, platform: &Platform) -> Result<DynamicObject, Unfit> {
    let spec = &service.spec;
    let name = service.name_any();
    let selector = labels::selector(APP, &name);
    let template =
        json!({ "metadata": pod_metadata(service, inputs)?, "spec": pod_spec(service, inputs, &selector, platform)? });
    Ok(object::<Deployment>(
        &name,
        json!({ "spec": {
            "replicas": if spec.suspend { 0 } else { spec.replicas },
            "revisionHistoryLimit": 3,
            // A new copy takes requests before an old one goes.
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 0, "maxSurge": 1 } },
            "selector": { "matchLabels": selector },
            "template": template,
        } }),
    ))
}

fn pod_metadata(service: &MedicalService, inputs: &Inputs) -> Result<Value, Unfit> {
    let mut labels = labels::selector(APP, &service.name_any());
    labels.insert(labels::PART_OF.into(), labels::hospital_of(&service.namespace().unwrap_or_default()).into());
    labels.insert(labels::DATA_CLASS.into(), effective_class(service, &inputs.classes).word().into());
    for binding in &service.spec.bindings {
        let (app, instance) = binding.target();
        labels.insert(labels::may_use(app, instance), "true".into());
    }
    // A Secret that changed changes this, and so starts the copies again with the new password.
    let mut annotations = BTreeMap::new();
    for (number, secret) in secrets(service).into_iter().enumerate() {
        let print = inputs.secrets.get(&secret).ok_or_else(|| {
            let (app, instance) = service.spec.bindings[number].target();
            Unfit::waiting(
                format!("spec.bindings[{number}]"),
                format!("Secret {secret}, which {app} instance {instance} makes"),
            )
        })?;
        let binding = &service.spec.bindings[number];
        if let Some((_, key)) = binding.pooler_keys().iter().find(|(_, key)| !inputs.has(&secret, key)) {
            return Err(Unfit::waiting(
                format!("spec.bindings[{number}].database.via"),
                format!("key {key} in Secret {secret}: the instance has no such pooler (spec.pooler)"),
            ));
        }
        annotations.insert(format!("secret.hz.hospital/{secret}"), print.clone());
    }
    Ok(json!({ "labels": labels, "annotations": (!annotations.is_empty()).then_some(annotations) }))
}

fn pod_spec(
    service: &MedicalService,
    inputs: &Inputs,
    selector: &BTreeMap<String, String>,
    platform: &Platform,
) -> Result<Value, Unfit> {
    let scratch = service.spec.scratch.iter().enumerate();
    let scratch = scratch.map(|(number, scratch)| pod::scratch(&format!("scratch-{number}"), &scratch.size));
    let volumes: Vec<Value> = scratch.chain(trust::volumes(service, inputs)).collect();
    Ok(json!({
        "serviceAccountName": service.name_any(),
        // Services have no business with the cluster's API.
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "dnsConfig": pod::dns(),
        // The image says which user; the kubelet refuses one that would be root.
        "securityContext": pod::restricted(None),
        "terminationGracePeriodSeconds": 30,
        "topologySpreadConstraints": pod::evenly(selector, &platform.spread_over),
        "containers": [container(service, inputs)?],
        "volumes": (!volumes.is_empty()).then_some(volumes),
    }))
}

fn container(service: &MedicalService, inputs: &Inputs) -> Result<Value, Unfit> {
    let spec = &service.spec;
    let scratch = spec.scratch.iter().enumerate();
    let scratch =
        scratch.map(|(number, scratch)| json!({ "name": format!("scratch-{number}"), "mountPath": scratch.path }));
    let mounts: Vec<Value> = scratch.chain(trust::mounts(service, inputs)).collect();
    let env = environment(service, inputs)?;
    Ok(json!({
        "name": "service",
        "image": spec.image,
        "imagePullPolicy": pod::PULL,
        "command": (!spec.command.is_empty()).then_some(&spec.command),
        "args": (!spec.args.is_empty()).then_some(&spec.args),
        "env": (!env.is_empty()).then_some(env),
        "ports": [{ "name": "http", "containerPort": spec.port, "protocol": "TCP" }],
        "startupProbe": startup(&spec.probes),
        "readinessProbe": probe(spec.probes.ready.as_deref(), 3, 3),
        "livenessProbe": probe(spec.probes.alive.as_deref(), 10, 6),
        // Long enough for the gateway to stop sending before the program stops taking.
        "lifecycle": { "preStop": { "sleep": { "seconds": 3 } } },
        "resources": pod::resources_of(&spec.resources),
        "securityContext": pod::locked(),
        "volumeMounts": (!mounts.is_empty()).then_some(mounts),
    }))
}

fn probe(path: Option<&str>, period: i32, failures: i32) -> Value {
    let (http, tcp) = match path {
        Some(path) => (Some(json!({ "path": path, "port": "http", "scheme": "HTTP" })), None),
        None => (None, Some(json!({ "port": "http" }))),
    };
    json!({ "httpGet": http, "tcpSocket": tcp, "periodSeconds": period, "timeoutSeconds": 3, "failureThreshold": failures })
}

/// Asked every second, so that a quick program is not kept waiting; until it succeeds the others are not asked.
fn startup(probes: &Probes) -> Value {
    probe(probes.alive.as_deref().or(probes.ready.as_deref()), 1, probes.start_seconds)
}

/// Variables from the spec, then from the bindings. The API server keeps the last of two of one name, so that a
/// setting could hide a password: refused.
fn environment(service: &MedicalService, inputs: &Inputs) -> Result<Vec<Value>, Unfit> {
    let own = &service.spec.env;
    let mut env: Vec<Value> = own.iter().map(|variable| pod::variable(&variable.name, &variable.value)).collect();
    for (number, binding) in service.spec.bindings.iter().enumerate() {
        let secret = binding.secret().unwrap_or_default();
        let name = |end: &str| format!("{}_{end}", binding.prefix_or_default());
        let through = |key: &str| {
            let through = binding.pooler_keys().iter().find(|(direct, _)| *direct == key);
            through.map(|(_, pooler)| *pooler)
        };
        let of_secret = binding
            .keys()
            .iter()
            .map(|(end, key)| (*end, pod::from_secret(&name(end), &secret, through(key).unwrap_or(key))));
        for (end, variable) in of_secret.chain(trust::variables(binding, inputs)) {
            let name = name(end);
            if own.iter().any(|variable| variable.name == name) {
                return Err(Unfit::refused(
                    "spec.env",
                    &name,
                    format!("spec.bindings[{number}] gives a variable of that name"),
                    "leave it out, or give the binding another prefix",
                ));
            }
            env.push(variable);
        }
    }
    Ok(env)
}

impl Binding {
    /// Kind and name of what is bound.
    fn target(&self) -> (&'static str, &str) {
        match (&self.database, &self.cache) {
            (Some(database), _) => (postgres::APP, &database.instance),
            (None, Some(cache)) => (cache::APP, &cache.instance),
            // The schema lets no empty binding in.
            (None, None) => (APP, ""),
        }
    }

    /// Keys of the Secret, each with the one that stands for it on this way.
    fn pooler_keys(&self) -> &'static [(&'static str, &'static str)] {
        match self.database.as_ref().map(|database| database.via) {
            None | Some(Via::Direct) => &[],
            Some(Via::Pooler) => &POOLER_KEYS,
            Some(Via::PoolerReadOnly) => &POOLER_RO_KEYS,
        }
    }

    fn keys(&self) -> &'static [(&'static str, &'static str)] {
        if self.database.is_some() { &DATABASE_KEYS } else { &CACHE_KEYS }
    }

    pub(super) fn prefix_or_default(&self) -> &str {
        self.prefix.as_deref().unwrap_or(if self.database.is_some() { "DATABASE" } else { "CACHE" })
    }
}
