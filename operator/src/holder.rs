//! `hz-operator hold`: stands between PgBouncer and PostgreSQL, in PgBouncer's own pod, and opens its connections.
//!
//! PgBouncer turns every client of a pool away, those that wait and those that come, as soon as one attempt to log in to
//! the server fails while no other connection is open. While another copy takes over, that is certain to happen. So the
//! attempts are made here: PgBouncer's login waits, and with it its clients, until a server answers that takes it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

/// A server that takes longer to take the call is not there.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// One that takes longer for its first word hangs, or is on a machine that is gone.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// What was sent and is not confirmed for this long was sent to a machine that is gone.
const CONFIRM_WITHIN: u32 = 10_000;
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// No message of a login is longer.
const LONGEST: usize = 64 * 1024;

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;

/// Hold connections for PgBouncer until a server takes them
#[derive(clap::Args)]
pub struct Args {
    /// Where PgBouncer finds it
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,

    /// The server: host and port
    #[arg(long, value_name = "HOST:PORT")]
    to: String,

    /// How long to try on
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    patience_seconds: u64,

    /// Let go of a server that takes no writes
    #[arg(long)]
    writes: bool,

    /// Encrypt: the authority that must have issued the server's certificate, PEM
    #[arg(long, value_name = "PATH", requires = "host")]
    authority: Option<PathBuf>,

    /// The name that the server's certificate must bear
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
}

struct Door {
    to: String,
    patience: Duration,
    writes: bool,
    tls: Option<(PathBuf, ServerName<'static>)>,
}

/// Holds until it is stopped.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    let tls = match (args.authority, args.host) {
        (Some(authority), Some(host)) => {
            let name = ServerName::try_from(host.clone()).with_context(|| format!("{host} is no name of a server"))?;
            Some((authority, name))
        }
        _ => None,
    };
    let patience = Duration::from_secs(args.patience_seconds);
    let door = Arc::new(Door { to: args.to, patience, writes: args.writes, tls });
    tracing::info!(to = door.to, "holding connections");
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let door = Arc::clone(&door);
                tokio::spawn(async move {
                    if let Err(error) = carry(client, &door).await {
                        tracing::debug!(%error, "a connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                sleep(AGAIN_AFTER).await;
            }
        }
    }
}

trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// What came of one attempt.
enum Tried {
    /// The server goes on with the login; these are its first words.
    Reached(Box<dyn Wire>, Vec<u8>),
    /// It said no, and will say it again: its words.
    Refused(Vec<u8>),
    /// It is not there, not yet, or not any more.
    NotNow(String),
}

/// One connection of PgBouncer's, from its first word to its end.
async fn carry(mut client: TcpStream, door: &Door) -> io::Result<()> {
    client.set_nodelay(true)?;
    let (startup, cancels) = startup(&mut client).await?;
    if cancels {
        // To nobody in particular: a primary that is gone has nothing left to cancel.
        let mut server = wire(door).await.map_err(io::Error::other)?;
        server.write_all(&startup).await?;
        return server.shutdown().await;
    }
    let until = Instant::now() + door.patience;
    let mut told = false;
    loop {
        let tried = tokio::select! {
            tried = attempt(door, &startup) => tried,
            () = left(&client) => return Ok(()),
        };
        match tried {
            Tried::Reached(server, words) => return relay(client, server, &words, door.writes).await,
            Tried::Refused(words) => return client.write_all(&words).await,
            Tried::NotNow(why) if Instant::now() >= until => {
                tracing::warn!(why, "gave up");
                return client.write_all(&refusal(&format!("no server took the connection: {why}"))).await;
            }
            Tried::NotNow(why) => {
                if !told {
                    tracing::info!(why, "holding a connection");
                    told = true;
                }
                tokio::select! {
                    () = sleep(AGAIN_AFTER) => {}
                    () = left(&client) => return Ok(()),
                }
            }
        }
    }
}

/// Returns when the other side has left. It has nothing to say while it waits for its login.
async fn left(client: &TcpStream) {
    let _ = client.peek(&mut [0]).await;
}

/// The first message of a client, and whether it asks to cancel.
async fn startup(client: &mut TcpStream) -> io::Result<(Vec<u8>, bool)> {
    loop {
        let length = client.read_u32().await?;
        let rest = (length as usize).checked_sub(4).filter(|rest| (4..LONGEST).contains(rest));
        let rest = rest.ok_or_else(|| io::Error::other("not the beginning of a connection to PostgreSQL"))?;
        let mut message = length.to_be_bytes().to_vec();
        message.resize(4 + rest, 0);
        client.read_exact(&mut message[4..]).await?;
        match message[4..8].try_into().map(u32::from_be_bytes) {
            // Inside the pod there is nothing to encrypt.
            Ok(SSL_REQUEST | GSS_REQUEST) => client.write_all(b"N").await?,
            Ok(CANCEL_REQUEST) => return Ok((message, true)),
            _ => return Ok((message, false)),
        }
    }
}

