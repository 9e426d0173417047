//! Proof of the pod network: for a moment a pod on every ready node reaches all the others, the Services and DNS.
//! What was proved is kept in the cluster, so that a run on a finished one has nothing to prove again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, join_all};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde::Deserialize;

use super::hospital::{self, Wanted};
use super::release::AddOn;
use crate::bootstrap::api::{failed, node_look};
use crate::bootstrap::fault::Fault;
use crate::bootstrap::graph::{Plan, Work};
use crate::bootstrap::site::Site;
use crate::cluster::Role;

/// Objects of the proof; its header says how they work.
const OBJECTS: &str = include_str!("../../../../netguard/deploy/verify.yaml");
const NAMESPACE: &str = "hz-system";
const POD_LABEL: &str = "app.kubernetes.io/name=netguard-verify";
/// Where it is kept what was proved.
const PROOF: &str = "network-proof";
const PORT: u16 = 8089;
const LIMIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(250);
/// How long one pod may take to tell what it found.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than this many pairs tell no more than these.
const SHOWN: usize = 6;

/// Prove it, unless it was proved for these very nodes and this very network.
pub struct Proof(pub Arc<AddOn>);

/// What a pod says of the ways it tried; written by `netguard verify`.
#[derive(Deserialize)]
struct Report {
    #[serde(default)]
    failures: Vec<Failure>,
}

/// A way that failed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Failure {
    kind: String,
    from: String,
    to: String,
    #[serde(default)]
    address: Option<String>,
    #[serde(default)]
    failure: Option<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let address = self.address.as_deref().map(|address| format!(" at {address}")).unwrap_or_default();
        let why = self.failure.as_deref().unwrap_or("no answer");
        write!(f, "{} does not reach {}{address} ({}): {why}", self.from, self.to, self.kind)
    }
}

impl Proof {
    /// Ready nodes by name with their uid, so that a host that was made anew is proved anew.
    async fn nodes(client: &Client) -> Result<BTreeMap<String, String>, Fault> {
        let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await;
        let nodes = nodes.map_err(|error| failed("failed to list the nodes", &error))?;
        let ready = nodes.iter().filter(|node| node_look(node).ready);
        Ok(ready.map(|node| (node.name_any(), node.uid().unwrap_or_default())).collect())
    }

    /// What was proved before: nodes, and the network's own digest.
    async fn proved(client: &Client) -> Option<BTreeMap<String, String>> {
        Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE).get_opt(PROOF).await.ok()??.data
    }

    /// What is to be kept: each node as `node.NAME`, and the network they were proved with.
    fn record(&self, site: &Site, nodes: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Fault> {
        let mut record: BTreeMap<String, String> =
            nodes.iter().map(|(name, uid)| (format!("node.{name}"), uid.clone())).collect();
        record.insert("network".into(), self.0.fingerprint(site)?);
        Ok(record)
    }

    async fn prove(&self, site: &Site, client: &Client) -> Result<(), Fault> {
        let nodes = Self::nodes(client).await?;
        let objects = objects(&image(site)?, nodes.len())?;
        let proved = async {
            for one in &objects {
                hospital::apply(one, client.clone()).await?;
            }
            wait(site, client, &nodes).await
        };
        let proved = proved.await;
        // Whatever came of it, nothing of it stays.
        let cleaned = remove(client, &objects).await;
        proved?;
        cleaned?;
        let record = self.record(site, &nodes)?;
        let object = serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": PROOF, "namespace": NAMESPACE },
            "data": record,
        });
        let maps = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE);
        let parameters = PatchParams::apply("hzctl").force();
        let kept = maps.patch(PROOF, &parameters, &Patch::Apply(&object)).await;
        kept.map(|_| ()).map_err(|error| failed("failed to keep what was proved of the pod network", &error))
    }
}

impl Work for Proof {
    fn probe<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<Plan, Fault>> {
        Box::pin(async move {
            let todo = || Plan::Do(vec!["prove that every pod reaches every other, Services and DNS".to_owned()]);
            let Some((api, _)) = site.api() else { return Ok(todo()) };
            let (nodes, proved) = tokio::join!(Self::nodes(&api.client), Self::proved(&api.client));
            let proved = proved.unwrap_or_default();
            // A node fewer than then changes nothing between the others.
            let holds = self.record(site, &nodes?)?.iter().all(|(key, value)| proved.get(key) == Some(value));
            Ok(if holds { Plan::Nothing } else { todo() })
        })
    }

