//! Debian keeps no old versions, so a list that names one falls behind. A newer patch of the same
//! series is taken and told; anything else stops the build before something is mislabelled.

use std::cmp::Ordering;

/// How a package compares with what the list says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// What the list says.
    Same,
    /// A later patch of it; carries the upstream version.
    Later(String),
    /// Something else; carries the upstream version.
    Other(String),
}

/// Compares a Debian version (`1:17.12-0+deb13u1`) with the upstream version that a list declares.
pub(super) fn compare(declared: &str, debian: &str) -> Found {
    let found = upstream(debian);
    let declared = declared.trim_start_matches('v');
    if found == declared || found.strip_prefix(declared).is_some_and(|rest| rest.starts_with('.')) {
        return Found::Same;
    }
    let (want, have) = (numbers(declared), numbers(&found));
    // Two numbers in all (17.12): the first is the series. Three (8.1.4): the first two are.
    let series = want.len().saturating_sub(1).max(1);
    let same_series = have.len() >= series && have[..series] == want[..series];
    match have.cmp(&want) {
        Ordering::Greater if same_series => Found::Later(found),
        _ => Found::Other(found),
    }
}

/// `1:8.1.4+dfsg1-0+deb13u1` → `8.1.4`.
fn upstream(debian: &str) -> String {
    let version = debian.split_once(':').map_or(debian, |(_, rest)| rest);
    let version = version.rsplit_once('-').map_or(version, |(upstream, _)| upstream);
    let end = version.find(['+', '~']).unwrap_or(version.len());
    version[..end].to_owned()
}

fn numbers(version: &str) -> Vec<u64> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_declared_version_is_the_same_whatever_debian_puts_around_it() {
        assert_eq!(compare("17.12", "17.12-0+deb13u1"), Found::Same);
        assert_eq!(compare("1.12.7", "1.12.7+dfsg-4"), Found::Same);
        assert_eq!(compare("13", "13.8+deb13u2"), Found::Same);
        assert_eq!(compare("2.0", "1:2.0-1"), Found::Same);
    }

    #[test]
    fn a_later_patch_of_the_series_is_taken_and_told() {
        assert_eq!(compare("17.12", "17.13-0+deb13u1"), Found::Later("17.13".into()));
        assert_eq!(compare("8.1.4", "8.1.10+dfsg1-0+deb13u1"), Found::Later("8.1.10".into()));
    }

    #[test]
    fn another_series_or_an_older_version_is_refused() {
        assert_eq!(compare("17.12", "18.1-1"), Found::Other("18.1".into()));
        assert_eq!(compare("8.1.4", "8.2.0-1"), Found::Other("8.2.0".into()));
        assert_eq!(compare("17.12", "17.11-1"), Found::Other("17.11".into()));
    }
}
