//! A connection to a server or sentinel of a cache, encrypted where the cache is.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::tls::connector;
use super::valkey::silent;
use super::{Cache, Silent};

const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Connects, and says who we are.
pub async fn connect(target: &Cache) -> Result<MultiplexedConnection, Silent> {
    let opening = async {
        let plain = TcpStream::connect((target.address, target.port)).await.map_err(unreachable)?;
        let _ = plain.set_nodelay(true);
        match &target.trust {
            None => greet(target, plain).await,
            Some(trust) => {
                let name = ServerName::try_from(trust.host.clone())
                    .map_err(|_| Silent::Refused(format!("{} is no name for a server", trust.host)))?;
                let encrypted = connector(trust)?.0.connect(name, plain).await.map_err(unreachable)?;
                greet(target, encrypted).await
            }
        }
    };
    let late = |_| Silent::Unreachable(format!("no connection within {} seconds", CONNECT_WITHIN.as_secs()));
    timeout(CONNECT_WITHIN, opening).await.map_err(late)?
}

async fn greet<S>(target: &Cache, stream: S) -> Result<MultiplexedConnection, Silent>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut who = RedisConnectionInfo::default().set_password(&target.password).set_skip_set_lib_name();
    if let Some(user) = &target.user {
        who = who.set_username(user);
    }
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER_WITHIN));
    let opened = MultiplexedConnection::new_with_config(&who, stream, config).await;
    let (connection, driver) = opened.map_err(|error| silent(&error))?;
    // It ends with the connection.
    tokio::spawn(driver);
    Ok(connection)
}

fn unreachable(error: std::io::Error) -> Silent {
    Silent::Unreachable(error.to_string())
}
