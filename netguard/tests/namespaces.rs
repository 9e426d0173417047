//! netguard on real kernels: three nodes in network namespaces, without Kubernetes. Needs root; skips itself otherwise.

#![allow(clippy::unwrap_used, reason = "all of it is test code, also what stands outside test functions")]

#[path = "lab/mod.rs"]
mod lab;

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use lab::{A, B, C, Lab, OUTSIDE, PORT, allowed, eventually};

/// Bytes in an answer: many packets of full size.
const PADDING: usize = 64 * 1024;

#[test]
fn pods_reach_pods_nodes_and_the_outside_and_are_seen_under_the_right_address() {
    if !allowed() {
        return;
    }
    let mut lab = Lab::new();
    lab.netguards();
    for name in ["a-pod", "b-pod", "c-pod", "b", "c", "o"] {
        lab.serve(name);
    }
    // Pod to pod: over the plain route, through the tunnel, and back.
    assert_eq!(lab.visit("a-pod", B.pod).as_deref(), Ok(A.pod));
    assert_eq!(lab.visit("a-pod", C.pod).as_deref(), Ok(A.pod));
    assert_eq!(lab.visit("c-pod", A.pod).as_deref(), Ok(C.pod));
    // Pod to node, also one behind a router that drops what it does not know.
    assert_eq!(lab.visit("a-pod", B.address).as_deref(), Ok(A.pod));
    assert_eq!(lab.visit("a-pod", C.address).as_deref(), Ok(A.pod));
    // Node to pod: from the node's own address to a neighbour, from its tunnel end behind a router.
    assert_eq!(lab.visit("a", B.pod).as_deref(), Ok(A.address));
    assert_eq!(lab.visit("a", C.pod).as_deref(), Ok("10.244.0.0"));
    // Out of the cluster: the router and the host outside know no pods.
    assert_eq!(lab.visit("a-pod", OUTSIDE).as_deref(), Ok(A.address));
    assert_eq!(lab.visit("c-pod", OUTSIDE).as_deref(), Ok(C.address));
    // And by the ways that were planned.
    assert!(lab.inside("a", "ip route get 10.244.1.2").contains("via 10.77.0.12 dev eth0"));
    assert!(lab.inside("a", "ip route get 10.244.2.2").contains("dev hz-vxlan"));
    // An address of our range that no pod has is refused at once, not sent to the router.
    let told = lab.visit("a", "10.244.0.99").unwrap_err();
    assert!(told.contains("unreachable") || told.contains("No route to host"), "{told}");
}

#[test]
fn the_size_of_packets_leaves_room_for_the_tunnel() {
    if !allowed() {
        return;
    }
    let mut lab = Lab::new();
    lab.inside("a", "ip link set eth0 mtu 1400");
    lab.netguards();
    assert_eq!(lab.cni(A)["plugins"][0]["mtu"], 1350);
    assert_eq!(lab.cni(C)["plugins"][0]["mtu"], 1450);
    assert!(lab.inside("a", "ip link show hz-vxlan").contains("mtu 1350"));
    // The uplink changes while netguard runs.
    lab.inside("a", "ip link set eth0 mtu 1500");
    eventually("the tunnel follows the uplink", || lab.inside("a", "ip link show hz-vxlan").contains("mtu 1450"));
    // The file for new pods is written after the tunnel is changed.
    eventually("new pods follow the tunnel", || lab.cni(A)["plugins"][0]["mtu"] == 1450);
}

