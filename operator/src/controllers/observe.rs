//! From what the watches brought to what the decisions are told. Pure.

use hz_crds::labels;
use hz_crds::postgres::upgrade::{DATA, DataSeen, heard};
use hz_crds::service::Rollout;
use hz_crds::shared::PodSeen;
use serde_json::Value;

use crate::engine::World;
use crate::engine::kinds::named;

/// Pods of one object of ours.
pub fn pods(world: &World, kind: &str, namespace: &str, name: &str) -> Vec<PodSeen> {
    let owned = world.select(named("Pod"), namespace, |_, seen| {
        seen.owner.as_ref().is_some_and(|owner| owner.kind == kind && owner.name == name)
    });
    owned.into_iter().map(|(name, seen)| pod(name, &seen.facts, seen.deleting)).collect()
}

fn pod(name: String, facts: &Value, deleting: bool) -> PodSeen {
    let text = |pointer: &str| facts.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    PodSeen {
        node: text("/spec/nodeName"),
        role: facts["metadata"]["labels"][labels::ROLE].as_str().map(str::to_owned),
        ready: !deleting && condition(&facts["status"]["conditions"], "Ready").is_some_and(|c| c["status"] == "True"),
        trouble: trouble(facts),
        name,
    }
}

/// What keeps a pod from running. Things that pass by themselves within moments are none.
fn trouble(facts: &Value) -> Option<String> {
    let say = |what: &Value| {
        let reason = what["reason"].as_str().unwrap_or("Unknown");
        match what["message"].as_str().filter(|message| !message.is_empty()) {
            Some(message) => format!("{reason}: {message}"),
            None => reason.to_owned(),
        }
    };
    let waiting = facts["status"]["containerStatuses"].as_array().into_iter().flatten().map(|c| &c["state"]["waiting"]);
    let stuck = waiting.filter(|waiting| {
        waiting["reason"].as_str().is_some_and(|reason| !matches!(reason, "ContainerCreating" | "PodInitializing"))
    });
    let held = || heard::<DataSeen>(&facts["metadata"]["annotations"], DATA).and_then(|data| data.held);
    stuck.map(say).next().or_else(held).or_else(|| {
        condition(&facts["status"]["conditions"], "PodScheduled").filter(|c| c["status"] == "False").map(say)
    })
}

fn condition<'a>(conditions: &'a Value, type_: &str) -> Option<&'a Value> {
    conditions.as_array()?.iter().find(|condition| condition["type"] == type_)
}

/// How far a Deployment has come.
pub fn rollout(facts: &Value) -> Rollout {
    let count = |field: &str| facts["status"][field].as_i64().and_then(|n| i32::try_from(n).ok()).unwrap_or(0);
    let generation = facts["metadata"]["generation"].as_i64();
    Rollout {
        current: generation.is_some() && generation == facts["status"]["observedGeneration"].as_i64(),
        updated: count("updatedReplicas"),
        ready: count("readyReplicas"),
        available: count("availableReplicas"),
        total: count("replicas"),
    }
}

/// What the gateway says of a route, once it speaks of the route as it is now.
pub fn accepted(facts: &Value) -> Option<Result<(), String>> {
    let generation = facts["metadata"]["generation"].as_i64();
    let parents = facts["status"]["parents"].as_array()?;
    let current = parents
        .iter()
        .filter_map(|parent| condition(&parent["conditions"], "Accepted"))
        .filter(|condition| condition["observedGeneration"].as_i64().is_none_or(|seen| Some(seen) >= generation));
    current
        .map(|condition| match condition["status"].as_str() {
            Some("True") => Ok(()),
            _ => Err(format!(
                "{}: {}",
                condition["reason"].as_str().unwrap_or("Unknown"),
                condition["message"].as_str().unwrap_or_default()
            )),
        })
        // One gateway that refuses is worth telling, whatever the others say.
        .reduce(|one, other| one.and(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_that_waits_for_its_image_says_so() {
        let facts = json!({"status": {
            "conditions": [{"type": "Ready", "status": "False"}, {"type": "PodScheduled", "status": "True"}],
            "containerStatuses": [{"state": {"waiting": {"reason": "ErrImageNeverPull", "message": "not here"}}}],
        }});
        let seen = pod("db-0".into(), &facts, false);
        assert_eq!((seen.ready, seen.trouble.as_deref()), (false, Some("ErrImageNeverPull: not here")));
    }

    #[test]
    fn a_pod_without_a_server_says_why() {
        let facts = json!({"status": {"conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/8 nodes"}]}});
        assert_eq!(pod("x".into(), &facts, false).trouble.as_deref(), Some("Unschedulable: 0/8 nodes"));
    }

    #[test]
    fn starting_is_no_trouble_and_leaving_is_not_ready() {
        let facts = json!({"metadata": {"labels": {"hz.hospital/role": "primary"}}, "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}});
        let seen = pod("x".into(), &facts, true);
        assert_eq!((seen.ready, seen.trouble, seen.role.as_deref()), (false, None, Some("primary")));
    }

    #[test]
    fn a_rollout_counts_only_when_it_speaks_of_what_was_last_asked() {
        let facts = json!({"metadata": {"generation": 2}, "status": {"observedGeneration": 1, "readyReplicas": 3}});
        assert!(!rollout(&facts).current);
        assert!(!rollout(&json!({})).current, "nothing is known of it yet");
    }

    #[test]
    fn a_route_is_accepted_refused_or_not_answered_yet() {
        let route = |status: &str, seen: i64| {
            json!({"metadata": {"generation": 2}, "status": {"parents": [{"conditions": [
                {"type": "Accepted", "status": status, "reason": "NoMatchingParent", "message": "", "observedGeneration": seen}]}]}})
        };
        assert_eq!(accepted(&route("True", 2)), Some(Ok(())));
        assert!(matches!(accepted(&route("False", 2)), Some(Err(_))));
        assert_eq!(accepted(&route("True", 1)), None, "of the route as it was before");
        assert_eq!(accepted(&json!({})), None);
    }
}
