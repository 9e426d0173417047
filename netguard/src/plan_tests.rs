use proptest::prelude::*;

use super::*;

fn node(name: &str, address: &str, range: &str) -> Node {
    Node::parse(name, [address], [range])
}

fn nodes() -> Vec<Node> {
    vec![
        node("a", "10.77.0.11", "10.244.0.0/24"),
        node("b", "10.77.0.12", "10.244.1.0/24"),
        node("far", "10.78.0.13", "10.244.2.0/24"),
    ]
}

fn around() -> Surroundings {
    Surroundings {
        uplinks: [("10.77.0.11".parse().unwrap(), Uplink { link: "eth0".into(), mtu: 1500 })].into(),
        paths: [
            ("10.77.0.12".parse().unwrap(), Path::Direct { link: "eth0".into() }),
            ("10.78.0.13".parse().unwrap(), Path::Routed { gateway: "10.77.0.1".parse().unwrap() }),
        ]
        .into(),
    }
}

fn told(desired: &Desired) -> Vec<String> {
    desired.items.values().map(ToString::to_string).collect()
}

#[test]
fn a_neighbour_gets_a_plain_route_and_a_node_behind_a_router_a_tunnel() {
    let desired = plan(&nodes(), "a", &around(), &Settings::default()).unwrap();
    assert_eq!(
        told(&desired),
        [
            "tunnel hz-vxlan (vni 18522, local 10.77.0.11, mtu 1450)",
            "address 10.244.0.0/32 on hz-vxlan",
            "forwarding of 0a:04:0a:4e:00:0d to 10.78.0.13 on hz-vxlan",
            "neighbour 10.244.2.0 at 0a:04:0a:4e:00:0d on hz-vxlan",
            "route to 10.244.0.0/24 (unreachable)",
            "route to 10.244.1.0/24 via 10.77.0.12 on eth0",
            "route to 10.244.2.0/24 via 10.244.2.0 on hz-vxlan",
            "route to 10.78.0.13/32 via 10.244.2.0 on hz-vxlan in table 7248",
            "rule from 10.244.0.0/24 into table 7248",
        ]
    );
    assert_eq!(desired.peers, Peers { direct: 1, tunnel: 1 });
    assert_eq!(desired.cni, CniConfig { ranges: vec!["10.244.0.0/24".parse().unwrap()], mtu: 1450 });
    assert!(desired.problems.is_empty());
}

#[test]
fn without_nodes_behind_routers_there_is_no_tunnel() {
    let desired = plan(&nodes()[..2], "a", &around(), &Settings::default()).unwrap();
    assert_eq!(
        told(&desired),
        ["route to 10.244.0.0/24 (unreachable)", "route to 10.244.1.0/24 via 10.77.0.12 on eth0"]
    );
}

#[test]
fn tunnels_always_go_to_neighbours_too() {
    let settings = Settings { encapsulation: Encapsulation::Always, ..Settings::default() };
    let desired = plan(&nodes(), "a", &around(), &settings).unwrap();
    assert_eq!(desired.peers, Peers { direct: 0, tunnel: 2 });
}

#[test]
fn tunnels_never_leave_a_node_behind_a_router_to_that_router_and_say_so() {
    let settings = Settings { encapsulation: Encapsulation::Never, ..Settings::default() };
    let desired = plan(&nodes(), "a", &around(), &settings).unwrap();
    assert_eq!(desired.peers, Peers { direct: 1, tunnel: 0 });
    assert_eq!(desired.cni.mtu, 1500);
    assert!(desired.problems[0].why.contains("behind the router 10.77.0.1"), "{}", desired.problems[0]);
}

#[test]
fn a_size_that_was_chosen_wins_over_the_measured_one() {
    let settings = Settings { mtu: Some(1400), ..Settings::default() };
    assert_eq!(plan(&nodes(), "a", &around(), &settings).unwrap().cni.mtu, 1400);
}

#[test]
fn one_bad_node_does_not_take_the_others_with_it() {
    let mut nodes = nodes();
    nodes.push(node("no-address", "ten", "10.244.9.0/24"));
    nodes.push(node("twin", "10.77.0.12", "10.244.1.0/24"));
    nodes.push(Node::parse("new", ["10.77.0.20"], []));
    let desired = plan(&nodes, "a", &around(), &Settings::default()).unwrap();
    assert_eq!(desired.peers, Peers { direct: 1, tunnel: 1 });
    let told: Vec<String> = desired.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "node no-address: has the pod range 10.244.9.0/24 but no internal address of that family",
            r#"node twin: its pod range 10.244.1.0/24 overlaps that of node "b""#,
            r#"node no-address: "ten" is not an IP address"#,
        ]
    );
}

#[test]
fn nothing_is_planned_without_this_node_its_range_or_its_link() {
    let refusal = |nodes: &[Node], around: &Surroundings| plan(nodes, "a", around, &Settings::default()).unwrap_err();
    assert_eq!(refusal(&nodes()[1..], &around()), Unplannable::NotListed("a".into()));
    assert_eq!(refusal(&[Node::parse("a", ["10.77.0.11"], [])], &around()), Unplannable::NoRange("a".into()));
    assert_eq!(refusal(&nodes(), &Surroundings::default()), Unplannable::NoUplink("10.77.0.11".parse().unwrap()));
}