#[test]
fn what_netguard_made_goes_when_a_node_leaves_and_what_others_made_stays() {
    if !allowed() {
        return;
    }
    let mut lab = Lab::new();
    lab.inside(
        "a",
        "ip route add 198.51.100.0/24 via 10.77.0.1 proto static; ip route add 10.250.0.0/24 via 10.77.0.12",
    );
    lab.inside("a", "ip rule add from 10.9.0.0/16 lookup 99; nft add table inet others; nft add chain inet others c");
    let foreign_routes = lab.inside("a", "ip route show | grep -v \"proto 72\" | sort");
    let foreign_tables = lab.inside("a", "nft list table inet others");
    lab.netguards();
    let with_all = lab.inside("a", "ip route show proto 72");
    assert!(with_all.contains("10.244.1.0/24 via 10.77.0.12 dev eth0"), "{with_all}");
    assert!(with_all.contains("10.244.2.0/24 via 10.244.2.0 dev hz-vxlan"), "{with_all}");

    lab.list(&[A, C]);
    eventually("the route to the node that left is gone", || {
        !lab.inside("a", "ip route show proto 72").contains("10.244.1.0/24")
    });
    lab.list(&[A, B]);
    eventually("the tunnel is gone when nobody is behind it", || {
        !lab.inside("a", "ip -o link show").contains("hz-vxlan")
    });
    eventually("its rule and its table are gone", || {
        !lab.inside("a", "ip rule show").contains("7248")
            && lab.inside("a", "ip route show table 7248 2>/dev/null || true").is_empty()
    });
    eventually("the firewall no longer knows the node that left", || {
        !lab.inside("a", "nft list table inet hz-netguard").contains("10.78.0.13")
    });

    lab.kill(A);
    let output = Command::new("ip")
        .args(["netns", "exec", &lab.full("a"), env!("CARGO_BIN_EXE_hz-netguard"), "cleanup", "--cni-dir"])
        .arg(lab.cni_dir(A))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(lab.inside("a", "ip route show proto 72"), "");
    assert!(!lab.inside("a", "nft list tables").contains("hz-netguard"));
    assert!(!lab.cni_dir(A).join("10-hz.conflist").exists());
    assert_eq!(lab.inside("a", "ip route show | sort"), foreign_routes);
    assert_eq!(lab.inside("a", "nft list table inet others"), foreign_tables);
    assert!(lab.inside("a", "ip rule show").contains("from 10.9.0.0/16"));
}

#[test]
fn what_others_break_is_mended() {
    if !allowed() {
        return;
    }
    let mut lab = Lab::new();
    lab.netguards();
    for (what, line, sign) in [
        ("a route", "ip route del 10.244.1.0/24", "ip route show 10.244.1.0/24"),
        ("all routes", "ip route flush proto 72", "ip route show 10.244.2.0/24"),
        ("the tunnel", "ip link del hz-vxlan", "bridge fdb show dev hz-vxlan 2>/dev/null | grep 10.78.0.13 || true"),
        ("the tunnel's state", "ip link set hz-vxlan down", "ip route show 10.244.2.0/24"),
        ("a neighbour", "ip neigh del 10.244.2.0 dev hz-vxlan", "ip neigh show dev hz-vxlan | grep PERMANENT || true"),
        ("the rule", "ip rule del priority 7248", "ip rule show priority 7248"),
        ("all tables", "nft flush ruleset", "nft list tables | grep hz-netguard || true"),
        (
            "a tunnel of another kind",
            "ip link del hz-vxlan; ip link add hz-vxlan type bridge",
            "ip -d link show hz-vxlan | grep 8472 || true",
        ),
    ] {
        lab.inside("a", line);
        eventually(&format!("{what} is back"), || !lab.inside("a", sign).is_empty());
    }
    lab.ready(A);
    lab.serve("c-pod");
    assert_eq!(lab.visit("a-pod", C.pod).as_deref(), Ok(A.pod));
}

#[test]
fn a_route_of_somebody_else_in_our_place_is_left_alone_and_told() {
    if !allowed() {
        return;
    }
    let mut lab = Lab::new();
    lab.inside("a", "ip route add 10.244.1.0/24 via 10.77.0.1");
    lab.netguard(A);
    eventually("the conflict is told", || {
        lab.health(A)
            .is_some_and(|health| health["problems"][0].as_str().is_some_and(|why| why.contains("that is not ours")))
    });
    assert!(lab.inside("a", "ip route show 10.244.1.0/24").contains("via 10.77.0.1 "));
    lab.inside("a", "ip route del 10.244.1.0/24");
    lab.ready(A);
    assert!(lab.inside("a", "ip route show 10.244.1.0/24").contains("proto 72"));
}

