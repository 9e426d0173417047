//! Which writes a cache can lose, said plainly: it is a cache, and none of them is beyond that.

use super::{CacheInstanceSpec, Persistence};
use crate::conditions::Verdict;

/// The condition that no acknowledged write is ever lost. It never holds; its message says why not.
pub const DURABLE: &str = "Durable";

/// What can be lost, by copies, by copies that writes wait for, and by disks.
pub(super) fn durable(spec: &CacheInstanceSpec) -> Verdict {
    let always = spec.parameters.get("appendfsync").is_some_and(|when| when == "always");
    let on_disk = match (spec.persistence, always) {
        (Persistence::None, _) => "everything",
        (Persistence::Snapshot, _) => "what was written since the last snapshot, up to 15 minutes",
        (Persistence::AppendOnly, false) => "up to the last second",
        (Persistence::AppendOnly, true) => "nothing that was acknowledged",
    };
    if spec.replicas == 1 {
        let disk = if spec.persistence == Persistence::None { "" } else { "; a lost disk loses everything" };
        return Verdict::no("SingleServer", format!("there is one server: a stop of it loses {on_disk}{disk}"));
    }
    let cut_off = if spec.min_replicas_to_write == 0 {
        "a master that is cut off from its copies goes on taking writes, and loses all of them when it comes back"
            .to_owned()
    } else {
        format!(
            "a master that hears of fewer than {} copies refuses writes after 10 seconds, and loses those of the seconds \
             before",
            spec.min_replicas_to_write
        )
    };
    Verdict::no(
        "CopiesFollowLater",
        format!(
            "copies follow a moment later: a lost master loses acknowledged writes that had not reached the copy that \
             takes over; {cut_off}; a stop of all servers at once loses {on_disk}"
        ),
    )
}
