//! Proof that rows are the ones that were written: each digest is made of the digest of the acknowledged row before it, of the
//! row's number and of what it holds, so that no row can be changed, left out or swapped without its followers telling.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

/// How many rows a message names.
const NAMED: usize = 10;

/// A row that was acknowledged, as the writer's log tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Its number.
    pub n: u64,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// How many there were with it.
    pub count: usize,
    /// Its digest.
    pub digest: String,
}

/// A row as it is in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    n: u64,
    payload: String,
    digest: String,
}

/// Acknowledged rows of a log.
pub fn acknowledged(log: &str) -> Vec<Ack> {
    let ack = |line: &str| {
        let mut words = line.strip_prefix("ack ")?.split(' ');
        let (n, at) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let (count, digest) = (words.next()?.parse().ok()?, words.next()?.trim());
        // A line that was cut is told again as a whole, or was never told.
        (digest.len() == 64).then(|| Ack { n, at, count, digest: digest.to_owned() })
    };
    log.lines().filter_map(ack).collect()
}

/// Rows as psql prints them: `number|payload|digest`.
pub fn rows(text: &str) -> Result<Vec<Row>> {
    let row = |line: &str| -> Option<Row> {
        let mut fields = line.trim().split('|');
        let row = Row {
            n: fields.next()?.parse().ok()?,
            payload: fields.next()?.to_owned(),
            digest: fields.next()?.to_owned(),
        };
        fields.next().is_none().then_some(row)
    };
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| row(line).with_context(|| format!("this is no row of the writer's: {line}"))).collect()
}

/// The digest that a row must have.
fn digest(before: &str, n: u64, payload: &str) -> String {
    Sha256::digest(format!("{before}{n}{payload}")).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every acknowledged row is there, once, and no row is other than it was written, acknowledged or not.
pub fn verify(acks: &[Ack], rows: &[Row]) -> Result<()> {
    for (at, ack) in acks.iter().enumerate() {
        ensure!(ack.count == at + 1, "the writer's log has a gap: its row {} is told as number {}", at + 1, ack.count);
    }
    let mut there: BTreeMap<u64, &Row> = BTreeMap::new();
    let twice: Vec<u64> = rows.iter().filter(|row| there.insert(row.n, row).is_some()).map(|row| row.n).collect();
    none(&twice, "rows are there more than once")?;
    let missing: Vec<u64> = acks.iter().map(|ack| ack.n).filter(|n| !there.contains_key(n)).collect();
    none(&missing, "acknowledged rows are lost")?;
    let told: BTreeMap<u64, &str> = acks.iter().map(|ack| (ack.n, ack.digest.as_str())).collect();
    let end = told.last_key_value().map_or(0, |(n, _)| *n);
    let changed: Vec<u64> = rows
        .iter()
        .filter(|row| {
            let before = told.range(..row.n).next_back().map_or("", |(_, digest)| *digest);
            let written = told.get(&row.n).is_none_or(|told| *told == row.digest);
            let follows = |before: &str| digest(before, row.n, &row.payload) == row.digest;
            // The writer went on for a moment after its log was read: which of those rows were acknowledged is not known, so
            // each may follow any of them.
            let later = || there.range(end + 1..row.n.max(end + 1)).any(|(_, before)| follows(&before.digest));
            !written || !(follows(before) || later())
        })
        .map(|row| row.n)
        .collect();
    none(&changed, "rows are not as they were written")
}

fn none(found: &[u64], what: &str) -> Result<()> {
    if found.is_empty() {
        return Ok(());
    }
    let distinct: BTreeSet<&u64> = found.iter().collect();
    let named: Vec<&&u64> = distinct.iter().take(NAMED).collect();
    bail!("{} {what}: {named:?}", distinct.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows 1 to 5, of which the third was not acknowledged but is there.
    fn written() -> (Vec<Ack>, Vec<Row>) {
        let (mut acks, mut rows, mut before) = (Vec::new(), Vec::new(), String::new());
        for n in 1..=5 {
            let payload = format!("p{n}-7");
            let digest = digest(&before, n, &payload);
            rows.push(Row { n, payload, digest: digest.clone() });
            if n != 3 {
                acks.push(Ack { n, at: n * 1000, count: acks.len() + 1, digest: digest.clone() });
                before = digest;
            }
        }
        (acks, rows)
    }

    fn said(acks: &[Ack], rows: &[Row]) -> String {
        verify(acks, rows).unwrap_err().to_string()
    }

    #[test]
    fn what_was_written_and_is_there_is_proved() {
        let (acks, mut rows) = written();
        verify(&acks, &rows).unwrap();
        // What was not acknowledged may be lost; the order is the database's.
        rows.remove(2);
        rows.reverse();
        verify(&acks, &rows).unwrap();
    }

    #[test]
    fn the_digest_is_the_one_that_the_script_makes() {
        // printf '%s' 1p1-2-3 | sha256sum
        assert_eq!(digest("", 1, "p1-2-3"), "ffcd7c1c2a27154141cb192f36a5bd71e8e684d0fd2a716fb2ac747b5012a66f");
    }

    #[test]
    fn a_lost_a_changed_and_a_doubled_row_are_found() {
        let (acks, rows) = written();
        assert_eq!(said(&acks, &rows[1..]), "1 acknowledged rows are lost: [1]");
        let mut doubled = rows.clone();
        doubled.push(rows[4].clone());
        assert_eq!(said(&acks, &doubled), "1 rows are there more than once: [5]");
        let mut changed = rows.clone();
        changed[1].payload = "other".into();
        assert_eq!(said(&acks, &changed), "1 rows are not as they were written: [2]");
    }

    #[test]
    fn a_row_that_was_changed_with_its_digest_is_found_too() {
        let (acks, mut rows) = written();
        rows[1].payload = "other".into();
        rows[1].digest = digest(&acks[0].digest, 2, "other");
        assert_eq!(said(&acks, &rows), "1 rows are not as they were written: [2]");
    }

    #[test]
    fn a_row_that_nobody_was_told_of_must_be_right_as_well() {
        let (acks, mut rows) = written();
        rows[2].payload = "other".into();
        assert_eq!(said(&acks, &rows), "1 rows are not as they were written: [3]");
    }

    #[test]
    fn rows_that_were_written_after_the_log_was_read_must_follow_each_other() {
        let (mut acks, mut rows) = written();
        // Rows 4 and 5 were acknowledged, and nobody knows.
        acks.truncate(2);
        verify(&acks, &rows).unwrap();
        rows[4].payload = "other".into();
        assert_eq!(said(&acks, &rows), "1 rows are not as they were written: [5]");
    }

    #[test]
    fn a_log_that_lost_lines_proves_nothing() {
        let (mut acks, rows) = written();
        acks.remove(0);
        assert!(said(&acks, &rows).contains("log has a gap"));
    }

    #[test]
    fn only_whole_lines_of_acknowledged_rows_count() {
        let digest = "a".repeat(64);
        let log =
            format!("ack 1 1000 1 {digest}\nlost 2 1500 server closed the connection\nack 3 4000 2 {digest}\nack 4 41");
        let seen: Vec<(u64, u64)> = acknowledged(&log).iter().map(|ack| (ack.n, ack.at)).collect();
        assert_eq!(seen, [(1, 1000), (3, 4000)]);
    }

    #[test]
    fn rows_are_read_and_nonsense_is_shown() {
        assert_eq!(rows("1|p2|ab\n\n").unwrap(), [Row { n: 1, payload: "p2".into(), digest: "ab".into() }]);
        assert!(rows("ERROR: no").unwrap_err().to_string().contains("ERROR: no"));
    }
}