#[test]
fn a_pod_range_over_a_nodes_address_is_refused() {
    let mut nodes = nodes();
    nodes.push(node("z", "10.77.0.14", "10.77.0.0/24"));
    assert!(matches!(
        plan(&nodes, "a", &around(), &Settings::default()),
        Err(Unplannable::RangeHoldsNode { node, .. }) if node == "z"
    ));
}

#[test]
fn both_families_are_planned_each_with_its_own_tunnel() {
    let nodes = [
        Node::parse("a", ["10.77.0.11", "fd00:77::11"], ["10.244.0.0/24", "fd00:244::/64"]),
        Node::parse("far", ["10.78.0.13", "fd00:78::13"], ["10.244.2.0/24", "fd00:244:0:2::/64"]),
    ];
    let mut around = around();
    around.uplinks.insert("fd00:77::11".parse().unwrap(), Uplink { link: "eth0".into(), mtu: 1500 });
    around.paths.insert("fd00:78::13".parse().unwrap(), Path::Routed { gateway: "fe80::1".parse().unwrap() });
    let desired = plan(&nodes, "a", &around, &Settings::default()).unwrap();
    let told = told(&desired);
    assert!(told.contains(&"tunnel hz-vxlan6 (vni 18522, local fd00:77::11, mtu 1430)".to_string()), "{told:#?}");
    assert!(told.contains(&"route to fd00:244:0:2::/64 via fd00:244:0:2:: on hz-vxlan6".to_string()), "{told:#?}");
    assert_eq!(desired.cni.mtu, 1430);
    assert_eq!(desired.peers, Peers { direct: 0, tunnel: 1 });
}

#[test]
fn two_tunnel_ends_meet_what_one_plans_for_the_other_is_what_the_other_has() {
    let desired = plan(&nodes(), "a", &around(), &Settings::default()).unwrap();
    let there = Surroundings {
        uplinks: [("10.78.0.13".parse().unwrap(), Uplink { link: "eth0".into(), mtu: 1500 })].into(),
        paths: [
            ("10.77.0.11".parse().unwrap(), Path::Routed { gateway: "10.78.0.1".parse().unwrap() }),
            ("10.77.0.12".parse().unwrap(), Path::Routed { gateway: "10.78.0.1".parse().unwrap() }),
        ]
        .into(),
    };
    let far = plan(&nodes(), "far", &there, &Settings::default()).unwrap();
    let theirs = far.items.values().find_map(|item| if let Item::Tunnel(t) = item { Some(t.clone()) } else { None });
    let theirs = theirs.unwrap();
    assert!(
        desired
            .items
            .values()
            .any(|item| { matches!(item, Item::Forward { mac, to, .. } if *mac == theirs.mac && *to == theirs.local) })
    );
    let ends: Vec<_> = far
        .items
        .values()
        .filter_map(|item| if let Item::Address { net, .. } = item { Some(net.addr()) } else { None })
        .collect();
    assert!(
        desired.items.values().any(|item| matches!(item, Item::Neighbour { address, .. } if ends.contains(address)))
    );
}

fn crowd() -> impl Strategy<Value = (Vec<Node>, Surroundings)> {
    proptest::collection::vec(any::<bool>(), 1..40).prop_map(|directs| {
        let mut around = around();
        around.paths.clear();
        let mut nodes = vec![node("a", "10.77.0.11", "10.244.0.0/24")];
        for (n, direct) in directs.into_iter().enumerate() {
            let n = u8::try_from(n).unwrap() + 1;
            let address = if direct { IpAddr::from([10, 77, 1, n]) } else { IpAddr::from([10, 78, 1, n]) };
            let path = if direct {
                Path::Direct { link: "eth0".into() }
            } else {
                Path::Routed { gateway: "10.77.0.1".parse().unwrap() }
            };
            around.paths.insert(address, path);
            nodes.push(Node::parse(&format!("n{n:02}"), [&*address.to_string()], [&*format!("10.244.{n}.0/24")]));
        }
        (nodes, around)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn each_other_node_has_exactly_one_route_to_its_pods_whatever_the_order((nodes, around) in crowd()) {
        let desired = plan(&nodes, "a", &around, &Settings::default()).unwrap();
        prop_assert_eq!(desired.peers.direct + desired.peers.tunnel, nodes.len() - 1);
        for other in nodes.iter().filter(|node| node.name != "a") {
            let routes = desired.items.values().filter(|item| {
                matches!(item, Item::Route(route) if route.table == MAIN && Some(route.to) == other.range(Family::V4))
            });
            prop_assert_eq!(routes.count(), 1);
        }
        let mut turned = nodes.clone();
        turned.reverse();
        let again = plan(&turned, "a", &around, &Settings::default()).unwrap();
        prop_assert_eq!(again.items, desired.items);
        prop_assert_eq!(again.masquerade, desired.masquerade);
    }
}
