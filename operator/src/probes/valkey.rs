//! Valkey: `PING`, and being the master.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError};

use super::{Cache, Silent};

const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

pub async fn ping(target: &Cache) -> Result<(), Silent> {
    let mut connection = connect(target).await?;
    let pong: String = redis::cmd("PING").query_async(&mut connection).await.map_err(|error| silent(&error))?;
    if pong != "PONG" {
        return Err(Silent::Refused(format!("PING was answered by {pong:?}")));
    }
    let role: Vec<redis::Value> =
        redis::cmd("ROLE").query_async(&mut connection).await.map_err(|error| silent(&error))?;
    match role.first().map(redis::from_redis_value_ref::<String>) {
        Some(Ok(role)) if role == "master" => Ok(()),
        Some(Ok(role)) => Err(Silent::Refused(format!("the server behind the Service is a {role}, not the master"))),
        _ => Err(Silent::Refused("the server does not say what it is".to_owned())),
    }
}

async fn connect(target: &Cache) -> Result<MultiplexedConnection, Silent> {
    let host = match target.address {
        std::net::IpAddr::V4(address) => address.to_string(),
        std::net::IpAddr::V6(address) => format!("[{address}]"),
    };
    // Passwords are letters and digits only: nothing to quote.
    let client = Client::open(format!("redis://:{}@{host}:{}/", target.password, target.port))
        .map_err(|error| silent(&error))?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_WITHIN))
        .set_response_timeout(Some(ANSWER_WITHIN));
    client.get_multiplexed_async_connection_with_config(&config).await.map_err(|error| silent(&error))
}

fn silent(error: &RedisError) -> Silent {
    if error.is_io_error() || error.is_timeout() || error.is_connection_refusal() || error.is_connection_dropped() {
        return Silent::Unreachable(error.to_string());
    }
    match error.kind() {
        redis::ErrorKind::AuthenticationFailed => Silent::NotProvisioned(error.to_string()),
        _ => Silent::Refused(error.to_string()),
    }
}
