//! As much of DNS as it takes to ask one question over UDP and to tell each way of failing from the others. The
//! resolver of libc would hide which server failed, and retry.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use tokio::{net::UdpSocket, time::timeout};

const TYPE_A: u16 = 1;
const CLASS_IN: u16 = 1;

/// The servers a pod is told of.
pub fn servers(resolv_conf: &Path) -> Vec<IpAddr> {
    let text = fs::read_to_string(resolv_conf).unwrap_or_default();
    text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok()).collect()
}

/// Ask one server for the IPv4 addresses of a name. The error says how it failed.
pub async fn ask(server: SocketAddr, name: &str, patience: Duration) -> Result<Vec<Ipv4Addr>, String> {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let query = question(id, name)?;
    let exchange = async {
        // A new socket each time: another source port lets the Service choose another server.
        let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(server).await?;
        socket.send(&query).await?;
        let mut buffer = [0; 4096];
        loop {
            let length = socket.recv(&mut buffer).await?;
            if buffer[..length].starts_with(&id.to_be_bytes()) {
                return Ok(buffer[..length].to_vec());
            }
        }
    };
    match timeout(patience, exchange).await {
        Err(_) => Err("timeout".into()),
        Ok(Err(error)) => Err(super::checks::words(&error)),
        Ok(Ok(answer)) => addresses(&answer),
    }
}

/// A question for the IPv4 addresses of `name`.
fn question(id: u16, name: &str) -> Result<Vec<u8>, String> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([0x01, 0x00]); // recursion desired
    message.extend([0, 1, 0, 0, 0, 0, 0, 1]); // one question, one additional record
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length));
        message.push(length.ok_or_else(|| format!("{name:?} is not a name"))?);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(TYPE_A.to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    // EDNS: room for the addresses of some hundred pods in one answer.
    message.extend([0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0]);
    Ok(message)
}

/// The addresses in an answer, or its refusal by name.
fn addresses(message: &[u8]) -> Result<Vec<Ipv4Addr>, String> {
    let broken = || "an answer that is not DNS".to_string();
    let word = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    let flags = word(2).ok_or_else(broken)?;
    match flags & 0x0f {
        0 => {}
        2 => return Err("SERVFAIL".into()),
        3 => return Err("NXDOMAIN".into()),
        5 => return Err("REFUSED by the server".into()),
        code => return Err(format!("DNS error {code}")),
    }
    let (questions, answers) = (word(4).ok_or_else(broken)?, word(6).ok_or_else(broken)?);
    let mut at = 12;
    for _ in 0..questions {
        at = after_name(message, at).ok_or_else(broken)? + 4;
    }
    let mut found = vec![];
    for _ in 0..answers {
        at = after_name(message, at).ok_or_else(broken)?;
        let (kind, length) = (word(at).ok_or_else(broken)?, word(at + 8).ok_or_else(broken)?);
        at += 10;
        let data = message.get(at..at + usize::from(length)).ok_or_else(broken)?;
        if let (TYPE_A, Ok(octets)) = (kind, <[u8; 4]>::try_from(data)) {
            found.push(Ipv4Addr::from(octets));
        }
        at += usize::from(length);
    }
    if found.is_empty() { Err("an answer without addresses".into()) } else { Ok(found) }
}

/// Where a name ends that begins at `at`. A pointer ends it; what it points to does not matter here.
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += usize::from(length) + 1,
        }
    }
}

/// The first address of a name, by the first server that gives one.
pub async fn first(servers: &[IpAddr], name: &str, patience: Duration) -> Result<IpAddr, String> {
    let mut last = "no DNS server in /etc/resolv.conf".to_string();
    for server in servers {
        match ask(SocketAddr::new(*server, 53), name, patience).await {
            Ok(found) => {
                if let Some(address) = found.first() {
                    return Ok((*address).into());
                }
            }
            Err(why) => last = format!("DNS at {server}: {why}"),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers one question.
    async fn served(answer: impl FnOnce(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            if let Some(answer) = answer(&buffer[..length]) {
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        address
    }

    fn reply(query: &[u8], code: u8, addresses: &[[u8; 4]]) -> Vec<u8> {
        let end = after_name(query, 12).unwrap() + 4;
        let mut message = query[..end].to_vec();
        message[2] = 0x84;
        message[3] = code;
        message[7] = u8::try_from(addresses.len()).unwrap();
        message[11] = 0;
        for address in addresses {
            message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4]);
            message.extend(address);
        }
        message
    }

    async fn asked(server: SocketAddr) -> Result<Vec<Ipv4Addr>, String> {
        ask(server, "peers.hz-system.svc.cluster.local", Duration::from_millis(300)).await
    }

    #[tokio::test]
    async fn addresses_are_read_from_a_compressed_answer() {
        let server = served(|query| Some(reply(query, 0, &[[10, 244, 0, 2], [10, 244, 1, 2]]))).await;
        assert_eq!(asked(server).await, Ok(vec![Ipv4Addr::new(10, 244, 0, 2), Ipv4Addr::new(10, 244, 1, 2)]));
    }

    #[tokio::test]
    async fn each_way_of_failing_has_its_name() {
        assert_eq!(asked(served(|query| Some(reply(query, 3, &[]))).await).await, Err("NXDOMAIN".into()));
        assert_eq!(asked(served(|query| Some(reply(query, 2, &[]))).await).await, Err("SERVFAIL".into()));
        assert_eq!(
            asked(served(|query| Some(reply(query, 0, &[]))).await).await,
            Err("an answer without addresses".into())
        );
        assert_eq!(
            asked(served(|query| Some(query[..6].to_vec())).await).await,
            Err("an answer that is not DNS".into())
        );
        assert_eq!(asked(served(|_| None).await).await, Err("timeout".into()));
        let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(asked(closed).await, Err("refused".into()));
    }

    #[test]
    fn an_answer_cut_anywhere_is_refused_and_never_a_panic() {
        let query = question(7, "a.b").unwrap();
        let whole = reply(&query, 0, &[[10, 0, 0, 1]]);
        for length in 0..whole.len() {
            assert!(addresses(&whole[..length]).is_err());
        }
        assert!(addresses(&whole).is_ok());
    }

    #[test]
    fn servers_come_from_resolv_conf() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolv.conf");
        fs::write(&path, "search hz-system.svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n").unwrap();
        assert_eq!(servers(&path), [IpAddr::from([10, 96, 0, 10])]);
    }
}
