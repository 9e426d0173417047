//! One server of the cluster while we work on it: its connection, our program on it, what we know of it.

use std::sync::{Arc, OnceLock, RwLock};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt;

use super::fault::Fault;
use crate::cluster;
use crate::host::{Call, Ended, Host, Session};
use crate::node::types::Facts;

/// A server of the cluster.
pub struct Server {
    /// What cluster.yaml says of it.
    pub spec: cluster::Host,
    /// How it is reached.
    pub link: Arc<dyn Host>,
    /// Where our program is on it, once it is there.
    pub program: OnceLock<String>,
    known: RwLock<(Arc<Facts>, i64)>,
}

impl Server {
    /// A server we know nothing of yet.
    pub fn new(spec: cluster::Host, link: Arc<dyn Host>) -> Self {
        Server { spec, link, program: OnceLock::new(), known: RwLock::default() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What was found on it.
    pub fn facts(&self) -> Arc<Facts> {
        self.known.read().unwrap_or_else(|poisoned| poisoned.into_inner()).0.clone()
    }

    /// Its clock less ours, in milliseconds.
    pub fn offset_ms(&self) -> i64 {
        self.known.read().unwrap_or_else(|poisoned| poisoned.into_inner()).1
    }

    /// Keep what was found on it.
    pub fn learn(&self, facts: Facts, offset_ms: i64) {
        *self.known.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = (Arc::new(facts), offset_ms);
    }

    /// Run a command.
    pub async fn run(&self, call: Call) -> Result<Ended, Fault> {
        self.link.run(call).await.map_err(|error| Fault::from_host(self.name(), error))
    }

    fn program(&self) -> Result<&str, Fault> {
        let gone = || Fault::permanent("failed to use hzctl on the host", "it was not sent there").on(self.name());
        self.program.get().map(String::as_str).ok_or_else(gone)
    }

    /// Have our program do something there: a request in JSON, an answer in JSON.
    pub async fn node<Q: Serialize, A: DeserializeOwned>(
        &self,
        act: &str,
        words: &[&str],
        request: &Q,
    ) -> Result<A, Fault> {
        let mut argv = vec![self.program()?.to_owned(), "node".to_owned(), "--attached".to_owned()];
        argv.extend(words.iter().map(|word| (*word).to_owned()));
        let wrong = |cause: &dyn ToString| Fault::permanent(act, cause.to_string()).on(self.name());
        let body = serde_json::to_vec(request).map_err(|error| wrong(&error))?;
        let ended = self.run(Call::new(argv).stdin(body).attached()).await?;
        if ended.code != 0 {
            return Err(Fault::from_output(act, &failure_of(&ended)).on(self.name()));
        }
        serde_json::from_slice(&ended.stdout).map_err(|error| wrong(&error))
    }

    /// Start something that runs until its standard input closes.
    pub async fn start(&self, words: &[&str]) -> Result<Session, Fault> {
        let mut argv = vec![self.program()?.to_owned(), "node".to_owned()];
        argv.extend(words.iter().map(|word| (*word).to_owned()));
        self.link.start(Call::new(argv)).await.map_err(|error| Fault::from_host(self.name(), error))
    }

    /// Run a program there that is stopped if we go away, at most one at a time of a kind. What it printed is
    /// the answer; if it fails, it is read for causes that we know, and kept for the person.
    pub async fn exec(&self, act: &str, lock: &str, argv: &[&str], limit: Duration) -> Result<String, (Fault, String)> {
        let mut words = vec!["exec", "--lock", lock, "--"];
        words.extend(argv);
        let none = |fault: Fault| (fault, String::new());
        let mut session = self.start(&words).await.map_err(none)?;
        let (mut out, mut err) = (String::new(), String::new());
        let (mut from_out, mut from_err) = (Vec::new(), Vec::new());
        let both = async {
            let _ = tokio::join!(session.stdout.read_to_end(&mut from_out), session.stderr.read_to_end(&mut from_err));
            session.child.wait().await
        };
        let ended = tokio::time::timeout(limit, both).await;
        out.push_str(&String::from_utf8_lossy(&from_out));
        err.push_str(&String::from_utf8_lossy(&from_err));
        let all = format!("{out}{err}");
        match ended {
            Err(_) => {
                Err((Fault::late(act, format!("not done within {} seconds", limit.as_secs())).on(self.name()), all))
            }
            Ok(Err(error)) => Err((Fault::permanent(act, error).on(self.name()), all)),
            Ok(Ok(status)) => match status.code() {
                Some(0) => Ok(out),
                Some(255) | None => {
                    let cause = if err.trim().is_empty() { "the connection closed".to_owned() } else { err };
                    Err((Fault::transient(act, cause).on(self.name()), all))
                }
                Some(_) => Err((Fault::from_output(act, &err).on(self.name()), all)),
            },
        }
    }
}

/// What a failed `hzctl node` says: its causes without our own decoration.
fn failure_of(ended: &Ended) -> String {
    let text = ended.stderr.trim();
    text.strip_prefix("error: ").unwrap_or(text).to_owned()
}
