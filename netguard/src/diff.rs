//! What has to change so that the kernel holds what the plan wants; pure, and checked by properties.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    node::Family,
    state::{Item, Key, Route, Target},
};

/// What the kernel holds now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    /// Ours, by the marks that [`crate::state`] describes.
    pub own: BTreeMap<Key, Item>,
    /// Routes of others. They are never changed; they matter because one of them may stand where ours should.
    pub foreign: Vec<Route>,
}

/// One step towards the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Make what is not there.
    Add(Item),
    /// Change what is there in place, without a moment in which neither holds.
    Set {
        /// What is there.
        from: Item,
        /// What shall be.
        to: Item,
    },
    /// Remove and make anew, since the kernel cannot change it in place. All that hangs on it goes with it.
    Recreate {
        /// What is there.
        from: Item,
        /// What shall be.
        to: Item,
    },
    /// Remove what is ours and no longer wanted.
    Remove(Item),
}

/// Changes in the order in which they must be made, and what stands in the way of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// The steps.
    pub changes: Vec<Change>,
    /// Wanted routes whose place is held by a route of somebody else that leads elsewhere.
    pub blocked: Vec<(Route, Route)>,
}

/// Work out the changes that lead from `actual` to `wanted`.
///
/// New things first, each after what it needs; then what is no longer wanted, the other way round. So a node that moves
/// from a tunnel to a direct route has one of the two at every moment.
pub fn diff(actual: &Actual, wanted: &BTreeMap<Key, Item>) -> Diff {
    let reborn = reborn(actual, wanted);
    // What hangs on a link that is made anew will be gone when its turn comes.
    let own: BTreeMap<&Key, &Item> =
        actual.own.iter().filter(|(_, item)| !item.link().is_some_and(|link| reborn.contains(link))).collect();
    let mut diff = Diff::default();
    for (key, item) in wanted {
        if let Item::Route(route) = item
            && let Some(foreign) = in_the_way(route, &actual.foreign)
        {
            match standing(route, foreign) {
                Standing::Serves => {}
                Standing::Blocks => diff.blocked.push((route.clone(), foreign.clone())),
            }
            continue;
        }
        match own.get(key) {
            None => diff.changes.push(Change::Add(item.clone())),
            Some(same) if *same == item => {}
            Some(other) => diff.changes.push(amend(other, item)),
        }
    }
    for (key, item) in own.iter().rev() {
        if !wanted.contains_key(*key) {
            diff.changes.push(Change::Remove((*item).clone()));
        }
    }
    diff
}

/// Names of the links that must be made anew.
fn reborn<'a>(actual: &'a Actual, wanted: &BTreeMap<Key, Item>) -> BTreeSet<&'a str> {
    actual
        .own
        .iter()
        .filter_map(|(key, item)| match (item, wanted.get(key)) {
            (Item::Tunnel(from), Some(Item::Tunnel(to))) if !from.becomes(to) => Some(from.name.as_str()),
            _ => None,
        })
        .collect()
}

fn amend(from: &Item, to: &Item) -> Change {
    let (from, to) = (from.clone(), to.clone());
    match (&from, &to) {
        (Item::Tunnel(old), Item::Tunnel(new)) if !old.becomes(new) => Change::Recreate { from, to },
        _ => Change::Set { from, to },
    }
}

/// The foreign route that wins over `route`, or holds its very place.
fn in_the_way<'a>(route: &Route, foreign: &'a [Route]) -> Option<&'a Route> {
    foreign.iter().find(|other| other.table == route.table && other.to == route.to && other.metric <= route.metric)
}

enum Standing {
    Serves,
    Blocks,
}

/// A foreign route to the same gateway does our work (an administrator's static route); any route does instead of our
/// "unreachable", which only catches what nobody else wants.
fn standing(route: &Route, foreign: &Route) -> Standing {
    match (&route.target, &foreign.target) {
        (Target::Unreachable, _) => Standing::Serves,
        (Target::Via { gateway: a, link: b, .. }, Target::Via { gateway: c, link: d, .. }) if (a, b) == (c, d) => {
            Standing::Serves
        }
        _ => Standing::Blocks,
    }
}

/// Whether two ranges of one family share an address.
pub fn overlap(a: &ipnet::IpNet, b: &ipnet::IpNet) -> bool {
    Family::of_range(a) == Family::of_range(b) && (a.contains(&b.network()) || b.contains(&a.network()))
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
