//! Who is made when: two lanes, since compilers keep all cores busy by themselves, while package
//! downloads and Debian roots mostly wait.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::make::Maker;
use super::{Event, Made, ToMake, Watch};
use crate::component::{Build, Component, ComponentList};
use crate::error::{Error, Result};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lane {
    Compilers,
    Others,
}

impl Lane {
    fn of(component: &Component) -> Self {
        match component.build {
            Some(Build::Go(_) | Build::Cargo(_)) => Self::Compilers,
            _ => Self::Others,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Compilers => "compile",
            Self::Others => "assemble",
        }
    }
}

#[derive(Default)]
struct State {
    made: BTreeMap<String, Made>,
    taken: BTreeSet<String>,
    error: Option<Error>,
}

/// Has every component of a list, and gives them back by name.
pub fn run(list: &ComponentList, maker: &Maker<'_>, watch: Watch<'_>) -> Result<BTreeMap<String, Made>> {
    tell_plan(list, maker, watch);
    let state = Mutex::new(State::default());
    let turned = Condvar::new();
    std::thread::scope(|scope| {
        for lane in [Lane::Compilers, Lane::Others] {
            let (state, turned) = (&state, &turned);
            scope.spawn(move || work(lane, list, maker, watch, state, turned));
        }
    });
    let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    state.error.map_or(Ok(state.made), Err)
}

/// What lies ahead, as far as it can be seen: a component that must be made may change those after it,
/// or come out the same and change none.
fn tell_plan(list: &ComponentList, maker: &Maker<'_>, watch: Watch<'_>) {
    let mut made: BTreeMap<String, Made> = BTreeMap::new();
    let mut missing: Vec<&Component> = Vec::new();
    for component in list.in_build_order() {
        let parts: Option<BTreeMap<_, _>> =
            maker.parts(component).iter().map(|name| Some(((*name).to_string(), made.get(*name)?.clone()))).collect();
        let found = parts
            .and_then(|parts| maker.key(component, &parts).ok())
            .and_then(|key| maker.find(component, &key).ok().flatten());
        match found {
            Some(found) => drop(made.insert(component.name.clone(), found)),
            None => missing.push(component),
        }
    }
    let to_make: Vec<_> = missing
        .iter()
        .map(|component| ToMake {
            component: component.name.clone(),
            lane: Lane::of(component).name(),
            expected: maker.expected(&component.name).unwrap_or_else(|| guess(component)),
        })
        .collect();
    watch(Event::Plan { components: list.components.len(), to_make: &to_make });
}

/// What a component takes on two cores when nothing is known of it.
fn guess(component: &Component) -> Duration {
    Duration::from_secs(match component.build {
        Some(Build::Go(_)) => 60,
        Some(Build::Cargo(_)) => 90,
        Some(Build::DebianRoot(_)) => 40,
        Some(Build::Debs(_) | Build::Pypi(_)) => 15,
        Some(Build::Image(_)) => 3,
        Some(Build::Chart(_) | Build::Files(_)) => 1,
        None => 20,
    })
}

fn work(lane: Lane, list: &ComponentList, maker: &Maker<'_>, watch: Watch<'_>, state: &Mutex<State>, turned: &Condvar) {
    let mut held = state.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let left = || list.components.iter().filter(|c| Lane::of(c) == lane);
        if held.error.is_some() || left().all(|c| held.taken.contains(&c.name)) {
            return;
        }
        let ready = left()
            .find(|c| !held.taken.contains(&c.name) && maker.parts(c).iter().all(|part| held.made.contains_key(*part)));
        let Some(component) = ready else {
            held = turned.wait(held).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        held.taken.insert(component.name.clone());
        let parts: BTreeMap<String, Made> = maker
            .parts(component)
            .iter()
            .filter_map(|name| Some(((*name).to_string(), held.made.get(*name)?.clone())))
            .collect();
        drop(held);
        let result = one(component, list, maker, watch, parts);
        held = state.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(made) => drop(held.made.insert(component.name.clone(), made)),
            // The first failure is the one to tell; the other lane finishes what it is at, and stops.
            Err(error) => held.error = held.error.take().or(Some(error)),
        }
        turned.notify_all();
    }
}

fn one(
    component: &Component,
    list: &ComponentList,
    maker: &Maker<'_>,
    watch: Watch<'_>,
    parts: BTreeMap<String, Made>,
) -> Result<Made> {
    let begun = Instant::now();
    let key = maker.key(component, &parts)?;
    let (made, cached) = match maker.find(component, &key)? {
        Some(made) => (made, true),
        None => {
            watch(Event::Start { component: &component.name, lane: Lane::of(component).name() });
            let parts = parts
                .into_iter()
                .filter_map(|(name, made)| Some((name.clone(), (list.get(&name)?.clone(), made))))
                .collect();
            (maker.make(component, key, &parts)?, false)
        }
    };
    let size = made.packed.blobs.iter().map(|blob| blob.size).sum();
    watch(Event::Finish { component: &component.name, cached, took: begun.elapsed(), size });
    Ok(made)
}
