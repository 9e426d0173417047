//! The copies of a database or cache as they are: pods and volumes by the watches, and what the thing itself says of
//! who leads and who is in step.

use hz_crds::Slot;
use hz_crds::cache::CacheInstance;
use hz_crds::operation::decide::CopySeen;
use hz_crds::operation::moves::Copy;
use hz_crds::operation::{Target, TargetKind};
use hz_crds::postgres::change::Cluster;
use hz_crds::postgres::patroni::REST_PORT;
use hz_crds::postgres::upgrade::{DATA, TASK, heard};
use hz_crds::postgres::{Inputs, PostgresInstance, REST_KEY, REST_USER, system_secret};
use hz_crds::quantity::Amount;
use kube::ResourceExt;
use serde_json::Value;

use super::Context;
use crate::engine::World;
use crate::engine::kinds::named;
use crate::probes::Rest;

/// Name of the volume that a workload claims for each pod.
const VOLUME: &str = "data";

/// Pods and volumes of a target, in the order of their names. Who leads is not known yet.
pub fn standing(world: &World, target: &Target, namespace: &str) -> Vec<CopySeen> {
    let kind = target.kind.word();
    let workload = world.get(named("StatefulSet"), Some(namespace), &target.name);
    let newest = workload.as_ref().and_then(|seen| {
        let facts = &seen.facts;
        let current = facts["metadata"]["generation"] == facts["status"]["observedGeneration"];
        facts["status"]["updateRevision"].as_str().filter(|_| current)
    });
    let pods = world.select(named("Pod"), namespace, |_, seen| {
        seen.owner.as_ref().is_some_and(|owner| owner.kind == kind && owner.name == target.name)
    });
    pods.into_iter()
        .map(|(name, seen)| {
            let revision = seen.facts["metadata"]["labels"]["controller-revision-hash"].as_str();
            let claim = world.get(named("PersistentVolumeClaim"), Some(namespace), &claim_of(&name));
            CopySeen {
                stale: newest.is_some_and(|newest| revision.is_some_and(|revision| revision != newest)),
                volume: claim.map(|claim| (claim.uid.to_string(), room(&claim.facts))),
                pod: seen.uid.to_string(),
                data: heard(&seen.facts["metadata"]["annotations"], DATA).unwrap_or_default(),
                answer: heard(&seen.facts["metadata"]["annotations"], TASK),
                copy: Copy {
                    ready: !seen.deleting && is_ready(&seen.facts),
                    going: seen.deleting,
                    name,
                    ..Copy::default()
                },
            }
        })
        .collect()
}

/// The claim of a pod's volume.
pub fn claim_of(pod: &str) -> String {
    format!("{VOLUME}-{pod}")
}

