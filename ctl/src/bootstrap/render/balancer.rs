//! The balancer on every host: 127.0.0.1:16443 to whichever API server is up.

use std::fmt::Write;
use std::net::Ipv4Addr;

use super::{API_PORT, BALANCER_PORT, NOTE};

/// /etc/hzctl/balancer.cfg
pub fn config(control_planes: &[(String, Ipv4Addr)]) -> String {
    let mut text = format!(
        "# {NOTE}
global
  maxconn 8192
  user haproxy
  group haproxy
  log stderr local0 notice

defaults
  mode tcp
  log global
  option dontlognull
  timeout connect 3s
  # Watches are quiet for long; the API server ends them itself within the hour.
  timeout client 2h
  timeout server 2h
  timeout check 3s
  retries 2
  option redispatch

listen apiserver
  bind 127.0.0.1:{BALANCER_PORT}
  balance leastconn
  option httpchk GET /readyz
  http-check expect status 200
  # Seldom while all is well, often as soon as something changes.
  default-server check check-ssl verify none inter 5s fastinter 500ms downinter 500ms rise 1 fall 2 on-marked-down shutdown-sessions
"
    );
    for (name, address) in control_planes {
        let _ = writeln!(text, "  server {name} {address}:{API_PORT}");
    }
    text
}

/// hz-apiserver-balancer.service
pub fn unit() -> String {
    format!(
        "# {NOTE}
[Unit]
Description=Balancer from this host to the API servers of the cluster
After=network.target
Before=kubelet.service

[Service]
ExecStartPre=/usr/sbin/haproxy -c -q -f /etc/hzctl/balancer.cfg
ExecStart=/usr/sbin/haproxy -Ws -f /etc/hzctl/balancer.cfg
ExecReload=/bin/kill -USR2 $MAINPID
Type=notify
KillMode=mixed
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
"
    )
}
