//! The program itself, as the kubelet starts and stops it. `HZ_OPERATOR` names another build of it to look at.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::lab::{HOSPITAL, Lab, eventually, example, server};
use crate::server::OPERATOR;

/// The program, running; it is killed when dropped.
pub struct Program {
    child: Child,
    port: u16,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    std::env::var_os("HZ_OPERATOR").map_or_else(|| env!("CARGO_BIN_EXE_hz-operator").into(), PathBuf::from)
}

fn kubeconfig(dir: &Path) -> PathBuf {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": server().config(OPERATOR).cluster_url.to_string(), "insecure-skip-tls-verify": true}}],
        "users": [{"name": "x", "user": {"token": OPERATOR}}],
    });
    let path = dir.join("kubeconfig");
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

/// What the program says, kept under target/test-logs for whoever has to find out.
fn log(name: &str) -> Stdio {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-logs");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::File::create(dir.join(format!("hz-operator-{name}.log"))).unwrap().into()
}

/// Start it with the rights that the chart gives it.
pub fn start(dir: &Path, name: &str) -> Program {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new(program())
        .env("KUBECONFIG", kubeconfig(dir))
        .env("HZ_INSTANCE", name)
        .env("HZ_LISTEN", format!("127.0.0.1:{port}"))
        .env("MALLOC_ARENA_MAX", "2")
        .stdout(log(name))
        .spawn()
        .unwrap();
    Program { child, port }
}

impl Program {
    /// Status line and body of a page.
    async fn page(&self, path: &str) -> Option<(String, String)> {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
            .await
            .ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some((head.lines().next()?.to_owned(), body.to_owned()))
    }

    /// It says that it leads.
    pub async fn leads(&self) -> bool {
        self.page("/metrics").await.is_some_and(|(_, body)| body.contains("\nhz_operator_leader 1\n"))
    }

    fn resident(&self) -> u64 {
        self.resident_kib() >> 10
    }

    /// Memory that it takes, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap()
    }

    fn terminate(&self) {
        let done = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(done.is_ok_and(|status| status.success()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_are_ready_one_leads_and_leaves_its_place_to_the_other() {
    let lab = Lab::new().await;
    let leases: Api<Lease> = Api::namespaced(lab.admin.clone(), "hz-system");
    let _ = leases.delete("hz-operator", &Default::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let mut one = start(dir.path(), "one");
    eventually("the first leads", || async { one.leads().await.then_some(()) }).await;
    let two = start(dir.path(), "two");
    for program in [&one, &two] {
        eventually("ready", || async { program.page("/readyz").await.filter(|(head, _)| head.contains("200")) }).await;
        assert!(program.page("/healthz").await.unwrap().0.contains("200"));
    }
    assert!(!two.leads().await);

    lab.apply(&example()[0]).await;
    lab.until_ready("Hospital", None, "st-anna", "True").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    println!(
        "resident memory: leading {} MiB, waiting {} MiB ({})",
        one.resident(),
        two.resident(),
        program().display()
    );
    if !program().to_string_lossy().contains("debug") {
        assert!(one.resident() <= 20 && two.resident() <= 20);
    }

    one.terminate();
    eventually("the second leads", || async { two.leads().await.then_some(()) }).await;
    assert!(one.child.wait().unwrap().success(), "asked to stop, it leaves in peace");
    lab.apply(&example()[2]).await;
    eventually("the second works", || lab.get("StatefulSet", Some(HOSPITAL), "sessions")).await;
}

#[test]
fn settings_that_make_no_sense_are_refused_with_their_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("platform.yaml");
    std::fs::write(&file, "storageClas: fast\n").unwrap();
    let done = Command::new(program()).arg("--platform").arg(&file).env("RUST_BACKTRACE", "0").output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success());
    assert!(said.contains("storageClas") && said.contains("platform.yaml"), "{said}");
}
