//! The steps of a bootstrap. Each can be cut off anywhere and begun again.

pub mod configure;
pub mod control_plane;
pub mod copy;
pub mod dns;
pub mod hospital;
pub mod images;
pub mod install;
pub mod join;
pub mod mark;
pub mod network;
pub mod release;
pub mod start;
pub mod verify;

use super::graph::Plan;

/// A plan of one line, or nothing where there is nothing.
pub fn plan_of(items: Vec<String>) -> Plan {
    if items.is_empty() { Plan::Nothing } else { Plan::Do(items) }
}
