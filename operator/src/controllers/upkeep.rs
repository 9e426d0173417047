//! Copies that run with an older description of their pod, or in too little room, are replaced one by one.

use hz_crds::operation::decide::CopySeen;
use hz_crds::operation::moves::{self, Copy, Move, Replace, Rules};
use hz_crds::quantity::Amount;
use hz_crds::shared::Settings;

use super::hands::Growth;
use super::{Context, hands};
use crate::engine::Error;

/// Whether any copy has to be replaced, as far as the watches know.
pub fn is_due(copies: &[CopySeen], room: Option<&Amount>) -> bool {
    copies.iter().any(|seen| seen.stale || is_small(seen, room))
}

/// A copy in less room than the spec asks for.
fn is_small(seen: &CopySeen, room: Option<&Amount>) -> bool {
    let (Some((_, there)), Some(wanted)) = (&seen.volume, room) else { return false };
    there.units() < wanted.units()
}

/// Bytes that a copy lacks.
fn growth(seen: &CopySeen, room: Option<&Amount>) -> i128 {
    let there = seen.volume.as_ref().and_then(|(_, there)| there.units()).unwrap_or_default();
    room.and_then(Amount::units).map_or(0, |wanted| (wanted - there).max(0))
}

/// What came of a look: what is said of it, and a handover that is to be done by whoever knows how.
pub enum Looked {
    /// Said, and done.
    Said(Settings),
    /// The first should hand its work to the second.
    HandOver(String, String),
}

/// Do the next move, if there is one.
pub async fn carry_out(
    ctx: &Context,
    namespace: &str,
    copies: &[CopySeen],
    room: Option<&Amount>,
    rules: Rules,
) -> Result<Looked, Error> {
    let mut marked: Vec<Copy> = Vec::new();
    let mut growing = None;
    for seen in copies {
        let mut replace = seen.stale.then_some(Replace::Pod);
        if let Some(wanted) = room.filter(|_| is_small(seen, room)) {
            match hands::grow_in_place(ctx, namespace, &seen.copy.name, wanted, false).await? {
                Growth::Grows => growing = Some(format!("the volume of {} grows to {wanted}", seen.copy.name)),
                Growth::Cannot => replace = Some(Replace::Disk),
                Growth::Refused(why) => return Ok(Looked::Said(Settings::Failed(why))),
            }
        }
        marked.push(Copy { replace, ..seen.copy.clone() });
    }
    if marked.iter().all(|copy| copy.replace.is_none()) {
        return Ok(Looked::Said(growing.map_or(Settings::InForce, Settings::OnTheirWay)));
    }
    let next = moves::next(&marked, rules);
    let said = next.said().unwrap_or_default();
    match next {
        Move::HandOver(from, to) => return Ok(Looked::HandOver(from, to)),
        Move::Impossible(why) => return Ok(Looked::Said(Settings::Failed(why))),
        Move::Done | Move::Wait(_) => {}
        Move::Replace(name, what) => {
            if let Some(seen) = copies.iter().find(|seen| seen.copy.name == name) {
                if what == Replace::Disk
                    && let Some(why) = hands::over_quota(ctx, namespace, growth(seen, room))
                {
                    return Ok(Looked::Said(Settings::Failed(why)));
                }
                let volume = seen.volume.as_ref().filter(|_| what == Replace::Disk).map(|(uid, _)| uid.as_str());
                tracing::info!(namespace, step = said, "replacing a copy");
                hands::replace(ctx, namespace, &name, &seen.pod, volume).await?;
            }
        }
    }
    Ok(Looked::Said(Settings::OnTheirWay(said)))
}
