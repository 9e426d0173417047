//! When the next backup or drill is due. Pure: the clock is the caller's.

use cronexpr::{Crontab, FallbackTimezoneOption, ParseOptions};

use crate::{Timestamp, Unfit};

/// Reads five fields as in crontab(5), in UTC unless a time zone follows.
pub fn parse(field: &str, text: &str) -> Result<Crontab, Unfit> {
    let mut options = ParseOptions::default();
    options.fallback_timezone_option = FallbackTimezoneOption::UTC;
    cronexpr::parse_crontab_with(text, options).map_err(|error| {
        let error = error.to_string();
        let said = error.lines().last().unwrap_or_default().trim().trim_start_matches('^').trim().to_owned();
        Unfit::refused(
            field,
            text,
            if said.is_empty() { "this is no schedule".to_owned() } else { said },
            "write minute, hour, day of month, month and day of week, such as `0 1 * * 0`",
        )
    })
}

/// The first time after `since`.
pub fn next(crontab: &Crontab, since: Timestamp) -> Option<Timestamp> {
    crontab.find_next(cronexpr::MakeTimestamp(since)).ok().map(|at| at.timestamp())
}
