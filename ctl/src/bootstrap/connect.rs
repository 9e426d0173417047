//! First contact: the connection, our program on the host, and everything there is to know, in one round trip
//! where an earlier run left our program there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fault::Fault;
use super::server::Server;
use super::site::Site;
use crate::cluster::{Cluster, Role};
use crate::host::Call;
use crate::node::facts::now_ms;
use crate::node::types::{Facts, FactsRequest};
use crate::node::{BIN_DIR, CHART_DIR, DEB_DIR};

/// How long a host may be out of reach before we give it up.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(250);

/// Finds our program or a place for it. /run is often mounted without the right to execute, so places are tried.
const FIND: &str = r#"
[ "$(id -u)" = 0 ] || { echo "HZCTL notroot"; exit 0; }
for d in /var/lib/hzctl/bin /run/hzctl /var/tmp/hzctl; do
  p="$d/hzctl-$1"
  [ -x "$p" ] && [ -O "$p" ] && { echo "HZCTL program $p"; exec "$p" node facts "$2"; }
done
for d in /run/hzctl /var/tmp/hzctl; do
  mkdir -p -m 700 "$d" 2>/dev/null && [ -O "$d" ] && [ ! -L "$d" ] || continue
  printf '#!/bin/sh\nexit 0\n' > "$d/.try" && chmod 700 "$d/.try"
  if "$d/.try" 2>/dev/null; then rm -f "$d/.try"; echo "HZCTL place $d $(uname -m)"; exit 0; fi
  rm -f "$d/.try"
done
echo "HZCTL nowhere"
"#;

const PUT: &str = r#"umask 077; cat > "$1.part" && chmod 700 "$1.part" && mv "$1.part" "$1""#;

/// Our own program, and the first digits of its hash.
pub type Program = (Arc<Vec<u8>>, String);

/// Connect and find everything out.
pub async fn meet(site: &Site, server: &Server) -> Result<(), Fault> {
    look(&site.program, server, &request(&site.cluster, site, server.spec.role)).await
}

/// Connect and have our program there, looking at little.
pub async fn ensure_program(program: &Program, server: &Server) -> Result<(), Fault> {
    look(program, server, &FactsRequest::default()).await
}

/// A connection that closes again at once is tried anew for a moment, as one that could not be made: a host may be cleaning up
/// after a run that was killed.
async fn look(program: &Program, server: &Server, request: &FactsRequest) -> Result<(), Fault> {
    let begun = Instant::now();
    loop {
        reach(server).await?;
        match look_once(program, server, request).await {
            Err(fault) if fault.transient && begun.elapsed() < PATIENCE => tokio::time::sleep(PAUSE).await,
            looked => return looked,
        }
    }
}

async fn look_once(program: &Program, server: &Server, request: &FactsRequest) -> Result<(), Fault> {
    let act = "failed to look at the host";
    let request = serde_json::to_string(request).map_err(|error| Fault::permanent(act, error))?;
    for _ in 0..2 {
        let find = Call::new(["sh", "-c", FIND, "sh", &program.1, &request]);
        let ended = server.run(find).await?;
        let text = ended.text();
        let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
        let words: Vec<&str> = first.split(' ').collect();
        let wrong = |cause: String| Fault::permanent(act, cause).on(server.name());
        match words.as_slice() {
            ["HZCTL", "program", path] => {
                let facts: Facts =
                    serde_json::from_str(rest).map_err(|error| wrong(format!("{error}: {}", ended.last_words())))?;
                let _ = server.program.set((*path).to_owned());
                let offset = facts.clock_ms - now_ms();
                server.learn(facts, offset);
                return Ok(());
            }
            ["HZCTL", "place", dir, arch] => {
                if *arch != std::env::consts::ARCH {
                    // Our program would not run there; the preflight tells.
                    server.learn(Facts { arch: (*arch).to_owned(), ..Facts::default() }, 0);
                    return Ok(());
                }
                put(program, server, &format!("{dir}/hzctl-{}", program.1)).await?;
            }
            ["HZCTL", "notroot"] | [] | [""] => {
                let cause =
                    if ended.last_words().is_empty() { "sudo gives no root".into() } else { ended.last_words() };
                let fix = "let the user of spec.ssh run sudo without a password: `NAME ALL=(ALL) NOPASSWD: ALL` in /etc/sudoers.d";
                return Err(Fault { act: "failed to become root".into(), ..wrong(cause) }.fix(fix));
            }
            _ => {
                let cause = "there is no directory that programs may be run from".to_owned();
                return Err(wrong(cause).fix("mount /run or /var/tmp without noexec"));
            }
        }
    }
    Err(Fault::permanent(act, "hzctl was sent there and is not found").on(server.name()))
}

/// Connect. A host that is busy or boots is given a moment.
async fn reach(server: &Server) -> Result<(), Fault> {
    let begun = Instant::now();
    loop {
        match server.link.connect().await {
            Ok(()) => return Ok(()),
            Err(error) if error.transient() && begun.elapsed() < PATIENCE => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(Fault::from_host(server.name(), error)),
        }
    }
}

/// Send our program to a path.
async fn put(program: &Program, server: &Server, path: &str) -> Result<(), Fault> {
    let call = Call::new(["sh", "-c", PUT, "sh", path]).stdin(program.0.as_ref().clone());
    let ended = server.run(call).await?;
    match ended.code {
        0 => Ok(()),
        _ => Err(Fault::from_output("failed to send hzctl to the host", &ended.stderr).on(server.name())),
    }
}

/// Keep our program where it outlives a reboot.
pub async fn settle(site: &Site, server: &Server) -> Result<(), Fault> {
    let to = format!("{BIN_DIR}/hzctl-{}", site.program.1);
    let from = server.program.get().cloned().unwrap_or_default();
    if from == to {
        return Ok(());
    }
    // Programs of earlier versions go: only one is ever asked for.
    let script = r#"mkdir -p -m 755 "${2%/*}" && cp "$1" "$2.part" && mv "$2.part" "$2" && for f in "${2%/*}"/hzctl-*; do [ "$f" = "$2" ] || rm -f "$f"; done"#;
    let ended = server.run(Call::new(["sh", "-c", script, "sh", &from, &to])).await?;
    match ended.code {
        0 => Ok(()),
        _ => Err(Fault::from_output("failed to keep hzctl on the host", &ended.stderr).on(server.name())),
    }
}

/// What we want to know of a host.
pub fn request(cluster: &Cluster, site: &Site, role: Role) -> FactsRequest {
    let manifest = site.bundle.manifest();
    let mut files = super::render::host::paths();
    files.extend(super::steps::install::targets(manifest, role).into_iter().map(|task| task.path));
    let mut disks: Vec<String> = super::plan::room(cluster, site, role).into_iter().map(|(path, ..)| path).collect();
    disks.dedup();
    FactsRequest {
        files,
        packages: super::steps::install::packages(manifest, role),
        disks,
        ports: super::preflight::ports::needed(role, cluster.spec.gateway.http_port),
        blobs: role == Role::ControlPlane,
    }
}

/// Look at a host again.
pub async fn refresh(site: &Site, server: &Arc<Server>) -> Result<(), Fault> {
    meet(site, server).await
}

/// Where a file of the bundle goes on a host.
pub fn path_of(kind: hz_bundle::Kind, path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    match kind {
        hz_bundle::Kind::Deb => format!("{DEB_DIR}/{name}"),
        hz_bundle::Kind::Chart => format!("{CHART_DIR}/{name}"),
        _ => format!("/{path}"),
    }
}