async fn attempt(door: &Door, startup: &[u8]) -> Tried {
    let mut server = match wire(door).await {
        Ok(server) => server,
        Err(why) => return Tried::NotNow(why),
    };
    let ask = async {
        server.write_all(startup).await?;
        let mut words = Vec::new();
        while length(&words).is_none_or(|length| words.len() < length) {
            if server.read_buf(&mut words).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if words.len() > LONGEST {
                return Err(io::Error::other("a first word of more than 64 KiB"));
            }
        }
        Ok::<_, io::Error>(words)
    };
    match timeout(ANSWER_WITHIN, ask).await {
        Err(_) => Tried::NotNow("the server does not answer".to_owned()),
        Ok(Err(error)) => Tried::NotNow(format!("the server hung up: {error}")),
        Ok(Ok(words)) if words[0] != b'E' => Tried::Reached(server, words),
        Ok(Ok(words)) => match passing(&words) {
            Some(why) => Tried::NotNow(why),
            None => Tried::Refused(words),
        },
    }
}

/// A connection to the server; its name is looked up and its authority read anew each time.
async fn wire(door: &Door) -> Result<Box<dyn Wire>, String> {
    let call = timeout(CONNECT_WITHIN, TcpStream::connect(&door.to)).await;
    let mut server = match call {
        Err(_) => return Err(format!("{} does not take the call", door.to)),
        Ok(Err(error)) => return Err(format!("{}: {error}", door.to)),
        Ok(Ok(server)) => server,
    };
    notice_silence(&server).map_err(|error| format!("cannot set up a connection: {error}"))?;
    let Some((authority, name)) = &door.tls else { return Ok(Box::new(server)) };
    let secure = async {
        server.write_all(&[8_u32.to_be_bytes(), SSL_REQUEST.to_be_bytes()].concat()).await?;
        match server.read_u8().await? {
            b'S' => connector(authority)?.connect(name.clone(), server).await,
            _ => Err(io::Error::other("it does not encrypt")),
        }
    };
    match timeout(ANSWER_WITHIN, secure).await {
        Err(_) => Err("the server does not answer".to_owned()),
        Ok(Err(error)) => Err(format!("cannot encrypt a connection to {}: {error}", door.to)),
        Ok(Ok(server)) => Ok(Box::new(server)),
    }
}

fn connector(authority: &PathBuf) -> io::Result<TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority).map_err(io::Error::other)? {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A machine that is gone says no good-bye.
fn notice_silence(server: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    server.set_nodelay(true)?;
    sockopt::set_socket_keepalive(server, true)?;
    sockopt::set_tcp_keepidle(server, Duration::from_secs(5))?;
    sockopt::set_tcp_keepintvl(server, Duration::from_secs(3))?;
    sockopt::set_tcp_keepcnt(server, 3)?;
    sockopt::set_tcp_user_timeout(server, CONFIRM_WITHIN)?;
    Ok(())
}

/// Passes words to and fro. Until the login is done, what the server says of itself is heard first: a copy that takes no
/// writes any more is still what the Service leads to for a moment.
async fn relay(mut client: TcpStream, mut server: Box<dyn Wire>, words: &[u8], writes: bool) -> io::Result<()> {
    let mut pending = words.to_vec();
    let mut asked = [0; 4096];
    let mut done = !writes;
    while !done {
        while let Some(message) = take(&mut pending) {
            if message.starts_with(b"S") && message[5..].starts_with(b"in_hot_standby\0on\0") {
                tracing::info!("let go of a server that takes no writes");
                return Ok(());
            }
            client.write_all(&message).await?;
            done = message.starts_with(b"Z");
        }
        if done || pending.len() > LONGEST {
            break;
        }
        tokio::select! {
            read = client.read(&mut asked) => match read? {
                0 => return Ok(()),
                read => server.write_all(&asked[..read]).await?,
            },
            read = server.read_buf(&mut pending) => if read? == 0 {
                return Ok(());
            },
        }
    }
    client.write_all(&pending).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// Length of the message that these bytes begin with, once it is known.
fn length(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(1..5)?.try_into().map(u32::from_be_bytes).ok()?;
    Some(1 + length as usize)
}

/// Takes one complete message off the front.
fn take(bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = length(bytes).filter(|length| *length >= 5 && *length <= bytes.len())?;
    Some(bytes.drain(..length).collect())
}

/// What an error says, if it is one that passes by itself: the server starts, stops, or recovers.
fn passing(error: &[u8]) -> Option<String> {
    let fields: Vec<&[u8]> = error.get(5..)?.split(|byte| *byte == 0).collect();
    let field = |name: u8| fields.iter().find(|field| field.first() == Some(&name)).map(|field| &field[1..]);
    let passes = matches!(field(b'C')?, b"57P01" | b"57P02" | b"57P03");
    passes.then(|| String::from_utf8_lossy(field(b'M').unwrap_or_default()).into_owned())
}

/// An error as PostgreSQL would say it.
fn refusal(why: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in [("S", "FATAL"), ("V", "FATAL"), ("C", "57P03"), ("M", why)] {
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(value.as_bytes());
        body.push(0);
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&b"E"[..], &length.to_be_bytes(), &body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_pass_are_told_from_those_that_stay() {
        assert_eq!(passing(&refusal("starting up")).as_deref(), Some("starting up"));
        let stays = String::from_utf8(refusal("no such role")).unwrap().replace("57P03", "28P01");
        assert_eq!(passing(stays.as_bytes()), None);
        assert_eq!(passing(b"E"), None, "what is cut off is no reason to wait");
    }

    #[test]
    fn messages_are_taken_whole() {
        let mut bytes = [refusal("a"), refusal("b")].concat();
        bytes.pop();
        assert_eq!(take(&mut bytes), Some(refusal("a")));
        assert_eq!(take(&mut bytes), None);
        bytes.push(0);
        assert_eq!(take(&mut bytes), Some(refusal("b")));
    }
}