#[test]
fn connections_live_through_a_restart_and_nothing_is_made_again() {
    if !allowed() {
        return;
    }
    let mut lab = Lab::new();
    lab.netguards();
    lab.serve("c-pod");
    let target = format!("{}:{PORT}", C.pod);
    let stream = lab.helper_command("a-pod", "stream", &[&target, "4000"]).spawn().unwrap();
    thread::sleep(Duration::from_millis(500));
    let before = lab.inside("a", "ip route show proto 72; ip -o link show hz-vxlan; ip rule show");
    for spot in [A, C] {
        lab.kill(spot);
    }
    thread::sleep(Duration::from_millis(300));
    let lines = lab.log(A).lines().count();
    for spot in [A, C] {
        lab.netguard(spot);
    }
    for spot in [A, C] {
        lab.ready(spot);
    }
    let output = stream.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let gap: u64 = text.split_once("<<<").and_then(|(_, rest)| rest.split_once(">>>")).expect(&text).0.parse().unwrap();
    println!("longest gap over the restart: {gap} ms");
    assert!(gap < 1000, "the stream stood still for {gap} ms");
    assert_eq!(lab.inside("a", "ip route show proto 72; ip -o link show hz-vxlan; ip rule show"), before);
    let log = lab.log(A);
    let again: Vec<&str> =
        log.lines().skip(lines).filter(|line| line.contains("made") || line.contains("removed")).collect();
    assert!(again.is_empty(), "{again:?}");
}

#[test]
fn netguard_is_small_and_a_quiet_kernel_gives_it_nothing_to_do() {
    if !allowed() {
        return;
    }
    let mut lab = Lab::new();
    lab.netguards();
    let pid = lab::sh(&format!("ip netns pids {} | head -1", lab.full("a")));
    thread::sleep(Duration::from_secs(2));
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap();
    let resident = status.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_string();
    println!("{resident}");
    let metrics = lab.helper("a", "get", &["127.0.0.1:16480", "/metrics"]).unwrap();
    let changes =
        |metrics: &str| metrics.lines().find(|line| line.starts_with("hz_netguard_changes_total")).unwrap().to_string();
    thread::sleep(Duration::from_secs(3));
    let later = lab.helper("a", "get", &["127.0.0.1:16480", "/metrics"]).unwrap();
    assert_eq!(changes(&metrics), changes(&later));
    assert!(later.contains("hz_netguard_table_writes_total 1\n"), "{later}");
}

/// Not a test: what runs inside a namespace. The tests above start this program again with a role.
#[test]
#[ignore = "started by the other tests"]
fn helper() {
    let arguments = std::env::var("HZ_ARGS").unwrap_or_default();
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    match (std::env::var("HZ_ROLE").unwrap_or_default().as_str(), arguments.as_slice()) {
        ("serve", [port]) => serve(port),
        ("visit", [to]) => print!("<<<{}>>>", visit(to)),
        ("stream", [to, millis]) => print!("<<<{}>>>", stream(to, millis.parse().unwrap())),
        ("get", [to, path]) => print!("<<<{}>>>", get(to, path)),
        _ => {}
    }
}

/// Tell each visitor its address, padded; then repeat what it says.
fn serve(port: &str) {
    for visitor in TcpListener::bind(format!("0.0.0.0:{port}")).unwrap().incoming() {
        let mut visitor = visitor.unwrap();
        thread::spawn(move || {
            let mut answer = visitor.peer_addr().unwrap().ip().to_string().into_bytes();
            answer.resize(PADDING, b' ');
            let mut incoming = vec![0; PADDING];
            if visitor.write_all(&answer).is_err() || visitor.read_exact(&mut incoming).is_err() {
                return;
            }
            let mut byte = [0];
            while visitor.read_exact(&mut byte).is_ok() && visitor.write_all(&byte).is_ok() {}
        });
    }
}

fn connect(to: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect_timeout(&to.parse().unwrap(), Duration::from_secs(3)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut answer = vec![0; PADDING];
    stream.read_exact(&mut answer).unwrap();
    stream.write_all(&vec![b'.'; PADDING]).unwrap();
    let seen = String::from_utf8(answer).unwrap().trim().to_string();
    (stream, seen)
}

fn visit(to: &str) -> String {
    let (mut stream, seen) = connect(to);
    // The echo proves that all of our padding arrived.
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    seen
}

/// Say something every few milliseconds; the longest wait for an answer.
fn stream(to: &str, millis: u64) -> u64 {
    let (mut stream, _) = connect(to);
    let begun = Instant::now();
    let mut longest = 0;
    while begun.elapsed() < Duration::from_millis(millis) {
        let said = Instant::now();
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        longest = longest.max(u64::try_from(said.elapsed().as_millis()).unwrap());
        thread::sleep(Duration::from_millis(2));
    }
    longest
}

fn get(to: &str, path: &str) -> String {
    let mut stream = TcpStream::connect_timeout(&to.parse().unwrap(), Duration::from_secs(1)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
