//! TLS to databases and caches: the server must show a certificate of its instance's own authority, for the name it is called by.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

use super::Silent;
use super::postgres::within;

/// A handshake is a few packets.
const SHOWN_WITHIN: Duration = Duration::from_secs(3);
/// What a client says first that wants TLS: the length, and a number that is no version of the protocol
/// (PostgreSQL's documentation, "Message Formats", SSLRequest).
const REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Whom to take a server for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// Name that its certificate must bear.
    pub host: String,
    /// The authority that must have issued it, PEM.
    pub authority: String,
    /// A server without TLS is not spoken to.
    pub required: bool,
}

/// A copy, and whom to take it for.
#[derive(Clone, Debug)]
pub struct Front {
    /// Address of the pod.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// Whom to take it for.
    pub trust: Trust,
}

/// The certificate that a copy shows, DER. Refused, if it shows none that is to be trusted.
pub async fn shown(target: &Front) -> Result<Vec<u8>, Silent> {
    let lost = |error: io::Error| Silent::Unreachable(error.to_string());
    let look = async {
        let connector = connector(&target.trust)?;
        let name = ServerName::try_from(target.trust.host.clone())
            .map_err(|error| Silent::Refused(format!("{} is no name of a server: {error}", target.trust.host)))?;
        let mut stream = TcpStream::connect((target.address, target.port)).await.map_err(lost)?;
        stream.write_all(&REQUEST).await.map_err(lost)?;
        if stream.read_u8().await.map_err(lost)? != b'S' {
            return Err(Silent::Refused("it offers no TLS".to_owned()));
        }
        let stream = connector.0.connect(name, stream).await.map_err(refused_or_lost)?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        shown.map(|leaf| leaf.to_vec()).ok_or_else(|| Silent::Refused("it shows no certificate".to_owned()))
    };
    within(SHOWN_WITHIN, look).await
}

fn refused_or_lost(error: io::Error) -> Silent {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(inner @ rustls::Error::InvalidCertificate(_)) => Silent::Refused(inner.to_string()),
        _ => Silent::Unreachable(error.to_string()),
    }
}

/// Every instance has its own authority, so none shares a connector with another.
pub(super) fn connector(trust: &Trust) -> Result<Rustls, Silent> {
    let broken = |error: String| Silent::Refused(format!("the authority of {} cannot be read: {error}", trust.host));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(trust.authority.as_bytes()) {
        let certificate = certificate.map_err(|error| broken(error.to_string()))?;
        roots.add(certificate).map_err(|error| broken(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(broken("there is no certificate in it".to_owned()));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| broken(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Rustls(TlsConnector::from(Arc::new(config))))
}

/// rustls, as tokio-postgres wants it.
#[derive(Clone)]
pub(super) struct Rustls(pub(super) TlsConnector);

/// A handshake to come.
pub(super) struct Handshake {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl<S> MakeTlsConnect<S> for Rustls
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Encrypted<S>;
    type TlsConnect = Handshake;
    type Error = InvalidDnsNameError;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Handshake, InvalidDnsNameError> {
        Ok(Handshake { connector: self.0.clone(), name: ServerName::try_from(domain.to_owned())? })
    }
}

impl<S> TlsConnect<S> for Handshake
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Encrypted<S>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Encrypted<S>>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move { self.connector.connect(self.name, stream).await.map(Encrypted) })
    }
}

/// A connection that is encrypted.
pub(super) struct Encrypted<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Encrypted<S> {
    /// The certificate was verified, so nobody sits in between whom a binding would find.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_that_cannot_be_read_is_told_of_and_not_trusted() {
        let trust = |authority: &str| Trust { host: "records".into(), authority: authority.into(), required: true };
        for wrong in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let Err(Silent::Refused(why)) = connector(&trust(wrong)) else { panic!("{wrong} was taken") };
            assert!(why.contains("the authority of records"), "{why}");
        }
    }
}
