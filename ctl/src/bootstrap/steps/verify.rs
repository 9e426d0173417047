//! Proof that it works: nodes and add-ons ready, services answering through the
//! gateway from this very machine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{images, plan_of};
use crate::bootstrap::api::{failed, node_look};
use crate::bootstrap::fault::Fault;
use crate::bootstrap::graph::{Plan, Work};
use crate::bootstrap::server::Server;
use crate::bootstrap::site::Site;
use crate::cluster::Cluster;

const LIMIT: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(250);
/// How long a pod may look for an image before it is called missing.
const GRACE: Duration = Duration::from_secs(20);

/// Something that is looked at until nothing is wrong with it.
type Check = for<'a> fn(&'a Site, Client) -> BoxFuture<'a, Result<Vec<String>, Fault>>;

/// Wait until a check finds nothing wrong.
pub struct Settled {
    /// What is waited for, for messages.
    pub what: &'static str,
    /// What to do if it does not come.
    pub fix: &'static str,
    /// The check.
    pub check: Check,
}

impl Work for Settled {
    fn probe<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<Plan, Fault>> {
        Box::pin(async move {
            let Some((api, _)) = site.api() else { return Ok(Plan::Do(vec![format!("wait for {}", self.what)])) };
            Ok(plan_of((self.check)(site, api.client.clone()).await?))
        })
    }

    fn act<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let act = format!("{} not ready", self.what);
            let (api, _) = site.api().ok_or_else(|| Fault::transient(&act, "the API is not known"))?;
            let begun = Instant::now();
            loop {
                let wrong = (self.check)(site, api.client.clone()).await;
                match wrong {
                    Ok(wrong) if wrong.is_empty() => return Ok(()),
                    Ok(_) if begun.elapsed() > GRACE && !images::absent(api.client.clone()).await.is_empty() => {
                        return Err(images::fault(&act, &images::absent(api.client.clone()).await));
                    }
                    Ok(wrong) if begun.elapsed() > LIMIT => {
                        return Err(Fault::late(act, wrong.join("; ")).fix(self.fix));
                    }
                    Err(fault) if begun.elapsed() > LIMIT => return Err(fault),
                    _ => tokio::time::sleep(POLL).await,
                }
            }
        })
    }
}

/// Wait until the node of a host is ready.
pub struct NodeReady(pub Arc<Server>);

impl Work for NodeReady {
    fn probe<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<Plan, Fault>> {
        Box::pin(async move {
            let wait = || Plan::Do(vec!["wait for the node".to_owned()]);
            let Some((api, look)) = site.api() else { return Ok(wait()) };
            // What was seen at the beginning holds for a node that was well then and is not told otherwise now.
            let name = self.0.name();
            if look.nodes.get(name).is_some_and(|node| node.ready) {
                return Ok(Plan::Nothing);
            }
            let ready = api.nodes().await?.get(name).is_some_and(|node| node.ready);
            Ok(if ready { Plan::Nothing } else { wait() })
        })
    }

    fn act<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let act = format!("the node of {} does not get ready", self.0.name());
            let (api, _) = site.api().ok_or_else(|| Fault::transient(&act, "the API is not known"))?;
            let nodes = Api::<Node>::all(api.client.clone());
            let ready = |node: Option<&Node>| node.is_some_and(|node| node_look(node).ready);
            let wait = await_condition(nodes, self.0.name(), ready);
            if matches!(tokio::time::timeout(LIMIT, wait).await, Ok(Ok(_))) {
                return Ok(());
            }
            let nodes = api.nodes().await.unwrap_or_default();
            let why = nodes.get(self.0.name()).map_or("it is not there", |node| node.message.as_str());
            Err(Fault::late(act, why).on(self.0.name()).fix("`journalctl -u kubelet` on the host tells why"))
        })
    }
}

/// Add-ons that are not ready.
pub fn add_ons(site: &Site, client: Client) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
    Box::pin(async move {
        let down = match site.api() {
            Some((api, _)) => api.nodes().await?.values().filter(|node| !node.ready).count(),
            None => 0,
        };
        add_ons_of(client, i32::try_from(down).unwrap_or(0)).await
    })
}

/// Namespaces of the platform.
pub const NAMESPACES: [&str; 4] = ["kube-system", "hz-system", "hz-gateway", "hz-storage"];

