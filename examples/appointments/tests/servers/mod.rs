//! Real servers, each on a port and in a folder of its own, gone with the test.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Set it to go without the tests that need real servers. Nothing else skips them.
const SKIP: &str = "HZ_SKIP_REAL_SERVERS";
const PASSWORD: &str = "not-a-secret";

/// The first of some programs that is installed; panics with how to install it.
fn program(names: &[&str], package: &str) -> Option<PathBuf> {
    if std::env::var_os(SKIP).is_some() {
        eprintln!("SKIPPED because {SKIP} is set: this test needs {}", names[0]);
        return None;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if let Ok(versions) = fs::read_dir("/usr/lib/postgresql") {
        folders.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    let found = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|p| p.exists());
    Some(found.unwrap_or_else(|| {
        panic!("{} is not installed: apt-get install {package} (or set {SKIP}=1 to go without this test)", names[0])
    }))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A command as somebody who is not root, which PostgreSQL insists on.
fn as_nobody(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(program);
    command
}

fn wait_for_port(port: u16, what: &str) {
    let begun = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what} does not listen on port {port}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub struct Postgres {
    program: PathBuf,
    folder: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Postgres {
    pub fn start() -> Option<Self> {
        let initdb = program(&["initdb"], "postgresql")?;
        let program = program(&["postgres"], "postgresql")?;
        let folder = tempfile::Builder::new().prefix("hz-postgres-").tempdir().unwrap();
        if is_root() {
            std::os::unix::fs::chown(folder.path(), Some(65534), Some(65534)).unwrap();
        }
        let password = folder.path().join("password");
        fs::write(&password, PASSWORD).unwrap();
        let data = folder.path().join("data");
        let output = as_nobody(&initdb)
            .current_dir(folder.path())
            .args(["--no-sync", "-E", "UTF8", "--locale=C.UTF-8", "-U", "app", "-A", "scram-sha-256", "--pwfile"])
            .arg(&password)
            .arg("-D")
            .arg(&data)
            .output()
            .unwrap();
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        let mut postgres = Postgres { program, folder, port: free_port(), child: None };
        postgres.start_again();
        Some(postgres)
    }

    pub fn start_again(&mut self) {
        let data = self.folder.path().join("data");
        let log = File::create(self.folder.path().join("log")).unwrap();
        let child = as_nobody(&self.program)
            .current_dir(self.folder.path())
            .arg("-D")
            .arg(&data)
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "unix_socket_directories="])
            .args(["-c", &format!("port={}", self.port)])
            .stderr(Stdio::from(log))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        wait_for_port(self.port, "postgres");
    }

    /// An immediate shutdown: connections break, as when the host goes.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(child.id(), "-QUIT");
            child.wait().unwrap();
        }
    }

    pub async fn admin(&self) -> tokio_postgres::Client {
        let settings = format!("host=127.0.0.1 port={} user=app password={PASSWORD} dbname=postgres", self.port);
        let (client, connection) = tokio_postgres::connect(&settings, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

pub struct Valkey {
    program: PathBuf,
    folder: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Valkey {
    pub fn start() -> Option<Self> {
        let program = program(&["valkey-server", "redis-server"], "valkey-server (or redis-server)")?;
        let folder = tempfile::Builder::new().prefix("hz-valkey-").tempdir().unwrap();
        let mut valkey = Valkey { program, folder, port: free_port(), child: None };
        valkey.start_again();
        Some(valkey)
    }

    pub fn start_again(&mut self) {
        let child = Command::new(&self.program)
            .current_dir(self.folder.path())
            .args(["--bind", "127.0.0.1", "--save", "", "--port", &self.port.to_string(), "--requirepass", PASSWORD])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        wait_for_port(self.port, "valkey");
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Valkey {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The service as a process.
pub struct Service {
    client: reqwest::Client,
    base: String,
    child: Child,
    log: tempfile::NamedTempFile,
}

impl Service {
    /// Starts it and waits until it is ready.
    pub async fn start(postgres: &Postgres, valkey: Option<&Valkey>, extra: &[(&str, &str)]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (port, log) = (free_port(), tempfile::NamedTempFile::new().unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_hz-appointments"));
        command
            .env_clear()
            .env("PORT", port.to_string())
            .env("DATABASE_HOST", "127.0.0.1")
            .env("DATABASE_PORT", postgres.port.to_string())
            .env("DATABASE_NAME", "postgres")
            .env("DATABASE_USER", "app")
            .env("DATABASE_PASSWORD", PASSWORD)
            .env("DRAIN_SECONDS", "0")
            .envs(extra.iter().copied())
            .stdout(log.reopen().unwrap());
        if let Some(valkey) = valkey {
            command
                .env("CACHE_HOST", "127.0.0.1")
                .env("CACHE_PORT", valkey.port.to_string())
                .env("CACHE_PASSWORD", PASSWORD);
        }
        let child = command.spawn().unwrap();
        let service = Service { client: reqwest::Client::new(), base: format!("http://127.0.0.1:{port}"), child, log };
        wait_for_port(port, "the service");
        let begun = Instant::now();
        while !service.get("/readyz").await.status().is_success() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the service is not ready: {}", service.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        service
    }

    pub async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(format!("{}{path}", self.base)).send().await.unwrap()
    }

    pub async fn post(&self, path: &str, body: &Value) -> reqwest::Response {
        self.client.post(format!("{}{path}", self.base)).json(body).send().await.unwrap()
    }

    pub async fn delete(&self, path: &str) -> reqwest::Response {
        self.client.delete(format!("{}{path}", self.base)).send().await.unwrap()
    }

    pub fn terminate(&self) {
        signal(self.child.id(), "-TERM");
    }

    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < limit, "it does not leave: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log.path()).unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have left already
        let _ = self.child.wait();
    }
}

fn signal(pid: u32, which: &str) {
    let status = Command::new("kill").args([which, &pid.to_string()]).status().unwrap();
    assert!(status.success());
}
