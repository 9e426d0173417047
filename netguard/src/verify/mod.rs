//! Proof from inside pods: every pod on every node tries every way that the cluster promises.
//!
//! One pod on each node (the DaemonSet of the chart's `verify.enabled`, in the pod network and without any privilege)
//! serves a small answer and tries, over and over until all passes:
//!
//! | check | way |
//! |---|---|
//! | `api` | pod → ClusterIP → an API server on a node |
//! | `peer` | pod → pod on each node, its own too, with packets of full size both ways |
//! | `service` | pod → ClusterIP → some pod |
//! | `dns-service` | pod → DNS Service → some CoreDNS pod, over UDP |
//! | `dns-endpoint` | pod → each CoreDNS pod, over UDP |
//!
//! A pod is ready when all of its checks pass with as many peers as expected. `/report` says which pair failed and how;
//! the same report is printed as one JSON line whenever it changes, since `kubectl logs` works where pods are not
//! reachable. That kubelet's probe and the API server's proxy reach the pod proves node → pod.

mod checks;
mod discover;
pub mod dns;
pub mod report;
mod server;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use tokio::{sync::watch, time::sleep};

use self::{
    checks::Prober,
    discover::{Discovered, Discovery},
    report::{Check, Kind, Report},
};

/// Pause between rounds until all passes, and after.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Arguments of `hz-netguard verify`
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How many verify pods there must be: one for each node
    #[arg(long, env = "EXPECTED", value_parser = clap::value_parser!(u16).range(1..))]
    expected: u16,
    /// Name of this pod's node
    #[arg(long, env = "NODE_NAME")]
    node: String,
    /// Namespace of the verify pods
    #[arg(long, env = "POD_NAMESPACE", default_value = "hz-system")]
    namespace: String,
    /// Name of the ClusterIP Service of the verify pods
    #[arg(long, default_value = "netguard-verify")]
    service: String,
    /// Address of that Service; looked up by DNS when absent
    #[arg(long, env = "NETGUARD_VERIFY_SERVICE_HOST")]
    service_address: Option<IpAddr>,
    /// Name of their headless Service
    #[arg(long, default_value = "netguard-verify-peers")]
    peers: String,
    /// Domain of the cluster
    #[arg(long, env = "CLUSTER_DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
    /// Port of the verify pods and of their Services
    #[arg(long, default_value_t = 8089)]
    port: u16,
    /// Where the addresses of the DNS servers are
    #[arg(long, default_value = "/etc/resolv.conf", hide = true)]
    resolv_conf: std::path::PathBuf,
}

impl Args {
    fn peers_name(&self) -> String {
        format!("{}.{}.svc.{}", self.peers, self.namespace, self.cluster_domain)
    }

    fn service_name(&self) -> String {
        format!("{}.{}.svc.{}", self.service, self.namespace, self.cluster_domain)
    }
}

/// Serve and try until told to end.
pub async fn run(args: Args) -> Result<(), String> {
    let (sender, receiver) = watch::channel(Arc::new(Report::unknown(&args.node, args.expected)));
    let listen = SocketAddr::from(([0, 0, 0, 0], args.port));
    let node = args.node.clone();
    tokio::select! {
        served = server::serve(listen, node, receiver) => {
            served.map_err(|error| format!("failed to serve on {listen}: {error}"))
        }
        () = rounds(args, sender) => Ok(()),
        _ = terminated() => Ok(()),
    }
}

async fn terminated() {
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}

async fn rounds(args: Args, sender: watch::Sender<Arc<Report>>) {
    let discovery = Discovery::new(&args);
    let prober = Prober::new(&args);
    loop {
        let report = round(&args, &discovery, &prober).await;
        let pause = if report.ready { PAUSE.1 } else { PAUSE.0 };
        let news = report.differs(&sender.borrow());
        if news {
            println!("{}", serde_json::json!({ "report": report }));
        }
        sender.send_replace(Arc::new(report));
        sleep(pause).await;
    }
}

/// Try each way once, all at the same time.
async fn round(args: &Args, discovery: &Discovery, prober: &Prober) -> Report {
    let servers = dns::servers(&args.resolv_conf);
    let Discovered { mut checks, peers, resolvers } = discovery.look(args, &servers).await;
    if peers.len() != usize::from(args.expected) {
        let known: Vec<&str> = peers.iter().map(|peer| peer.node.as_str()).collect();
        checks.push(Check::failed(
            Kind::Discovery,
            &args.node,
            "*",
            None,
            format!("{} of {} verify pods are known: {}", peers.len(), args.expected, known.join(", ")),
        ));
    }
    let peers = join_all(peers.iter().map(|peer| prober.peer(peer)));
    let resolvers = join_all(resolvers.iter().map(|resolver| prober.resolver(resolver)));
    let (peers, resolvers, dns, service) =
        tokio::join!(peers, resolvers, prober.dns_service(&servers), prober.service(&servers));
    checks.extend(peers);
    checks.extend(resolvers);
    checks.extend(dns);
    checks.extend(service);
    Report::of(&args.node, args.expected, checks)
}
