//! How a service is reached, and what it may reach.

use std::collections::BTreeMap;

use kube::core::ResourceExt;
use serde_json::{Value, json};

use super::{APP, Inputs, MedicalService, Route, Via};
use crate::labels::{self, hospital_of};
use crate::object::{DynamicObject, foreign};
use crate::{Platform, Unfit, network, postgres};

/// Where people reach the service: its first route, or its name inside the hospital.
pub fn url(service: &MedicalService, platform: &Platform) -> String {
    let Some(route) = service.spec.routes.first() else {
        let host = platform.host(&service.name_any(), &service.namespace().unwrap_or_default());
        return format!("http://{host}");
    };
    let port = match platform.gateway.http_port {
        80 => String::new(),
        other => format!(":{other}"),
    };
    format!("http://{}{port}{}", host(route, service, platform), route.path)
}

fn host(route: &Route, service: &MedicalService, platform: &Platform) -> String {
    route.host.clone().unwrap_or_else(|| format!("{}.{}", service.name_any(), own_domain(service, platform)))
}

/// The domain that belongs to the hospital of this service.
fn own_domain(service: &MedicalService, platform: &Platform) -> String {
    format!("{}.{}", hospital_of(&service.namespace().unwrap_or_default()), platform.domain)
}

/// One HTTPRoute for all names of the service.
pub fn route(service: &MedicalService, inputs: &Inputs, platform: &Platform) -> Result<Option<DynamicObject>, Unfit> {
    let routes = &service.spec.routes;
    if routes.is_empty() {
        return Ok(None);
    }
    refuse_foreign_hosts(service, inputs, platform)?;
    // Paths differ by host, and an HTTPRoute's rules hold for all its hosts: so they must be the same for all.
    let mut paths: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for route in routes {
        let paths = paths.entry(host(route, service, platform)).or_default();
        if paths.contains(&route.path.as_str()) {
            return Err(Unfit::refused(
                "spec.routes",
                &route.path,
                "the same host and path stand twice",
                "leave one out",
            ));
        }
        paths.push(&route.path);
    }
    let mut sets: Vec<Vec<&str>> = paths.values().cloned().collect();
    sets.iter_mut().for_each(|set| set.sort_unstable());
    sets.dedup();
    if sets.len() > 1 {
        return Err(Unfit::refused(
            "spec.routes",
            sets.concat().join(", "),
            "the hosts have different paths",
            "give every host the same paths, or make a second service",
        ));
    }
    let name = service.name_any();
    let rules: Vec<Value> = sets
        .concat()
        .into_iter()
        .map(|path| {
            json!({
                "matches": [{ "path": { "type": "PathPrefix", "value": path } }],
                "backendRefs": [{ "name": name, "port": 80 }],
            })
        })
        .collect();
    Ok(Some(foreign(
        "gateway.networking.k8s.io/v1",
        "HTTPRoute",
        &name,
        json!({ "spec": {
            "parentRefs": [{ "name": platform.gateway.name, "namespace": platform.gateway.namespace }],
            "hostnames": paths.into_keys().collect::<Vec<_>>(),
            "rules": rules,
        } }),
    )))
}

/// A hospital publishes under its own domains only: a route must not take another hospital's name.
fn refuse_foreign_hosts(service: &MedicalService, inputs: &Inputs, platform: &Platform) -> Result<(), Unfit> {
    let own = own_domain(service, platform);
    let domains: Vec<&str> = inputs.domains.iter().map(String::as_str).chain([own.as_str()]).collect();
    let within = |host: &str| {
        domains
            .iter()
            .any(|domain| host == *domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')))
    };
    let foreign = service
        .spec
        .routes
        .iter()
        .enumerate()
        .find(|(_, route)| route.host.as_deref().is_some_and(|host| !within(host)));
    match foreign {
        None => Ok(()),
        Some((number, route)) => Err(Unfit::refused(
            format!("spec.routes[{number}].host"),
            route.host.as_deref().unwrap_or_default(),
            "it is not within the hospital's domains",
            format!("possible: names that end in {}", domains.join(" or ")),
        )),
    }
}

/// Lets in the gateway, if there are routes, and services of the same hospital; lets out to what is bound and to
/// services of the same hospital.
pub fn wall(service: &MedicalService, platform: &Platform) -> DynamicObject {
    let port = u16::try_from(service.spec.port).unwrap_or_default();
    let services = network::pods(&labels::map([(labels::NAME, APP)]));
    let gateway = (!service.spec.routes.is_empty()).then(|| network::namespace(&platform.gateway.namespace));
    let databases = service.spec.bindings.iter().filter_map(|binding| binding.database.as_ref()).map(|database| {
        let peer = match database.via {
            Via::Direct => network::pods(&labels::selector(postgres::APP, &database.instance)),
            Via::Pooler | Via::PoolerReadOnly => postgres::pooler::pooler_pods(&database.instance),
        };
        network::to(vec![peer], network::tcp([5432]))
    });
    let caches = service.spec.bindings.iter().filter_map(|binding| binding.cache.as_ref()).map(|cache| {
        network::to(vec![network::pods(&labels::selector(crate::cache::APP, &cache.instance))], network::tcp([6379]))
    });
    let mut egress: Vec<Value> = databases.chain(caches).collect();
    // Two databases on one instance are one door.
    egress.sort_by_key(Value::to_string);
    egress.dedup();
    egress.push(json!({ "to": [services.clone()] }));
    let mut ingress = vec![services];
    ingress.extend(gateway);
    let name = service.name_any();
    network::wall(&name, &labels::selector(APP, &name), vec![network::from(ingress, network::tcp([port]))], egress)
}
