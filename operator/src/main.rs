//! `hz-operator`: settings, election, and then [`hz_operator::lead`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use hz_operator::engine::client::counted;
use hz_operator::engine::health::{self, Health};
use hz_operator::engine::lease::{Candidate, Timing};
use hz_operator::engine::metrics::Metrics;
use hz_operator::probes::OverTcp;
use hz_operator::{Settings, holder, lead, platform};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

/// Keeps hospitals, their databases, caches and services as they were ordered
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Settings of the platform (images, storage class, gateway, domain) as YAML; without it, the defaults
    #[arg(long, env = "HZ_PLATFORM", value_name = "PATH")]
    platform: Option<PathBuf>,

    /// Namespace of the lease by which replicas choose their leader
    #[arg(long, env = "HZ_NAMESPACE", default_value = "hz-system")]
    namespace: String,

    /// Name of this replica; must differ between replicas
    #[arg(long, env = "HZ_INSTANCE", value_name = "NAME")]
    instance: Option<String>,

    /// Where to serve /healthz, /readyz and /metrics
    #[arg(long, env = "HZ_LISTEN", default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    listen: SocketAddr,

    /// How often to ask a database or cache that is Ready whether it still answers
    #[arg(long, env = "HZ_ASK_AGAIN_SECONDS", default_value_t = 45, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(5..=3600))]
    ask_again: u64,

    /// Lead without an election; for one replica on a developer's machine
    #[arg(long, env = "HZ_ALONE")]
    alone: bool,

    #[command(subcommand)]
    command: Option<Command>,
}

/// What it does instead of keeping hospitals.
#[derive(clap::Subcommand)]
enum Command {
    Hold(holder::Args),
}

/// Name of the lease.
const LEASE: &str = "hz-operator";

fn main() -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("HZ_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().json().with_env_filter(filter).with_target(false).init();
    let args = Args::parse();
    // Two threads are plenty for a program that waits for answers, and every thread costs memory.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(args))
}

async fn run(mut args: Args) -> anyhow::Result<()> {
    if let Some(Command::Hold(args)) = args.command.take() {
        return hold(args).await;
    }
    let platform = platform::load(args.platform.as_deref())?;
    let config = kube::Config::infer().await.context("found neither a kubeconfig nor a service account")?;
    let metrics = Arc::new(Metrics::default());
    let client = counted(config, &metrics).context("cannot make a client")?;
    let health = Arc::new(Health::default());
    let door = tokio::spawn(health::serve(args.listen, Arc::clone(&health), Arc::clone(&metrics)));

    let instance = args.instance.unwrap_or_else(|| format!("hz-operator-{}", std::process::id()));
    let settings =
        Settings { platform, ask_again: Duration::from_secs(args.ask_again), instance: Some(instance.clone()) };
    let candidate =
        Candidate::new(client.clone(), &args.namespace, LEASE, &instance, Timing::default(), Arc::clone(&health));

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        done = serve(args.alone, &candidate, &metrics, &health, lead(client, Arc::clone(&metrics), settings, Arc::new(OverTcp))) => {
            // Nothing may be written after the lease is lost: leave at once, without the runtime's farewells.
            tracing::error!(reason = done, "leaving");
            std::process::exit(1);
        }
        closed = door => {
            closed.context("the HTTP door panicked")?.with_context(|| format!("cannot serve on {}", args.listen))?;
        }
        _ = terminate.recv() => info!("asked to stop"),
        _ = interrupt.recv() => info!("asked to stop"),
    }
    if !args.alone {
        // The other replica takes over at once instead of waiting for the lease to run out.
        let _ = tokio::time::timeout(Duration::from_secs(2), candidate.release()).await;
    }
    Ok(())
}

/// Ends when it is told to: the connections of a pod that goes have ended by then.
async fn hold(args: holder::Args) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = holder::run(args) => ended,
        _ = terminate.recv() => Ok(()),
    }
}

async fn serve(
    alone: bool,
    candidate: &Candidate,
    metrics: &Metrics,
    health: &Health,
    controllers: impl Future<Output = ()>,
) -> &'static str {
    if alone {
        health.set_ready(true);
        metrics.set_leading(true);
        controllers.await;
        return "a controller ended";
    }
    let lease = candidate.acquire().await;
    metrics.set_leading(true);
    tokio::select! {
        () = candidate.keep(lease) => "the lease is lost",
        () = controllers => "a controller ended",
    }
}
