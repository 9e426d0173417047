use super::cluster::Seen;
use super::*;
use crate::cluster::{Cluster, Host, Role};
use crate::node::types::{Address, Dial, Dialled, Disk, Facts, Feature, FsyncReport, Leftovers, Marker};

fn two_hosts() -> Cluster {
    serde_yaml::from_str(
        "apiVersion: hz.hospital/v1alpha1\nkind: Cluster\nmetadata: { name: st-anna }\nspec:\n  minimumHosts: 2\n  ssh: { identityFile: /k }\n  bundle: /b.tar\n  hosts:\n  - { name: cp-1, address: 10.77.0.11, role: ControlPlane }\n  - { name: worker-1, address: 10.77.0.21, role: Worker }\n",
    )
    .unwrap()
}

fn good(n: u8) -> Facts {
    Facts {
        hostname: format!("host-{n}"),
        machine_id: format!("id-{n}"),
        arch: "x86_64".into(),
        kernel: "6.1.0-18-amd64".into(),
        systemd: true,
        cpus: 4,
        memory_bytes: 8 << 30,
        addresses: vec![Address { interface: "eth0".into(), address: format!("10.77.0.{n}"), prefix: 24, mtu: 1500 }],
        disks: vec![Disk {
            path: "/var/lib".into(),
            device: 1,
            total: 1 << 40,
            free: 1 << 39,
            inodes: 1 << 20,
            inodes_free: 1 << 19,
        }],
        ..Facts::default()
    }
}

fn wants() -> host::Wants {
    host::Wants {
        cluster: "st-anna".into(),
        id: Some("one".into()),
        arch: "x86_64".into(),
        room: vec![("/var/lib".into(), 10 << 30, "images")],
        http_port: 80,
    }
}

fn ids(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.id).collect()
}

fn on_host(change: impl FnOnce(&mut Facts)) -> Vec<Finding> {
    let cluster = two_hosts();
    let mut facts = good(11);
    change(&mut facts);
    host::check(&cluster.spec.hosts[0], &facts, &wants())
}

fn among(change: impl FnOnce(&mut Facts, &mut Facts)) -> Vec<Finding> {
    let cluster = two_hosts();
    let (mut one, mut two) = (good(11), good(21));
    change(&mut one, &mut two);
    let seen = |host: &'static str, hosts: &[Host]| hosts.iter().position(|other| other.name == host).unwrap();
    let hosts = &cluster.spec.hosts;
    let list = [
        Seen { host: &hosts[seen("cp-1", hosts)], facts: &one, offset_ms: one.clock_ms },
        Seen { host: &hosts[seen("worker-1", hosts)], facts: &two, offset_ms: two.clock_ms },
    ];
    cluster::check(&cluster, &list)
}

#[test]
fn a_good_host_passes_every_check() {
    assert_eq!(on_host(|_| {}), []);
    assert_eq!(among(|_, _| {}), []);
}

#[test]
fn each_lack_of_a_host_has_its_id() {
    assert_eq!(ids(&on_host(|facts| facts.arch = "aarch64".into())), ["HZ-PF-ARCH"]);
    assert_eq!(ids(&on_host(|facts| facts.systemd = false)), ["HZ-PF-OS"]);
    assert_eq!(ids(&on_host(|facts| facts.missing_tools = vec!["ip".into()])), ["HZ-PF-OS"]);
    assert_eq!(ids(&on_host(|facts| facts.kernel = "4.19.0".into())), ["HZ-PF-KERNEL"]);
    assert_eq!(ids(&on_host(|facts| facts.cpus = 1)), ["HZ-PF-CPU"]);
    assert_eq!(ids(&on_host(|facts| facts.memory_bytes = 1 << 30)), ["HZ-PF-MEMORY"]);
    assert_eq!(ids(&on_host(|facts| facts.swap_bytes = 1)), ["HZ-PF-SWAP"]);
    assert_eq!(ids(&on_host(|facts| facts.disks[0].free = 1 << 30)), ["HZ-PF-DISK"]);
    assert_eq!(ids(&on_host(|facts| facts.disks[0].inodes_free = 5)), ["HZ-PF-INODES"]);
    assert_eq!(ids(&on_host(|facts| facts.listening = vec![6443])), ["HZ-PF-PORT-BUSY"]);
}

#[test]
fn a_feature_that_does_not_work_is_named_with_the_reason() {
    let feature = Feature { name: "vxlan".into(), works: false, detail: "Operation not supported".into() };
    let found = on_host(|facts| facts.features = vec![feature]);
    assert!(found[0].found.contains("vxlan") && found[0].found.contains("not supported"), "{found:?}");
}