    fn act<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let act = "failed to prove the pod network";
            let (api, _) = site.api().ok_or_else(|| Fault::transient(act, "the API is not known"))?;
            self.prove(site, &api.client).await
        })
    }
}

fn image(site: &Site) -> Result<String, Fault> {
    let images = site.bundle.manifest().components.iter().filter_map(|entry| entry.reference.clone());
    let ours = |image: &String| image.rsplit('/').next().is_some_and(|name| name.starts_with("hz-netguard:"));
    images.into_iter().find(ours).ok_or_else(|| {
        Fault::permanent("failed to prove the pod network", "the bundle has no image hz-netguard")
            .fix("build the bundle again")
    })
}

fn objects(image: &str, nodes: usize) -> Result<Vec<Wanted>, Fault> {
    let text = OBJECTS.replace("${IMAGE}", image).replace("${EXPECTED}", &nodes.to_string());
    let name = Path::new("the network proof");
    hospital::parse(name, &text).map_err(|cause| Fault::permanent("failed to read the network proof", cause))
}

async fn remove(client: &Client, objects: &[Wanted]) -> Result<(), Fault> {
    let gone = objects.iter().map(|one| {
        let api = one.api(client.clone());
        async move { api.delete(one.name(), &DeleteParams::background()).await }
    });
    for gone in join_all(gone).await {
        match gone {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(failed("failed to clear away the network proof", &error)),
        }
    }
    Ok(())
}