/// What there is; until the volume is made, what was asked for.
fn room(claim: &Value) -> Amount {
    let there = claim["status"]["room"].as_str().or_else(|| claim["spec"]["asked"].as_str());
    Amount::from(there.unwrap_or("0"))
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Copies of a database server, and what its Patroni says. An error is why nobody could be asked.
pub async fn of_database(
    instance: &PostgresInstance,
    inputs: &Inputs,
    ctx: &Context,
) -> Result<(Vec<CopySeen>, Cluster), String> {
    let (namespace, name) = (instance.namespace().unwrap_or_default(), instance.name_any());
    let target = Target { kind: TargetKind::PostgresInstance, name: name.clone() };
    let mut copies = standing(&ctx.engine.world, &target, &namespace);
    // Any copy knows all; without one that is ready there is nobody to be out of step with.
    let mut why = None;
    for pod in copies.iter().filter(|seen| seen.copy.ready) {
        let Some(rest) = rest(&namespace, &name, &pod.copy.name, inputs, ctx) else { continue };
        match ctx.probes.agreed(&rest).await {
            Ok((_, cluster)) => {
                for seen in &mut copies {
                    take_over(&mut seen.copy, &cluster);
                }
                return Ok((copies, cluster));
            }
            Err(silent) => why = Some(silent.to_string()),
        }
    }
    match why {
        Some(why) => Err(why),
        None => Ok((copies, Cluster::default())),
    }
}

fn take_over(copy: &mut Copy, cluster: &Cluster) {
    let Some(member) = cluster.members.iter().find(|member| member.name == copy.name) else { return };
    copy.leads = member.leads();
    copy.in_step = copy.ready && member.runs();
    copy.confirms = member.confirms();
}

/// The Patroni of a pod.
pub fn rest(namespace: &str, name: &str, pod: &str, inputs: &Inputs, ctx: &Context) -> Option<Rest> {
    let slot = Slot::new(system_secret(name), REST_KEY);
    Some(Rest {
        address: ctx.pod_address(namespace, pod)?,
        port: REST_PORT,
        user: REST_USER.to_owned(),
        password: inputs.passwords.get(&slot).ok()?.to_owned(),
    })
}

/// Copies of a cache, with what its master says of its replicas.
pub async fn of_cache(
    cache: &CacheInstance,
    inputs: &hz_crds::cache::Inputs,
    ctx: &Context,
) -> Result<Vec<CopySeen>, String> {
    let (namespace, name) = (cache.namespace().unwrap_or_default(), cache.name_any());
    let target = Target { kind: TargetKind::CacheInstance, name: name.clone() };
    let world = &ctx.engine.world;
    let mut copies = standing(world, &target, &namespace);
    let pods = super::observe::pods(world, "CacheInstance", &namespace, &name);
    let Some(master) = pods.iter().find(|pod| pod.ready && pod.role.as_deref() == Some("master")) else {
        return Ok(copies);
    };
    let Some(asked) = super::cache_inputs::server_of(cache, inputs, &master.name, ctx) else { return Ok(copies) };
    let online = ctx.probes.replicas(&asked).await.map_err(|silent| silent.to_string())?;
    for seen in &mut copies {
        let copy = &mut seen.copy;
        copy.leads = copy.name == master.name;
        copy.in_step = copy.ready && (copy.leads || online.iter().any(|host| is_of(host, &copy.name)));
    }
    Ok(copies)
}

/// Servers announce themselves by their full names, which begin with the pod's.
fn is_of(host: &str, pod: &str) -> bool {
    host.split('.').next() == Some(pod)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TARGET: &str = "records";

    fn world() -> World {
        let world = World::default();
        let labels = json!({ "app.kubernetes.io/name": "postgres", "app.kubernetes.io/instance": TARGET });
        let meta = |name: &str, version: &str| {
            json!({ "name": name, "namespace": "x", "uid": format!("uid-{name}"), "resourceVersion": version,
                    "generation": 2, "labels": labels })
        };
        world.saw(
            named("StatefulSet"),
            &json!({ "metadata": meta(TARGET, "1"), "status": { "observedGeneration": 2, "updateRevision": "records-new" } }),
        );
        for (name, revision) in [("records-0", "records-new"), ("records-1", "records-old")] {
            let mut pod = json!({ "metadata": meta(name, "2"), "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
            pod["metadata"]["labels"]["controller-revision-hash"] = json!(revision);
            world.saw(named("Pod"), &pod);
        }
        let claim = json!({
            "metadata": meta("data-records-0", "3"),
            "spec": { "resources": { "requests": { "storage": "3Gi" } } },
            "status": { "capacity": { "storage": "2Gi" } },
        });
        world.saw(named("PersistentVolumeClaim"), &claim);
        world
    }

    #[test]
    fn a_pod_of_an_older_description_is_stale_and_room_is_what_there_is() {
        let target = Target { kind: TargetKind::PostgresInstance, name: TARGET.into() };
        let copies = standing(&world(), &target, "x");
        assert_eq!(copies.iter().map(|seen| seen.stale).collect::<Vec<_>>(), [false, true]);
        assert_eq!(copies[0].volume, Some(("uid-data-records-0".into(), Amount::from("2Gi"))));
        assert_eq!((copies[0].pod.as_str(), copies[0].copy.ready), ("uid-records-0", true));
        assert_eq!(copies[1].volume, None);
    }

    #[test]
    fn patroni_says_who_leads_and_who_is_in_step() {
        let cluster: Cluster = serde_json::from_value(json!({ "members": [
            { "name": "records-0", "role": "leader", "state": "running" },
            { "name": "records-1", "role": "sync_standby", "state": "streaming" },
            { "name": "records-2", "role": "replica", "state": "starting" },
        ] }))
        .unwrap();
        let taken = |name: &str, ready: bool| {
            let mut copy = Copy { name: name.into(), ready, ..Copy::default() };
            take_over(&mut copy, &cluster);
            (copy.leads, copy.in_step, copy.confirms)
        };
        assert_eq!(taken("records-0", true), (true, true, false));
        assert_eq!(taken("records-1", true), (false, true, true));
        assert_eq!(taken("records-1", false), (false, false, true));
        assert_eq!(taken("records-2", true), (false, false, false));
        assert_eq!(taken("records-3", true), (false, false, false), "nobody knows it yet");
    }

    #[test]
    fn a_server_is_known_by_the_first_part_of_its_name() {
        assert!(is_of("sessions-1.sessions-pods.x.svc.cluster.local", "sessions-1"));
        assert!(!is_of("sessions-10.sessions-pods.x.svc.cluster.local", "sessions-1"));
    }
}
