use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::state::{MAIN, Mac, Tunnel};

fn keyed(items: impl IntoIterator<Item = Item>) -> BTreeMap<Key, Item> {
    items.into_iter().map(|item| (item.key(), item)).collect()
}

fn route(to: &str, gateway: &str, link: &str) -> Route {
    Route {
        table: MAIN,
        to: to.parse().unwrap(),
        metric: 0,
        target: Target::Via { gateway: gateway.parse().unwrap(), link: link.into(), onlink: false, source: None },
    }
}

/// A small kernel: makes changes as Linux does, with what hangs on a link going down with it.
fn apply(mut actual: Actual, changes: &[Change]) -> Actual {
    let drop_link = |own: &mut BTreeMap<Key, Item>, item: &Item| {
        if let Item::Tunnel(tunnel) = item {
            own.retain(|_, other| other.link() != Some(&tunnel.name));
        }
    };
    for change in changes {
        match change {
            Change::Add(item) => {
                assert!(actual.own.insert(item.key(), item.clone()).is_none(), "added what was there: {item}");
            }
            Change::Set { from, to } => {
                assert_eq!(actual.own.insert(to.key(), to.clone()).as_ref(), Some(from));
            }
            Change::Recreate { from, to } => {
                assert_eq!(actual.own.remove(&from.key()).as_ref(), Some(from));
                drop_link(&mut actual.own, from);
                actual.own.insert(to.key(), to.clone());
            }
            Change::Remove(item) => {
                assert_eq!(actual.own.remove(&item.key()).as_ref(), Some(item), "removed what was not ours");
                drop_link(&mut actual.own, item);
            }
        }
    }
    actual
}

fn link() -> impl Strategy<Value = String> {
    prop_oneof![Just("eth0".to_string()), Just("hz-vxlan".to_string()), Just("hz-vxlan6".to_string())]
}

fn tunnel_link() -> impl Strategy<Value = String> {
    prop_oneof![Just("hz-vxlan".to_string()), Just("hz-vxlan6".to_string())]
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0_u8..3, 0_u8..4).prop_map(|(a, b)| IpAddr::from([10, 77, a, b])),
        (0_u16..3).prop_map(|a| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, a])),
    ]
}

fn range() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (0_u8..5).prop_map(|n| IpNet::new([10, 244, n, 0].into(), 24).unwrap()),
        (0_u16..3).prop_map(|n| IpNet::new(IpAddr::from([0xfd00, n, 0, 0, 0, 0, 0, 0]), 64).unwrap()),
    ]
}

fn mac() -> impl Strategy<Value = Mac> {
    address().prop_map(Mac::of_tunnel)
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        4 => (address(), link(), any::<bool>(), proptest::option::of(address()))
            .prop_map(|(gateway, link, onlink, source)| Target::Via { gateway, link, onlink, source }),
        1 => Just(Target::Unreachable),
        1 => Just(Target::Other),
    ]
}

fn any_route() -> impl Strategy<Value = Route> {
    (
        prop_oneof![Just(MAIN), Just(crate::state::TABLE)],
        range(),
        prop_oneof![Just(0_u32), Just(1024), Just(7)],
        target(),
    )
        .prop_map(|(table, to, metric, target)| Route { table, to, metric, target })
}

fn item() -> impl Strategy<Value = Item> {
    prop_oneof![
        1 => (tunnel_link(), 1_u32..3, address(), any::<bool>(), prop_oneof![Just(1450_u32), Just(1400)], any::<bool>())
            .prop_map(|(name, vni, local, learning, mtu, up)| {
                Item::Tunnel(Tunnel { name, vni, port: 8472, local, learning, mac: Mac::of_tunnel(local), mtu, up })
            }),
        1 => (tunnel_link(), range()).prop_map(|(link, net)| Item::Address { link, net }),
        1 => (tunnel_link(), mac(), address()).prop_map(|(link, mac, to)| Item::Forward { link, mac, to }),
        1 => (tunnel_link(), address(), mac()).prop_map(|(link, address, mac)| Item::Neighbour { link, address, mac }),
        4 => any_route().prop_map(Item::Route),
        1 => (range()).prop_map(|from| Item::Rule { from, table: 7248, priority: 7248 }),
    ]
}

