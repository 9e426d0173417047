//! Blobs by their hash: kept in a store, served to other hosts, read from them.
//!
//! A host that serves may still be receiving: who asks for a blob that is not there yet waits a while and asks
//! again. So a tree of hosts passes blobs on one by one, none waiting for the whole bundle.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::hashes::hex;
use super::types::{FetchRequest, Report, Source};
use super::{BUNDLE_DIR, NodeError, at};

/// How long a server holds a question for a blob that is not there yet.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a peer may be out of reach before we give up on it.
const UNREACHABLE: Duration = Duration::from_secs(25);
const PAUSE: Duration = Duration::from_millis(20);

/// The store of the laid-out bundle.
pub fn store() -> PathBuf {
    Path::new(BUNDLE_DIR).join("blobs/sha256")
}

/// Where a blob of the store is.
pub fn path_of(digest: &str) -> PathBuf {
    store().join(digest)
}

/// A writer that gives a blob its name only when its hash is right.
struct Incoming {
    file: fs::File,
    temporary: PathBuf,
    digest: String,
    hasher: Sha256,
}

impl Incoming {
    fn new(digest: &str) -> Result<Self, NodeError> {
        let dir = store();
        fs::create_dir_all(&dir).map_err(at("make", &dir))?;
        let temporary = dir.join(format!("{digest}.part{}", std::process::id()));
        let file = fs::File::create(&temporary).map_err(at("write", &temporary))?;
        Ok(Incoming { file, temporary, digest: digest.into(), hasher: Sha256::new() })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), NodeError> {
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(at("write", &self.temporary))
    }

    fn finish(self) -> Result<(), NodeError> {
        let found = hex(&self.hasher.clone().finalize());
        if found != self.digest {
            let _ = fs::remove_file(&self.temporary);
            return Err(NodeError::new(
                format!("blob {} arrived damaged", self.digest),
                format!("its hash is {found}"),
            ));
        }
        fs::rename(&self.temporary, path_of(&self.digest)).map_err(at("name", &self.temporary))
    }
}

/// Receive blobs on standard input: a line `digest size`, then the bytes, until the end.
pub fn receive(input: impl Read) -> Result<Report, NodeError> {
    sweep();
    let mut input = BufReader::with_capacity(1 << 20, input);
    let mut report = Report::default();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let mut line = String::new();
        let broken = |cause: &dyn ToString| NodeError::new("the bundle stopped coming", cause.to_string());
        if input.read_line(&mut line).map_err(|error| broken(&error))? == 0 {
            return Ok(report);
        }
        let (digest, size) = line.trim().split_once(' ').ok_or_else(|| broken(&"bad header"))?;
        let mut left: u64 = size.parse().map_err(|error| broken(&error))?;
        check_name(digest)?;
        let mut blob = Incoming::new(digest)?;
        while left > 0 {
            let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            match input.read(&mut buffer[..want]).map_err(|error| broken(&error))? {
                0 => return Err(broken(&"the connection closed")),
                read => {
                    blob.write(&buffer[..read])?;
                    left -= read as u64;
                    report.bytes += read as u64;
                }
            }
        }
        blob.finish()?;
        report.changed.push(digest.to_owned());
    }
}

/// Remove what interrupted copies left behind; their writers are gone or about to be.
fn sweep() {
    // Blobs that are written now are hashed now; those of an earlier boot were looked at before we were asked.
    let _ = fs::write(super::facts::BLOBS_SEEN, "");
    for entry in fs::read_dir(store()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((_, pid)) = name.split_once(".part") else { continue };
        if !Path::new("/proc").join(pid).exists() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn check_name(digest: &str) -> Result<(), NodeError> {
    let good = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    if good { Ok(()) } else { Err(NodeError::new("a blob has a name that is no hash", digest)) }
}

/// Copy blobs into our own store, a few at a time.
pub fn fetch(request: &FetchRequest) -> Result<Report, NodeError> {
    sweep();
    let queue = std::sync::Mutex::new(request.blobs.iter());
    let report = std::sync::Mutex::new(Report::default());
    let lane = || -> Result<(), NodeError> {
        loop {
            let next = queue.lock().ok().and_then(|mut queue| queue.next());
            let Some((digest, size)) = next else { return Ok(()) };
            if path_of(digest).exists() {
                continue;
            }
            let mut blob = Incoming::new(digest)?;
            let mut reader = Remote::new(&request.source, digest, *size);
            let mut buffer = vec![0; 1 << 18];
            loop {
                let read =
                    reader.read(&mut buffer).map_err(|error| NodeError::new("failed to copy the bundle", error))?;
                if read == 0 {
                    break;
                }
                blob.write(&buffer[..read])?;
            }
            blob.finish()?;
            if let Ok(mut report) = report.lock() {
                report.bytes += size;
                report.changed.push(digest.clone());
            }
        }
    };
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..2).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().try_for_each(|lane| lane.join().unwrap_or(Ok(())))
    })?;
    Ok(report.into_inner().unwrap_or_default())
}

