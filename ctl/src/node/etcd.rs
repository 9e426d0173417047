//! etcd and the API server of a control plane, asked on the host itself: etcd with the certificate that kubeadm
//! made there.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::types::Member;
use super::{NodeError, at};

const PKI: &str = "/etc/kubernetes/pki/etcd";

#[derive(Deserialize, Default)]
#[serde(default)]
struct Listed {
    members: Vec<Raw>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    #[serde(rename = "ID")]
    id: String,
    name: String,
    #[serde(rename = "peerURLs")]
    peer_urls: Vec<String>,
    is_learner: bool,
}

/// All members.
pub async fn members() -> Result<Vec<Member>, NodeError> {
    parse(&ask("/v3/cluster/member/list", serde_json::json!({})).await?)
}

/// Take out the members of this peer address; how many there were.
pub async fn remove(peer_url: &str) -> Result<usize, NodeError> {
    let gone: Vec<Member> =
        members().await?.into_iter().filter(|member| member.peer_urls.iter().any(|url| url == peer_url)).collect();
    for member in &gone {
        ask("/v3/cluster/member/remove", serde_json::json!({ "ID": member.id })).await?;
    }
    Ok(gone.len())
}

/// What etcd's JSON gateway says.
fn parse(text: &str) -> Result<Vec<Member>, NodeError> {
    let listed: Listed =
        serde_json::from_str(text).map_err(|error| NodeError::new("failed to read the members of etcd", error))?;
    let member = |raw: Raw| Member { id: raw.id, name: raw.name, peer_urls: raw.peer_urls, learner: raw.is_learner };
    Ok(listed.members.into_iter().map(member).collect())
}

/// Wait until the API server of this very host is ready to be asked.
pub async fn apiserver_ready(limit: Duration) -> Result<(), NodeError> {
    let act = "the API server of this host does not get ready";
    let authority = "/etc/kubernetes/pki/ca.crt";
    let pem = std::fs::read(authority).map_err(at("read", authority))?;
    let mut config = kube::Config::new("https://127.0.0.1:6443".parse().map_err(|error| NodeError::new(act, error))?);
    config.root_cert = Some(vec![der(&pem)?]);
    config.connect_timeout = Some(Duration::from_secs(2));
    config.read_timeout = Some(Duration::from_secs(5));
    let client = kube::Client::try_from(config).map_err(|error| NodeError::new(act, error))?;
    let begun = Instant::now();
    loop {
        let request = http::Request::get("/readyz").body(Vec::new()).map_err(|error| NodeError::new(act, error))?;
        let error = match client.request_text(request).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if begun.elapsed() > limit {
            return Err(NodeError::new(act, error));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn ask(path: &str, body: serde_json::Value) -> Result<String, NodeError> {
    let act = "failed to ask etcd";
    let read = |name: &str| {
        let path = format!("{PKI}/{name}");
        std::fs::read(&path).map_err(at("read", &path))
    };
    // The client of the Kubernetes API is an HTTPS client with certificates, which is all etcd wants.
    let mut config = kube::Config::new("https://127.0.0.1:2379".parse().map_err(|error| NodeError::new(act, error))?);
    config.root_cert = Some(vec![der(&read("ca.crt")?)?]);
    let encode = |bytes: Vec<u8>| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    config.auth_info.client_certificate_data = Some(encode(read("healthcheck-client.crt")?));
    config.auth_info.client_key_data = Some(encode(read("healthcheck-client.key")?).into());
    config.connect_timeout = Some(Duration::from_secs(3));
    config.read_timeout = Some(Duration::from_secs(8));
    let client = kube::Client::try_from(config).map_err(|error| NodeError::new(act, error))?;
    let request = http::Request::post(path)
        .header("content-type", "application/json")
        .body(body.to_string().into_bytes())
        .map_err(|error| NodeError::new(act, error))?;
    client.request_text(request).await.map_err(|error| NodeError::new(act, error))
}

/// The bytes inside the first PEM block.
fn der(pem: &[u8]) -> Result<Vec<u8>, NodeError> {
    let text = String::from_utf8_lossy(pem);
    let body: String = text
        .lines()
        .skip_while(|line| !line.contains("BEGIN"))
        .skip(1)
        .take_while(|line| !line.contains("END"))
        .collect();
    base64::Engine::decode(&base64::engine::general_purpose::STANDARD, body)
        .map_err(|error| NodeError::new("failed to read the authority of etcd", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_learner_that_never_started_has_no_name() {
        let text = r#"{"header":{},"members":[{"ID":"1","name":"cp-1","peerURLs":["https://10.0.0.1:2380"]},{"ID":"2","peerURLs":["https://10.0.0.2:2380"],"isLearner":true}]}"#;
        let members = parse(text).unwrap();
        assert_eq!((members[1].name.as_str(), members[1].learner), ("", true));
    }
}
