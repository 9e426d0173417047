//! The way to the API of a cluster: through a cluster.yaml and SSH, or by a kubeconfig as other tools use it.

use std::path::PathBuf;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use crate::cluster::Cluster;
use crate::exit::{ExitStatus, Failure};

mod find;
mod refused;

pub use find::{Place, choose, find, list};
pub use refused::refused;

/// Longer than any healthy network takes, shorter than patience.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Options of every command that works on what the cluster holds.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Reach {
    /// The cluster.yaml: reach the cluster over SSH as other commands do; default: the kubeconfig
    #[arg(short, long, value_name = "PATH", conflicts_with = "kubeconfig")]
    file: Option<PathBuf>,
    /// The kubeconfig; default: $KUBECONFIG, then ~/.kube/config
    #[arg(long, value_name = "PATH")]
    kubeconfig: Option<PathBuf>,
    /// Look in this namespace only; default: all of them
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
}

impl Reach {
    /// Connect.
    pub async fn client(&self) -> Result<Client, Failure> {
        if let Some(path) = &self.file {
            let cluster = Cluster::load(path)?;
            return Ok(super::kubeconfig::open(&cluster).await?.client);
        }
        let mut config = match &self.kubeconfig {
            Some(path) => named(path).await?,
            None => Config::infer().await.map_err(|error| nowhere(error, std::env::var_os("KUBECONFIG").is_some()))?,
        };
        config.connect_timeout = Some(CONNECT_WITHIN);
        Client::try_from(config)
            .map_err(|error| Failure::new(ExitStatus::BadInput, "failed to make use of the kubeconfig").because(error))
    }

    /// The options again, for a command that goes on where this one stopped.
    pub fn spelt(&self) -> String {
        let path = |option: &str, path: &Option<PathBuf>| {
            path.as_ref().map(|path| format!(" {option} {}", crate::interrupt::quoted(&path.display().to_string())))
        };
        [path("-f", &self.file), path("--kubeconfig", &self.kubeconfig)].into_iter().flatten().collect()
    }
}

/// Options of lists: one namespace, or all of them.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Everywhere {
    #[command(flatten)]
    reach: Reach,
    /// All namespaces, which is the default
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
}

impl Everywhere {
    /// Connect.
    pub async fn client(&self) -> Result<Client, Failure> {
        self.reach.client().await
    }

    /// The one namespace, if not all.
    pub fn namespace(&self) -> Option<&str> {
        self.reach.namespace.as_deref().filter(|_| !self.all_namespaces)
    }
}

async fn named(path: &PathBuf) -> Result<Config, Failure> {
    let wrong = |error: KubeconfigError| {
        Failure::input(format!("failed to read the kubeconfig {}", path.display())).because(error)
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(wrong)?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(wrong)
}

/// No kubeconfig that can be used. Which one was tried is in the cause.
fn nowhere(error: kube::config::InferConfigError, by_variable: bool) -> Failure {
    let message = if by_variable {
        "failed to use the kubeconfig that KUBECONFIG names"
    } else {
        "no cluster is known here: there is no kubeconfig to use"
    };
    let failure = Failure::input(message).hint(
        "give the cluster.yaml with -f, a kubeconfig with --kubeconfig or KUBECONFIG, or write one once: \
         `hzctl kubeconfig -f … --output-file ~/.kube/config`",
    );
    // The outer error tells of being inside a cluster as well, which nobody meant.
    match std::error::Error::source(&error) {
        Some(kubeconfig) => failure.because(chain(kubeconfig)),
        None => failure,
    }
}

/// An error with those under it, on one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(deeper) = next {
        let said = deeper.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        next = deeper.source();
    }
    text
}
