//! Figures from measurements: pure.

/// The middle one; of an even number the middle of the two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// The least value that so many percent of all do not exceed. Never between two: of twenty, the 95th is the nineteenth.
pub fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or_default()
}

/// A time without an acknowledged write, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The last one before.
    pub from: u64,
    /// The first one after.
    pub to: u64,
}

impl Gap {
    /// In seconds.
    pub fn seconds(self) -> f64 {
        self.to.saturating_sub(self.from) as f64 / 1000.0
    }
}

/// Times between acknowledged writes.
pub fn gaps(acknowledged: &[u64]) -> Vec<Gap> {
    acknowledged.windows(2).map(|pair| Gap { from: pair[0], to: pair[1] }).collect()
}

/// How long after a fault a gap may begin that is still its own: what was on its way is answered yet.
const REACH: u64 = 3000;
/// Rows for less than that between two gaps do not make them two.
const BREATH: u64 = 1000;

/// The gap that a fault at `at` made: the first that it lies in or that begins right after it, if it is longer than what is
/// usual (ms) when nothing happens; with those that follow it at once. None means that the fault cost nothing that could be
/// told from a busy moment.
pub fn matched(gaps: &[Gap], at: u64, usual: u64) -> Option<Gap> {
    let mut long = gaps.iter().filter(|gap| gap.to - gap.from > usual);
    let mut own = *long.find(|gap| gap.to > at && gap.from <= at + REACH)?;
    for next in long {
        if next.from > own.to + BREATH {
            break;
        }
        own.to = next.to;
    }
    (own.from <= at + REACH).then_some(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_of_two_is_their_middle() {
        assert_eq!(median(vec![4.0, 2.0]), 3.0);
        assert_eq!(median(vec![9.0, 4.0, 2.0]), 4.0);
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let twenty: Vec<f64> = (1..=20).rev().map(f64::from).collect();
        assert_eq!(percentile(&twenty, 50.0), 10.0);
        assert_eq!(percentile(&twenty, 95.0), 19.0);
        assert_eq!(percentile(&twenty, 99.0), 20.0);
        assert_eq!(percentile(&twenty, 100.0), 20.0);
        assert_eq!(percentile(&[7.0], 1.0), 7.0);
        assert_eq!(percentile(&[], 50.0), 0.0);
    }

    #[test]
    fn a_gap_is_counted_only_with_its_fault() {
        // A busy moment, then a fault at 20 s that costs 3 s, then another busy moment.
        let all = gaps(&[1000, 6000, 6100, 6400, 19_900, 20_050, 23_050, 23_500, 24_000, 24_400, 30_000, 30_100]);
        let all: Vec<Gap> = all.into_iter().filter(|gap| gap.from != 6400).collect();
        assert_eq!(matched(&all, 20_000, 500), Some(Gap { from: 20_050, to: 23_050 }));
        // It lies in the gap.
        assert_eq!(matched(&all, 21_000, 500), Some(Gap { from: 20_050, to: 23_050 }));
        // One row in between does not make it two.
        let torn = gaps(&[900, 4000, 4100, 7000, 7100]);
        assert_eq!(matched(&torn, 1000, 500), Some(Gap { from: 900, to: 7000 }));
        // Nothing that is longer than usual: the fault cost nothing.
        assert_eq!(matched(&gaps(&[1000, 1100, 1200, 1300, 9000]), 1150, 10_000), None);
        // The next one begins too late to be its own.
        assert_eq!(matched(&gaps(&[1000, 1100, 1500, 2000, 2500, 3000, 3500, 4000, 4500, 9000]), 1050, 600), None);
        assert_eq!(matched(&[], 1, 1), None);
    }
}
