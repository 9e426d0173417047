//! Downloads that go on where they were cut, and count only when their checksum is right.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, RANGE, WWW_AUTHENTICATE};
use reqwest::{Client, StatusCode};

use super::digest_of;
use crate::digest::Digest;
use crate::error::{Error, Result};

/// Attempts in a row that bring no byte before it is given up.
const ATTEMPTS: u32 = 5;

/// Gets files over HTTP.
pub struct Downloader {
    folder: PathBuf,
    client: Client,
    runtime: tokio::runtime::Runtime,
    first_pause: Duration,
}

/// How one attempt ended.
enum Attempt {
    Whole,
    /// Try again from where we are.
    Cut(String),
    /// Trying again will not help.
    Refused(String),
}

impl Downloader {
    /// Keeps downloads in a folder. Not to be used inside an async task.
    pub fn new(folder: &Path) -> Result<Self> {
        // Somebody else may have chosen a provider already; any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        fs::create_dir_all(folder).map_err(Error::io(format!("make {}", folder.display())))?;
        let start = |source| Error::Io { act: "start downloading".into(), source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(start)?;
        let client = Client::builder()
            .user_agent(concat!("hzctl/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(15))
            .read_timeout(Duration::from_secs(30))
            .build()
            .map_err(|e| start(std::io::Error::other(e)))?;
        Ok(Self { folder: folder.into(), client, runtime, first_pause: Duration::from_millis(500) })
    }

    /// A file by its checksum: from the folder, or over HTTP, going on with what an earlier try left.
    pub fn get(&self, url: &str, sum: &Digest, token: Option<&str>, say: &dyn Fn(&str)) -> Result<PathBuf> {
        let whole = self.folder.join(sum.hex());
        if digest_of(&whole)?.as_ref() == Some(sum) {
            return Ok(whole);
        }
        let part = self.folder.join(format!("{}.part", sum.hex()));
        let resumed = part.exists();
        self.fill(url, &part, token, say)?;
        let mut found = digest_of(&part)?;
        if found.as_ref() != Some(sum) && resumed {
            // What was there from before may have been the wrong half; once more from the start.
            say("the resumed file has another checksum; downloading it anew");
            remove(&part)?;
            self.fill(url, &part, token, say)?;
            found = digest_of(&part)?;
        }
        if found.as_ref() != Some(sum) {
            remove(&part)?;
            let found = found.map_or_else(|| "nothing".into(), |digest| digest.to_string());
            return Err(failed(url, format!("its checksum is wrong: expected {sum}, found {found}")));
        }
        fs::rename(&part, &whole).map_err(Error::io(format!("keep {}", whole.display())))?;
        Ok(whole)
    }

    fn fill(&self, url: &str, part: &Path, token: Option<&str>, say: &dyn Fn(&str)) -> Result<()> {
        let mut pause = self.first_pause;
        let mut fruitless = 0;
        loop {
            let before = size(part);
            let reason = match self.runtime.block_on(self.attempt(url, part, token))? {
                Attempt::Whole => return Ok(()),
                Attempt::Refused(reason) => return Err(failed(url, reason)),
                Attempt::Cut(reason) => reason,
            };
            if size(part) > before {
                (fruitless, pause) = (0, self.first_pause);
            } else {
                fruitless += 1;
            }
            if fruitless == ATTEMPTS {
                return Err(failed(url, format!("{reason} ({ATTEMPTS} attempts)")));
            }
            say(&format!("{reason}; going on from byte {}", size(part)));
            std::thread::sleep(pause);
            pause *= 2;
        }
    }

    async fn attempt(&self, url: &str, part: &Path, token: Option<&str>) -> Result<Attempt> {
        let have = size(part);
        let mut request = self.client.get(url);
        if have > 0 {
            request = request.header(RANGE, format!("bytes={have}-"));
        }
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(e) => return Ok(Attempt::Cut(plain(&e))),
        };
        let write = || format!("write {}", part.display());
        let mut options = OpenOptions::new();
        options.create(true).write(true);
        match response.status() {
            StatusCode::PARTIAL_CONTENT => options.append(true),
            StatusCode::OK => options.truncate(true),
            StatusCode::RANGE_NOT_SATISFIABLE => {
                // We have all of it, or more than there is; the checksum tells which.
                let total = response
                    .headers()
                    .get("content-range")
                    .and_then(|v| v.to_str().ok()?.rsplit('/').next()?.parse().ok());
                if total == Some(have) {
                    return Ok(Attempt::Whole);
                }
                remove(part)?;
                return Ok(Attempt::Cut("the server has a shorter file than was downloaded before".into()));
            }
            status if is_transient(status) => {
                return Ok(Attempt::Cut(format!("the server said {status}")));
            }
            status => return Ok(Attempt::Refused(format!("the server said {status}"))),
        };
        let mut file = options.open(part).map_err(Error::io(write()))?;
        loop {
            match response.chunk().await {
                Ok(Some(bytes)) => file.write_all(&bytes).map_err(Error::io(write()))?,
                Ok(None) => return Ok(Attempt::Whole),
                Err(e) => return Ok(Attempt::Cut(plain(&e))),
            }
        }
    }

    /// A small text over HTTP. The inner `Err` is the server's challenge: it wants a token.
    pub fn text(&self, url: &str, accept: &str, token: Option<&str>) -> Result<Result<Vec<u8>, String>> {
        let mut pause = self.first_pause;
        let mut attempt = 1;
        loop {
            let reason = match self.runtime.block_on(self.ask(url, accept, token)) {
                Answer::Body(bytes) => return Ok(Ok(bytes)),
                Answer::Challenge(challenge) => return Ok(Err(challenge)),
                Answer::Refused(reason) => return Err(failed(url, reason)),
                Answer::Cut(reason) => reason,
            };
            if attempt == ATTEMPTS {
                return Err(failed(url, format!("{reason} ({ATTEMPTS} attempts)")));
            }
            std::thread::sleep(pause);
            pause *= 2;
            attempt += 1;
        }
    }

    async fn ask(&self, url: &str, accept: &str, token: Option<&str>) -> Answer {
        let mut request = self.client.get(url).header(ACCEPT, accept);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(e) => return Answer::Cut(plain(&e)),
        };
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED && token.is_none() {
            let challenge = response.headers().get(WWW_AUTHENTICATE).and_then(|v| v.to_str().ok()).unwrap_or_default();
            return Answer::Challenge(challenge.into());
        }
        if is_transient(status) {
            return Answer::Cut(format!("the server said {status}"));
        }
        if !status.is_success() {
            return Answer::Refused(format!("the server said {status}"));
        }
        match response.bytes().await {
            Ok(bytes) => Answer::Body(bytes.to_vec()),
            Err(e) => Answer::Cut(plain(&e)),
        }
    }
}

/// What a server answered to a small question.
enum Answer {
    Body(Vec<u8>),
    Challenge(String),
    Refused(String),
    Cut(String),
}

fn is_transient(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Io { act: format!("remove {}", path.display()), source })
        }
        _ => Ok(()),
    }
}

/// The deepest cause, which is what says something.
fn plain(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

fn failed(url: &str, reason: String) -> Error {
    Error::Download { url: url.into(), reason }
}
