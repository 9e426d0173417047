//! The right name nearest to a wrong one.

/// What other tools call things, and what they are called here.
const SYNONYMS: [(&str, &str); 24] = [
    ("master", "ControlPlane"),
    ("controller", "ControlPlane"),
    ("server", "ControlPlane"),
    ("agent", "Worker"),
    ("node", "Worker"),
    ("minion", "Worker"),
    ("servers", "hosts"),
    ("nodes", "hosts"),
    ("machines", "hosts"),
    ("ip", "address"),
    ("ipaddress", "address"),
    ("privateaddress", "address"),
    ("hostname", "name"),
    ("keypath", "identityFile"),
    ("keyfile", "identityFile"),
    ("privatekeyfile", "identityFile"),
    ("podsubnet", "podCIDR"),
    ("servicesubnet", "serviceCIDR"),
    ("clustercidr", "podCIDR"),
    ("ignore", "waive"),
    ("skip", "waive"),
    ("cni", "provider"),
    ("archive", "bundle"),
    ("username", "user"),
];

/// The nearest of these names, if one is near enough to be meant.
pub fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |name: &str| name.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_lowercase();
    let wrong = plain(wrong);
    let meant = SYNONYMS.iter().find(|(other, _)| *other == wrong).map(|(_, ours)| *ours);
    let mut best: Option<(f64, &'a str)> = None;
    for name in names {
        if meant == Some(name) || plain(name) == wrong {
            return Some(name);
        }
        let right = plain(name);
        // `port` for `httpPort`: as good as one slip in three letters.
        let within = wrong.len() >= 4 && (right.contains(&wrong) || right.len() >= 4 && wrong.contains(&right));
        let likeness = strsim::normalized_damerau_levenshtein(&wrong, &right).max(if within { 0.66 } else { 0.0 });
        if likeness >= 0.6 && best.is_none_or(|(most, _)| likeness > most) {
            best = Some((likeness, name));
        }
    }
    best.map(|(_, name)| name)
}

/// `a`, `a or b`, `a, b or c`.
pub fn one_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.as_slice() {
        [] => String::new(),
        [only] => format!("`{only}`"),
        [most @ .., last] => {
            let most: Vec<String> = most.iter().map(|name| format!("`{name}`")).collect();
            format!("{} or `{last}`", most.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_case_or_hyphen_finds_its_name() {
        let roles = ["ControlPlane", "Worker"];
        assert_eq!(nearest("control-plane", roles), Some("ControlPlane"));
        assert_eq!(nearest("workr", roles), Some("Worker"));
        assert_eq!(nearest("master", roles), Some("ControlPlane"));
        assert_eq!(nearest("postgres", roles), None);
        assert_eq!(nearest("port", ["httpPort"]), Some("httpPort"));
    }
}
