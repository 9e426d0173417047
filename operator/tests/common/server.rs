//! A real kube-apiserver on a real etcd, on loopback, for as long as the test process lives.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::Config;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};

use super::tool::tool;

/// What comes before the point in a public key on the curve P-256, as X.509 writes it.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Cluster administrator.
pub const ADMIN: &str = "admin-token";
/// The operator's service account, with the rights that the chart gives it and no other.
pub const OPERATOR: &str = "operator-token";

/// A running control plane without controllers or nodes.
pub struct Server {
    dir: tempfile::TempDir,
    url: String,
    _processes: Vec<Child>,
}

impl Server {
    /// Starts both programs and waits until `/readyz` says so.
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("hz-apiserver-").tempdir().expect("a temporary folder");
        let [etcd_port, peer_port, api_port] = free_ports();
        write_files(dir.path());
        let etcd = start_etcd(dir.path(), etcd_port, peer_port);
        let api = start_apiserver(dir.path(), etcd_port, api_port);
        let server = Self { url: format!("https://127.0.0.1:{api_port}"), dir, _processes: vec![etcd, api] };
        server.wait();
        server
    }

    /// A client configuration for one of the tokens.
    pub fn config(&self, token: &str) -> Config {
        let mut config = Config::new(self.url.parse().expect("a valid URL"));
        config.accept_invalid_certs = true; // the server makes its certificate itself, and this is loopback
        config.auth_info.token = Some(token.to_owned().into());
        config
    }

    /// The audit log: one JSON object a line, one line a write.
    pub fn audit_log(&self) -> PathBuf {
        self.dir.path().join("audit.log")
    }

    fn wait(&self) {
        let config = self.config(ADMIN);
        let deadline = Instant::now() + Duration::from_secs(90);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let client = kube::Client::try_from(config).expect("a client");
            loop {
                let request = http::Request::get("/readyz").body(Vec::new()).expect("a valid request");
                match client.request_text(request).await {
                    Ok(text) if text == "ok" => return,
                    other => {
                        let log = self.log();
                        let waiting = Instant::now() < deadline && !log.contains("command failed");
                        assert!(waiting, "no API server: {other:?}\n{log}");
                    }
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.dir.path().join("apiserver.log")).unwrap_or_default();
        log.lines().rev().take(20).collect::<Vec<_>>().join("\n")
    }
}

fn free_ports() -> [u16; 3] {
    // Held all at once, so that they differ.
    let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    held.map(|listener| listener.local_addr().expect("an address").port())
}

fn write_files(dir: &Path) {
    let random = ring::rand::SystemRandom::new();
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
    let pem =
        |kind: &str, der: &[u8]| format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der));
    write(dir, "sa.key", &pem("PRIVATE KEY", key.as_ref()));
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random).expect("our own key");
    let public: Vec<u8> = P256_PREFIX.iter().chain(pair.public_key().as_ref()).copied().collect();
    write(dir, "sa.pub", &pem("PUBLIC KEY", &public));
    write(
        dir,
        "tokens.csv",
        &format!(
            "{ADMIN},admin,1,\"system:masters\"\n\
             {OPERATOR},system:serviceaccount:hz-system:hz-operator,2,\"system:serviceaccounts,system:serviceaccounts:hz-system\"\n"
        ),
    );
    write(
        dir,
        "audit.yaml",
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n\
         - level: Metadata\n  verbs: [create, update, patch, delete, deletecollection]\n- level: None\n",
    );
}

fn write(dir: &Path, name: &str, text: &str) {
    let mut file = std::fs::File::create(dir.join(name)).expect("a new file");
    file.write_all(text.as_bytes()).expect("a written file");
}

fn start_etcd(dir: &Path, port: u16, peer: u16) -> Child {
    let data = dir.join("etcd").display().to_string();
    let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer}"));
    let arguments = [
        "--data-dir",
        &data,
        "--listen-client-urls",
        &client,
        "--advertise-client-urls",
        &client,
        "--listen-peer-urls",
        &peer,
        "--initial-advertise-peer-urls",
        &peer,
        "--initial-cluster",
        &format!("default={peer}"),
        "--unsafe-no-fsync",
        "--log-level",
        "error",
    ]
    .map(str::to_owned);
    spawn(&tool("HZ_ETCD", "etcd"), &arguments, &dir.join("etcd.log"))
}

fn start_apiserver(dir: &Path, etcd: u16, port: u16) -> Child {
    let file = |name: &str| dir.join(name).display().to_string();
    let arguments = [
        format!("--etcd-servers=http://127.0.0.1:{etcd}"),
        "--bind-address=127.0.0.1".into(),
        // Nobody asks this address (it is one for documentation); it only shows up as that of an API server.
        "--advertise-address=192.0.2.1".into(),
        format!("--secure-port={port}"),
        format!("--cert-dir={}", file("certs")),
        "--service-cluster-ip-range=10.96.0.0/16".into(),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        format!("--service-account-key-file={}", file("sa.pub")),
        format!("--service-account-signing-key-file={}", file("sa.key")),
        format!("--token-auth-file={}", file("tokens.csv")),
        "--authorization-mode=RBAC".into(),
        "--disable-admission-plugins=ServiceAccount".into(),
        format!("--audit-policy-file={}", file("audit.yaml")),
        format!("--audit-log-path={}", file("audit.log")),
        "--allow-privileged=true".into(),
    ];
    spawn(&tool("HZ_KUBE_APISERVER", "kube-apiserver"), &arguments, &dir.join("apiserver.log"))
}

/// Starts a program under a shell that stops it, by its id, when our end of the pipe closes: however the test process
/// ends, nothing of it stays behind. An API server whose etcd went first would wait for it for ever.
fn spawn(program: &Path, arguments: &[String], log: &Path) -> Child {
    let script = r#"log=$1; shift; "$@" >"$log" 2>&1 & child=$!; cat >/dev/null
        kill "$child"; for _ in 1 2 3 4 5 6 7 8 9 10; do sleep 0.5; kill -0 "$child" 2>/dev/null || exit; done; kill -KILL "$child""#;
    Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(log)
        .arg(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()))
}
