//! Appointments in PostgreSQL, through a few connections that find the primary again when it moves.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Error, NoTls, Row};

use crate::appointment::Appointment;
use crate::tls::Rustls;

/// How long a request waits for the database in all: a failover of the primary fits in.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one statement may take.
const STATEMENT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);

const COLUMNS: &str = r#"id, patient, clinic, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"#;

/// The database did not answer in time.
#[derive(Debug)]
pub struct Unavailable;

/// The appointments.
pub struct Store {
    config: Config,
    tls: Option<Rustls>,
    permits: Semaphore,
    idle: Mutex<Vec<Client>>,
}

impl Store {
    /// A store that connects when it is needed.
    pub fn new(config: Config, tls: Option<Rustls>, connections: usize) -> Self {
        Self { config, tls, permits: Semaphore::new(connections.max(1)), idle: Mutex::default() }
    }

    /// Makes the table. Copies of the service may do so at once, which only a lock makes safe.
    pub async fn prepare(&self) -> Result<(), Unavailable> {
        let sql = "DO $$ BEGIN
            PERFORM pg_advisory_xact_lock(7240615);
            CREATE TABLE IF NOT EXISTS appointments (
                id text PRIMARY KEY, patient text NOT NULL, clinic text NOT NULL, at timestamptz NOT NULL);
            CREATE INDEX IF NOT EXISTS appointments_patient ON appointments (patient, at);
        END $$";
        self.run(sql, &[]).await.map(drop)
    }

    /// Whether the database answers now.
    pub async fn ready(&self) -> bool {
        matches!(timeout(Duration::from_secs(2), self.once("SELECT 1", &[])).await, Ok(Ok(_)))
    }

    /// Keeps an appointment. Its id is ours, so a second try after a lost answer changes nothing.
    pub async fn add(&self, new: &Appointment) -> Result<(), Unavailable> {
        let sql = "INSERT INTO appointments (id, patient, clinic, at)
                   VALUES ($1, $2, $3, $4::text::timestamptz) ON CONFLICT (id) DO NOTHING";
        self.run(sql, &[&new.id, &new.patient, &new.clinic, &new.at]).await.map(drop)
    }

    /// An appointment by id.
    pub async fn get(&self, id: &str) -> Result<Option<Appointment>, Unavailable> {
        let sql = format!("SELECT {COLUMNS} FROM appointments WHERE id = $1");
        Ok(self.run(&sql, &[&id]).await?.first().map(read))
    }

    /// The appointments of a patient, the earliest first.
    pub async fn of_patient(&self, patient: &str) -> Result<Vec<Appointment>, Unavailable> {
        let sql = format!("SELECT {COLUMNS} FROM appointments WHERE patient = $1 ORDER BY at, id LIMIT 500");
        Ok(self.run(&sql, &[&patient]).await?.iter().map(read).collect())
    }

    /// Removes an appointment; tells whether it was there.
    pub async fn remove(&self, id: &str) -> Result<bool, Unavailable> {
        let rows = self.run("DELETE FROM appointments WHERE id = $1 RETURNING id", &[&id]).await?;
        Ok(!rows.is_empty())
    }

    /// Runs a statement that may be run twice, on a new connection if the old one fails, until patience ends.
    async fn run(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Unavailable> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match timeout(left, self.once(sql, values)).await {
                Ok(Ok(rows)) => return Ok(rows),
                // An attempt may fail at once, so the time is looked at here too.
                Ok(Err(Failed::Lost(reason))) if left.is_zero() => {
                    tracing::error!(reason, "the database stayed away");
                    return Err(Unavailable);
                }
                Ok(Err(Failed::Lost(reason))) => {
                    tracing::warn!(reason, "the database is away; trying again")
                }
                Ok(Err(Failed::Refused(error))) => {
                    tracing::error!(error = %describe(&error), "the database refused a statement");
                    return Err(Unavailable);
                }
                Err(_) => {
                    tracing::error!("the database did not answer in time");
                    return Err(Unavailable);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn once(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Failed> {
        let _permit = self.permits.acquire().await.map_err(|_| Failed::Lost("the pool is closed".into()))?;
        let client = match self.take_idle() {
            Some(client) => client,
            None => self.connect().await.map_err(|error| Failed::Lost(describe(&error)))?,
        };
        let answer = timeout(STATEMENT, client.query(sql, values)).await;
        match answer.map_err(|_| Failed::Lost("a statement took too long".into()))? {
            Ok(rows) => {
                self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(client);
                Ok(rows)
            }
            // A connection with an error behind it is dropped: nobody knows what state it is in.
            Err(error) if is_lost(&error) => Err(Failed::Lost(describe(&error))),
            Err(error) => Err(Failed::Refused(error)),
        }
    }

    fn take_idle(&self) -> Option<Client> {
        let mut idle = self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        idle.retain(|client| !client.is_closed());
        idle.pop()
    }

    async fn connect(&self) -> Result<Client, Error> {
        match &self.tls {
            Some(tls) => self.config.connect(tls.clone()).await.map(|(client, connection)| keep(client, connection)),
            None => self.config.connect(NoTls).await.map(|(client, connection)| keep(client, connection)),
        }
    }
}

/// A connection does its work beside the client, until that goes.
fn keep(client: Client, connection: impl Future<Output = Result<(), Error>> + Send + 'static) -> Client {
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::warn!(reason = %describe(&error), "a database connection was lost");
        }
    });
    client
}

enum Failed {
    /// The connection is no good; another may be.
    Lost(String),
    /// The database is there, and does not want this.
    Refused(Error),
}

/// Whether another connection may do better: this one broke, or leads to a server that is leaving or
/// is no longer the primary.
fn is_lost(error: &Error) -> bool {
    let Some(code) = error.code() else {
        return true;
    };
    let leaving = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::TOO_MANY_CONNECTIONS,
    ];
    leaving.contains(code) || code.code().starts_with("08")
}

fn describe(error: &Error) -> String {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(told), _) => told.to_string(),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

fn read(row: &Row) -> Appointment {
    Appointment { id: row.get(0), patient: row.get(1), clinic: row.get(2), at: row.get(3) }
}
