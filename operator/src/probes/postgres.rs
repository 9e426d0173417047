//! PostgreSQL: `SELECT 1`, and making databases and owners.

use std::time::Duration;

use hz_crds::postgres::Statement;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Config, NoTls, Socket};

use super::{Silent, Sql, tls};

/// A server that takes longer than this to say `1` does not work.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// `CREATE DATABASE` copies a template and makes a checkpoint; and in strict mode all wait for a second copy. What takes
/// longer is tried again in the next pass: every statement may be run any number of times.
const STATEMENT_WITHIN: Duration = Duration::from_secs(15);

/// Standbys that confirm writes; empty for users who may not see them, and never an error.
const CONFIRMING: &str =
    "SELECT application_name FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum') ORDER BY 1";

pub async fn select_one(target: &Sql) -> Result<Vec<String>, Silent> {
    let ask = async {
        let client = connect(target, "hz-operator probe").await?;
        let rows = client.query("SELECT 1, pg_is_in_recovery()", &[]).await.map_err(|error| silent(&error))?;
        let row = rows.first().ok_or_else(|| Silent::Refused("SELECT 1 gave no row".to_owned()))?;
        let (one, standby): (i32, bool) = (row.get(0), row.get(1));
        if one != 1 || standby {
            return Err(Silent::Refused("the server behind the Service is a standby and takes no writes".to_owned()));
        }
        let rows = client.query(CONFIRMING, &[]).await.map_err(|error| silent(&error))?;
        Ok(rows.iter().filter_map(|row| row.get::<_, Option<String>>(0)).collect())
    };
    within(ANSWER_WITHIN, ask).await
}

pub async fn provision(target: &Sql, statements: &[Statement]) -> Result<(), Silent> {
    let mut open: Option<(String, Client)> = None;
    for statement in statements {
        // Connections are made anew for each database; the list is sorted by use, so that is seldom.
        let client = match open.take() {
            Some((database, client)) if database == statement.database => client,
            _ => {
                let target = Sql { database: statement.database.clone(), ..target.clone() };
                within(ANSWER_WITHIN, connect(&target, "hz-operator provisioning")).await?
            }
        };
        within(STATEMENT_WITHIN, run(&client, statement)).await.map_err(|silent| silent.during(&statement.what))?;
        open = Some((statement.database.clone(), client));
    }
    Ok(())
}

async fn run(client: &Client, statement: &Statement) -> Result<(), Silent> {
    if let Some(unless) = &statement.unless
        && !client.query(unless.as_str(), &[]).await.map_err(|error| silent(&error))?.is_empty()
    {
        return Ok(());
    }
    match client.batch_execute(&statement.sql).await {
        // Somebody else was faster (the operator's other replica, before it lost the lease): as good as done.
        Err(error)
            if [SqlState::DUPLICATE_DATABASE, SqlState::DUPLICATE_OBJECT, SqlState::DUPLICATE_SCHEMA]
                .iter()
                .any(|state| error.code() == Some(state)) =>
        {
            Ok(())
        }
        Err(error) => Err(silent(&error)),
        Ok(()) => Ok(()),
    }
}

pub(super) async fn connect(target: &Sql, name: &str) -> Result<Client, Silent> {
    let mut config = Config::new();
    config
        .hostaddr(target.address)
        .port(target.port)
        .dbname(&target.database)
        .user(&target.user)
        .password(&target.password)
        .application_name(name)
        .connect_timeout(CONNECT_WITHIN)
        .tcp_user_timeout(ANSWER_WITHIN);
    let Some(trust) = &target.tls else { return open(&config, NoTls).await };
    config.host(&trust.host).ssl_mode(if trust.required { SslMode::Require } else { SslMode::Prefer });
    open(&config, tls::connector(trust)?).await
}

async fn open<T>(config: &Config, tls: T) -> Result<Client, Silent>
where
    T: MakeTlsConnect<Socket, Stream: Send + 'static, TlsConnect: Send>,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    let (client, connection) = config.connect(tls).await.map_err(|error| silent(&error))?;
    // Ends when the client is dropped.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a probe's connection ended");
        }
    });
    Ok(client)
}

pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Silent>>) -> Result<T, Silent> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(Silent::Unreachable(format!("no answer within {} s", limit.as_secs()))))
}

pub(super) fn silent(error: &tokio_postgres::Error) -> Silent {
    let Some(said) = error.as_db_error() else {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        return Silent::Unreachable(text);
    };
    // Never the statement itself: it may hold a password.
    let text = format!("{} ({})", said.message(), said.code().code());
    let unknown =
        [&SqlState::INVALID_PASSWORD, &SqlState::INVALID_AUTHORIZATION_SPECIFICATION, &SqlState::INVALID_CATALOG_NAME];
    match () {
        () if unknown.contains(&said.code()) => Silent::NotProvisioned(text),
        // "the database system is starting up"
        () if *said.code() == SqlState::CANNOT_CONNECT_NOW => Silent::Unreachable(text),
        () => Silent::Refused(text),
    }
}
