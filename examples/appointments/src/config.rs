//! Settings from the environment, as the bindings of a MedicalService put them there.

use std::net::SocketAddr;
use std::time::Duration;

use tokio_postgres::config::SslMode;

use crate::tls::Rustls;

/// All settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// PostgreSQL.
    pub database: tokio_postgres::Config,
    /// How to look at its certificate; nothing for a server without TLS.
    pub database_tls: Option<Rustls>,
    /// Connections to it at most.
    pub database_connections: usize,
    /// Valkey; without it every read goes to the database.
    pub cache: Option<redis::Client>,
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
        let database_tls = database_tls(&get)?;
        database.ssl_mode(if database_tls.is_some() { SslMode::Require } else { SslMode::Disable });
        Ok(Self {
            listen: SocketAddr::from(([0, 0, 0, 0], number(&get, "PORT", 8080)?)),
            database,
            database_tls,
            database_connections: number(&get, "DATABASE_CONNECTIONS", 8)?,
            cache: cache(&get)?,
            drain: Duration::from_secs(number(&get, "DRAIN_SECONDS", 2)?),
        })
    }
}

/// Encrypted and verified, or not at all: what lies between protects nobody from a server that lies.
fn database_tls(get: &impl Fn(&str) -> Option<String>) -> Result<Option<Rustls>, String> {
    match get("DATABASE_SSLMODE").as_deref() {
        None if get("DATABASE_CA_FILE").is_none() => return Ok(None),
        Some("disable") => return Ok(None),
        None | Some("verify-full") => {}
        Some(other) => return Err(format!("DATABASE_SSLMODE is `{other}`; possible: verify-full, disable")),
    }
    let (path, authority) = authority(get, "DATABASE_CA_FILE")?;
    Rustls::trusting(&authority)
        .map(Some)
        .map_err(|e| format!("DATABASE_CA_FILE is `{path}`, which cannot be used: {e}"))
}

/// The certificate of an authority, and where it was read.
fn authority(get: &impl Fn(&str) -> Option<String>, name: &str) -> Result<(String, Vec<u8>), String> {
    let path = get(name).ok_or_else(|| format!("{name} is not set"))?;
    let pem = std::fs::read(&path).map_err(|error| format!("{name} is `{path}`, which cannot be read: {error}"))?;
    Ok((path, pem))
}

fn cache(get: &impl Fn(&str) -> Option<String>) -> Result<Option<redis::Client>, String> {
    let Some(host) = get("CACHE_HOST") else {
        return Ok(None);
    };
    let port = number(get, "CACHE_PORT", 6379)?;
    let encrypted = match get("CACHE_URI") {
        Some(uri) => uri.starts_with("rediss://"),
        None => get("CACHE_CA_FILE").is_some(),
    };
    let address = match encrypted {
        true => redis::ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        false => redis::ConnectionAddr::Tcp(host, port),
    };
    let mut settings = redis::RedisConnectionInfo::default();
    if let Some(password) = get("CACHE_PASSWORD") {
        settings = settings.set_password(password);
    }
    let wrong = |e: redis::RedisError| format!("CACHE_HOST or CACHE_PORT cannot be used: {e}");
    let info = redis::IntoConnectionInfo::into_connection_info(address).map_err(wrong)?.set_redis_settings(settings);
    if !encrypted {
        return redis::Client::open(info).map(Some).map_err(wrong);
    }
    // The client of the cache asks the process which cryptography to use; it may have been told already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (path, authority) = authority(get, "CACHE_CA_FILE")?;
    let trust = redis::TlsCertificates { client_tls: None, root_cert: Some(authority) };
    let client = redis::Client::build_with_tls(info, trust);
    client.map(Some).map_err(|error| format!("CACHE_CA_FILE is `{path}`, which cannot be used: {error}"))
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
    fn without_an_authority_the_database_is_not_believed() {
        assert!(settings(&[]).unwrap().database_tls.is_none());
        assert!(settings(&[("DATABASE_SSLMODE", "disable")]).unwrap().database_tls.is_none());
        let error = |extra: &[(&str, &str)]| settings(extra).unwrap_err();
        assert_eq!(error(&[("DATABASE_SSLMODE", "verify-full")]), "DATABASE_CA_FILE is not set");
        let half = error(&[("DATABASE_SSLMODE", "require")]);
        assert_eq!(half, "DATABASE_SSLMODE is `require`; possible: verify-full, disable");
        let gone = error(&[("DATABASE_CA_FILE", "/nowhere/ca.crt")]);
        assert!(gone.starts_with("DATABASE_CA_FILE is `/nowhere/ca.crt`, which cannot be read"), "{gone}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let empty = error(&[("DATABASE_CA_FILE", file.path().to_str().unwrap())]);
        assert!(empty.ends_with("cannot be used: there is no certificate in it"), "{empty}");
    }

    #[test]
    fn an_encrypted_cache_needs_an_authority_and_a_plain_one_does_not() {
        let cache = |uri: &str| settings(&[("CACHE_HOST", "cache"), ("CACHE_URI", uri)]);
        assert!(cache("redis://:s@cache:6379").unwrap().cache.is_some());
        assert_eq!(cache("rediss://:s@cache:6379").unwrap_err(), "CACHE_CA_FILE is not set");
    }

    #[test]
    fn a_cache_is_not_needed() {
        assert!(settings(&[]).unwrap().cache.is_none());
    }
}
