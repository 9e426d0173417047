//! Kernel features, really tried: a configuration file that promises a module is not a module that loads.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

use super::types::Feature;

/// Try everything in namespaces of their own, in a process of its own: the host itself is not touched.
pub fn probe_apart() -> Vec<Feature> {
    let tried = std::env::current_exe().ok().and_then(|program| {
        Command::new("unshare")
            .args(["--net", "--mount", "--"])
            .arg(program)
            .args(["node", "kernel-probe"])
            .stdin(Stdio::null())
            .output()
            .ok()
    });
    let Some(output) = tried else {
        return vec![feature("namespaces", Err("unshare could not be run".into()))];
    };
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        vec![feature("namespaces", Err(words))]
    })
}

/// Try everything here. Only for the process that [`probe_apart`] starts.
pub fn probe_here() -> Vec<Feature> {
    let link = |kind: &[&str]| {
        let mut argv = vec!["link", "add", "hzprobe0"];
        argv.extend(kind);
        let result = ip(&argv);
        let _ = ip(&["link", "delete", "hzprobe0"]);
        result
    };
    let _ = ip(&["link", "set", "lo", "up"]);
    vec![
        feature("bridge", link(&["type", "bridge"])),
        feature("veth", link(&["type", "veth", "peer", "name", "hzprobe1"])),
        feature("vxlan", link(&["type", "vxlan", "id", "77", "dstport", "4789", "local", "127.0.0.1"])),
        feature("nftables", nftables().map_err(|error| error.to_string())),
        feature("overlay", overlay()),
    ]
}

fn feature(name: &str, result: Result<(), String>) -> Feature {
    let detail = result.err().unwrap_or_default();
    Feature { name: name.into(), works: detail.is_empty(), detail }
}

fn ip(argv: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(argv).output().map_err(|error| format!("ip: {error}"))?;
    let words = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(words.lines().next().unwrap_or("failed").to_owned()) }
}

/// Mount an overlay where the container runtime will.
fn overlay() -> Result<(), String> {
    let mut near = PathBuf::from("/var/lib/containerd");
    while !near.exists() {
        near.pop();
    }
    let dir = near.join(format!(".hzctl-probe-{}", std::process::id()));
    let result = overlay_in(&dir);
    let _ = std::fs::remove_dir_all(&dir);
    result
}

fn overlay_in(dir: &Path) -> Result<(), String> {
    for part in ["lower", "upper", "work", "merged"] {
        std::fs::create_dir_all(dir.join(part)).map_err(|error| format!("{}: {error}", dir.display()))?;
    }
    let path = |part: &str| dir.join(part).display().to_string();
    let options = format!("lowerdir={},upperdir={},workdir={}", path("lower"), path("upper"), path("work"));
    let target = path("merged");
    let mount = Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options, &target]).output();
    let output = mount.map_err(|error| format!("mount: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    let wrote = std::fs::write(dir.join("merged/probe"), b"x");
    let _ = Command::new("umount").arg(&target).output();
    wrote.map_err(|error| format!("writing into the overlay: {error}"))
}

/// Whether a process may make itself harder to kill than its parent. Without that right the container runtime
/// cannot protect a container, and must be told not to try.
pub fn may_lower_oom_score() -> bool {
    let path = "/proc/self/oom_score_adj";
    let Ok(old) = std::fs::read_to_string(path) else { return false };
    let may = std::fs::OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(b"-998")).is_ok();
    let _ = std::fs::write(path, old);
    may
}

const NFNL_BATCH_BEGIN: u16 = 0x10;
const NFNL_BATCH_END: u16 = 0x11;
const NFT_NEWTABLE: u16 = 10 << 8;
const NFT_NEWCHAIN: u16 = 10 << 8 | 3;
const NFT_DELTABLE: u16 = 10 << 8 | 2;
const REQUEST_ACK: u16 = 1 | 4;
const REQUEST: u16 = 1;
const REQUEST_ACK_CREATE: u16 = 1 | 4 | 0x400;

/// Make a table with a NAT chain, as kube-proxy will, straight through netlink: hosts need not have `nft`.
fn nftables() -> std::io::Result<()> {
    let socket = open()?;
    let table = attribute(1, b"hzprobe\0");
    let hook = [attribute(1, &4u32.to_be_bytes()), attribute(2, &100u32.to_be_bytes())].concat();
    let chain = [table.clone(), attribute(3, b"nat\0"), attribute(4 | 0x8000, &hook), attribute(7, b"nat\0")].concat();
    let batch = [
        message(NFNL_BATCH_BEGIN, REQUEST, 0, 0, 10, &[]),
        message(NFT_NEWTABLE, REQUEST_ACK_CREATE, 1, 1, 0, &table),
        message(NFT_NEWCHAIN, REQUEST_ACK_CREATE, 2, 1, 0, &chain),
        message(NFNL_BATCH_END, REQUEST, 3, 0, 10, &[]),
    ]
    .concat();
    rustix::net::sendto(&socket, &batch, SendFlags::empty(), &netlink::SocketAddrNetlink::new(0, 0))?;
    answers(&socket, 2)
}

/// Remove a table of a family (1 inet, 2 ip, 10 ip6); one that is not there is fine.
pub fn remove_table(family: u8, name: &str) {
    let name = [name.as_bytes(), &[0]].concat();
    let batch = [
        message(NFNL_BATCH_BEGIN, REQUEST, 0, 0, 10, &[]),
        message(NFT_DELTABLE, REQUEST_ACK, 1, family, 0, &attribute(1, &name)),
        message(NFNL_BATCH_END, REQUEST, 2, 0, 10, &[]),
    ]
    .concat();
    let _ = (|| -> std::io::Result<()> {
        let socket = open()?;
        rustix::net::sendto(&socket, &batch, SendFlags::empty(), &netlink::SocketAddrNetlink::new(0, 0))?;
        answers(&socket, 1)
    })();
}

fn open() -> std::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::NETFILTER))?;
    rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, 0))?;
    Ok(socket)
}

/// A netlink message with the header of netfilter: kind, flags, sequence, family, resource.
fn message(kind: u16, flags: u16, sequence: u32, family: u8, resource: u16, body: &[u8]) -> Vec<u8> {
    let length = 20 + body.len() as u32;
    let mut bytes = Vec::with_capacity(length as usize);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(body);
    bytes
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((4 + value.len() as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Wait for this many answers; the first that is an error is the result.
fn answers(socket: &OwnedFd, count: usize) -> std::io::Result<()> {
    let mut buffer = vec![0u8; 8192];
    let mut seen = 0;
    while seen < count {
        let (length, _) = rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty())?;
        let mut rest = &buffer[..length];
        while rest.len() >= 20 {
            let size = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            let code = i32::from_ne_bytes([rest[16], rest[17], rest[18], rest[19]]);
            if code != 0 {
                return Err(std::io::Error::from_raw_os_error(-code));
            }
            seen += 1;
            rest = &rest[size.next_multiple_of(4).clamp(20, rest.len())..];
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_to_four_bytes() {
        assert_eq!(attribute(1, b"ab\0").len(), 8);
        assert_eq!(attribute(1, b"abc\0").len(), 8);
    }
}
