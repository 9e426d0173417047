//! Valkey in front of the database. It only ever makes things faster: every failure here is a miss.

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError};
use tokio::sync::Mutex;

use crate::appointment::Appointment;

/// How long an entry lives.
const LIFE: u64 = 300;
/// How long a removed appointment is kept from coming back through a read that was under way.
const GRAVE: u64 = 10;
/// An answer later than this is no help.
const ANSWER: Duration = Duration::from_millis(250);
/// How long a cache that failed is left alone.
const REST: Duration = Duration::from_secs(1);
/// Stands for an appointment that was removed.
const REMOVED: &str = "removed";

/// The cache, if there is one.
pub struct Cache {
    client: Option<Client>,
    link: Mutex<Link>,
}

#[derive(Default)]
struct Link {
    connection: Option<MultiplexedConnection>,
    failed: Option<Instant>,
}

impl Cache {
    /// A cache that connects when it is needed.
    pub fn new(client: Option<Client>) -> Self {
        Self { client, link: Mutex::default() }
    }

    /// An appointment, if it is here.
    pub async fn get(&self, id: &str) -> Option<Appointment> {
        let text: Option<String> = self.ask(redis::cmd("GET").arg(key(id))).await?;
        serde_json::from_str(&text?).ok()
    }

    /// Keeps an appointment that was read from the database, unless it was removed meanwhile.
    pub async fn put(&self, appointment: &Appointment) {
        let Ok(text) = serde_json::to_string(appointment) else {
            return;
        };
        let mut set = redis::cmd("SET");
        let _: Option<Option<String>> =
            self.ask(set.arg(key(&appointment.id)).arg(text).arg("NX").arg("EX").arg(LIFE)).await;
    }

    /// Forgets an appointment that was removed. False if a copy may be left, for as long as entries live.
    pub async fn forget(&self, id: &str) -> bool {
        let mut set = redis::cmd("SET");
        let done: Option<Option<String>> = self.ask(set.arg(key(id)).arg(REMOVED).arg("EX").arg(GRAVE)).await;
        done.is_some() || self.client.is_none()
    }

    /// Whether it answers.
    pub async fn ready(&self) -> bool {
        self.ask::<String>(&redis::cmd("PING")).await.is_some()
    }

    async fn ask<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> Option<T> {
        let mut connection = self.connection().await?;
        match command.query_async(&mut connection).await {
            Ok(value) => Some(value),
            Err(error) => {
                self.rest(&error).await;
                None
            }
        }
    }

    async fn connection(&self) -> Option<MultiplexedConnection> {
        let client = self.client.as_ref()?;
        let mut link = self.link.lock().await;
        if let Some(connection) = &link.connection {
            return Some(connection.clone());
        }
        if link.failed.is_some_and(|failed| failed.elapsed() < REST) {
            return None;
        }
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(ANSWER)).set_response_timeout(Some(ANSWER));
        match client.get_multiplexed_async_connection_with_config(&config).await {
            Ok(connection) => {
                *link = Link { connection: Some(connection.clone()), failed: None };
                Some(connection)
            }
            Err(error) => {
                tracing::warn!(reason = %error, "the cache is away; reading from the database");
                link.failed = Some(Instant::now());
                None
            }
        }
    }

    /// Drops the connection: a broken one, or one to a server that is no longer the master.
    async fn rest(&self, error: &RedisError) {
        tracing::warn!(reason = %error, "the cache failed; reading from the database");
        *self.link.lock().await = Link { connection: None, failed: Some(Instant::now()) };
    }
}

fn key(id: &str) -> String {
    format!("appointment:{id}")
}