/// A kernel only holds what hangs on a link that is there.
fn possible(items: Vec<Item>) -> BTreeMap<Key, Item> {
    let items = keyed(items);
    let links: BTreeSet<String> = items
        .values()
        .filter_map(|item| if let Item::Tunnel(tunnel) = item { Some(tunnel.name.clone()) } else { None })
        .chain(["eth0".to_string()])
        .collect();
    items.into_iter().filter(|(_, item)| item.link().is_none_or(|link| links.contains(link))).collect()
}

fn actual() -> impl Strategy<Value = Actual> {
    (proptest::collection::vec(item(), 0..24), proptest::collection::vec(any_route(), 0..6))
        .prop_map(|(own, foreign)| Actual { own: possible(own), foreign })
}

fn wanted() -> impl Strategy<Value = BTreeMap<Key, Item>> {
    proptest::collection::vec(item(), 0..24).prop_map(possible)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn after_the_changes_the_kernel_holds_the_plan_and_a_second_pass_changes_nothing(
        before in actual(), wanted in wanted(),
    ) {
        let first = diff(&before, &wanted);
        let after = apply(before.clone(), &first.changes);
        for (key, item) in &wanted {
            let replaced = matches!(item, Item::Route(route) if in_the_way(route, &before.foreign).is_some());
            if !replaced {
                prop_assert_eq!(after.own.get(key), Some(item));
            }
        }
        for key in after.own.keys() {
            prop_assert!(wanted.contains_key(key), "left over: {:?}", key);
        }
        prop_assert_eq!(&after.foreign, &before.foreign);
        prop_assert_eq!(diff(&after, &wanted).changes, vec![]);
    }

    #[test]
    fn no_change_touches_the_place_of_a_foreign_route(before in actual(), wanted in wanted()) {
        for change in diff(&before, &wanted).changes {
            let made = match &change {
                Change::Add(item) | Change::Set { to: item, .. } | Change::Recreate { to: item, .. } => item,
                Change::Remove(item) => {
                    prop_assert!(before.own.contains_key(&item.key()));
                    continue;
                }
            };
            if let Item::Route(route) = made {
                let place = (route.table, route.to, route.metric);
                let clear = before.foreign.iter().all(|other| (other.table, other.to, other.metric) != place);
                prop_assert!(clear, "{} takes the place of another's", route.to);
            }
        }
    }

    #[test]
    fn an_empty_plan_removes_all_that_is_ours_and_nothing_else(before in actual()) {
        let diff = diff(&before, &BTreeMap::new());
        let after = apply(before.clone(), &diff.changes);
        prop_assert!(after.own.is_empty());
        prop_assert_eq!(after.foreign, before.foreign);
    }
}

#[test]
fn a_node_that_moves_behind_a_router_keeps_a_route_at_every_moment() {
    let direct = Item::Route(route("10.244.1.0/24", "10.77.0.12", "eth0"));
    let tunnel = Item::Tunnel(Tunnel {
        name: "hz-vxlan".into(),
        vni: 1,
        port: 8472,
        local: "10.77.0.11".parse().unwrap(),
        learning: false,
        mac: Mac([0; 6]),
        mtu: 1450,
        up: true,
    });
    let through = Item::Route(route("10.244.1.0/24", "10.244.1.0", "hz-vxlan"));
    let actual = Actual { own: keyed([direct.clone()]), foreign: vec![] };
    let changes = diff(&actual, &keyed([tunnel.clone(), through.clone()])).changes;
    assert_eq!(changes, [Change::Add(tunnel), Change::Set { from: direct, to: through }]);
}

#[test]
fn an_administrators_static_route_to_the_same_gateway_serves() {
    let own = route("10.244.1.0/24", "10.77.0.12", "eth0");
    let actual = Actual { own: BTreeMap::new(), foreign: vec![own.clone()] };
    assert_eq!(diff(&actual, &keyed([Item::Route(own)])), Diff::default());
}

#[test]
fn a_foreign_route_that_leads_elsewhere_is_left_alone_and_told() {
    let own = route("10.244.1.0/24", "10.77.0.12", "eth0");
    let foreign = route("10.244.1.0/24", "10.77.0.99", "eth0");
    let actual = Actual { own: BTreeMap::new(), foreign: vec![foreign.clone()] };
    let diff = diff(&actual, &keyed([Item::Route(own.clone())]));
    assert_eq!(diff.changes, []);
    assert_eq!(diff.blocked, [(own, foreign)]);
}
