//! One file a command: its arguments, its core, its printing.

use clap::Subcommand;

use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

pub mod bootstrap;
pub mod bundle;
pub mod cache;
pub mod check;
pub mod completions;
pub mod confirm;
pub mod data;
pub mod db;
pub mod docs;
pub mod explain;
pub mod follow;
pub mod init;
pub mod kubeconfig;
pub mod man;
pub mod node;
pub mod operation;
pub mod reach;
pub mod reset;
pub mod schema;
pub mod status;
pub mod table;
pub mod validate;
pub mod version;

/// What `hzctl` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a commented cluster.yaml from a list of hosts
    Init(init::Args),
    /// Check a cluster.yaml without touching a host
    Validate(validate::Args),
    /// Check hosts before the bootstrap, or a running cluster after it
    Check(check::Args),
    /// Turn the hosts of a cluster.yaml into a running hospital cloud
    Bootstrap(bootstrap::Args),
    /// Tell how the cluster is
    Status(status::Args),
    /// See PostgreSQL servers, work on them, back them up and restore them, and open a psql shell
    Db(db::Args),
    /// See caches, work on them, and open a valkey-cli shell
    Cache(cache::Args),
    /// See, follow and cancel what was asked of databases and caches
    #[command(visible_alias = "op")]
    Operation(operation::Args),
    /// Tell what a condition means and what to do, by the id in its message
    Explain(explain::Args),
    /// Print or store the kubeconfig of a cluster
    Kubeconfig(kubeconfig::Args),
    /// Take a cluster off its hosts again
    Reset(reset::Args),
    /// Build, verify and look into the offline bundle
    Bundle(bundle::Args),
    /// Print the JSON schema of cluster.yaml, for editors
    Schema(schema::Args),
    /// Print the version of hzctl and of what it installs
    Version(version::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
    /// Print or write the man pages
    Man(man::Args),
    /// Print the reference of all commands as Markdown
    #[command(hide = true)]
    Docs(docs::Args),
    /// Work on a host; started by hzctl over SSH
    #[command(hide = true)]
    Node(node::Args),
}

impl Command {
    /// Run it.
    pub async fn run(self, printer: &mut Printer) -> Result<ExitStatus, Failure> {
        match self {
            Command::Init(args) => init::run(args, printer).await,
            Command::Validate(args) => validate::run(args, printer).await,
            Command::Check(args) => check::run(args, printer).await,
            Command::Bootstrap(args) => bootstrap::run(args, printer).await,
            Command::Status(args) => status::run(args, printer).await,
            Command::Db(args) => db::run(args, printer).await,
            Command::Cache(args) => cache::run(args, printer).await,
            Command::Operation(args) => operation::run(args, printer).await,
            Command::Explain(args) => explain::run(args, printer).await,
            Command::Kubeconfig(args) => kubeconfig::run(args, printer).await,
            Command::Reset(args) => reset::run(args, printer).await,
            Command::Bundle(args) => bundle::run(args, printer).await,
            Command::Schema(args) => schema::run(args, printer).await,
            Command::Version(args) => version::run(args, printer).await,
            Command::Completions(args) => completions::run(args, printer).await,
            Command::Man(args) => man::run(args, printer).await,
            Command::Docs(args) => docs::run(args, printer).await,
            Command::Node(args) => node::run(args, printer).await,
        }
    }

    /// What to tell a person who pressed Ctrl-C in the middle: what is safe. Nothing if there is no middle. A command
    /// that knows better once it runs says so to the printer's farewell.
    pub fn when_interrupted(&self) -> Option<&'static str> {
        match self {
            Command::Bootstrap(_) => Some("what is done stays done, and every step is safe to repeat"),
            Command::Reset(_) => Some("some hosts may be reset and others not, and every step is safe to repeat"),
            Command::Bundle(_) => Some("finished components are kept"),
            _ => None,
        }
    }
}
