//! The container runtime: its configuration and its service.

use super::{Limits, NOTE, Versions};

/// /etc/containerd/config.toml
pub fn config(versions: &Versions, limits: Limits) -> String {
    let restrict = limits.restricted();
    let pause = &versions.pause;
    format!(
        "# {NOTE}
version = 3
root = '/var/lib/containerd'
state = '/run/containerd'

[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'

  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = '{pause}'

[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = {restrict}
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true

  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['/opt/cni/bin']
    conf_dir = '/etc/cni/net.d'

  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = 'runc'

    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = 'io.containerd.runc.v2'

      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        BinaryName = '/usr/local/sbin/runc'
        SystemdCgroup = true
"
    )
}

/// containerd.service
pub fn unit(limits: Limits) -> String {
    // Limits that may not be raised, and scores that may not be lowered, make systemd refuse to start the service.
    let nofile =
        if limits.no_resource_rights { "" } else { "LimitNOFILE=1048576\nLimitNPROC=infinity\nLimitCORE=infinity\n" };
    let score = if limits.no_oom_score { "" } else { "OOMScoreAdjust=-999\n" };
    format!(
        "# {NOTE}
[Unit]
Description=containerd container runtime
After=network.target local-fs.target dbus.service

[Service]
ExecStart=/usr/local/bin/containerd
Type=notify
Delegate=yes
KillMode=process
Restart=always
RestartSec=2
TasksMax=infinity
{nofile}{score}
[Install]
WantedBy=multi-user.target
"
    )
}
