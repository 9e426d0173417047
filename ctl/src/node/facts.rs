//! Everything about a host in one look.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use sha2::{Digest, Sha256};

use super::hashes::{hash_file, hashes, hex};
use super::types::{Address, Disk, Facts, FactsRequest, Leftovers, Marker};
use super::{BUNDLE_DIR, MARKER, kernel, output_of};

/// There since blobs of this boot were looked at, or written.
pub const BLOBS_SEEN: &str = "/run/hzctl-blobs-seen";
/// Units that we look at.
pub const UNITS: [&str; 3] = ["containerd.service", "kubelet.service", "hz-apiserver-balancer.service"];
/// Programs of the operating system that we call.
const TOOLS: [&str; 8] = ["ip", "mount", "umount", "systemctl", "dpkg", "unshare", "tar", "journalctl"];
const OTHERS: [&str; 5] = ["k3s", "rke2", "k0s", "microk8s", "dockerd"];

/// Look at everything. Slow looks run beside each other.
pub fn collect(request: &FactsRequest) -> Facts {
    let begun = Instant::now();
    let mut facts = cheap();
    facts.leftovers = leftovers();
    // A node that runs has shown that its kernel will do; trying again on every look would cost time.
    let settled = facts.leftovers.marker.is_some() && facts.leftovers.kubelet_conf;
    std::thread::scope(|scope| {
        let features = scope.spawn(|| if settled { Vec::new() } else { kernel::probe_apart() });
        let images = scope.spawn(images);
        let packages = scope.spawn(|| packages(&request.packages));
        let files = scope.spawn(|| hashes(&request.files));
        let units = scope.spawn(units);
        let alive = scope.spawn(apiserver_alive);
        facts.addresses = addresses();
        facts.disks = request.disks.iter().filter_map(|path| disk(path)).collect();
        facts.listening = listening(&request.ports);
        facts.missing_tools =
            TOOLS.iter().filter(|tool| which(tool).is_none()).map(|tool| (*tool).to_owned()).collect();
        if request.blobs {
            (facts.blobs, facts.bundle_manifest) = blobs();
        }
        facts.features = features.join().unwrap_or_default();
        facts.images = images.join().unwrap_or_default();
        facts.packages = packages.join().unwrap_or_default();
        facts.files = files.join().unwrap_or_default();
        (facts.active_units, facts.enabled_units) = units.join().unwrap_or_default();
        facts.leftovers.apiserver_alive = alive.join().unwrap_or_default();
    });
    facts.leftovers.kubelet_running |= facts.active_units.iter().any(|unit| unit == "kubelet.service");
    facts.took_ms = begun.elapsed().as_millis() as u64;
    facts.clock_ms = now_ms();
    facts
}

fn cheap() -> Facts {
    let release = read("/etc/os-release");
    let of = |key: &str| {
        let found = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        found.unwrap_or_default().trim_matches('"').to_owned()
    };
    let memory = read("/proc/meminfo");
    let kib = |key: &str| -> u64 {
        let found = memory.lines().find_map(|line| line.strip_prefix(key));
        found.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    let name = rustix::system::uname();
    let text = |value: &std::ffi::CStr| value.to_string_lossy().into_owned();
    Facts {
        hostname: text(name.nodename()),
        machine_id: read("/etc/machine-id").trim().to_owned(),
        boot_id: read("/proc/sys/kernel/random/boot_id").trim().to_owned(),
        os: of("ID"),
        os_version: of("VERSION_ID"),
        os_name: of("PRETTY_NAME"),
        arch: text(name.machine()),
        kernel: text(name.release()),
        systemd: Path::new("/run/systemd/system").is_dir(),
        cpus: std::thread::available_parallelism().map_or(1, |count| count.get()),
        memory_bytes: kib("MemTotal:"),
        swap_bytes: kib("SwapTotal:"),
        cgroup: if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { 2 } else { 1 },
        cap_sys_resource: capability(24),
        oom_score_free: kernel::may_lower_oom_score(),
        conntrack_writable: writable_sysctl("/proc/sys/net/netfilter/nf_conntrack_max"),
        root_fs: mount_of(Path::new("/")).map(|mount| mount.fs).unwrap_or_default(),
        nameservers: nameservers(&read("/etc/resolv.conf")),
        ..Facts::default()
    }
}

/// Whether a bit is in the bounding set of our capabilities: what any process of this host may ever have.
fn capability(bit: u32) -> bool {
    let status = read("/proc/self/status");
    let bounds = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    bounds.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|bits| bits >> bit & 1 == 1)
}

/// Writing the value that is there changes nothing and tells whether we may.
fn writable_sysctl(path: &str) -> bool {
    let Ok(value) = fs::read_to_string(path) else { return !Path::new("/proc/sys/net/netfilter").exists() };
    fs::write(path, value).is_ok()
}

