//! Asking the things themselves whether they work.
//!
//! Behind a trait, since a test against an API server alone has no database to ask.

mod backups;
mod lock;
mod patroni;
mod pooler;
mod postgres;
mod room;
mod store;
mod tls;
mod valkey;
mod valkey_live;
mod wire;

use std::net::IpAddr;

use futures::future::BoxFuture;
use hz_crds::Timestamp;
use hz_crds::backup::conf::Access;
use hz_crds::backup::{Archiver, Kept};
use hz_crds::cache::Live;
use hz_crds::postgres::Statement;
use hz_crds::postgres::change::{Cluster, Step};
use hz_crds::postgres::room::Room;

pub use tls::{Front, Trust};
pub use wire::connect;

/// A database server and who we are there.
#[derive(Clone)]
pub struct Sql {
    /// Address of its Service.
    pub address: IpAddr,
    /// Port of its Service.
    pub port: u16,
    /// Database to open.
    pub database: String,
    /// User.
    pub user: String,
    /// Password.
    pub password: String,
    /// Whom to take the server for; nothing for one that is spoken to in clear text.
    pub tls: Option<Trust>,
}

impl std::fmt::Debug for Sql {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}:{}/{}", self.user, self.address, self.port, self.database)
    }
}

/// A copy's Patroni and who we are there.
#[derive(Clone)]
pub struct Rest {
    /// Address of the pod.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// User.
    pub user: String,
    /// Password.
    pub password: String,
}

/// A cache, a server of it or a sentinel, and who we are there.
#[derive(Clone)]
pub struct Cache {
    /// Address of its Service, or of the pod.
    pub address: IpAddr,
    /// Port there.
    pub port: u16,
    /// User; none is the one without a name, which sentinels know alone.
    pub user: Option<String>,
    /// Password.
    pub password: String,
    /// Whom to trust; none speaks in the clear.
    pub trust: Option<Trust>,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.address, self.port)
    }
}

/// A store, and who we are there.
#[derive(Clone)]
pub struct Store {
    /// Address of its Service.
    pub address: IpAddr,
    /// Port of its Service.
    pub port: u16,
    /// Name that its certificate must bear.
    pub host: String,
    /// The authority that must have issued it, PEM.
    pub authority: String,
    /// What we sign for.
    pub region: String,
    /// Name by which we sign.
    pub access_key: String,
    /// Secret with which we sign.
    pub secret_key: String,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}:{}", self.host, self.address, self.port)
    }
}

/// Why a thing did not answer as it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Silent {
    /// Nobody took the call, or not in time.
    #[error("{0}")]
    Unreachable(String),
    /// It answered, and does not know us or the database: provisioning is undone.
    #[error("{0}")]
    NotProvisioned(String),
    /// It answered with an error.
    #[error("{0}")]
    Refused(String),
}

impl Silent {
    /// The same, with what was being done.
    fn during(self, what: &str) -> Self {
        let say = |text: String| format!("failed to {what}: {text}");
        match self {
            Self::Unreachable(text) => Self::Unreachable(say(text)),
            Self::NotProvisioned(text) => Self::NotProvisioned(say(text)),
            Self::Refused(text) => Self::Refused(say(text)),
        }
    }
}

/// The questions.
pub trait Probes: Send + Sync + 'static {
    /// `SELECT 1` on a server that takes writes; the answer names the standbys that confirm writes.
    fn select_one<'a>(&'a self, target: &'a Sql) -> BoxFuture<'a, Result<Vec<String>, Silent>>;

    /// Runs statements, each by itself, skipping those whose question already has an answer.
    fn provision<'a>(&'a self, target: &'a Sql, statements: &'a [Statement]) -> BoxFuture<'a, Result<(), Silent>>;

    /// How far the log of a server is archived.
    fn archiver<'a>(&'a self, target: &'a Sql) -> BoxFuture<'a, Result<Archiver, Silent>>;

    /// Begins a new segment of the log, and waits a while until the one before it is archived.
    fn archive_now<'a>(&'a self, target: &'a Sql) -> BoxFuture<'a, Result<(), Silent>>;

    /// Moment of the last transaction on a server; none if nothing was written since it started.
    fn last_commit<'a>(&'a self, target: &'a Sql) -> BoxFuture<'a, Result<Option<Timestamp>, Silent>>;

    /// Moment of the last transaction that a server went through when it was restored; none if there was none.
    fn replayed<'a>(&'a self, target: &'a Sql) -> BoxFuture<'a, Result<Option<Timestamp>, Silent>>;

    /// First column of the first row of a query that cannot write.
    fn answer<'a>(&'a self, target: &'a Sql, question: &'a str) -> BoxFuture<'a, Result<Option<String>, Silent>>;

    /// Reads every row of every table of a database; says how many tables and rows there are.
    fn read_all<'a>(&'a self, target: &'a Sql) -> BoxFuture<'a, Result<(u64, u64), Silent>>;

    /// What the copies of a server agree on, and how they are.
    fn agreed<'a>(&'a self, target: &'a Rest) -> BoxFuture<'a, Result<(serde_json::Value, Cluster), Silent>>;

    /// Does one step towards what was agreed on.
    fn take<'a>(&'a self, target: &'a Rest, step: &'a Step) -> BoxFuture<'a, Result<(), Silent>>;

    /// The certificate that a copy shows, DER; refused, if it shows none that is to be trusted.
    fn shown<'a>(&'a self, target: &'a Front) -> BoxFuture<'a, Result<Vec<u8>, Silent>>;

    /// Has a copy read its files again: Patroni's and PostgreSQL's, certificates among them.
    fn reload<'a>(&'a self, target: &'a Rest) -> BoxFuture<'a, Result<(), Silent>>;
    /// A command on a pooler's console, or one of the simplest queries through a pooler: its rows, as text.
    fn console<'a>(&'a self, target: &'a Sql, command: &'a str) -> BoxFuture<'a, Result<Vec<Vec<String>>, Silent>>;

    /// The room on the volume of the copy at this address.
    fn room(&self, address: IpAddr) -> BoxFuture<'_, Result<Room, Silent>>;

    /// `PING`, to a server that is the master.
    fn ping<'a>(&'a self, target: &'a Cache) -> BoxFuture<'a, Result<(), Silent>>;

    /// The names or addresses of the replicas that keep up with this master.
    fn replicas<'a>(&'a self, target: &'a Cache) -> BoxFuture<'a, Result<Vec<String>, Silent>>;

    /// Has a sentinel, which is the target, choose another master, if the pod named is the one it knows.
    fn fail_over<'a>(&'a self, target: &'a Cache, from: &'a str) -> BoxFuture<'a, Result<(), Silent>>;

    /// Brings users and settings of a server to what is wanted; says what it changed.
    fn bring<'a>(&'a self, target: &'a Cache, wanted: &'a Live) -> BoxFuture<'a, Result<Vec<String>, Silent>>;

    /// Whether a store keeps what is written to it: writes an object, tries to be rid of it, and says what came of it.
    fn keeps<'a>(
        &'a self,
        target: &'a Access,
        address: Option<IpAddr>,
    ) -> BoxFuture<'a, Result<(Kept, String), Silent>>;

    /// Looks for each of these buckets, makes those that are missing, and writes an object.
    fn buckets<'a>(&'a self, target: &'a Store, wanted: &'a [String]) -> BoxFuture<'a, Result<(), Silent>>;
}

