use hz_bundle::Manifest;

use super::*;
use crate::node::types::Facts;

fn cluster() -> Cluster {
    crate::bootstrap::testing::cluster()
}

fn versions() -> Versions {
    Versions {
        kubernetes: "v1.36.3".into(),
        etcd: "3.6.8-0".into(),
        coredns: "v1.14.1".into(),
        pause: "hz.hospital/pause:3.10.1".into(),
        repository: "hz.hospital".into(),
    }
}

/// A server as most hospitals have it.
fn plain() -> Facts {
    Facts {
        cgroup: 2,
        cap_sys_resource: true,
        oom_score_free: true,
        conntrack_writable: true,
        root_fs: "ext4".into(),
        nameservers: vec!["10.0.0.53".into()],
        ..Facts::default()
    }
}

/// A host that may do little.
fn restricted() -> Facts {
    Facts { cgroup: 1, root_fs: "overlay".into(), nameservers: vec!["127.0.0.11".into()], ..Facts::default() }
}

fn node() -> kubeadm::NodeIdentity {
    kubeadm::NodeIdentity { name: "cp-1".into(), address: Ipv4Addr::new(10, 77, 0, 11) }
}

const TOKEN: &str = "abcdef.0123456789abcdef";

#[test]
fn a_plain_server_gets_everything() {
    let (files, _) = host::files(&cluster(), &versions(), &plain());
    insta::assert_yaml_snapshot!(files);
}

#[test]
fn a_restricted_host_gets_only_what_it_can_do() {
    let (files, _) = host::files(&cluster(), &versions(), &restricted());
    let changed: Vec<_> = files.into_iter().filter(|file| !file.path.contains("balancer")).collect();
    insta::assert_yaml_snapshot!(changed);
}

#[test]
fn the_first_control_plane_starts_the_cluster() {
    insta::assert_snapshot!(kubeadm::init(&cluster(), &versions(), &node(), TOKEN, Limits::of(&plain())));
}

#[test]
fn kube_proxy_leaves_limits_alone_where_they_cannot_be_set() {
    let text = kubeadm::init(&cluster(), &versions(), &node(), TOKEN, Limits::of(&restricted()));
    assert!(text.contains("maxPerCore: 0"), "{text}");
    assert!(!kubeadm::init(&cluster(), &versions(), &node(), TOKEN, Limits::of(&plain())).contains("maxPerCore"));
}

#[test]
fn a_worker_and_a_control_plane_join() {
    insta::assert_snapshot!("join_worker", kubeadm::join(&node(), false, TOKEN));
    insta::assert_snapshot!("join_control_plane", kubeadm::join(&node(), true, TOKEN));
    insta::assert_snapshot!("discovery", kubeadm::discovery("QUJD"));
}

#[test]
fn every_file_of_a_host_is_among_the_paths_that_are_looked_at() {
    for facts in [plain(), restricted()] {
        for file in host::files(&cluster(), &versions(), &facts).0 {
            assert!(host::paths().contains(&file.path), "{} is not looked at", file.path);
        }
    }
}

#[test]
fn versions_come_from_the_bundle_and_a_gap_is_named() {
    let empty = Manifest {
        schema_version: 1,
        version: "0.1.0".into(),
        architecture: "amd64".into(),
        created_from: hz_bundle::Digest::of(b""),
        components: Vec::new(),
        total_size: 0,
    };
    assert_eq!(Versions::of(&empty), Err("image kube-apiserver".into()));
}
