//! The kubelet's service, what is special about its host, and settings of the kernel.

use std::path::Path;

use super::{Limits, NOTE, Versions, balancer, runtime};
use crate::bootstrap::render::control_planes;
use crate::cluster::Cluster;
use crate::node::files::UnitTask;
use crate::node::types::{Facts, FileWrite};

const KUBELET_DROPIN: &str = "/etc/hzctl/kubelet.conf.d/10-host.conf";
const RESOLV: &str = "/etc/hzctl/resolv.conf";

/// All files of a host, and the services that read them.
pub fn files(cluster: &Cluster, versions: &Versions, facts: &Facts) -> (Vec<FileWrite>, Vec<UnitTask>) {
    let limits = Limits::of(facts);
    let file = |path: &str, content: String| FileWrite { path: path.into(), content, mode: 0o644 };
    let mut files = vec![
        file("/etc/containerd/config.toml", runtime::config(versions, limits)),
        file("/etc/systemd/system/containerd.service", runtime::unit(limits)),
        file("/etc/hzctl/balancer.cfg", balancer::config(&control_planes(cluster))),
        file("/etc/systemd/system/hz-apiserver-balancer.service", balancer::unit()),
        file("/etc/systemd/system/kubelet.service", kubelet_unit()),
        file(KUBELET_DROPIN, kubelet_dropin(facts)),
        file("/etc/sysctl.d/90-hzctl.conf", settings()),
        file("/etc/modules-load.d/hzctl.conf", modules()),
    ];
    if let Some(text) = resolv_conf(facts) {
        files.push(file(RESOLV, text));
    }
    let units = vec![
        UnitTask {
            name: "containerd.service".into(),
            reads: vec!["/etc/containerd/config.toml".into(), "/etc/systemd/system/containerd.service".into()],
            start: true,
            ready: "/run/containerd/containerd.sock".into(),
        },
        UnitTask {
            name: "hz-apiserver-balancer.service".into(),
            reads: vec!["/etc/hzctl/balancer.cfg".into(), "/etc/systemd/system/hz-apiserver-balancer.service".into()],
            start: true,
            ready: format!("127.0.0.1:{}", super::BALANCER_PORT),
        },
        UnitTask {
            name: "kubelet.service".into(),
            reads: vec![KUBELET_DROPIN.into(), "/etc/systemd/system/kubelet.service".into()],
            // kubeadm starts it when its configuration is there.
            start: facts.leftovers.kubelet_conf,
            ready: String::new(),
        },
    ];
    (files, units)
}

/// Paths of all files that a host may have from us, to ask for their hashes.
pub fn paths() -> Vec<String> {
    [
        "/etc/containerd/config.toml",
        "/etc/systemd/system/containerd.service",
        "/etc/hzctl/balancer.cfg",
        "/etc/systemd/system/hz-apiserver-balancer.service",
        "/etc/systemd/system/kubelet.service",
        KUBELET_DROPIN,
        "/etc/sysctl.d/90-hzctl.conf",
        "/etc/modules-load.d/hzctl.conf",
        RESOLV,
    ]
    .map(str::to_owned)
    .to_vec()
}

fn kubelet_unit() -> String {
    let dropins = Path::new(KUBELET_DROPIN).parent().unwrap_or(Path::new("/")).display();
    format!(
        "# {NOTE}
[Unit]
Description=kubelet: the node agent of Kubernetes
After=containerd.service hz-apiserver-balancer.service network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Environment=\"KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf\"
Environment=\"KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml --config-dir={dropins}\"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
ExecStart=/usr/local/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
"
    )
}

/// What this host needs that others may not: laid over the configuration that all kubelets share.
pub fn kubelet_dropin(facts: &Facts) -> String {
    let limits = Limits::of(facts);
    let mut text = format!("# {NOTE}\napiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n");
    if limits.cgroup_v1 {
        text.push_str("failCgroupV1: false\n");
    }
    if limits.layered_root {
        text.push_str("localStorageCapacityIsolation: false\n");
    }
    if limits.restricted() {
        text.push_str("featureGates:\n  KubeletInUserNamespace: true\n");
    }
    if resolv_conf(facts).is_some() {
        text.push_str(&format!("resolvConf: {RESOLV}\n"));
    }
    text
}

/// A resolv.conf for pods, where the host's own would send the cluster's DNS back to itself.
fn resolv_conf(facts: &Facts) -> Option<String> {
    let loops = |server: &String| server.starts_with("127.") || server == "::1";
    if !facts.nameservers.iter().any(loops) {
        return None;
    }
    let mut text = format!("# {NOTE}\n");
    for server in facts.nameservers.iter().filter(|server| !loops(server)) {
        text.push_str(&format!("nameserver {server}\n"));
    }
    Some(text)
}

fn settings() -> String {
    // A leading `-` marks what a host may refuse without harm.
    format!(
        "# {NOTE}
net.ipv4.ip_forward = 1
-net.bridge.bridge-nf-call-iptables = 1
-fs.inotify.max_user_instances = 8192
-fs.inotify.max_user_watches = 524288
"
    )
}

fn modules() -> String {
    format!("# {NOTE}\noverlay\nbr_netfilter\nvxlan\nnf_tables\n")
}
