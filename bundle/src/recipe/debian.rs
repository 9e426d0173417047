//! Where Debian's packages come from: the archive that this machine's apt already uses, so that a
//! mirror or proxy set up here serves other releases as well. No address is written down.

use std::collections::BTreeSet;
use std::path::Path;

use super::tool::Tool;
use crate::product::RecipeError;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// `sources.list` lines for a release, with its updates and security fixes.
pub(super) fn sources(suite: &str) -> Result<Vec<String>, RecipeError> {
    let act = format!("find where this machine gets Debian {suite} from");
    if !Path::new(KEYRING).exists() {
        return Err(RecipeError::Missing {
            program: KEYRING.into(),
            act,
            hint: "apt-get install debian-archive-keyring".into(),
        });
    }
    // Unlike the package lists this is there on a machine whose apt was never updated.
    let told = Tool::new("apt-get", act.as_str()).args(["-oDebug::NoLocking=true", "update", "--print-uris"]).run()?;
    let (main, security) = archives(&told);
    if main.is_empty() {
        return Err(RecipeError::failed(act, "its apt names no archive of Debian; build on Debian"));
    }
    let line = |address: &str, suite: &str| format!("deb [signed-by={KEYRING}] {address} {suite} main");
    let mut lines = Vec::new();
    for address in &main {
        lines.push(line(address, suite));
        lines.push(line(address, &format!("{suite}-updates")));
    }
    lines.extend(security.iter().map(|address| line(address, &format!("{suite}-security"))));
    Ok(lines)
}

/// The archives of Debian itself, and those of its security fixes. Told from the archives of others
/// by the suites that only Debian has.
fn archives(told: &str) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let suites: BTreeSet<(&str, &str)> = told.lines().filter_map(archive_and_suite).collect();
    let having = |suffix: &str| -> BTreeSet<&str> {
        suites.iter().filter(|(_, suite)| suite.ends_with(suffix)).map(|(archive, _)| *archive).collect()
    };
    let security = having("-security");
    let mut main = having("-updates");
    if main.is_empty() {
        let named = |archive: &&str| archive.ends_with("/debian") && !security.contains(archive);
        main = suites.iter().map(|(archive, _)| *archive).filter(named).collect();
    }
    (main, security)
}

/// `'http://a.example/debian/dists/bookworm/InRelease' …` → archive and suite.
fn archive_and_suite(line: &str) -> Option<(&str, &str)> {
    let address = line.strip_prefix('\'')?.split('\'').next()?;
    let (archive, rest) = address.split_once("/dists/")?;
    Some((archive, rest.split('/').next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_debian_itself_is_taken_from_the_machines_sources() {
        let told = "'http://a.example/debian/dists/bookworm/InRelease' x 0\n\
                    'http://a.example/debian/dists/bookworm-updates/InRelease' x 0\n\
                    'http://a.example/debian-security/dists/bookworm-security/InRelease' x 0\n\
                    'https://else.example/linux/debian/dists/bookworm/InRelease' x 0\n";
        let (main, security) = archives(told);
        assert_eq!(Vec::from_iter(main), ["http://a.example/debian"]);
        assert_eq!(Vec::from_iter(security), ["http://a.example/debian-security"]);
    }

    #[test]
    fn a_machine_without_updates_still_has_its_archive() {
        let (main, security) = archives("'http://a.example/debian/dists/trixie/InRelease' x 0\nnoise\n");
        assert_eq!(Vec::from_iter(main), ["http://a.example/debian"]);
        assert!(security.is_empty());
    }
}