/// A blob to read: from our own store if it is there, else from a peer.
pub fn open(source: &Source, digest: &str, size: u64) -> Box<dyn Read + Send> {
    match fs::File::open(path_of(digest)) {
        Ok(file) => Box::new(file),
        Err(_) => Box::new(Remote::new(source, digest, size)),
    }
}

/// A blob of another host. A connection that breaks goes on at the same byte, with the next peer if need be.
struct Remote {
    source: Source,
    digest: String,
    /// Bytes in all; 0 if not known before the first answer.
    size: u64,
    offset: u64,
    stream: Option<BufReader<TcpStream>>,
    turn: usize,
    lost_since: Option<Instant>,
}

impl Remote {
    fn new(source: &Source, digest: &str, size: u64) -> Self {
        let source = source.clone();
        Remote { source, digest: digest.into(), size, offset: 0, stream: None, turn: 0, lost_since: None }
    }

    /// Ask one peer. `Ok(None)`: it is there, the blob is not yet.
    fn ask(&mut self, peer: &str) -> std::io::Result<Option<BufReader<TcpStream>>> {
        let address: SocketAddr = peer.parse().map_err(|_| std::io::Error::other(format!("{peer} is no address")))?;
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(PATIENCE + Duration::from_secs(10)))?;
        stream.set_nodelay(true)?;
        write!(
            stream,
            "GET /blobs/{} HTTP/1.1\r\nHost: {peer}\r\nAuthorization: Bearer {}\r\nRange: bytes={}-\r\nConnection: close\r\n\r\n",
            self.digest, self.source.token, self.offset
        )?;
        let mut stream = BufReader::with_capacity(1 << 18, stream);
        let (status, length) = head(&mut stream)?;
        match status {
            200 | 206 => {
                self.size = self.offset + length;
                Ok(Some(stream))
            }
            404 => Ok(None),
            other => Err(std::io::Error::other(format!("{peer} answered {other}"))),
        }
    }

    fn connect(&mut self) -> std::io::Result<()> {
        while self.stream.is_none() {
            if self.source.peers.is_empty() {
                return Err(std::io::Error::other(format!("blob {} is not here and nobody serves it", self.digest)));
            }
            let peer = self.source.peers[self.turn % self.source.peers.len()].clone();
            match self.ask(&peer) {
                Ok(found) => {
                    // One that does not have it yet is asked again after the others.
                    self.turn += usize::from(found.is_none());
                    self.stream = found;
                    self.lost_since = None;
                }
                Err(error) => {
                    self.turn += 1;
                    if self.lost_since.get_or_insert_with(Instant::now).elapsed() > UNREACHABLE {
                        return Err(std::io::Error::other(format!("{peer}: {error}")));
                    }
                    std::thread::sleep(Duration::from_millis(200));
                }
            }
        }
        Ok(())
    }
}

impl Read for Remote {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            if self.size > 0 && self.offset >= self.size {
                return Ok(0);
            }
            self.connect()?;
            let Some(stream) = self.stream.as_mut() else { continue };
            match stream.read(buffer) {
                Ok(read) if read > 0 => {
                    self.offset += read as u64;
                    return Ok(read);
                }
                // Too early an end and an error are the same: go on elsewhere.
                _ => {
                    self.stream = None;
                    self.turn += 1;
                }
            }
        }
    }
}

