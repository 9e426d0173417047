//! Trying each way.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    Args,
    discover::Target,
    dns,
    report::{Check, Kind},
    server::PADDING,
};

/// How long one try may take. Longer than one lost SYN (1 s), so that a lost packet is no failure.
pub const PATIENCE: Duration = Duration::from_millis(2500);
/// Tries of a Service in one round, since each may lead to another pod.
const SERVICE_TRIES: usize = 3;

/// Tries ways from this pod.
pub struct Prober {
    node: String,
    port: u16,
    expected: usize,
    service_address: Option<IpAddr>,
    service_name: String,
    peers_name: String,
}

impl Prober {
    /// For this pod.
    pub fn new(args: &Args) -> Self {
        Self {
            node: args.node.clone(),
            port: args.port,
            expected: usize::from(args.expected),
            service_address: args.service_address,
            service_name: args.service_name(),
            peers_name: args.peers_name(),
        }
    }

    /// A verify pod.
    pub async fn peer(&self, peer: &Target) -> Check {
        let begun = Instant::now();
        let outcome = visit(SocketAddr::new(peer.address, self.port)).await.and_then(|said| {
            // By its address another pod may answer when ranges overlap.
            if peer.node.is_empty() || said == peer.node {
                Ok(())
            } else {
                Err(format!("the pod of node {said:?} answered"))
            }
        });
        let to = if peer.node.is_empty() { "?" } else { &peer.node };
        Check::ended(Kind::Peer, &self.node, to, Some(peer.address), begun.elapsed(), outcome)
    }

    /// The Service of the verify pods.
    pub async fn service(&self, servers: &[IpAddr]) -> Vec<Check> {
        let address = match self.service_address {
            Some(address) => address,
            None => match dns::first(servers, &self.service_name, PATIENCE).await {
                Ok(address) => address,
                Err(why) => return vec![Check::failed(Kind::Service, &self.node, &self.service_name, None, why)],
            },
        };
        let tries = (0..SERVICE_TRIES).map(|_| async move {
            let begun = Instant::now();
            let outcome = visit(SocketAddr::new(address, self.port)).await.map(drop);
            Check::ended(Kind::Service, &self.node, &self.service_name, Some(address), begun.elapsed(), outcome)
        });
        futures::future::join_all(tries).await
    }

    /// The DNS servers this pod was told of.
    pub async fn dns_service(&self, servers: &[IpAddr]) -> Vec<Check> {
        if servers.is_empty() {
            let why = "no DNS server in /etc/resolv.conf";
            return vec![Check::failed(Kind::DnsService, &self.node, "DNS Service", None, why)];
        }
        let tries = servers.iter().flat_map(|server| std::iter::repeat_n(*server, SERVICE_TRIES));
        futures::future::join_all(tries.map(|server| self.question(Kind::DnsService, "DNS Service", server))).await
    }

    /// One CoreDNS pod.
    pub async fn resolver(&self, resolver: &Target) -> Check {
        self.question(Kind::DnsEndpoint, &resolver.node, resolver.address).await
    }

    async fn question(&self, kind: Kind, to: &str, server: IpAddr) -> Check {
        let begun = Instant::now();
        let outcome = dns::ask(SocketAddr::new(server, 53), &self.peers_name, PATIENCE).await.and_then(|found| {
            if found.len() == self.expected {
                Ok(())
            } else {
                Err(format!("knows {} of {} verify pods", found.len(), self.expected))
            }
        });
        Check::ended(kind, &self.node, to, Some(server), begun.elapsed(), outcome)
    }
}

/// Bring padding to a verify pod and take padding back. Returns the node that answered.
async fn visit(to: SocketAddr) -> Result<String, String> {
    let mut stream = match timeout(PATIENCE, TcpStream::connect(to)).await {
        Err(_) => return Err("timeout".into()),
        Ok(Err(error)) => return Err(words(&error)),
        Ok(Ok(stream)) => stream,
    };
    let exchange = async {
        let head =
            format!("POST /visit HTTP/1.1\r\nHost: {to}\r\nContent-Length: {PADDING}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&vec![b'.'; PADDING]).await?;
        let mut answer = Vec::with_capacity(PADDING + 512);
        stream.read_to_end(&mut answer).await?;
        Ok::<_, io::Error>(answer)
    };
    match timeout(PATIENCE, exchange).await {
        // Small packets pass and large ones do not: the sign of a size that is too big for some link on the way.
        Err(_) => Err("timeout after connecting; large packets may be lost (MTU)".into()),
        Ok(Err(error)) => Err(format!("{} after connecting", words(&error))),
        Ok(Ok(answer)) => read_answer(&answer),
    }
}

fn read_answer(answer: &[u8]) -> Result<String, String> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or("an answer that is not HTTP")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status != "200" {
        return Err(format!("HTTP status {status:?}"));
    }
    let (node, padding) = body.split_once('\n').ok_or("an answer of something else")?;
    if padding.len() < PADDING {
        return Err(format!("an answer cut off after {} of {PADDING} bytes", padding.len()));
    }
    Ok(node.into())
}

/// How a connection failed, in one word where there is one.
pub fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused".into(),
        io::ErrorKind::TimedOut => "timeout".into(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable".into(),
        io::ErrorKind::ConnectionReset => "reset".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::watch;

    use super::{
        super::{report::Report, server},
        *,
    };

    #[tokio::test]
    async fn a_visit_tells_who_answered() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let (_sender, receiver) = watch::channel(Arc::new(Report::unknown("cp-1", 1)));
        tokio::spawn(server::serve_on(listener, "cp-1".into(), receiver));
        assert_eq!(visit(to).await, Ok("cp-1".into()));
    }

    #[tokio::test]
    async fn a_closed_port_is_refused_and_something_else_is_told_apart() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(visit(to).await, Err("refused".into()));
        assert_eq!(read_answer(b"HTTP/1.1 503 x\r\n\r\n"), Err(r#"HTTP status "503""#.into()));
        assert_eq!(read_answer(b"SSH-2.0\r\n"), Err("an answer that is not HTTP".into()));
        assert!(read_answer(b"HTTP/1.1 200 OK\r\n\r\ncp-1\n...").unwrap_err().starts_with("an answer cut off"));
    }
}