/// Deployments and daemons of the platform that are not ready. As many copies as nodes are down may be missing, of
/// daemons all of them and of a deployment all but one: a cluster without a worker is still a cluster.
pub async fn add_ons_of(client: Client, down: i32) -> Result<Vec<String>, Fault> {
    let act = "failed to look at the add-ons";
    // What is there for a moment to prove the network is no add-on.
    let list = ListParams::default().labels("hz.hospital/purpose!=verify");
    let (deployments, daemons) = (Api::<Deployment>::all(client.clone()), Api::<DaemonSet>::all(client));
    let (deployments, daemons) = tokio::join!(deployments.list(&list), daemons.list(&list));
    let ours = |namespace: Option<String>| namespace.is_some_and(|name| NAMESPACES.contains(&name.as_str()));
    let mut wrong = Vec::new();
    for one in deployments.map_err(|error| failed(act, &error))?.into_iter().filter(|one| ours(one.namespace())) {
        let wanted = one.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let status = one.status.clone().unwrap_or_default();
        let ready = status.ready_replicas.unwrap_or(0);
        let enough = if down > 0 { wanted.min(1).max(wanted - down) } else { wanted };
        if ready < enough || status.observed_generation.unwrap_or(0) < one.metadata.generation.unwrap_or(0) {
            wrong.push(format!("{}: {ready} of {wanted} ready", one.name_any()));
        }
    }
    for one in daemons.map_err(|error| failed(act, &error))?.into_iter().filter(|one| ours(one.namespace())) {
        let status = one.status.clone().unwrap_or_default();
        let (ready, wanted) = (status.number_ready, status.desired_number_scheduled);
        if ready < wanted - down || status.observed_generation.unwrap_or(0) < one.metadata.generation.unwrap_or(0) {
            wrong.push(format!("{}: {ready} of {wanted} ready", one.name_any()));
        }
    }
    Ok(wrong)
}

/// A service that is reached from outside the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// The service.
    pub service: String,
    /// Name that browsers ask for.
    pub host: String,
    /// Path that it begins at.
    pub path: String,
}

/// Routes of all services.
pub async fn routes(client: Client) -> Vec<Route> {
    let kind = kube::api::ApiResource::from_gvk(&GroupVersionKind::gvk("hz.hospital", "v1alpha1", "MedicalService"));
    let services = Api::<DynamicObject>::all_with(client, &kind).list(&ListParams::default()).await;
    let mut routes = Vec::new();
    for service in services.map(|list| list.items).unwrap_or_default() {
        let listed = service.data.pointer("/spec/routes").and_then(serde_json::Value::as_array).cloned();
        for route in listed.unwrap_or_default() {
            let text = |key: &str| route[key].as_str().unwrap_or_default().to_owned();
            let path = if text("path").is_empty() { "/".into() } else { text("path") };
            routes.push(Route { service: service.name_any(), host: text("host"), path });
        }
    }
    routes.retain(|route| !route.host.is_empty());
    routes.sort();
    routes
}

/// Addresses of the gateway: every worker.
pub fn doors(cluster: &Cluster) -> Vec<SocketAddr> {
    let port = cluster.spec.gateway.http_port;
    cluster.workers().map(|host| SocketAddr::from((cluster.target(host).address, port))).collect()
}

/// Services that do not answer through the gateway, asked from this machine on the first door that opens.
pub fn gateway(site: &Site, client: Client) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
    Box::pin(async move {
        let mut wrong = Vec::new();
        for route in routes(client).await {
            let asks = doors(&site.cluster).into_iter().map(|door| ask(door, &route));
            let answers: Vec<Result<u16, String>> = futures::future::join_all(asks).await;
            // One door that works is enough: a worker may be down and the cluster is still of use.
            if !answers.iter().any(|answer| matches!(answer, Ok(code) if good(*code))) {
                let said = answers.into_iter().next().unwrap_or_else(|| Err("there is no worker".into()));
                let said = said.map_or_else(|error| error, |code| format!("HTTP {code}"));
                wrong.push(format!("{} does not answer at http://{}{}: {said}", route.service, route.host, route.path));
            }
        }
        Ok(wrong)
    })
}

/// Whether a service answered, and not the gateway for it. A service may have nothing at the path we ask for.
fn good(code: u16) -> bool {
    code < 500
}

async fn ask(door: SocketAddr, route: &Route) -> Result<u16, String> {
    let asked = async {
        let mut stream = TcpStream::connect(door).await?;
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: hzctl\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            route.path, route.host
        );
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        // The first kilobytes tell who answered; a service may have far more to say.
        stream.take(4096).read_to_end(&mut head).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&head).into_owned())
    };
    match tokio::time::timeout(Duration::from_secs(4), asked).await {
        Err(_) => Err(format!("{door} does not answer within 4 seconds")),
        Ok(Err(error)) => Err(format!("{door}: {error}")),
        Ok(Ok(head)) if head.ends_with("404 page not found\n") && !head.contains("Server:") => {
            Err(format!("{door} has no route for it yet"))
        }
        Ok(Ok(head)) => head
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .ok_or_else(|| format!("{door} does not speak HTTP")),
    }
}

/// The checks at the end, in their order.
pub fn settled(what: &'static str, fix: &'static str, check: Check) -> Arc<Settled> {
    Arc::new(Settled { what, fix, check })
}
