//! Cluster DNS on two servers. kubeadm only prefers that, and both copies start on the first server that is ready,
//! for good: with its loss every name in the cluster would be lost until they are moved.

use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};

use crate::bootstrap::api::failed;
use crate::bootstrap::fault::Fault;
use crate::bootstrap::graph::{Plan, Work};
use crate::bootstrap::site::Site;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "coredns";

/// Have the copies of CoreDNS keep off each other's servers.
pub struct Spread;

impl Work for Spread {
    fn probe<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<Plan, Fault>> {
        Box::pin(async move {
            let todo = || Plan::Do(vec!["keep the copies of cluster DNS on different servers".to_owned()]);
            let Some((api, _)) = site.api() else { return Ok(todo()) };
            let there = deployments(&api.client).get_opt(NAME).await;
            let there = there.map_err(|error| failed("failed to look at cluster DNS", &error))?;
            Ok(if there.as_ref().is_some_and(keeps_apart) { Plan::Nothing } else { todo() })
        })
    }

    fn act<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let act = "failed to keep the copies of cluster DNS apart";
            let (api, _) = site.api().ok_or_else(|| Fault::transient(act, "the API is not known"))?;
            let parameters = PatchParams::apply("hzctl").force();
            let patched = deployments(&api.client).patch(NAME, &parameters, &Patch::Apply(&apart())).await;
            patched.map(|_| ()).map_err(|error| failed(act, &error))
        })
    }
}

fn deployments(client: &Client) -> Api<Deployment> {
    Api::namespaced(client.clone(), NAMESPACE)
}

/// Only what we add to kubeadm's own Deployment.
fn apart() -> serde_json::Value {
    serde_json::json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": NAME, "namespace": NAMESPACE },
        "spec": { "template": { "spec": { "affinity": { "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [{
                "topologyKey": "kubernetes.io/hostname",
                "labelSelector": { "matchLabels": { "k8s-app": "kube-dns" } },
            }],
        } } } } },
    })
}

fn keeps_apart(deployment: &Deployment) -> bool {
    let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let anti = pod.and_then(|pod| pod.affinity.as_ref()?.pod_anti_affinity.as_ref());
    let rules = anti.and_then(|anti| anti.required_during_scheduling_ignored_during_execution.as_ref());
    rules.is_some_and(|rules| rules.iter().any(|rule| rule.topology_key == "kubernetes.io/hostname"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_looked_for() {
        let mut object = apart();
        object["spec"]["selector"] = serde_json::json!({});
        object["spec"]["template"]["spec"]["containers"] = serde_json::json!([]);
        assert!(keeps_apart(&serde_json::from_value(object.clone()).unwrap()));
        object["spec"]["template"]["spec"]["affinity"] = serde_json::json!({});
        assert!(!keeps_apart(&serde_json::from_value(object).unwrap()));
    }
}