fn leftovers() -> Leftovers {
    let names = |dir: &str, end: &str| -> Vec<String> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| end.split('|').any(|end| name.ends_with(end)))
            .collect();
        names.sort();
        names
    };
    let exists = |path: &str| Path::new(path).exists();
    Leftovers {
        marker: fs::read(MARKER).ok().and_then(|bytes| serde_json::from_slice::<Marker>(&bytes).ok()),
        ca_hash: fs::read("/etc/kubernetes/pki/ca.crt").map(|bytes| hex(&Sha256::digest(bytes))).unwrap_or_default(),
        kubelet_running: false,
        kubelet_conf: exists("/etc/kubernetes/kubelet.conf"),
        kubelet_certificate: exists("/var/lib/kubelet/pki/kubelet-client-current.pem"),
        admin_conf: exists("/etc/kubernetes/admin.conf"),
        super_admin_conf: exists("/etc/kubernetes/super-admin.conf"),
        manifests: names("/etc/kubernetes/manifests", ".yaml"),
        etcd_data: exists("/var/lib/etcd/member"),
        apiserver_alive: false,
        cni: names("/etc/cni/net.d", ".conf|.conflist"),
        others: OTHERS.iter().filter(|name| which(name).is_some()).map(|name| (*name).to_owned()).collect(),
    }
}

/// Whether the API server of this host answers at all; who may ask what is not the question here.
fn apiserver_alive() -> bool {
    Path::new("/etc/kubernetes/manifests/kube-apiserver.yaml").exists()
        && std::net::TcpStream::connect_timeout(&([127, 0, 0, 1], 6443).into(), std::time::Duration::from_millis(300))
            .is_ok()
}

fn units() -> (Vec<String>, Vec<String>) {
    let ask = |verb: &str, yes: &str| -> Vec<String> {
        let mut argv = vec![verb];
        argv.extend(UNITS);
        // The exit code tells of the worst unit only, so the lines count.
        let output = std::process::Command::new("systemctl").args(&argv).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        UNITS.iter().zip(text.lines()).filter(|(_, state)| *state == yes).map(|(unit, _)| (*unit).to_owned()).collect()
    };
    // `is-active` prints a line a unit, also for unknown ones; `is-enabled` leaves unknown ones out.
    let enabled = UNITS
        .iter()
        .filter(|unit| Path::new("/etc/systemd/system/multi-user.target.wants").join(unit).exists())
        .map(|unit| (*unit).to_owned())
        .collect();
    (ask("is-active", "active"), enabled)
}

fn images() -> BTreeMap<String, String> {
    if !Path::new("/run/containerd/containerd.sock").exists() {
        return BTreeMap::new();
    }
    let text = output_of(&["/usr/local/bin/ctr", "-n", "k8s.io", "images", "ls"]).unwrap_or_default();
    parse_images(&text)
}

/// `ctr images ls`: name, type, digest, and more that we do not need.
pub fn parse_images(text: &str) -> BTreeMap<String, String> {
    let digest = |words: &[&str]| words.iter().find_map(|word| word.strip_prefix("sha256:")).map(str::to_owned);
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = *words.first()?;
        (!name.starts_with("sha256:")).then(|| Some((name.to_owned(), digest(&words[1..])?)))?
    };
    text.lines().skip(1).filter_map(row).collect()
}

fn packages(names: &[String]) -> BTreeMap<String, String> {
    if names.is_empty() {
        return BTreeMap::new();
    }
    let mut argv = vec!["-W", "-f=${Package} ${db:Status-Status} ${Version}\\n"];
    argv.extend(names.iter().map(String::as_str));
    let output = std::process::Command::new("dpkg-query").args(argv).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let row = |line: &str| {
        let mut words = line.split(' ');
        let (name, state, version) = (words.next()?, words.next()?, words.next()?);
        (state == "installed").then(|| (name.to_owned(), version.to_owned()))
    };
    text.lines().filter_map(row).collect()
}

fn blobs() -> (Vec<String>, String) {
    let dir = PathBuf::from(BUNDLE_DIR).join("blobs/sha256");
    weed(&dir);
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    // Half-written blobs carry a suffix until their hash was checked, so a name of 64 digits is a whole blob.
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|name| name.len() == 64).collect();
    names.sort();
    let manifest = fs::read(Path::new(BUNDLE_DIR).join("hz-bundle.json"));
    (names, manifest.map(|bytes| hex(&Sha256::digest(bytes))).unwrap_or_default())
}

