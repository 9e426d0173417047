//! Patroni: what the copies agree on, and one step of change at a time, over its REST API.
//!
//! <https://patroni.readthedocs.io/en/latest/rest_api.html>: `GET /config`, `PATCH /config`, `GET /cluster`,
//! `POST /restart`, `POST /switchover`, `POST /reload`.

use std::sync::OnceLock;
use std::time::Duration;

use hz_crds::postgres::change::{Cluster, Copy, Step};
use reqwest::{Client, RequestBuilder};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Rest, Silent};

/// A loop of Patroni takes two seconds when all is well; one that needs longer to answer is looked at again.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// PostgreSQL writes a checkpoint before it stops, and Patroni answers when it is up again.
const RESTART_WITHIN: Duration = Duration::from_secs(60);

/// What the copies agree on, and how they are.
pub async fn look(target: &Rest) -> Result<(Value, Cluster), Silent> {
    let client = client()?;
    let get = |path: &str| client.get(format!("{}{path}", base(target))).timeout(ANSWER_WITHIN);
    Ok((answer(get("/config"), "read").await?, answer(get("/cluster"), "list").await?))
}

/// Do a step; it has been done, or is under way, when this returns.
pub async fn take(target: &Rest, step: &Step) -> Result<(), Silent> {
    let client = client()?;
    let signed = |request: RequestBuilder| request.basic_auth(&target.user, Some(&target.password));
    let (request, act) = match step {
        Step::Nothing | Step::Wait(_) => return Ok(()),
        Step::Agree(wanted) => {
            let patch = client.patch(format!("{}/config", base(target))).timeout(ANSWER_WITHIN);
            (patch.json(wanted), "change what the copies agree on")
        }
        Step::Restart(copy) => {
            let post = client.post(format!("{}/restart", own(copy))).timeout(RESTART_WITHIN);
            (post.json(&json!({ "restart_pending": true })), "restart a copy")
        }
        Step::Switchover(from, to) => {
            let post = client.post(format!("{}/switchover", own(from))).timeout(RESTART_WITHIN);
            (post.json(&json!({ "leader": from.name, "candidate": to.name })), "hand the primary's work over")
        }
    };
    said(signed(request), act).await.map(drop)
}

/// Have a copy read its files again. Patroni passes it on to PostgreSQL, whether or not its own file has changed.
pub async fn reload(target: &Rest) -> Result<(), Silent> {
    let post = client()?.post(format!("{}/reload", base(target))).timeout(ANSWER_WITHIN);
    said(post.basic_auth(&target.user, Some(&target.password)), "have a copy read its files again").await.map(drop)
}

fn client() -> Result<Client, Silent> {
    static ONE: OnceLock<Client> = OnceLock::new();
    if let Some(client) = ONE.get() {
        return Ok(client.clone());
    }
    // It speaks to pods by their addresses and without TLS, but cannot be built without knowing how TLS would be done.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().no_proxy().tls_built_in_root_certs(false).build();
    let client = client.map_err(|error| Silent::Unreachable(error.to_string()))?;
    Ok(ONE.get_or_init(|| client).clone())
}

fn base(target: &Rest) -> String {
    format!("http://{}", std::net::SocketAddr::from((target.address, target.port)))
}

/// The copy's own REST API.
fn own(copy: &Copy) -> &str {
    copy.api_url.trim_end_matches("/patroni")
}

async fn answer<T: DeserializeOwned>(request: RequestBuilder, act: &str) -> Result<T, Silent> {
    let text = said(request, act).await?;
    serde_json::from_str(&text).map_err(|error| Silent::Refused(format!("failed to {act}: {error}")))
}

async fn said(request: RequestBuilder, act: &str) -> Result<String, Silent> {
    let lost = |error: reqwest::Error| Silent::Unreachable(format!("failed to {act}: {}", root_of(&error)));
    let answer = request.send().await.map_err(lost)?;
    let status = answer.status();
    let text = answer.text().await.map_err(lost)?;
    if status.is_success() {
        return Ok(text);
    }
    let words = text.trim();
    Err(Silent::Refused(format!(
        "failed to {act}: Patroni says {}: {}",
        status.as_u16(),
        &words[..words.floor_char_boundary(300)]
    )))
}

/// The last cause says most: `Connection refused`.
fn root_of(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), root_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_copy_is_spoken_to_where_it_says_that_it_is() {
        let copy = Copy { api_url: "http://10.244.1.5:8008/patroni".into(), ..Copy::default() };
        assert_eq!(own(&copy), "http://10.244.1.5:8008");
    }
}
