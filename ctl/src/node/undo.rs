//! Take the cluster off this host again. Only ours: the mark on the host must be of the cluster that is named.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::types::{Marker, Report};
use super::{MARKER, NodeError, kernel, output_of};

/// What to take off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UndoRequest {
    /// Name of the cluster.
    pub cluster: String,
    /// Where volumes are.
    pub volumes: String,
    /// Whether they go as well.
    pub delete_volumes: bool,
    /// Only what kubeadm made: a join or init that never became part of a serving cluster is begun again.
    pub only_kubeadm: bool,
}

const UNITS: [&str; 3] = ["kubelet.service", "hz-apiserver-balancer.service", "containerd.service"];
const FILES: [&str; 9] = [
    "/etc/systemd/system/kubelet.service",
    "/etc/systemd/system/kubelet.service.d",
    "/etc/systemd/system/hz-apiserver-balancer.service",
    "/etc/systemd/system/containerd.service",
    "/etc/sysctl.d/90-hzctl.conf",
    "/etc/modules-load.d/hzctl.conf",
    "/etc/containerd/config.toml",
    "/etc/kubernetes",
    "/opt/cni/bin",
];
const PROGRAMS: [&str; 8] =
    ["kubelet", "kubeadm", "kubectl", "containerd", "containerd-shim-runc-v2", "ctr", "helm", "crictl"];

/// Do it. Every part is tried; what cannot be removed is told at the end.
pub fn undo(request: &UndoRequest) -> Result<Report, NodeError> {
    let marker = fs::read(MARKER).ok().and_then(|bytes| serde_json::from_slice::<Marker>(&bytes).ok());
    let Some(marker) = marker else {
        return Ok(Report::default());
    };
    if marker.cluster != request.cluster {
        let cause = format!("{MARKER} says that it belongs to cluster {}", marker.cluster);
        return Err(NodeError::new("this host is not of that cluster; nothing was removed", cause));
    }
    let mut report = Report::default();
    stop_pods();
    report.changed.push("pods and what kubeadm made".into());
    remove_network();
    if request.only_kubeadm {
        return Ok(report);
    }
    for unit in UNITS {
        let _ = output_of(&["systemctl", "disable", "--now", unit]);
    }
    unmount_below("/run/containerd");
    unmount_below("/var/lib/containerd");
    for dir in ["/var/lib/containerd", "/run/containerd", "/var/lib/cni", "/run/netguard"] {
        empty(Path::new(dir));
    }
    for path in FILES {
        remove(Path::new(path));
    }
    for name in PROGRAMS {
        remove(&Path::new("/usr/local/bin").join(name));
    }
    remove(Path::new("/usr/local/sbin/runc"));
    report.changed.push("programs, services and images".into());
    if request.delete_volumes {
        empty(Path::new(&request.volumes));
        report.changed.push("volumes".into());
    }
    for part in ["bundle", "charts", "debs", "bin"] {
        remove(&Path::new("/var/lib/hzctl").join(part));
    }
    let _ = output_of(&["systemctl", "daemon-reload"]);
    // The mark goes last: a reset that is cut off before knows its host the next time.
    remove(Path::new("/etc/hzctl"));
    match fs::metadata("/etc/kubernetes") {
        Ok(_) => Err(NodeError::new("failed to remove /etc/kubernetes", "it is still there")),
        Err(_) => Ok(report),
    }
}

/// Let kubeadm undo what it did, and finish by hand what it leaves.
fn stop_pods() {
    let _ = output_of(&["systemctl", "stop", "kubelet.service"]);
    if Path::new("/usr/local/bin/kubeadm").exists() && Path::new("/run/containerd/containerd.sock").exists() {
        let skip = "--skip-phases=remove-etcd-member,preflight";
        let socket = "--cri-socket=unix:///run/containerd/containerd.sock";
        let _ = output_of(&["/usr/local/bin/kubeadm", "reset", "--force", skip, socket]);
    }
    unmount_below("/var/lib/kubelet");
    for dir in ["/var/lib/etcd", "/var/lib/kubelet"] {
        empty(Path::new(dir));
    }
    for part in [
        "manifests",
        "pki",
        "admin.conf",
        "super-admin.conf",
        "kubelet.conf",
        "controller-manager.conf",
        "scheduler.conf",
        "bootstrap-kubelet.conf",
    ] {
        remove(&Path::new("/etc/kubernetes").join(part));
    }
}

fn remove_network() {
    remove(Path::new("/etc/cni/net.d"));
    let text = output_of(&["ip", "-j", "link", "show"]).unwrap_or_default();
    let links: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap_or_default();
    let ours =
        |name: &str| name == "cni0" || name.starts_with("hz") || name.starts_with("veth") || name == "kube-ipvs0";
    for name in links.iter().filter_map(|link| link["ifname"].as_str()).filter(|name| ours(name)) {
        let _ = output_of(&["ip", "link", "delete", name]);
    }
    for (family, table) in [
        (2, "kube-proxy"),
        (10, "kube-proxy"),
        (1, "netguard"),
        (2, "netguard"),
        (1, "hz-netguard"),
        (2, "hz-netguard"),
    ] {
        kernel::remove_table(family, table);
    }
}

/// Unmount everything below a directory, the last mounted first.
fn unmount_below(dir: &str) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let below = format!("{dir}/");
    let points: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    for point in points.iter().rev().filter(|point| point.starts_with(&below)) {
        let _ = output_of(&["umount", "--lazy", point]);
    }
}

/// Remove what is in a directory but not the directory: it may be a mount of its own.
fn empty(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        remove(&entry.path());
    }
}

fn remove(path: &Path) {
    let _ = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
}
