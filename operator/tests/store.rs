//! The questions, put to a real store that is started as a plan says, with a certificate that the operator issued.

#![allow(clippy::unwrap_used)] // a test that cannot go on should say where

#[path = "common/tool.rs"]
mod tool;

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hz_crds::backup::conf::Access;
use hz_crds::backup::{Kept, UriStyle};
use hz_crds::store::{self, ObjectStore};
use hz_crds::{Certificates, Platform, Timestamp};
use hz_operator::engine::certificates::keep_or_issue;
use hz_operator::probes::{OverTcp, Probes, Silent, Store};
use serde_json::{Value, json};

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ACCESS: &str = "accessaccessaccess";
const SECRET: &str = "secretsecretsecretsecret";

/// A server that is stopped, by its id, when the test ends.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One server at a time: ports are chosen before they are taken.
static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Ports for HTTP with the ports for gRPC beside them, as the plan's are: 10000 higher. Below those that the system hands
/// out by itself, so that nobody takes one before the server does.
fn free_ports() -> [u16; 4] {
    let free = |port: &u16| [*port, port + 10_000].iter().all(|port| TcpListener::bind((HOME, *port)).is_ok());
    let first = 11_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    let ports: Vec<u16> = (first..22_000).filter(free).take(4).collect();
    ports.try_into().unwrap()
}

fn object() -> ObjectStore {
    serde_json::from_value(json!({
        "apiVersion": "hz.hospital/v1alpha1", "kind": "ObjectStore",
        "metadata": { "name": "vault", "namespace": "hospital-st-anna" },
        "spec": { "instances": 1, "storage": { "size": "1Gi" } },
    }))
    .unwrap()
}

/// Starts the container of the plan as a process of its own: other folders, other ports, loopback for a name.
fn start(dir: &Path, ports: [u16; 4]) -> (Server, Store) {
    let (store, platform) = (object(), Platform::eight_nodes());
    let slot = store::certificate(&store, &platform);
    let pair = keep_or_issue(&slot, None, Timestamp::now()).unwrap();
    let [access, secret] = store::slots(&store);
    let inputs = store::Inputs {
        passwords: [(access, ACCESS.to_owned()), (secret, SECRET.to_owned())].into_iter().collect(),
        certificates: Certificates::default().with(&slot, pair.clone()),
        ..Default::default()
    };
    let plan = store::desired(&store, &inputs, &platform).unwrap();
    for folder in ["data", "tls", "identities", "tmp"] {
        std::fs::create_dir(dir.join(folder)).unwrap();
    }
    std::fs::write(dir.join("tls/tls.crt"), &pair.tls_crt).unwrap();
    std::fs::write(dir.join("tls/tls.key"), &pair.tls_key).unwrap();
    let identities: k8s_openapi::api::core::v1::Secret =
        serde_json::from_value(serde_json::to_value(plan.find("Secret", "vault-identities").unwrap()).unwrap())
            .unwrap();
    std::fs::write(dir.join("identities/s3.json"), &identities.data.unwrap()["s3.json"].0).unwrap();

    let set = plan.find("StatefulSet", "vault").unwrap();
    let container = set.data.pointer("/spec/template/spec/containers/0").unwrap();
    let host = platform.host("vault-pods", "hospital-st-anna");
    let here = |argument: &str| {
        let mut argument = argument
            .replace(&format!("$(POD_NAME).{host}"), "127.0.0.1")
            .replace(&format!("vault-0.{host}"), "127.0.0.1")
            .replace("0.0.0.0", "127.0.0.1")
            .replace("/etc/hz", &dir.display().to_string())
            .replace("/data", &dir.join("data").display().to_string());
        for (usual, port) in ["9333", "8080", "8888", "8333"].iter().zip(ports) {
            if argument.contains("port=") || argument.contains("peers=") {
                argument = argument.replace(usual, &port.to_string());
            }
        }
        argument
    };
    let mut command = Command::new(tool::tool("HZ_WEED", "weed"));
    for argument in container["args"].as_array().unwrap() {
        command.arg(here(argument.as_str().unwrap()));
    }
    for variable in container["env"].as_array().unwrap() {
        if let (Some(name), Value::String(value)) = (variable["name"].as_str(), &variable["value"]) {
            command.env(name, value.replace("/tmp", &dir.join("tmp").display().to_string()));
        }
    }
    let log = std::fs::File::create(dir.join("log")).unwrap();
    let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let target = Store {
        address: HOME,
        port: ports[3],
        host: platform.host("vault", "hospital-st-anna"),
        authority: pair.ca_crt,
        region: store::REGION.into(),
        access_key: ACCESS.into(),
        secret_key: SECRET.into(),
    };
    (Server(child), target)
}

