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
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} does not listen on port {port}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// An authority, and what it issued for `localhost`, as files.
pub struct Authority {
    folder: TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("hz-authority-").tempdir().unwrap();
        let (ca_key, key) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
        let mut ca = rcgen::CertificateParams::new([]).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        let ca_crt = ca.self_signed(&ca_key).unwrap().pem();
        let issuer = rcgen::Issuer::from_ca_cert_pem(&ca_crt, ca_key).unwrap();
        let leaf = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let authority = Self { folder };
        for (name, pem) in [("ca.crt", ca_crt), ("tls.crt", leaf.pem()), ("tls.key", key.serialize_pem())] {
            fs::write(authority.path(name), pem).unwrap();
            if is_root() {
                std::os::unix::fs::chown(authority.path(name), Some(65534), Some(65534)).unwrap();
            }
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(authority.path(name), mode).unwrap();
        }
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(authority.folder.path(), open).unwrap();
        authority
    }

    /// `ca.crt`, `tls.crt` or `tls.key`.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

pub struct Postgres {
    settings: Vec<String>,
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
        let mut postgres = Postgres { settings: Vec::new(), program, folder, port: free_port(), child: None };
        postgres.start_again();
        Some(postgres)
    }

    /// From now on it lets nobody in who does not encrypt.
    pub fn encrypt(&mut self, with: &Authority) {
        self.kill();
        let hba = self.folder.path().join("data/pg_hba.conf");
        fs::write(hba, "hostssl all all all scram-sha-256\nhostnossl all all all reject\n").unwrap();
        let (crt, key) = (with.path("tls.crt"), with.path("tls.key"));
        self.settings = vec!["ssl=on".into(), format!("ssl_cert_file={crt}"), format!("ssl_key_file={key}")];
        self.start_again();
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
            .args(self.settings.iter().flat_map(|setting| ["-c", setting]))
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
    tls: Option<[String; 3]>,
    program: PathBuf,
    folder: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Valkey {
    pub fn start() -> Option<Self> {
        let program = program(&["valkey-server", "redis-server"], "valkey-server (or redis-server)")?;
        let folder = tempfile::Builder::new().prefix("hz-valkey-").tempdir().unwrap();
        let mut valkey = Valkey { tls: None, program, folder, port: free_port(), child: None };
        valkey.start_again();
        Some(valkey)
    }

    /// From now on it speaks TLS and nothing else.
    pub fn encrypt(&mut self, with: &Authority) {
        self.kill();
        self.tls = Some(["ca.crt", "tls.crt", "tls.key"].map(|name| with.path(name)));
        self.start_again();
    }

    pub fn start_again(&mut self) {
        let mut command = Command::new(&self.program);
        command.current_dir(self.folder.path()).args(["--bind", "127.0.0.1", "--save", "", "--requirepass", PASSWORD]);
        let port = self.port.to_string();
        match &self.tls {
            None => command.args(["--port", &port]),
            Some([ca, crt, key]) => command
                .args(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"])
                .args(["--tls-ca-cert-file", ca, "--tls-cert-file", crt, "--tls-key-file", key]),
        };
        self.child = Some(command.stdout(Stdio::null()).spawn().unwrap());
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
        let service = Self::launch(postgres, valkey, extra);
        let begun = Instant::now();
        while !service.get("/readyz").await.status().is_success() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the service is not ready: {}", service.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        service
    }

    /// Starts it and waits until it takes requests.
    pub fn launch(postgres: &Postgres, valkey: Option<&Valkey>, extra: &[(&str, &str)]) -> Self {
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
            .stdout(log.reopen().unwrap());
        if let Some(valkey) = valkey {
            command
                .env("CACHE_HOST", "127.0.0.1")
                .env("CACHE_PORT", valkey.port.to_string())
                .env("CACHE_PASSWORD", PASSWORD);
        }
        command.envs(extra.iter().copied());
        let child = command.spawn().unwrap();
        let service = Service { client: reqwest::Client::new(), base: format!("http://127.0.0.1:{port}"), child, log };
        wait_for_port(port, "the service");
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
