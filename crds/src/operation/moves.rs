//! Which copy is next when copies have to be replaced: one at a time, copies before the one that leads, and never one
//! whose absence would cost a confirmed write.

/// A copy, and whether it has to be replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copy {
    /// Name of its pod.
    pub name: String,
    /// It takes writes.
    pub leads: bool,
    /// Its pod is ready.
    pub ready: bool,
    /// It has found the one that leads and keeps up with it, or leads.
    pub in_step: bool,
    /// Writes count as done when it has them.
    pub confirms: bool,
    /// Its pod is on its way out.
    pub going: bool,
    /// What of it has to be replaced.
    pub replace: Option<Replace>,
}

/// What of a copy has to be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// Its pod; the disk stays.
    Pod,
    /// Its pod and its disk: it copies all data from the others.
    Disk,
}

/// What holds for all copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Copies there should be.
    pub wanted: usize,
    /// Writes wait when no second copy confirms them.
    pub strict: bool,
    /// The one that leads hands its work over only when told to; otherwise it does so by itself when it is stopped.
    pub told: bool,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    /// Nothing has to be replaced, and every copy is there and in step.
    Done,
    /// Replace this copy.
    Replace(String, Replace),
    /// Hand the work of the first to the second.
    HandOver(String, String),
    /// Look again in a moment, for this reason.
    Wait(String),
    /// A person has to change something first.
    Impossible(String),
}

impl Move {
    /// What is being done, for the status; nothing when all is done.
    pub fn said(&self) -> Option<String> {
        match self {
            Self::Done => None,
            Self::Replace(name, Replace::Pod) => Some(format!("{name} is started anew")),
            Self::Replace(name, Replace::Disk) => Some(format!("{name} is built anew from the others")),
            Self::HandOver(from, to) => Some(format!("{from} hands its work to {to}")),
            Self::Wait(what) | Self::Impossible(what) => Some(what.clone()),
        }
    }
}

/// The next move.
pub fn next(copies: &[Copy], rules: Rules) -> Move {
    // What does not work has nothing to lose, and may never work before it is replaced.
    let broken = |copy: &&Copy| copy.replace.is_some() && !copy.ready && !copy.leads;
    if let Some(copy) = copies.iter().find(|copy| broken(copy) && !copy.going)
        && let Some(what) = copy.replace
    {
        return match what {
            Replace::Disk if copies.iter().all(|copy| !copy.leads || !copy.in_step) => {
                Move::Wait(format!("no copy leads; the disk of {} stays until one does", copy.name))
            }
            what => Move::Replace(copy.name.clone(), what),
        };
    }
    if let Some(why) = away(copies, rules.wanted) {
        return Move::Wait(why);
    }
    let Some(leader) = copies.iter().find(|copy| copy.leads) else {
        return Move::Wait("no copy leads right now".to_owned());
    };
    if let Some(copy) = copies.iter().find(|copy| copy.replace.is_some() && !copy.leads)
        && let Some(what) = copy.replace
    {
        let others = copies.iter().filter(|other| !other.leads && other.name != copy.name).count();
        if what == Replace::Disk && rules.strict && others == 0 {
            return Move::Impossible(format!(
                "{} is the only copy that confirms writes, and they would wait until it is built anew: scale to 3 first",
                copy.name
            ));
        }
        return Move::Replace(copy.name.clone(), what);
    }
    match leader.replace {
        None => Move::Done,
        Some(Replace::Disk) if copies.len() == 1 => Move::Impossible(format!(
            "{} is the only copy, and its disk holds the only data: scale to 3 first",
            leader.name
        )),
        Some(Replace::Pod) if copies.len() == 1 => Move::Replace(leader.name.clone(), Replace::Pod),
        Some(what) if !rules.told => Move::Replace(leader.name.clone(), what),
        Some(_) => match successor(copies, rules.strict) {
            Some(copy) => Move::HandOver(leader.name.clone(), copy.name.clone()),
            None => Move::Wait("no copy confirms writes right now; the primary waits for one".to_owned()),
        },
    }
}

/// A copy that can take over without losing a confirmed write.
pub fn successor(copies: &[Copy], strict: bool) -> Option<&Copy> {
    copies.iter().find(|copy| !copy.leads && copy.in_step && !copy.going && (copy.confirms || !strict))
}