/// After a boot, blobs that a power cut damaged are thrown out: each is read once. That it was done is noted where
/// a boot forgets it.
fn weed(dir: &Path) {
    if !dir.exists() || Path::new(BLOBS_SEEN).exists() {
        return;
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.len() == 64 && hash_file(&entry.path()).is_ok_and(|hash| hash != name) {
            let _ = fs::remove_file(entry.path());
        }
    }
    let _ = fs::write(BLOBS_SEEN, "");
}

fn disk(path: &str) -> Option<Disk> {
    let mut near = Path::new(path);
    while !near.exists() {
        near = near.parent()?;
    }
    let stat = rustix::fs::statvfs(near).ok()?;
    let device = fs::metadata(near).ok()?.dev();
    Some(Disk {
        path: path.to_owned(),
        device,
        total: stat.f_blocks * stat.f_frsize,
        free: stat.f_bavail * stat.f_frsize,
        inodes: stat.f_files,
        inodes_free: stat.f_favail,
    })
}

fn addresses() -> Vec<Address> {
    let text = output_of(&["ip", "-j", "-4", "address", "show"]).unwrap_or_default();
    parse_addresses(&text)
}

/// `ip -j address`.
pub fn parse_addresses(text: &str) -> Vec<Address> {
    let links: Vec<serde_json::Value> = serde_json::from_str(text).unwrap_or_default();
    let of = |link: &serde_json::Value| -> Vec<Address> {
        let interface = link["ifname"].as_str().unwrap_or_default().to_owned();
        let mtu = link["mtu"].as_u64().unwrap_or(0) as u32;
        let infos = link["addr_info"].as_array().cloned().unwrap_or_default();
        infos
            .iter()
            .filter_map(|info| {
                Some(Address {
                    interface: interface.clone(),
                    address: info["local"].as_str()?.to_owned(),
                    prefix: info["prefixlen"].as_u64()? as u8,
                    mtu,
                })
            })
            .collect()
    };
    links.iter().flat_map(of).collect()
}

fn listening(ports: &[u16]) -> Vec<u16> {
    let text = read("/proc/net/tcp") + &read("/proc/net/tcp6");
    let open = parse_listeners(&text);
    ports.iter().copied().filter(|port| open.contains(port)).collect()
}

/// Ports in state LISTEN of /proc/net/tcp.
pub fn parse_listeners(text: &str) -> Vec<u16> {
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words.get(3) == Some(&"0A")).then(|| u16::from_str_radix(words[1].rsplit(':').next()?, 16).ok())?
    };
    text.lines().filter_map(row).collect()
}

/// Name servers of a resolv.conf.
pub fn nameservers(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| Some(line.strip_prefix("nameserver")?.trim().to_owned())).collect()
}

struct Mount {
    fs: String,
}

fn mount_of(path: &Path) -> Option<Mount> {
    let text = read("/proc/self/mounts");
    // The last line for a mount point is the one on top.
    let row = text.lines().rev().find(|line| line.split(' ').nth(1) == path.to_str())?;
    Some(Mount { fs: row.split(' ').nth(2)?.to_owned() })
}

/// Where a program is, as the shell of a service would find it.
pub fn which(program: &str) -> Option<PathBuf> {
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/snap/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(program))
        .find(|path| path.exists())
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_millis() as i64)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_read_from_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue\n   0: 0100007F:192B 00000000:0000 0A 0:0\n   1: 0100007F:0016 00000000:0000 01 0:0\n";
        assert_eq!(parse_listeners(table), [6443]);
    }

    #[test]
    fn images_are_read_with_their_digests_and_without_the_runtimes_aliases() {
        let text = "REF TYPE DIGEST SIZE PLATFORMS LABELS\n\
            hz.hospital/pause:3.10.1 application/vnd.oci.image.manifest.v1+json sha256:aa 300.0 KiB linux/amd64 io.cri\n\
            sha256:bb application/vnd.oci.image.manifest.v1+json sha256:aa 300.0 KiB linux/amd64 io.cri\n";
        let images = parse_images(text);
        assert_eq!(images.len(), 1);
        assert_eq!(images["hz.hospital/pause:3.10.1"], "aa");
    }

    #[test]
    fn addresses_carry_the_mtu_of_their_interface() {
        let text = r#"[{"ifname":"eth0","mtu":1450,"addr_info":[{"local":"10.77.0.11","prefixlen":24}]}]"#;
        let found = parse_addresses(text);
        assert_eq!((found[0].address.as_str(), found[0].prefix, found[0].mtu), ("10.77.0.11", 24, 1450));
    }

    #[test]
    fn name_servers_are_read_from_resolv_conf() {
        assert_eq!(nameservers("search x\nnameserver 127.0.0.11\noptions a\n"), ["127.0.0.11"]);
    }
}
