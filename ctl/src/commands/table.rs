//! Tables without lines, as people know them from kubectl, and the short words in them.

use comfy_table::{CellAlignment, Table, presets};
use hz_crds::Timestamp;
use serde::Serializer;

/// A table with a header and no lines.
pub fn plain(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table
}

/// Put numbers to the right.
pub fn right(table: &mut Table, columns: &[usize]) {
    for column in columns {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// The table without blanks at the ends of lines.
pub fn trimmed(table: &Table) -> String {
    table
        .lines()
        .map(|line| line.strip_prefix(" ").unwrap_or(&line).trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

/// A hyphen where there is nothing, so that columns can be told apart by blanks.
pub fn or_hyphen(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or("-").to_owned()
}

/// A time as RFC 3339, for rows in JSON and YAML.
pub fn time<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(time),
        None => serializer.serialize_none(),
    }
}

/// How long ago: `40s`, `12m`, `5h`, `3d`. Each unit stays until two of the next are full.
pub fn age(since: Option<Timestamp>, now: Timestamp) -> String {
    let Some(since) = since else { return "-".to_owned() };
    // A clock that runs ahead of ours makes nothing younger than new.
    let seconds = now.duration_since(since).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// How long ago a moment was that a status tells; `never` if it has not come.
pub fn ago(since: Option<&str>, now: Timestamp) -> String {
    let since = since.and_then(|since| since.parse().ok());
    since.map_or_else(|| "never".to_owned(), |since| age(Some(since), now))
}

/// How long until a moment that a status tells: `in 5h`; `due` once it has come.
pub fn ahead(until: Option<&str>, now: Timestamp) -> String {
    match until.and_then(|until| until.parse::<Timestamp>().ok()) {
        None => "-".to_owned(),
        Some(until) if until <= now => "due".to_owned(),
        Some(until) => format!("in {}", age(Some(now), until)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_in_one_unit() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        for (seconds, told) in
            [(0, "0s"), (119, "119s"), (120, "2m"), (7_199, "119m"), (7_200, "2h"), (172_800, "2d"), (-5, "0s")]
        {
            let since = Timestamp::from_second(1_000_000 - seconds).unwrap();
            assert_eq!(age(Some(since), now), told);
        }
        assert_eq!(age(None, now), "-");
    }

    #[test]
    fn a_moment_of_a_status_is_ago_ahead_or_never() {
        let now = "2026-03-01T12:00:00Z".parse().unwrap();
        assert_eq!(ago(Some("2026-03-01T10:00:00Z"), now), "2h");
        assert_eq!((ago(None, now), ago(Some("soon"), now)), ("never".to_owned(), "never".to_owned()));
        assert_eq!(ahead(Some("2026-03-01T14:00:00Z"), now), "in 2h");
        assert_eq!(ahead(Some("2026-03-01T11:00:00Z"), now), "due");
        assert_eq!(ahead(None, now), "-");
    }
}
