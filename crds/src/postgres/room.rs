//! Whether each copy has room to go on writing. PostgreSQL stops when its volume is full, and the copies fill up alike, so
//! the one that takes over is full a moment later: this has to be told long before.

use serde::{Deserialize, Serialize};

use crate::conditions::Verdict;

/// The condition that every copy has room.
pub const STORAGE_HEALTHY: &str = "StorageHealthy";
/// Less than this of a volume, in percent, is told.
const LOW: i64 = 15;
/// Less than this of it, in percent, is as good as none: a backup's or a vacuum's worth of log fills it.
const NONE: i64 = 3;
/// So is less than this: eight segments of the log.
const LEAST: i64 = 128 << 20;

/// Bytes of the file system that a copy's volume is on, and those that PostgreSQL can still write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// All of it.
    pub size: i64,
    /// What is left.
    pub free: i64,
}

impl Room {
    /// What is left, in whole percent: a number that does not change with every write.
    fn percent(self) -> i64 {
        self.free.max(0).saturating_mul(100) / self.size.max(1)
    }

    fn is_full(self) -> bool {
        self.percent() < NONE || self.free < LEAST
    }

    fn is_low(self) -> bool {
        self.is_full() || self.percent() < LOW
    }
}

/// A copy that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Name of its pod.
    pub pod: String,
    /// Its pod is ready.
    pub ready: bool,
    /// What it said, or why it did not.
    pub said: Result<Room, String>,
}

/// What is to be said; nothing while nobody could be asked, so that what was said last stands.
pub fn verdict(instance: &str, asked: &[Asked]) -> Option<Verdict> {
    let known: Vec<(&str, Room)> =
        asked.iter().filter_map(|asked| Some((asked.pod.as_str(), *asked.said.as_ref().ok()?))).collect();
    let low: Vec<(&str, Room)> = known.iter().filter(|(_, room)| room.is_low()).copied().collect();
    if !low.is_empty() {
        let told: Vec<String> = low.iter().map(|(pod, room)| told(pod, *room)).collect();
        let message = format!("{}: `hzctl db expand {instance} --size SIZE` gives every copy more", told.join(", "));
        let reason = if low.iter().any(|(_, room)| room.is_full()) { "Full" } else { "NearlyFull" };
        return Some(Verdict::no(reason, message));
    }
    // A copy that is not ready is told of elsewhere; one that is has to say how much room it has.
    let silent =
        asked.iter().filter(|asked| asked.ready).find_map(|asked| Some((&asked.pod, asked.said.as_ref().err()?)));
    if let Some((pod, why)) = silent {
        return Some(Verdict::unknown("NotSeen", format!("{pod} does not say how much room it has: {why}")));
    }
    let room = || Verdict::yes("HasRoom", format!("at least {LOW} % of every copy's volume are free"));
    (!known.is_empty()).then(room)
}

fn told(pod: &str, room: Room) -> String {
    format!("{pod} has {} % of {} free", room.percent(), size(room.size))
}

#[allow(clippy::cast_precision_loss)] // for people
fn size(bytes: i64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: i64 = 1 << 30;

    fn copy(pod: &str, size: i64, free: i64) -> Asked {
        Asked { pod: pod.into(), ready: true, said: Ok(Room { size, free }) }
    }

    fn said(asked: &[Asked]) -> Option<Verdict> {
        verdict("records", asked)
    }

    #[test]
    fn room_on_every_copy_is_said_without_numbers_so_that_it_is_said_once() {
        let one = said(&[copy("records-0", 20 * GIB, 4 * GIB), copy("records-1", 20 * GIB, 9 * GIB)]);
        let other = said(&[copy("records-0", 20 * GIB, 5 * GIB), copy("records-1", 20 * GIB, 8 * GIB)]);
        assert!(one.as_ref().unwrap().holds());
        assert_eq!(one, other);
    }

    #[test]
    fn a_copy_with_little_room_is_named_with_what_to_do() {
        let low = said(&[copy("records-0", 20 * GIB, 9 * GIB), copy("records-1", 20 * GIB, 2 * GIB)]);
        let wanted = "records-1 has 10 % of 20.0 GiB free: `hzctl db expand records --size SIZE` gives every copy more";
        assert_eq!(low, Some(Verdict::no("NearlyFull", wanted)));
    }

    #[test]
    fn a_copy_with_no_room_weighs_more_than_one_with_little() {
        let full = said(&[copy("records-0", 20 * GIB, 2 * GIB), copy("records-1", 20 * GIB, 0)]).unwrap();
        assert_eq!(
            full,
            Verdict::no(
                "Full",
                "records-0 has 10 % of 20.0 GiB free, records-1 has 0 % of 20.0 GiB free: `hzctl db expand records \
                 --size SIZE` gives every copy more"
            )
        );
        let small = said(&[copy("records-0", GIB, 100 << 20)]).unwrap();
        assert!(format!("{small:?}").contains("Full\""), "9 %, and hardly a minute of log: {small:?}");
    }

    #[test]
    fn who_does_not_answer_is_named_unless_it_is_known_not_to_run() {
        let silent = |ready| Asked { pod: "records-2".into(), ready, said: Err("connection refused".into()) };
        let fine = copy("records-0", 20 * GIB, 9 * GIB);
        assert_eq!(
            said(&[fine.clone(), silent(true)]),
            Some(Verdict::unknown("NotSeen", "records-2 does not say how much room it has: connection refused"))
        );
        assert!(said(&[fine, silent(false)]).unwrap().holds());
        assert_eq!(said(&[silent(false)]), None, "what was said last stands");
        assert_eq!(said(&[]), None);
    }

    #[test]
    fn a_volume_of_no_size_is_full_and_no_division_fails() {
        assert!(Room { size: 0, free: 0 }.is_full());
        assert!(Room { size: -1, free: -5 }.is_full());
    }
}