#[test]
fn paths_on_one_disk_share_its_room() {
    let cluster = two_hosts();
    let mut facts = good(11);
    let disk = |path: &str| Disk { path: path.into(), device: 1, free: 15 << 30, ..Disk::default() };
    facts.disks = vec![disk("/var/lib/etcd"), disk("/var/lib/containerd")];
    let mut wants = wants();
    wants.room = vec![("/var/lib/etcd".into(), 10 << 30, "etcd"), ("/var/lib/containerd".into(), 10 << 30, "images")];
    assert_eq!(ids(&host::check(&cluster.spec.hosts[0], &facts, &wants)), ["HZ-PF-DISK"]);
}

#[test]
fn a_foreign_cluster_on_a_host_stops_us_and_is_never_wiped() {
    let found = on_host(|facts| facts.leftovers.etcd_data = true);
    assert_eq!(ids(&found), ["HZ-PF-LEFTOVERS"]);
    assert!(found[0].fix.contains("never wipes"), "{}", found[0].fix);
}

#[test]
fn leftovers_of_this_cluster_are_gone_on_with() {
    let marker = Marker { cluster: "st-anna".into(), id: "one".into(), ..Marker::default() };
    let ours = Leftovers { marker: Some(marker), etcd_data: true, kubelet_conf: true, ..Leftovers::default() };
    assert_eq!(on_host(|facts| facts.leftovers = ours), []);
}

#[test]
fn leftovers_of_another_cluster_or_an_earlier_one_stop_us() {
    for (cluster, id) in [("other", "one"), ("st-anna", "two")] {
        let marker = Marker { cluster: cluster.into(), id: id.into(), ..Marker::default() };
        let left = Leftovers { marker: Some(marker), ..Leftovers::default() };
        assert_eq!(ids(&on_host(|facts| facts.leftovers = left)), ["HZ-PF-LEFTOVERS"]);
    }
}

#[test]
fn each_discord_among_hosts_has_its_id() {
    assert_eq!(ids(&among(|one, _| one.clock_ms = 5_000)), ["HZ-PF-CLOCK"]);
    assert_eq!(ids(&among(|one, two| one.machine_id = two.machine_id.clone())), ["HZ-PF-MACHINE-ID"]);
    assert_eq!(ids(&among(|one, two| one.hostname = two.hostname.clone())), ["HZ-PF-HOSTNAME"]);
    assert_eq!(ids(&among(|one, _| one.addresses[0].mtu = 1400)), ["HZ-PF-MTU"]);
    assert_eq!(ids(&among(|one, _| one.addresses[0].address = "10.77.0.99".into())), ["HZ-PF-ADDRESS"]);
}

#[test]
fn a_pod_range_that_covers_a_host_is_refused() {
    let found = among(|one, _| {
        one.addresses.push(Address { interface: "eth1".into(), address: "10.244.3.4".into(), prefix: 16, mtu: 1500 });
    });
    assert_eq!(ids(&found), ["HZ-PF-CIDR"]);
}

#[test]
fn the_pod_network_of_a_running_cluster_is_no_overlap() {
    let found = among(|one, _| {
        one.addresses.push(Address { interface: "cni0".into(), address: "10.244.3.1".into(), prefix: 24, mtu: 1500 });
    });
    assert_eq!(found, []);
}

#[test]
fn closed_ports_are_told_once_for_each_pair() {
    let dial =
        |port| Dialled { dial: Dial { host: "b".into(), address: "1.2.3.4".into(), port }, error: "timed out".into() };
    let found = cluster::connections(&[("a".into(), vec![dial(2380), dial(2379)])]);
    assert_eq!(found.len(), 1);
    assert!(found[0].found.contains("2379 (clients of etcd), 2380 (members of etcd)"), "{}", found[0].found);
}

#[test]
fn a_slow_disk_is_noted_and_a_very_slow_one_refused() {
    let report = |p99_ms| FsyncReport { writes: 100, median_ms: 1.0, p99_ms };
    assert_eq!(host::fsync("a", &report(5.0)), None);
    assert_eq!(host::fsync("a", &report(30.0)).unwrap().severity, Severity::Warning);
    assert_eq!(host::fsync("a", &report(300.0)).unwrap().severity, Severity::Error);
}

#[test]
fn a_waiver_turns_an_error_into_a_note_and_a_misspelt_one_is_told() {
    let mut found = on_host(|facts| facts.swap_bytes = 1);
    assert!(blocks(&found));
    waive(&mut found, &["hz-pf-swap".into()]);
    assert!(!blocks(&found));
    assert_eq!(unknown_ids(&["HZ-PF-SWAPP".into(), "HZ-PF-SWAP".into()]).len(), 1);
}

#[test]
fn ids_are_unique() {
    let mut ids: Vec<&str> = ALL.iter().map(|check| check.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), ALL.len());
}

#[test]
fn a_control_plane_reaches_members_of_etcd_and_a_worker_does_not() {
    let cluster = two_hosts();
    let from_worker: Vec<u16> = ports::dials(&cluster, "worker-1").iter().map(|dial| dial.port).collect();
    assert_eq!(from_worker, [6443, ports::COPY]);
    assert!(ports::needed(Role::ControlPlane, 80).contains(&2380));
}
