//! Configuration of kubeadm, and with it of the cluster.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::{API_PORT, BALANCER_PORT, Limits, SOCKET, Versions, control_planes, dns_address};
use crate::cluster::Cluster;

const API: &str = "kubeadm.k8s.io/v1beta4";
/// Where a joining host finds the authority of the cluster and nothing secret.
pub const DISCOVERY: &str = "/etc/hzctl/discovery.conf";

/// Who joins, or starts, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeIdentity {
    /// Name of the node.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
}

/// For `kubeadm init` on the first control plane.
pub fn init(cluster: &Cluster, versions: &Versions, node: &NodeIdentity, token: &str, limits: Limits) -> String {
    let init = json!({
        "apiVersion": API,
        "kind": "InitConfiguration",
        "bootstrapTokens": [{
            "token": token,
            "ttl": "2h0m0s",
            "description": "joins of the bootstrap",
            "usages": ["signing", "authentication"],
            "groups": ["system:bootstrappers:kubeadm:default-node-token"],
        }],
        "localAPIEndpoint": { "advertiseAddress": node.address, "bindPort": API_PORT },
        "nodeRegistration": registration(node),
        "timeouts": timeouts(),
    });
    documents(&[init, cluster_configuration(cluster, versions), kubelet(cluster), proxy(cluster, limits)])
}

/// For `kubeadm join`.
pub fn join(node: &NodeIdentity, control_plane: bool, token: &str) -> String {
    let mut join = json!({
        "apiVersion": API,
        "kind": "JoinConfiguration",
        "discovery": {
            // The file pins the authority of the cluster; nothing is taken on trust from the network.
            "file": { "kubeConfigPath": DISCOVERY },
            "tlsBootstrapToken": token,
        },
        "nodeRegistration": registration(node),
        "timeouts": timeouts(),
    });
    if control_plane {
        join["controlPlane"] =
            json!({ "localAPIEndpoint": { "advertiseAddress": node.address, "bindPort": API_PORT } });
    }
    documents(&[join])
}

/// The file a joining host discovers the cluster by. `authority` is base64 of the PEM.
pub fn discovery(authority: &str) -> String {
    // As kubeadm writes its own cluster-info: a nameless cluster, no context, no user.
    documents(&[json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "",
            "cluster": { "certificate-authority-data": authority, "server": endpoint() },
        }],
        "contexts": [],
        "current-context": "",
        "preferences": {},
        "users": [],
    })])
}

fn endpoint() -> String {
    format!("https://127.0.0.1:{BALANCER_PORT}")
}

fn registration(node: &NodeIdentity) -> Value {
    json!({
        "name": node.name,
        "criSocket": SOCKET,
        "imagePullPolicy": "Never",
        "imagePullSerial": false,
        // Without a default route the kubelet would not find its own address.
        "kubeletExtraArgs": [{ "name": "node-ip", "value": node.address }],
    })
}

fn timeouts() -> Value {
    json!({
        "controlPlaneComponentHealthCheck": "3m0s",
        "kubeletHealthCheck": "2m0s",
        "kubernetesAPICall": "1m0s",
        "etcdAPICall": "1m0s",
        "tlsBootstrap": "3m0s",
        "discovery": "2m0s",
    })
}

fn cluster_configuration(cluster: &Cluster, versions: &Versions) -> Value {
    let mut names: Vec<String> = vec!["127.0.0.1".into(), "localhost".into()];
    for (name, address) in control_planes(cluster) {
        names.extend([name, address.to_string()]);
    }
    // Addresses that administrators use where they differ from those that hosts use.
    for host in cluster.control_planes() {
        let seen = cluster.target(host).address.to_string();
        if !names.contains(&seen) {
            names.push(seen);
        }
    }
    let network = &cluster.spec.network;
    json!({
        "apiVersion": API,
        "kind": "ClusterConfiguration",
        "clusterName": cluster.metadata.name,
        "kubernetesVersion": versions.kubernetes,
        "imageRepository": versions.repository,
        "controlPlaneEndpoint": format!("127.0.0.1:{BALANCER_PORT}"),
        "networking": {
            "podSubnet": network.pod_cidr.to_string(),
            "serviceSubnet": network.service_cidr.to_string(),
            "dnsDomain": "cluster.local",
        },
        "apiServer": { "certSANs": names },
        "etcd": { "local": { "imageTag": versions.etcd } },
        "dns": { "imageTag": versions.coredns },
        // A server that falls silent is given up after 20 seconds instead of 50.
        "controllerManager": { "extraArgs": [{ "name": "node-monitor-grace-period", "value": "20s" }] },
    })
}

fn kubelet(cluster: &Cluster) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "systemd",
        "clusterDNS": [dns_address(cluster)],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": SOCKET,
        "rotateCertificates": true,
        "serializeImagePulls": false,
        // Images come from the bundle and cannot be pulled again: they are never thrown away to free space.
        "imageGCHighThresholdPercent": 100,
        "shutdownGracePeriod": "30s",
        "shutdownGracePeriodCriticalPods": "10s",
    })
}

fn proxy(cluster: &Cluster, limits: Limits) -> Value {
    let mut proxy = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": cluster.spec.network.pod_cidr.to_string(),
    });
    if limits.no_conntrack {
        // Zero leaves each limit as the kernel has it.
        proxy["conntrack"] = json!({
            "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
        });
    }
    proxy
}

fn documents(values: &[Value]) -> String {
    let texts: Vec<String> = values.iter().map(|value| serde_yaml::to_string(value).unwrap_or_default()).collect();
    texts.join("---\n")
}