/// What keeps the copies from being whole, if anything does.
pub fn away(copies: &[Copy], wanted: usize) -> Option<String> {
    if let Some(copy) = copies.iter().find(|copy| copy.going) {
        return Some(format!("{} is stopping", copy.name));
    }
    if let Some(copy) = copies.iter().find(|copy| !copy.in_step) {
        let state = if copy.ready { "not yet in step with the others" } else { "not ready" };
        return Some(format!("{} is {state}", copy.name));
    }
    let missing = wanted.saturating_sub(copies.len());
    match missing {
        0 => None,
        1 => Some("1 copy is missing".to_owned()),
        more => Some(format!("{more} copies are missing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POSTGRES: Rules = Rules { wanted: 3, strict: true, told: true };

    /// `a` leads and `c` confirms.
    fn three(replace: &[(&str, Replace)]) -> Vec<Copy> {
        ["a", "b", "c"]
            .map(|name| Copy {
                name: name.into(),
                leads: name == "a",
                ready: true,
                in_step: true,
                confirms: name == "c",
                going: false,
                replace: replace.iter().find(|(which, _)| *which == name).map(|(_, what)| *what),
            })
            .to_vec()
    }

    fn pods(names: &[&'static str]) -> Vec<Copy> {
        three(&names.iter().map(|name| (*name, Replace::Pod)).collect::<Vec<_>>())
    }

    #[test]
    fn copies_go_first_and_the_primary_hands_over_before_it_goes() {
        let said = |names: &[&'static str]| next(&pods(names), POSTGRES).said();
        assert_eq!(said(&["a", "b", "c"]).unwrap(), "b is started anew");
        assert_eq!(said(&["a", "c"]).unwrap(), "c is started anew");
        assert_eq!(said(&["a"]).unwrap(), "a hands its work to c");
        assert_eq!(said(&[]), None);
    }

    #[test]
    fn what_hands_over_by_itself_is_just_stopped() {
        let rules = Rules { told: false, strict: false, wanted: 3 };
        assert_eq!(next(&pods(&["a"]), rules), Move::Replace("a".into(), Replace::Pod));
    }

    #[test]
    fn the_next_waits_until_the_last_is_back() {
        for change in [
            (|copy: &mut Copy| copy.in_step = false) as fn(&mut Copy),
            |copy| copy.going = true,
            |copy| copy.confirms = false,
        ] {
            let mut copies = pods(&["a"]);
            change(&mut copies[2]);
            assert!(matches!(next(&copies, POSTGRES), Move::Wait(_)), "{copies:?}");
        }
        let mut fewer = pods(&["a"]);
        fewer.remove(1);
        assert_eq!(next(&fewer, POSTGRES), Move::Wait("1 copy is missing".into()));
    }

    #[test]
    fn nothing_is_done_before_everything_is_whole() {
        let mut copies = three(&[]);
        copies[1].in_step = false;
        assert_eq!(next(&copies, POSTGRES), Move::Wait("b is not yet in step with the others".into()));
    }

    #[test]
    fn a_broken_copy_is_replaced_at_once_but_never_the_disk_while_nobody_leads() {
        let mut copies = three(&[("b", Replace::Disk), ("c", Replace::Pod)]);
        copies[1].ready = false;
        copies[1].in_step = false;
        assert_eq!(next(&copies, POSTGRES), Move::Replace("b".into(), Replace::Disk));
        copies[0].leads = false;
        assert!(matches!(next(&copies, POSTGRES), Move::Wait(why) if why.contains("stays")));
        copies[1].replace = Some(Replace::Pod);
        assert_eq!(next(&copies, POSTGRES), Move::Replace("b".into(), Replace::Pod));
        copies[1].going = true;
        assert!(matches!(next(&copies, POSTGRES), Move::Wait(_)));
    }

    #[test]
    fn the_last_disk_with_the_data_is_never_thrown_away() {
        let mut two = three(&[("c", Replace::Disk)]);
        two.remove(1);
        let rules = Rules { wanted: 2, ..POSTGRES };
        assert!(matches!(next(&two, rules), Move::Impossible(why) if why.contains("scale to 3")));
        assert_eq!(next(&two, Rules { strict: false, ..rules }), Move::Replace("c".into(), Replace::Disk));
        two[1].ready = false;
        two[1].in_step = false;
        assert_eq!(next(&two, rules), Move::Replace("c".into(), Replace::Disk), "it confirms nothing as it is");
        let mut one = three(&[("a", Replace::Disk)]);
        one.truncate(1);
        assert!(matches!(next(&one, Rules { wanted: 1, ..POSTGRES }), Move::Impossible(_)));
        one[0].replace = Some(Replace::Pod);
        assert_eq!(next(&one, Rules { wanted: 1, ..POSTGRES }), Move::Replace("a".into(), Replace::Pod));
    }

    #[test]
    fn the_primarys_disk_is_replaced_after_it_handed_over() {
        assert_eq!(next(&three(&[("a", Replace::Disk)]), POSTGRES), Move::HandOver("a".into(), "c".into()));
    }
}