/// Status and content length of an HTTP answer.
fn head(stream: &mut impl BufRead) -> std::io::Result<(u16, u64)> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other("no answer"))?;
    let mut length = 0;
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 || line.trim().is_empty() {
            return Ok((status, length));
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
}

/// Serve the store to hosts that know the token, until our standard input closes.
pub fn serve(listen: SocketAddr, token: String) -> Result<(), NodeError> {
    let listener = TcpListener::bind(listen)
        .map_err(|error| NodeError::new(format!("failed to listen on {listen} for the copy of the bundle"), error))?;
    println!("{{\"serving\":\"{listen}\"}}");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let token = token.clone();
            std::thread::spawn(move || {
                // Whoever asked will ask again; there is nobody else to tell.
                let _ = answer(stream, &token);
            });
        }
    });
    super::exec::until_input_closes();
    Ok(())
}

struct Question {
    digest: String,
    from: u64,
}

fn answer(stream: TcpStream, token: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(60)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    let question = match parse(&mut reader, token)? {
        Ok(question) => question,
        Err(status) => return write!(writer, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    };
    let path = path_of(&question.digest);
    let begun = Instant::now();
    while !path.exists() && begun.elapsed() < PATIENCE {
        std::thread::sleep(PAUSE);
    }
    let Ok(mut file) = fs::File::open(&path) else {
        return write!(writer, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let size = file.metadata()?.len();
    let from = question.from.min(size);
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(from))?;
    write!(
        writer,
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{size}\r\nConnection: close\r\n\r\n",
        size - from,
        size.saturating_sub(1)
    )?;
    // From file to socket inside the kernel: the standard library takes sendfile or splice.
    std::io::copy(&mut file, &mut writer)?;
    Ok(())
}

/// Read a request; the inner error is the status to answer with.
fn parse(reader: &mut impl BufRead, token: &str) -> std::io::Result<Result<Question, &'static str>> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let digest = line.strip_prefix("GET /blobs/").and_then(|rest| rest.split(' ').next()).map(str::to_owned);
    let (mut allowed, mut from) = (false, 0);
    for _ in 0..40 {
        line.clear();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        match (name.to_ascii_lowercase().as_str(), value.trim()) {
            ("authorization", value) => allowed = same(value, &format!("Bearer {token}")),
            ("range", value) => {
                from = value.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap_or(0);
            }
            _ => {}
        }
    }
    Ok(match digest {
        _ if !allowed || token.is_empty() => Err("401 Unauthorized"),
        Some(digest) if check_name(&digest).is_ok() => Ok(Question { digest, from }),
        _ => Err("400 Bad Request"),
    })
}

/// Compare without telling by the time it takes how much was right.
fn same(left: &str, right: &str) -> bool {
    left.len() == right.len() && left.bytes().zip(right.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(text: &str) -> Result<Question, &'static str> {
        parse(&mut text.as_bytes(), "secret").unwrap()
    }

    #[test]
    fn a_question_without_the_token_is_refused() {
        let digest = "a".repeat(64);
        assert_eq!(ask(&format!("GET /blobs/{digest} HTTP/1.1\r\n\r\n")).err(), Some("401 Unauthorized"));
        let wrong = format!("GET /blobs/{digest} HTTP/1.1\r\nAuthorization: Bearer secreT\r\n\r\n");
        assert_eq!(ask(&wrong).err(), Some("401 Unauthorized"));
    }

    #[test]
    fn a_path_that_is_no_hash_is_refused() {
        let text = "GET /blobs/../../etc/shadow HTTP/1.1\r\nAuthorization: Bearer secret\r\n\r\n";
        assert_eq!(ask(text).err(), Some("400 Bad Request"));
    }

    #[test]
    fn a_copy_goes_on_where_it_stopped() {
        let digest = "b".repeat(64);
        let text = format!("GET /blobs/{digest} HTTP/1.1\r\nauthorization: Bearer secret\r\nRange: bytes=100-\r\n\r\n");
        assert_eq!(ask(&text).map(|question| question.from).ok(), Some(100));
    }
}
