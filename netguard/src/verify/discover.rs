//! Learning of the other verify pods and of the CoreDNS pods.
//!
//! From the API, since it knows on which node each pod is; that way is itself a check. If it fails, DNS still gives the
//! addresses of the peers, so that one fault does not hide the others.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, Client, Config, api::ListParams};

use super::{
    Args,
    checks::PATIENCE,
    dns,
    report::{Check, Kind},
};
use crate::agent::chain;

/// A pod to try.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Its node; empty when not known.
    pub node: String,
    /// Its address.
    pub address: IpAddr,
}

/// What was learned, and how that went.
pub struct Discovered {
    /// The check of the API.
    pub checks: Vec<Check>,
    /// The verify pods.
    pub peers: Vec<Target>,
    /// The CoreDNS pods.
    pub resolvers: Vec<Target>,
}

/// The way to the API; made once.
pub struct Discovery {
    client: tokio::sync::OnceCell<Client>,
    peers_service: String,
}

impl Discovery {
    /// For these Services.
    pub fn new(args: &Args) -> Self {
        Self { client: tokio::sync::OnceCell::new(), peers_service: args.peers.clone() }
    }

    /// Look for both.
    pub async fn look(&self, args: &Args, servers: &[IpAddr]) -> Discovered {
        let begun = Instant::now();
        let learned = tokio::time::timeout(PATIENCE * 2, self.ask_api(args)).await;
        let outcome = learned.unwrap_or_else(|_| Err("timeout".into()));
        let address = std::env::var("KUBERNETES_SERVICE_HOST").ok().and_then(|text| text.parse().ok());
        let check =
            |outcome| Check::ended(Kind::Api, &args.node, "kubernetes.default", address, begun.elapsed(), outcome);
        match outcome {
            Ok((peers, resolvers)) => Discovered { checks: vec![check(Ok(()))], peers, resolvers },
            Err(why) => {
                let peers = ask_dns(args, servers).await;
                Discovered { checks: vec![check(Err(why))], peers, resolvers: vec![] }
            }
        }
    }

    async fn ask_api(&self, args: &Args) -> Result<(Vec<Target>, Vec<Target>), String> {
        let client = self.client.get_or_try_init(connect).await?;
        let list = |namespace: &str, service: &str| {
            let api: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
            let wanted = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
            async move { api.list(&wanted).await.map(|slices| targets(&slices.items)).map_err(|error| chain(&error)) }
        };
        tokio::try_join!(list(&args.namespace, &self.peers_service), list("kube-system", "kube-dns"))
    }
}

async fn connect() -> Result<Client, String> {
    let mut config = Config::incluster().map_err(|error| chain(&error))?;
    config.connect_timeout = Some(PATIENCE);
    config.read_timeout = Some(Duration::from_secs(5));
    Client::try_from(config).map_err(|error| chain(&error))
}

fn targets(slices: &[EndpointSlice]) -> Vec<Target> {
    let mut found: Vec<Target> = slices
        .iter()
        .flat_map(|slice| slice.endpoints.iter().flatten())
        .filter_map(|endpoint| {
            let address = endpoint.addresses.first()?.parse().ok()?;
            Some(Target { node: endpoint.node_name.clone().unwrap_or_default(), address })
        })
        .collect();
    // A pod is in two slices for a moment while they are repacked.
    found.sort();
    found.dedup();
    found
}

async fn ask_dns(args: &Args, servers: &[IpAddr]) -> Vec<Target> {
    for server in servers {
        if let Ok(found) = dns::ask(SocketAddr::new(*server, 53), &args.peers_name(), PATIENCE).await {
            return found.into_iter().map(|address| Target { node: String::new(), address: address.into() }).collect();
        }
    }
    vec![]
}
