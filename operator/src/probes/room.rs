//! The room on a copy's volume, as the container beside PostgreSQL sees it.

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use hz_crds::postgres::exporter::PORT;
use hz_crds::postgres::room::Room;
use reqwest::Client;

use super::Silent;

/// One call of `statvfs` and a few bytes: what takes longer than this does not come.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

pub async fn look(address: IpAddr) -> Result<Room, Silent> {
    let url = format!("http://{}/room", SocketAddr::from((address, PORT)));
    ask(&client()?, &url).await
}

fn client() -> Result<Client, Silent> {
    static ONE: OnceLock<Client> = OnceLock::new();
    if let Some(client) = ONE.get() {
        return Ok(client.clone());
    }
    // It speaks to pods by their addresses and without TLS, but cannot be built without knowing how TLS would be done.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().no_proxy().tls_built_in_root_certs(false).pool_max_idle_per_host(0).build();
    let client = client.map_err(|error| Silent::Unreachable(error.to_string()))?;
    Ok(ONE.get_or_init(|| client).clone())
}

async fn ask(client: &Client, url: &str) -> Result<Room, Silent> {
    let lost = |error: reqwest::Error| Silent::Unreachable(root_of(&error));
    let answer = client.get(url).timeout(ANSWER_WITHIN).send().await.map_err(lost)?;
    let status = answer.status();
    let text = answer.text().await.map_err(lost)?;
    if !status.is_success() {
        return Err(Silent::Refused(format!("it answers {}", status.as_u16())));
    }
    serde_json::from_str(&text).map_err(|error| Silent::Refused(format!("its answer cannot be read: {error}")))
}

/// The last cause says most: `Connection refused`.
fn root_of(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), root_of)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn answered(with: &'static str) -> Result<Room, Silent> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/room", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = [0; 1024];
            let _ = stream.read(&mut heard).await.unwrap();
            stream.write_all(with.as_bytes()).await.unwrap();
        });
        ask(&client().unwrap(), &url).await
    }

    #[tokio::test]
    async fn a_copy_says_how_much_room_it_has() {
        let body = "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"size\": 100, \"free\": 7}";
        assert_eq!(answered(body).await, Ok(Room { size: 100, free: 7 }));
    }

    #[tokio::test]
    async fn what_is_no_answer_is_told_as_what_it_is() {
        let refused = answered("HTTP/1.0 404 Not Found\r\n\r\n").await;
        assert_eq!(refused, Err(Silent::Refused("it answers 404".into())));
        let nonsense = answered("HTTP/1.0 200 OK\r\n\r\nhello").await.unwrap_err();
        assert!(nonsense.to_string().contains("cannot be read"), "{nonsense}");
    }
}
