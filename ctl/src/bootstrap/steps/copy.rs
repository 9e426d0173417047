//! The bundle on the control planes: to the first from here, from it to the others, from them to the workers,
//! blob by blob, each passed on as soon as it is there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use hz_bundle::{Digest, Kind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::images::is_early;
use super::plan_of;
use crate::bootstrap::fault::Fault;
use crate::bootstrap::graph::{Plan, Work};
use crate::bootstrap::preflight::ports::COPY;
use crate::bootstrap::server::Server;
use crate::bootstrap::site::Site;
use crate::cluster::Role;
use crate::node::BUNDLE_DIR;
use crate::node::files::ApplyRequest;
use crate::node::types::{FetchRequest, FileWrite, Report, Source};

/// Blobs in the order they are needed: programs, then images of the control planes, then the rest.
pub fn ordered(site: &Site) -> Vec<(Digest, u64)> {
    let rank = |entry: &&hz_bundle::Entry| match entry.kind {
        Kind::Binary => 0,
        Kind::Deb => 1,
        Kind::Image if is_early(entry) => 2,
        Kind::Chart => 3,
        _ => 4,
    };
    let mut entries: Vec<&hz_bundle::Entry> = site.bundle.manifest().components.iter().collect();
    entries.sort_by_key(rank);
    let mut seen = BTreeSet::new();
    let blobs = entries.into_iter().flat_map(|entry| &entry.blobs);
    blobs.filter(|blob| seen.insert(&blob.digest)).map(|blob| (blob.digest.clone(), blob.size)).collect()
}

/// Blobs that a host does not have.
fn missing(site: &Site, server: &Server) -> Vec<(Digest, u64)> {
    let facts = server.facts();
    let there: BTreeSet<&str> = facts.blobs.iter().map(String::as_str).collect();
    ordered(site).into_iter().filter(|(digest, _)| !there.contains(digest.hex())).collect()
}

/// Where a host gets blobs from: a control plane from itself, where they arrive, and then from the first; workers
/// each begin with another control plane.
pub fn source(site: &Site, server: &Server) -> Source {
    let planes = site.with_role(Role::ControlPlane);
    let address = |server: &Arc<Server>| format!("{}:{COPY}", server.spec.address);
    let peers = match server.spec.role {
        Role::ControlPlane => {
            let own = planes.iter().filter(|plane| plane.name() == server.name());
            own.chain(planes.iter().filter(|plane| plane.name() != server.name())).map(address).collect()
        }
        Role::Worker => {
            let turn = site.cluster.workers().position(|host| host.name == server.name()).unwrap_or(0);
            (0..planes.len()).map(|step| address(&planes[(turn + step) % planes.len()])).collect()
        }
    };
    Source { peers, token: site.copy_token.clone() }
}

fn plan(site: &Site, server: &Server) -> Plan {
    let missing = missing(site, server);
    let bytes: u64 = missing.iter().map(|(_, size)| size).sum();
    let mut items = Vec::new();
    if !missing.is_empty() {
        items.push(format!("copy {} blobs, {:.0} MB", missing.len(), bytes as f64 / 1e6));
    }
    if server.facts().bundle_manifest != Digest::of(site.bundle.manifest_bytes()).hex() {
        items.push(format!("write {BUNDLE_DIR}/hz-bundle.json"));
    }
    plan_of(items)
}

/// Write what says what the blobs are; last, so that it never promises what is not there.
async fn finish(site: &Site, server: &Server) -> Result<(), Fault> {
    let text = String::from_utf8_lossy(site.bundle.manifest_bytes()).into_owned();
    let file = |name: &str, content: String| FileWrite { path: format!("{BUNDLE_DIR}/{name}"), content, mode: 0o644 };
    let mut files = Vec::new();
    if let Some(signature) = site.bundle.signature() {
        files.push(file("hz-bundle.json.minisig", signature.to_owned()));
    }
    files.push(file("hz-bundle.json", text));
    let request = ApplyRequest { files, ..ApplyRequest::default() };
    let _: Report = server.node("failed to finish the copy of the bundle", &["apply"], &request).await?;
    Ok(())
}

/// Send the bundle from here to the first control plane.
pub struct Seed(pub Arc<Server>);

