//! What one host must be like.

use super::{
    ARCH, Check, DISK, FEATURE, FSYNC, Finding, INODES, KERNEL, LEFTOVERS, MEMORY, OS, PORT_BUSY, SWAP, ports,
};
use crate::cluster::{Host, Role};
use crate::node::types::{Facts, FsyncReport};

/// What the checks of a host need to know besides its facts.
#[derive(Clone, Debug, Default)]
pub struct Wants {
    /// Name of the cluster.
    pub cluster: String,
    /// Identity of the cluster, where an earlier run made one.
    pub id: Option<String>,
    /// Machine architecture of the bundle, as uname says.
    pub arch: String,
    /// Bytes that each path must have free: path, bytes, what for.
    pub room: Vec<(String, u64, &'static str)>,
    /// Port of the gateway.
    pub http_port: u16,
}

const GIB: f64 = (1u64 << 30) as f64;

/// All checks of one host.
pub fn check(host: &Host, facts: &Facts, wants: &Wants) -> Vec<Finding> {
    let mut found = Vec::new();
    let name = host.name.as_str();
    let mut error = |check: Check, what: String, fix: String| found.push(Finding::error(check, name, what, fix));
    if facts.arch != wants.arch {
        let what = format!("the host is {}, the bundle is for {}", facts.arch, wants.arch);
        error(ARCH, what, "use a bundle for this architecture, or another host".into());
    }
    if !facts.systemd {
        error(OS, "systemd does not run".into(), "use a distribution with systemd, such as Debian 12".into());
    }
    if !facts.missing_tools.is_empty() {
        let tools = facts.missing_tools.join(", ");
        error(OS, format!("programs are missing: {tools}"), format!("install the packages that bring {tools}"));
    }
    if kernel_version(&facts.kernel) < (5, 10) {
        error(KERNEL, format!("the kernel is {}", facts.kernel), "boot a kernel of 5.10 or newer".into());
    }
    for feature in facts.features.iter().filter(|feature| !feature.works) {
        let what = format!("{} does not work: {}", feature.name, feature.detail);
        error(FEATURE, what, format!("load the module ({}) or boot a kernel that has it", module_of(&feature.name)));
    }
    let cpus = if host.role == Role::ControlPlane { 2 } else { 1 };
    if facts.cpus < cpus {
        error(super::CPU, format!("{} processor, {cpus} needed", facts.cpus), "give the host more processors".into());
    }
    if facts.memory_bytes < 1_900_000_000 {
        let what = format!("{} bytes of memory, 1900000000 needed", facts.memory_bytes);
        error(MEMORY, what, "give the host more memory".into());
    }
    if facts.swap_bytes > 0 {
        let what = format!("{:.1} GiB of swap are on", facts.swap_bytes as f64 / GIB);
        error(SWAP, what, "`swapoff -a`, and take swap out of /etc/fstab".into());
    }
    found.extend(room(name, facts, wants));
    found.extend(leftovers(name, facts, wants));
    found.extend(busy_ports(host, facts, wants));
    found
}

/// The release `6.1.0-18-amd64` as numbers.
fn kernel_version(release: &str) -> (u32, u32) {
    let mut parts = release.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn module_of(feature: &str) -> String {
    match feature {
        "nftables" => "modprobe nf_tables".into(),
        "namespaces" => "unshare must be allowed".into(),
        other => format!("modprobe {other}"),
    }
}

/// Needs of paths on the same file system add up.
fn room(name: &str, facts: &Facts, wants: &Wants) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut seen = Vec::new();
    for disk in &facts.disks {
        if seen.contains(&disk.device) {
            continue;
        }
        seen.push(disk.device);
        let here: Vec<_> = wants
            .room
            .iter()
            .filter(|(path, ..)| facts.disks.iter().any(|other| other.device == disk.device && other.path == *path))
            .collect();
        let needed: u64 = here.iter().map(|(_, bytes, _)| bytes).sum();
        if disk.free < needed {
            let parts: Vec<String> = here
                .iter()
                .map(|(path, bytes, what)| format!("{path} {:.1} GiB for {what}", *bytes as f64 / GIB))
                .collect();
            let (free, needed) = (disk.free as f64 / GIB, needed as f64 / GIB);
            let what = format!("{free:.1} GiB free, {needed:.1} GiB needed ({})", parts.join(", "));
            found.push(Finding::error(DISK, name, what, "free space, or put one of the paths on a disk of its own"));
        }
        if disk.inodes > 0 && disk.inodes_free < 100_000 && !here.is_empty() {
            let what = format!("{} free inodes where {} is, 100000 needed", disk.inodes_free, disk.path);
            found.push(Finding::error(
                INODES,
                name,
                what,
                "make the file system with more inodes, or remove small files",
            ));
        }
    }
    found
}

/// What another cluster left. Ours is what the mark names; nothing else is ever removed by us.
fn leftovers(name: &str, facts: &Facts, wants: &Wants) -> Vec<Finding> {
    let left = &facts.leftovers;
    let by_hand = "if nothing on it is needed: `kubeadm reset` there (or the uninstaller of what runs there), \
                   then remove /etc/kubernetes, /var/lib/etcd and /etc/cni/net.d; hzctl never wipes a host by itself";
    match &left.marker {
        Some(marker) if marker.cluster != wants.cluster => {
            let what = format!("the host belongs to cluster {} of hzctl", marker.cluster);
            let fix =
                format!("`hzctl reset` with the cluster.yaml of {}, or take the host out of this one", marker.cluster);
            vec![Finding::error(LEFTOVERS, name, what, fix)]
        }
        Some(marker) if wants.id.as_ref().is_some_and(|id| *id != marker.id) => {
            let what = format!("the host belongs to an earlier cluster of the same name ({})", marker.id);
            vec![Finding::error(LEFTOVERS, name, what, "`hzctl reset` with this cluster.yaml, then go on")]
        }
        Some(_) => Vec::new(),
        None if left.any() => {
            let mut parts = Vec::new();
            let mut tell = |is: bool, what: &str| {
                if is {
                    parts.push(what.to_owned())
                }
            };
            tell(left.kubelet_running, "a kubelet runs");
            tell(
                left.kubelet_conf || left.admin_conf || !left.ca_hash.is_empty(),
                "/etc/kubernetes holds a cluster's files",
            );
            tell(!left.manifests.is_empty(), "/etc/kubernetes/manifests holds static pods");
            tell(left.etcd_data, "/var/lib/etcd holds data");
            tell(!left.others.is_empty(), &format!("{} is installed", left.others.join(", ")));
            vec![Finding::error(LEFTOVERS, name, parts.join("; "), by_hand)]
        }
        None if !left.cni.is_empty() => {
            let what = format!("/etc/cni/net.d holds {}", left.cni.join(", "));
            vec![Finding::error(
                LEFTOVERS,
                name,
                what,
                "move these files away: the runtime would take the first of them",
            )]
        }
        None => Vec::new(),
    }
}

/// Ports that somebody listens on although the host is not ours yet.
fn busy_ports(host: &Host, facts: &Facts, wants: &Wants) -> Vec<Finding> {
    // On a host of ours the listener is our own; a foreign one shows when the step that needs the port fails.
    if facts.leftovers.marker.is_some() {
        return Vec::new();
    }
    let needed = ports::needed(host.role, wants.http_port);
    let busy = facts.listening.iter().filter(|port| needed.contains(port));
    busy.map(|port| {
        let what = format!("somebody listens on port {port}, which is needed for {}", ports::purpose(*port));
        Finding::error(PORT_BUSY, &host.name, what, format!("stop what listens there: `ss -ltnp sport = :{port}`"))
    })
    .collect()
}

/// Milliseconds over which etcd cannot keep its members together.
const HOPELESS: f64 = 100.0;

/// Whether a disk is too slow for etcd, by what was measured.
pub fn is_too_slow(report: &FsyncReport) -> bool {
    report.p99_ms > HOPELESS
}

/// How fast writes of etcd are.
pub fn fsync(name: &str, report: &FsyncReport) -> Option<Finding> {
    let what = format!(
        "a durable write takes {:.1} ms (median), {:.1} ms (99 of 100); etcd wants 10 ms",
        report.median_ms, report.p99_ms
    );
    let fix = "put /var/lib/etcd on an SSD of its own";
    match report.p99_ms {
        slow if slow > HOPELESS => Some(Finding::error(FSYNC, name, what, fix)),
        slow if slow > 10.0 => Some(Finding::warning(FSYNC, name, what, fix)),
        _ => None,
    }
}
