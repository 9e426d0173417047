//! Settings from the environment, as the bindings of a MedicalService put them there.

use std::net::SocketAddr;
use std::time::Duration;

/// All settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// PostgreSQL.
    pub database: tokio_postgres::Config,
    /// Connections to it at most.
    pub database_connections: usize,
    /// Valkey; without it every read goes to the database.
    pub cache: Option<redis::ConnectionInfo>,
    /// How long to go on serving after SIGTERM.
    pub drain: Duration,
}

impl Config {
    /// Reads the process's environment.
    pub fn from_env() -> Result<Self, String> {
        Self::from(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// Reads settings by name.
    pub fn from(get: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let need = |name: &str| get(name).ok_or_else(|| format!("{name} is not set"));
        let mut database = tokio_postgres::Config::new();
        database
            .host(need("DATABASE_HOST")?)
            .port(number(&get, "DATABASE_PORT", 5432)?)
            .dbname(need("DATABASE_NAME")?)
            .user(need("DATABASE_USER")?)
            .password(need("DATABASE_PASSWORD")?)
            .application_name("appointments")
            .connect_timeout(Duration::from_secs(2))
            // A server that went away without a word is noticed in seconds, not in hours.
            .keepalives_idle(Duration::from_secs(5))
            .keepalives_interval(Duration::from_secs(2))
            .keepalives_retries(2)
            .tcp_user_timeout(Duration::from_secs(5))
            // After a failover the Service may for a moment still lead to the old primary.
            .target_session_attrs(tokio_postgres::config::TargetSessionAttrs::ReadWrite);
        Ok(Self {
            listen: SocketAddr::from(([0, 0, 0, 0], number(&get, "PORT", 8080)?)),
            database,
            database_connections: number(&get, "DATABASE_CONNECTIONS", 8)?,
            cache: cache(&get)?,
            drain: Duration::from_secs(number(&get, "DRAIN_SECONDS", 2)?),
        })
    }
}

fn cache(get: &impl Fn(&str) -> Option<String>) -> Result<Option<redis::ConnectionInfo>, String> {
    let Some(host) = get("CACHE_HOST") else {
        return Ok(None);
    };
    let port = number(get, "CACHE_PORT", 6379)?;
    let mut settings = redis::RedisConnectionInfo::default();
    if let Some(password) = get("CACHE_PASSWORD") {
        settings = settings.set_password(password);
    }
    let info = redis::IntoConnectionInfo::into_connection_info(redis::ConnectionAddr::Tcp(host, port))
        .map_err(|e| format!("CACHE_HOST or CACHE_PORT cannot be used: {e}"))?;
    Ok(Some(info.set_redis_settings(settings)))
}

fn number<T: std::str::FromStr>(get: &impl Fn(&str) -> Option<String>, name: &str, default: T) -> Result<T, String> {
    match get(name) {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| format!("{name} is `{text}`, which is not a number that fits")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(extra: &[(&str, &str)]) -> Result<Config, String> {
        let base =
            [("DATABASE_HOST", "db"), ("DATABASE_NAME", "a"), ("DATABASE_USER", "u"), ("DATABASE_PASSWORD", "p")];
        let all: std::collections::BTreeMap<_, _> = base.iter().chain(extra).copied().collect();
        Config::from(|name| all.get(name).filter(|value| !value.is_empty()).map(|value| (*value).to_owned()))
    }

    #[test]
    fn the_bindings_are_enough() {
        let config = settings(&[("CACHE_HOST", "cache"), ("CACHE_PASSWORD", "s")]).unwrap();
        assert_eq!(config.listen.port(), 8080);
        assert!(config.cache.is_some());
    }

    #[test]
    fn a_missing_database_is_named() {
        assert_eq!(settings(&[("DATABASE_HOST", "")]).unwrap_err(), "DATABASE_HOST is not set");
    }

    #[test]
    fn a_wrong_number_is_named() {
        let error = settings(&[("DATABASE_PORT", "many")]).unwrap_err();
        assert_eq!(error, "DATABASE_PORT is `many`, which is not a number that fits");
    }

    #[test]
    fn a_cache_is_not_needed() {
        assert!(settings(&[]).unwrap().cache.is_none());
    }
}
