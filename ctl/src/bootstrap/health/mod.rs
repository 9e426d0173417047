//! How a running cluster is, in plain words. Deciding is pure: what the API and the hosts say in, a verdict out.

pub mod look;

use serde::Serialize;

/// One thing that is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// Id of the check, such as `HZ-HC-NODE`.
    pub id: &'static str,
    /// What it belongs to: `nodes`, `etcd`, `add-ons`, `hospital`.
    pub group: &'static str,
    /// Its name.
    pub name: String,
    /// Whether all is well.
    pub well: bool,
    /// How it is, in words.
    pub state: String,
    /// What to do, if anything.
    pub fix: String,
}

impl Item {
    /// All is well.
    pub fn well(id: &'static str, group: &'static str, name: impl Into<String>, state: impl Into<String>) -> Self {
        Item { id, group, name: name.into(), well: true, state: state.into(), fix: String::new() }
    }

    /// Something is wrong.
    pub fn wrong(
        id: &'static str,
        group: &'static str,
        name: impl Into<String>,
        state: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Item { id, group, name: name.into(), well: false, state: state.into(), fix: fix.into() }
    }
}

/// How the cluster is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Name of the cluster.
    pub cluster: String,
    /// Whether all is well.
    pub well: bool,
    /// Everything that was looked at.
    pub items: Vec<Item>,
}

impl Health {
    /// From what was looked at.
    pub fn of(cluster: &str, items: Vec<Item>) -> Self {
        Health { cluster: cluster.to_owned(), well: items.iter().all(|item| item.well), items }
    }
}

/// For people: a line a group that is well, a line for each thing that is not.
pub fn table(health: &Health) -> String {
    let mut lines = Vec::new();
    let mut groups: Vec<&str> = health.items.iter().map(|item| item.group).collect();
    groups.dedup();
    for group in groups {
        let items: Vec<&Item> = health.items.iter().filter(|item| item.group == group).collect();
        let well = items.iter().filter(|item| item.well).count();
        lines.push(format!("{:<16}{well} of {} well", group, items.len()));
        for item in items {
            let mark = if item.well { "  " } else { "! " };
            lines.push(format!("  {mark}{:<28} {}", item.name, item.state));
            if !item.well && !item.fix.is_empty() {
                lines.push(format!("      → {} [{}]", item.fix, item.id));
            }
        }
    }
    let wrong = health.items.iter().filter(|item| !item.well).count();
    lines.push(match wrong {
        0 => format!("Cluster {} is well.", health.cluster),
        1 => format!("Cluster {}: 1 thing is not well.", health.cluster),
        many => format!("Cluster {}: {many} things are not well.", health.cluster),
    });
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_what_to_do() {
        let items = vec![
            Item::well("HZ-HC-NODE", "nodes", "cp-1", "ready"),
            Item::wrong("HZ-HC-NODE", "nodes", "cp-2", "silent", "see whether it is up"),
        ];
        let text = table(&Health::of("st-anna", items));
        assert!(text.contains("1 of 2 well") && text.contains("→ see whether it is up [HZ-HC-NODE]"), "{text}");
        assert!(text.ends_with("Cluster st-anna: 1 thing is not well."), "{text}");
    }
}