/// Until the pod on each of these nodes says that it reached everything.
async fn wait(site: &Site, client: &Client, nodes: &BTreeMap<String, String>) -> Result<(), Fault> {
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let list = ListParams::default().labels(POD_LABEL);
    let begun = Instant::now();
    loop {
        let there = pods.list(&list).await;
        let there = there.map_err(|error| failed("failed to look at the pods of the network proof", &error))?.items;
        let ready: BTreeSet<&str> = there.iter().filter(|pod| is_ready(pod)).filter_map(node_of).collect();
        if nodes.keys().all(|node| ready.contains(node.as_str())) {
            return Ok(());
        }
        if begun.elapsed() > LIMIT {
            let unproved = nodes.keys().filter(|node| !ready.contains(node.as_str())).cloned().collect::<Vec<_>>();
            return Err(blame(site, findings(&pods, &there, &unproved).await));
        }
        tokio::time::sleep(POLL).await;
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// What is wrong, as the pods on these nodes tell it.
async fn findings(pods: &Api<Pod>, there: &[Pod], nodes: &[String]) -> Vec<Failure> {
    let mut found = Vec::new();
    for node in nodes {
        let broken = |failure: String| Failure {
            kind: "pod".into(),
            from: node.clone(),
            to: "the pod network".into(),
            address: None,
            failure: Some(failure),
        };
        let Some(pod) = there.iter().find(|pod| node_of(pod) == Some(node)) else {
            found.push(broken("no pod was put on it".into()));
            continue;
        };
        match report(pods, &pod.name_any()).await {
            Some(report) if !report.failures.is_empty() => found.extend(report.failures),
            Some(_) => found.push(broken("its pod found everything in order and is not called ready".into())),
            None => found.push(broken(why_not_running(pod))),
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Through the API server; where the network is too broken for that, from the log, which comes through the kubelet.
async fn report(pods: &Api<Pod>, name: &str) -> Option<Report> {
    let path = format!("{}/{name}:{PORT}/proxy/report", Api::<Pod>::resource_url(pods));
    let request = http::Request::get(path).body(Vec::new()).ok()?;
    let client = pods.clone().into_client();
    if let Ok(Ok(text)) = tokio::time::timeout(PATIENCE, client.request_text(request)).await
        && let Ok(report) = serde_json::from_str(&text)
    {
        return Some(report);
    }
    let whole = kube::api::LogParams::default();
    let log = tokio::time::timeout(PATIENCE, pods.logs(name, &whole)).await;
    from_log(&log.ok()?.ok()?)
}

fn from_log(log: &str) -> Option<Report> {
    #[derive(Deserialize)]
    struct Line {
        report: Report,
    }
    let last = log.lines().rev().find(|line| line.starts_with("{\"report\":"))?;
    serde_json::from_str::<Line>(last).ok().map(|line| line.report)
}

fn why_not_running(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let waiting = status.container_statuses.into_iter().flatten().find_map(|one| one.state?.waiting);
    let phase = status.phase.unwrap_or_else(|| "unknown".into());
    match waiting.map(|waiting| (waiting.reason.unwrap_or_default(), waiting.message.unwrap_or_default())) {
        Some((reason, message)) if message.is_empty() => format!("its pod does not start: {reason}"),
        Some((reason, message)) => format!("its pod does not start: {reason}, {message}"),
        None => format!("its pod is {phase} and tells nothing; `journalctl -u kubelet` there says why"),
    }
}

/// One worker that has part in every failure is the one to look at; otherwise it is the network.
fn blame(site: &Site, found: Vec<Failure>) -> Fault {
    let cause = told(&found);
    let fault = Fault::late("the pod network does not carry everything", cause).fix(
        "let UDP 8472 (between subnets) and all traffic of the pod range through between the hosts, then run the \
         bootstrap again",
    );
    let workers = site.cluster.with_role(Role::Worker).map(|host| host.name.as_str());
    let culprit = workers.into_iter().find(|worker| found.iter().all(|one| one.from == **worker || one.to == **worker));
    match culprit {
        Some(worker) if !found.is_empty() => fault.on(worker),
        _ => fault,
    }
}

fn told(found: &[Failure]) -> String {
    let mut lines: Vec<String> = found.iter().take(SHOWN).map(ToString::to_string).collect();
    if found.len() > SHOWN {
        lines.push(format!("and {} more", found.len() - SHOWN));
    }
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::testing;

    fn failure(from: &str, to: &str) -> Failure {
        Failure {
            kind: "peer".into(),
            from: from.into(),
            to: to.into(),
            address: Some("10.244.5.2".into()),
            failure: Some("timeout".into()),
        }
    }

    #[test]
    fn the_objects_of_the_proof_name_the_image_and_how_many_nodes_there_are() {
        let objects = objects("hz.hospital/hz-netguard:0.1.0", 7).unwrap();
        let daemon = objects.iter().find(|one| one.shown() == "DaemonSet netguard-verify").unwrap();
        let container = &daemon.object["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], "hz.hospital/hz-netguard:0.1.0");
        assert_eq!(container["env"][0]["value"], "7");
        assert!(!objects.iter().any(|one| one.object.to_string().contains("${")));
    }

    #[test]
    fn a_worker_in_every_failure_is_named_and_costs_only_itself() {
        let site = testing::site();
        let fault = blame(&site, vec![failure("cp-1", "worker-3"), failure("worker-3", "worker-1")]);
        assert_eq!(fault.host.as_deref(), Some("worker-3"));
        assert!(fault.cause.contains("cp-1 does not reach worker-3 at 10.244.5.2 (peer): timeout"), "{fault}");
        let fault = blame(&site, vec![failure("cp-1", "worker-3"), failure("worker-2", "worker-1")]);
        assert_eq!(fault.host, None);
    }

    #[test]
    fn many_failures_are_told_by_the_first_and_a_number() {
        let found: Vec<Failure> = (0..20).map(|n| failure("cp-1", &format!("worker-{n}"))).collect();
        assert!(told(&found).ends_with("and 14 more"));
    }

    #[test]
    fn the_last_report_of_a_log_counts() {
        let log = "hello\n{\"report\":{\"node\":\"a\",\"failures\":[]}}\n{\"report\":{\"node\":\"a\",\"failures\":[{\"kind\":\"peer\",\"from\":\"a\",\"to\":\"b\",\"failure\":\"refused\"}]}}\ntrailer\n";
        assert_eq!(from_log(log).unwrap().failures[0].to, "b");
        assert!(from_log("nothing").is_none());
    }
}
