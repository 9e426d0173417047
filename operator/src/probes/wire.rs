//! A connection to a server or sentinel of a cache, encrypted where the cache is.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::valkey::silent;
use super::{Cache, Silent, Trust};

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
                let encrypted = connector(trust)?.connect(name, plain).await.map_err(unreachable)?;
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

/// Every cache has its own authority, so none shares a connector with another.
fn connector(trust: &Trust) -> Result<TlsConnector, Silent> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let unread = |what: String| Silent::Refused(format!("the cache's own authority cannot be read: {what}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(trust.authority.as_bytes()) {
        let certificate = certificate.map_err(|error| unread(error.to_string()))?;
        roots.add(certificate).map_err(|error| unread(error.to_string()))?;
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn unreachable(error: std::io::Error) -> Silent {
    Silent::Unreachable(error.to_string())
}
