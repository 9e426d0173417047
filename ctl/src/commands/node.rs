//! `hzctl node`: Work on a host, started by hzctl over SSH.

use std::io::{BufRead, Read};

use clap::Subcommand;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::exit::{ExitStatus, Failure};
use crate::node::{self, NodeError};
use crate::printer::Printer;

/// Arguments of `hzctl node`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Stop when standard input closes after the request: whoever asked has gone, or will ask again
    #[arg(long)]
    attached: bool,

    #[command(subcommand)]
    verb: Verb,
}

/// What a host is told to do. Requests come as JSON on standard input unless they are named here.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Look at everything
    Facts {
        /// What to look at, as JSON
        request: String,
    },
    /// Try kernel features in the namespaces this process is in
    KernelProbe,
    /// Measure how fast a write is durable
    FsyncProbe,
    /// Listen on ports until standard input closes
    Listen {
        /// Name to greet with
        host: String,
        /// Ports
        ports: Vec<u16>,
    },
    /// Connect to listeners of other hosts
    Connect,
    /// Take blobs from standard input into the store
    Receive,
    /// Serve the store; the first line of standard input is the token
    Serve {
        /// Address and port
        listen: std::net::SocketAddr,
    },
    /// Copy blobs from other hosts into the store
    Fetch,
    /// Install programs and packages
    Install,
    /// Import images into the container runtime
    Import,
    /// Write configuration and see to services
    Apply,
    /// Read files
    Read,
    /// Run a program that stops when standard input closes, one at a time
    Exec {
        /// What must not be done twice at once
        #[arg(long)]
        lock: String,
        /// Program and arguments
        #[arg(last = true)]
        argv: Vec<String>,
    },
    /// List the members of etcd
    EtcdMembers,
    /// Take a member out of etcd
    EtcdRemove {
        /// Its peer address
        peer_url: String,
    },
    /// Wait until the API server of this host is ready
    ApiserverReady {
        /// Seconds to wait at most
        seconds: u64,
    },
    /// Take the cluster off this host
    Undo,
}

/// Run it.
pub async fn run(args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let input = if args.attached { Input::attached().map_err(failure)? } else { Input::Whole };
    let answer = match args.verb {
        Verb::EtcdMembers => json(node::etcd::members().await),
        Verb::EtcdRemove { peer_url } => json(node::etcd::remove(&peer_url).await),
        Verb::ApiserverReady { seconds } => {
            json(node::etcd::apiserver_ready(std::time::Duration::from_secs(seconds)).await)
        }
        Verb::Exec { lock, argv } => {
            let code = blocking(move || node::exec::exclusive(&lock, &argv)).await.map_err(failure)?;
            // The code of the program is ours: the caller asked for the program, not for us.
            std::process::exit(code);
        }
        verb => blocking(move || local(verb, &input)).await,
    };
    printer.data(&answer.map_err(failure)?)?;
    Ok(ExitStatus::Success)
}

fn local(verb: Verb, input: &Input) -> Result<String, NodeError> {
    match verb {
        Verb::Facts { request } => {
            let request = serde_json::from_str(&request).map_err(|error| NodeError::new("bad request", error))?;
            json(Ok(node::facts::collect(&request)))
        }
        Verb::KernelProbe => json(Ok(node::kernel::probe_here())),
        Verb::FsyncProbe => json(node::net::fsync_probe()),
        Verb::Listen { host, ports } => node::net::listen(&host, &ports).map(|()| String::new()),
        Verb::Connect => json(Ok(node::net::connect(&input.request::<Vec<_>>()?))),
        Verb::Receive => json(node::blobs::receive(std::io::stdin())),
        Verb::Serve { listen } => {
            let mut token = String::new();
            std::io::stdin().lock().read_line(&mut token).map_err(|error| NodeError::new("no token", error))?;
            node::blobs::serve(listen, token.trim().to_owned()).map(|()| String::new())
        }
        Verb::Fetch => json(node::blobs::fetch(&input.request()?)),
        Verb::Install => json(node::install::install(&input.request()?)),
        Verb::Import => json(node::images::import(&input.request()?)),
        Verb::Apply => json(node::files::apply(&input.request()?)),
        Verb::Read => json(Ok(node::files::read(&input.request::<Vec<_>>()?))),
        Verb::Undo => json(node::undo::undo(&input.request()?)),
        Verb::Exec { .. } | Verb::EtcdMembers | Verb::EtcdRemove { .. } | Verb::ApiserverReady { .. } => {
            Ok(String::new())
        }
    }
}

/// Where a verb finds its request.
enum Input {
    /// All of standard input.
    Whole,
    /// Read before the work began.
    Read(serde_json::Value),
}

impl Input {
    /// Read one request, and from then on stop with all we started when standard input closes.
    fn attached() -> Result<Self, NodeError> {
        let mut values = serde_json::Deserializer::from_reader(std::io::stdin().lock());
        let read = <serde_json::Value as serde::Deserialize>::deserialize(&mut values);
        let read = read.map_err(|error| NodeError::new("failed to read the request", error))?;
        std::thread::spawn(|| {
            node::exec::until_input_closes();
            node::exec::stop_own_group();
        });
        Ok(Input::Read(read))
    }

    fn request<T: DeserializeOwned>(&self) -> Result<T, NodeError> {
        let wrong = |cause: &dyn ToString| NodeError::new("failed to read the request", cause.to_string());
        match self {
            Input::Read(value) => T::deserialize(value).map_err(|error| wrong(&error)),
            Input::Whole => {
                let mut bytes = Vec::new();
                std::io::stdin().lock().read_to_end(&mut bytes).map_err(|error| wrong(&error))?;
                serde_json::from_slice(&bytes).map_err(|error| wrong(&error))
            }
        }
    }
}

fn json<T: Serialize>(result: Result<T, NodeError>) -> Result<String, NodeError> {
    serde_json::to_string(&result?).map_err(|error| NodeError::new("failed to write the answer", error))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NodeError> + Send + 'static,
) -> Result<T, NodeError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(NodeError::new("the work broke off", error)))
}

fn failure(error: NodeError) -> Failure {
    Failure::new(ExitStatus::HostFailed, error.to_string())
}