impl Work for Seed {
    fn probe<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<Plan, Fault>> {
        Box::pin(async move { Ok(plan(site, &self.0)) })
    }

    fn act<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let missing = missing(site, &self.0);
            if !missing.is_empty() {
                send(site, &self.0, missing).await?;
            }
            finish(site, &self.0).await
        })
    }
}

async fn send(site: &Site, server: &Server, blobs: Vec<(Digest, u64)>) -> Result<(), Fault> {
    let act = "failed to send the bundle";
    let mut session = server.start(&["receive"]).await?;
    let (lane, mut chunks) = tokio::sync::mpsc::channel::<Result<Vec<u8>, String>>(8);
    let bundle = site.bundle.clone();
    let reader = tokio::task::spawn_blocking(move || read_all(&bundle, &blobs, &lane));
    let mut broken = None;
    while let Some(chunk) = chunks.recv().await {
        let sent = match chunk {
            Ok(bytes) => session.stdin.write_all(&bytes).await.map_err(|error| Fault::transient(act, error)),
            Err(cause) => Err(Fault::permanent(act, cause).fix("run `hzctl bundle verify` on the bundle")),
        };
        if let Err(fault) = sent {
            broken = Some(fault.on(server.name()));
            break;
        }
    }
    drop(chunks);
    let _ = reader.await;
    let _ = session.stdin.shutdown().await;
    drop(session.stdin);
    let (mut out, mut err) = (String::new(), String::new());
    let _ = tokio::join!(session.stdout.read_to_string(&mut out), session.stderr.read_to_string(&mut err));
    let status = session.child.wait().await.map_err(|error| Fault::permanent(act, error))?;
    match (broken, status.code()) {
        (None, Some(0)) => Ok(()),
        // What the host said is nearer to the cause than the broken pipe that we saw.
        (_, Some(code)) if code != 255 && !err.trim().is_empty() => {
            Err(Fault::from_output(act, &err).on(server.name()))
        }
        (Some(fault), _) => Err(fault),
        (None, _) => Err(Fault::transient(act, err).on(server.name())),
    }
}

type Lane = tokio::sync::mpsc::Sender<Result<Vec<u8>, String>>;

fn read_all(bundle: &hz_bundle::Bundle, blobs: &[(Digest, u64)], lane: &Lane) {
    use std::io::Read;
    for (digest, size) in blobs {
        let mut reader = match bundle.blob(digest) {
            Ok(reader) => reader,
            Err(error) => return drop(lane.blocking_send(Err(error.to_string()))),
        };
        let mut chunk = format!("{} {size}\n", digest.hex()).into_bytes();
        loop {
            let begun = chunk.len();
            chunk.resize(1 << 20, 0);
            let read = match reader.read(&mut chunk[begun..]) {
                Ok(read) => read,
                Err(error) => return drop(lane.blocking_send(Err(error.to_string()))),
            };
            chunk.truncate(begun + read);
            if lane.blocking_send(Ok(std::mem::take(&mut chunk))).is_err() {
                return;
            }
            if read == 0 {
                break;
            }
        }
    }
}

/// Copy the bundle from the first control plane to another.
pub struct Copy(pub Arc<Server>);

impl Work for Copy {
    fn probe<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<Plan, Fault>> {
        Box::pin(async move { Ok(plan(site, &self.0)) })
    }

    fn act<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let own = format!("{}:{COPY}", self.0.spec.address);
            let mut source = source(site, &self.0);
            source.peers.retain(|peer| *peer != own);
            let blobs =
                missing(site, &self.0).into_iter().map(|(digest, size)| (digest.hex().to_owned(), size)).collect();
            let request = FetchRequest { source, blobs };
            let _: Report = self.0.node("failed to copy the bundle", &["fetch"], &request).await?;
            finish(site, &self.0).await
        })
    }
}

/// Have a control plane serve its blobs while this runs; started again if its connection breaks.
pub async fn keep_serving(site: Arc<Site>, server: Arc<Server>) {
    let listen = format!("{}:{COPY}", server.spec.address);
    loop {
        if let Ok(mut session) = server.start(&["serve", &listen]).await
            && session.stdin.write_all(format!("{}\n", site.copy_token).as_bytes()).await.is_ok()
        {
            let mut ignored = Vec::new();
            let _ = session.stdout.read_to_end(&mut ignored).await;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
