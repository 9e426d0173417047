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
    let told = Tool::new("apt-get", act.as_str())
        .args(["indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(LABEL)", "Identifier: Packages"])
        .run()?;
    let (main, security) = archives(&told);
    if main.is_empty() {
        return Err(RecipeError::failed(
            act,
            "its apt has no Debian archive with a package list; run apt-get update, or build on Debian",
        ));
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

/// The archives of Debian itself, and those of its security fixes.
fn archives(told: &str) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let (mut main, mut security) = (BTreeSet::new(), BTreeSet::new());
    for line in told.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some(address), Some("Debian"), Some("Debian")) => main.insert(address),
            (Some(address), Some("Debian"), Some("Debian-Security")) => security.insert(address),
            _ => false,
        };
    }
    (main, security)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_debian_itself_is_taken_from_the_machines_sources() {
        let told = "http://a.example/debian/ Debian Debian\nhttp://a.example/debian/ Debian Debian\n\
                    http://a.example/debian-security/ Debian Debian-Security\nhttps://else.example/ Other Other\n";
        let (main, security) = archives(told);
        assert_eq!(Vec::from_iter(main), ["http://a.example/debian/"]);
        assert_eq!(Vec::from_iter(security), ["http://a.example/debian-security/"]);
    }
}
