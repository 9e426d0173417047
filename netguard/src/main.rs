//! The command line of netguard.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use hz_netguard::{
    agent::{self, Agent, chain},
    diff::diff,
    health::{self, Health},
    kernel::{CniFile, Kernel, NatTable, Sysctls},
    plan::{Encapsulation, Settings},
    source::{Nodes, watch_api, watch_file},
    verify,
};
use ipnet::IpNet;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

/// The network agent of a hospital cloud's node
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Keep this node's routes, tunnels, masquerade and CNI configuration right (what the DaemonSet runs)
    Run(RunArgs),
    /// Print what would be there and what would change, and change nothing
    Show(ShowArgs),
    /// Take away everything netguard made on this host; for hosts that leave a cluster
    Cleanup(HostArgs),
    /// Prove from inside pods that the network works (what the netguard-verify DaemonSet runs)
    Verify(verify::Args),
}

#[derive(Args)]
struct HostArgs {
    /// Directory of the CNI configuration
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    cni_dir: PathBuf,
    /// Leave the CNI configuration to somebody else
    #[arg(long)]
    no_cni: bool,
    /// The nft program
    #[arg(long, value_name = "PATH", default_value = "nft")]
    nft: PathBuf,
}

impl HostArgs {
    fn cni(&self) -> Option<CniFile> {
        (!self.no_cni).then(|| CniFile::in_directory(&self.cni_dir))
    }
}

#[derive(Args)]
struct PlanArgs {
    /// Name of this node, as its Node object has it
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    node: String,
    /// Take the nodes from this JSON file instead of the Kubernetes API: [{"name", "addresses", "podCIDRs"}]
    #[arg(long, value_name = "FILE")]
    nodes_from: Option<PathBuf>,
    /// Largest packet of a pod; 0 measures the uplink and leaves room for the tunnel
    #[arg(long, env = "NETGUARD_MTU", default_value_t = 0, value_parser = mtu)]
    mtu: u32,
    /// When to send packets to other nodes in a tunnel
    #[arg(long, env = "NETGUARD_ENCAPSULATION", value_enum, default_value_t = Encapsulate::Auto)]
    encapsulation: Encapsulate,
    /// The ranges that hold the pods of the whole cluster
    #[arg(long, env = "NETGUARD_CLUSTER_CIDR", value_name = "CIDR", value_delimiter = ',')]
    cluster_cidr: Vec<IpNet>,
    /// Let packets leave the cluster with the address of their pod
    #[arg(long)]
    no_masquerade: bool,
}

/// 0, or a size in which IPv4 works and a packet fits.
fn mtu(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) => Ok(0),
        Ok(mtu @ 576..=65535) => Ok(mtu),
        _ => Err("must be 0 (measured) or between 576 and 65535".into()),
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Encapsulate {
    /// To nodes behind a router
    Auto,
    /// To all nodes
    Always,
    /// To none; the site's routers know the pod ranges
    Never,
}

impl PlanArgs {
    fn settings(&self) -> Settings {
        Settings {
            mtu: Some(self.mtu).filter(|mtu| *mtu != 0),
            encapsulation: match self.encapsulation {
                Encapsulate::Auto => Encapsulation::Auto,
                Encapsulate::Always => Encapsulation::Always,
                Encapsulate::Never => Encapsulation::Never,
            },
            cluster_ranges: self.cluster_cidr.iter().map(IpNet::trunc).collect(),
            masquerade: !self.no_masquerade,
        }
    }

    async fn nodes(&self, health: &Arc<Health>) -> Result<watch::Receiver<Nodes>, String> {
        match &self.nodes_from {
            Some(file) => Ok(watch_file(file.clone())),
            None => watch_api(self.node.clone(), health.clone()).await.map_err(|error| chain(&error)),
        }
    }
}

#[derive(Args)]
struct ShowArgs {
    #[command(flatten)]
    plan: PlanArgs,
    #[command(flatten)]
    host: HostArgs,
}

#[derive(Args)]
struct RunArgs {
    #[command(flatten)]
    plan: PlanArgs,
    #[command(flatten)]
    host: HostArgs,
    /// Where to answer /healthz, /livez and /metrics
    #[arg(long, env = "NETGUARD_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:16480")]
    listen: SocketAddr,
    /// Where the host's kernel switches are
    #[arg(long, value_name = "DIR", default_value = "/proc/sys")]
    proc_sys: PathBuf,
    /// Seconds between looks at the kernel when no change was heard of
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=240))]
    look_every: u64,
}

// One thread: the work is a few netlink messages a minute, and each thread costs memory on every node.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // The client's own lines say less than ours, for each try.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let filter = "kube_client=off".parse().map_or(EnvFilter::new("info"), |quiet| filter.add_directive(quiet));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let done = match Cli::parse().command {
        Command::Run(args) => run(args).await,
        Command::Show(args) => show(args).await,
        Command::Cleanup(args) => cleanup(args).await,
        Command::Verify(args) => verify::run(args).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            error!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn agent(plan: &PlanArgs, host: &HostArgs, health: Arc<Health>) -> Result<Agent, String> {
    Ok(Agent {
        node: plan.node.clone(),
        settings: plan.settings(),
        kernel: Kernel::open().map_err(|error| chain(&error))?,
        table: NatTable::new(&host.nft),
        cni: host.cni(),
        switches: Sysctls::at("/proc/sys"),
        health,
        look: Duration::from_secs(60),
    })
}

async fn run(args: RunArgs) -> Result<(), String> {
    let health = Arc::new(Health::default());
    let nodes = args.plan.nodes(&health).await?;
    let agent = Agent {
        switches: Sysctls::at(args.proc_sys),
        look: Duration::from_secs(args.look_every),
        ..agent(&args.plan, &args.host, health.clone())?
    };
    info!(node = agent.node, version = env!("CARGO_PKG_VERSION"), "netguard starts");
    tokio::select! {
        done = agent.run(nodes) => done.map_err(|error| chain(&error)),
        served = health::serve(health, args.listen) => match served {
            Ok(()) => Ok(()),
            Err(error) => Err(format!("failed to serve on {}: {error}", args.listen)),
        },
        // Everything stays in place: the next netguard takes over while traffic flows.
        () = told_to_end() => Ok(()),
    }
}

async fn show(args: ShowArgs) -> Result<(), String> {
    let health = Arc::new(Health::default());
    let mut nodes = args.plan.nodes(&health).await?;
    let agent = agent(&args.plan, &args.host, health)?;
    let nodes = agent::first_nodes(&mut nodes, Duration::from_secs(30))
        .await
        .ok_or("the nodes did not become known in 30 s")?;
    let desired = agent.want(&nodes).await?;
    for item in desired.items.values() {
        println!("{item}");
    }
    if let Some(masquerade) = &desired.masquerade {
        print!("\n{}", masquerade.script());
    }
    print!("\n{}", desired.cni.render());
    for problem in &desired.problems {
        println!("problem: {problem}");
    }
    let actual = agent.kernel.actual().await.map_err(|error| chain(&error))?;
    for change in diff(&actual, &desired.items).changes {
        println!("change: {change:?}");
    }
    Ok(())
}

async fn cleanup(args: HostArgs) -> Result<(), String> {
    let kernel = Kernel::open().map_err(|error| chain(&error))?;
    let mut table = NatTable::new(&args.nft);
    let count = agent::cleanup(&kernel, &mut table, args.cni().as_ref()).await.map_err(|error| chain(&error))?;
    info!(count, "nothing of netguard is left on this host");
    Ok(())
}

async fn told_to_end() {
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        }
        _ => std::future::pending().await,
    }
}