#[tokio::test]
async fn a_real_store_makes_its_buckets_once_and_tells_strangers_apart() {
    let _one = ONE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let (_server, target) = start(dir.path(), free_ports());
    let wanted = ["backups".to_owned(), "images".to_owned()];
    let started = std::time::Instant::now();
    let mut answer = OverTcp.buckets(&target, &wanted).await;
    while answer.is_err() && started.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_millis(250)).await;
        answer = OverTcp.buckets(&target, &wanted).await;
    }
    let log = || std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
    assert_eq!(answer, Ok(()), "{}", log());
    assert_eq!(OverTcp.buckets(&target, &wanted).await, Ok(()), "they are there already");

    let stranger = Store { access_key: "nobody".into(), ..target.clone() };
    assert!(matches!(OverTcp.buckets(&stranger, &wanted).await, Err(Silent::NotProvisioned(_))));
    let liar = Store { secret_key: "guessed".into(), ..target.clone() };
    assert!(matches!(OverTcp.buckets(&liar, &wanted).await, Err(Silent::NotProvisioned(_))));

    let slot = store::certificate(&object(), &Platform::eight_nodes());
    let other = keep_or_issue(&slot, None, Timestamp::now()).unwrap();
    let deceived = Store { authority: other.ca_crt, ..target.clone() };
    let Err(Silent::Unreachable(why)) = OverTcp.buckets(&deceived, &wanted).await else {
        panic!("another authority is not to be believed")
    };
    assert!(why.contains("certificate"), "{why}");
    let elsewhere = Store { host: "safe.hospital-st-anna.svc.cluster.local".into(), ..target };
    assert!(matches!(OverTcp.buckets(&elsewhere, &wanted).await, Err(Silent::Unreachable(_))));
}

/// A request to a real store, signed: for what the operator itself never does.
async fn configure(
    target: &Store,
    bucket: &str,
    query: &str,
    body: &str,
    header: Option<(&'static str, &'static str)>,
) {
    use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_built_in_root_certs(false)
        .add_root_certificate(reqwest::Certificate::from_pem(target.authority.as_bytes()).unwrap())
        .resolve(&target.host, (target.address, target.port).into())
        .build()
        .unwrap();
    let endpoint = format!("https://{}:{}", target.host, target.port).parse().unwrap();
    let bucket = Bucket::new(endpoint, UrlStyle::Path, bucket.to_owned(), target.region.clone()).unwrap();
    let credentials = Credentials::new(ACCESS, SECRET);
    let mut action = bucket.create_bucket(&credentials);
    if !query.is_empty() {
        action.query_mut().insert(query.to_owned(), "");
    }
    if let Some((name, value)) = header {
        action.headers_mut().insert(name, value);
    }
    let mut request = client.put(action.sign(Duration::from_secs(60))).body(body.to_owned());
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let answer = request.send().await.unwrap();
    let status = answer.status();
    assert!(status.is_success(), "{status}: {}", answer.text().await.unwrap());
}

#[tokio::test]
async fn a_real_store_is_believed_only_what_it_does() {
    let _one = ONE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let (_server, target) = start(dir.path(), free_ports());
    let started = std::time::Instant::now();
    let plain = ["plain".to_owned()];
    while OverTcp.buckets(&target, &plain).await.is_err() && started.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let access = |bucket: &str| Access {
        host: target.host.clone(),
        port: target.port,
        bucket: bucket.to_owned(),
        region: target.region.clone(),
        uri_style: UriStyle::Path,
        key: ACCESS.to_owned(),
        secret: SECRET.to_owned(),
        ca: Some(target.authority.clone()),
    };
    let proved = async |bucket: &str| OverTcp.keeps(&access(bucket), Some(HOME)).await.unwrap();

    let (kept, why) = proved("plain").await;
    assert_eq!(kept, Kept::NotEnforced);
    assert!(why.contains("no versions are kept") && why.contains("COMPLIANCE"), "{why}");

    // Versions alone keep nothing: each can be deleted.
    configure(&target, "versions", "", "", None).await;
    let on = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    configure(&target, "versions", "versioning", on, None).await;
    let (kept, why) = proved("versions").await;
    assert!(kept == Kept::NotEnforced && why.starts_with("an object could be deleted"), "{why}");

    // Object lock with a default retention.
    configure(&target, "vault", "", "", Some(("x-amz-bucket-object-lock-enabled", "true"))).await;
    let rule = |mode: &str| {
        format!(
            "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
             <Mode>{mode}</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>"
        )
    };
    configure(&target, "vault", "object-lock", &rule("GOVERNANCE"), None).await;
    let (kept, why) = proved("vault").await;
    assert!(kept == Kept::NotEnforced && why.starts_with("the lock of an object could be bypassed"), "{why}");
    configure(&target, "vault", "object-lock", &rule("COMPLIANCE"), None).await;
    let (kept, why) = proved("vault").await;
    assert!(kept == Kept::Enforced && why.contains("could not be deleted"), "{why}");

    let stranger = Access { key: "nobody".into(), ..access("vault") };
    assert!(matches!(OverTcp.keeps(&stranger, Some(HOME)).await, Err(Silent::Refused(_))));
}