/// The real thing.
#[derive(Debug, Default, Clone, Copy)]
pub struct OverTcp;

impl Probes for OverTcp {
    fn select_one<'a>(&'a self, target: &'a Sql) -> BoxFuture<'a, Result<Vec<String>, Silent>> {
        Box::pin(postgres::select_one(target))
    }

    fn provision<'a>(&'a self, target: &'a Sql, statements: &'a [Statement]) -> BoxFuture<'a, Result<(), Silent>> {
        Box::pin(postgres::provision(target, statements))
    }

    fn archiver<'a>(&'a self, target: &'a Sql) -> BoxFuture<'a, Result<Archiver, Silent>> {
        Box::pin(backups::archiver(target))
    }

    fn archive_now<'a>(&'a self, target: &'a Sql) -> BoxFuture<'a, Result<(), Silent>> {
        Box::pin(backups::archive_now(target))
    }

    fn last_commit<'a>(&'a self, target: &'a Sql) -> BoxFuture<'a, Result<Option<Timestamp>, Silent>> {
        Box::pin(backups::last_commit(target))
    }

    fn replayed<'a>(&'a self, target: &'a Sql) -> BoxFuture<'a, Result<Option<Timestamp>, Silent>> {
        Box::pin(backups::replayed(target))
    }

    fn answer<'a>(&'a self, target: &'a Sql, question: &'a str) -> BoxFuture<'a, Result<Option<String>, Silent>> {
        Box::pin(backups::answer(target, question))
    }

    fn read_all<'a>(&'a self, target: &'a Sql) -> BoxFuture<'a, Result<(u64, u64), Silent>> {
        Box::pin(backups::read_all(target))
    }

    fn agreed<'a>(&'a self, target: &'a Rest) -> BoxFuture<'a, Result<(serde_json::Value, Cluster), Silent>> {
        Box::pin(patroni::look(target))
    }

    fn take<'a>(&'a self, target: &'a Rest, step: &'a Step) -> BoxFuture<'a, Result<(), Silent>> {
        Box::pin(patroni::take(target, step))
    }

    fn shown<'a>(&'a self, target: &'a Front) -> BoxFuture<'a, Result<Vec<u8>, Silent>> {
        Box::pin(tls::shown(target))
    }

    fn reload<'a>(&'a self, target: &'a Rest) -> BoxFuture<'a, Result<(), Silent>> {
        Box::pin(patroni::reload(target))
    }

    fn console<'a>(&'a self, target: &'a Sql, command: &'a str) -> BoxFuture<'a, Result<Vec<Vec<String>>, Silent>> {
        Box::pin(pooler::console(target, command))
    }

    fn room(&self, address: IpAddr) -> BoxFuture<'_, Result<Room, Silent>> {
        Box::pin(room::look(address))
    }

    fn ping<'a>(&'a self, target: &'a Cache) -> BoxFuture<'a, Result<(), Silent>> {
        Box::pin(valkey::ping(target))
    }

    fn replicas<'a>(&'a self, target: &'a Cache) -> BoxFuture<'a, Result<Vec<String>, Silent>> {
        Box::pin(valkey::replicas(target))
    }

    fn fail_over<'a>(&'a self, target: &'a Cache, from: &'a str) -> BoxFuture<'a, Result<(), Silent>> {
        Box::pin(valkey::fail_over(target, from))
    }

    fn bring<'a>(&'a self, target: &'a Cache, wanted: &'a Live) -> BoxFuture<'a, Result<Vec<String>, Silent>> {
        Box::pin(valkey_live::bring(target, wanted))
    }

    fn keeps<'a>(
        &'a self,
        target: &'a Access,
        address: Option<IpAddr>,
    ) -> BoxFuture<'a, Result<(Kept, String), Silent>> {
        Box::pin(lock::prove(target, address))
    }

    fn buckets<'a>(&'a self, target: &'a Store, wanted: &'a [String]) -> BoxFuture<'a, Result<(), Silent>> {
        Box::pin(store::buckets(target, wanted))
    }
}
