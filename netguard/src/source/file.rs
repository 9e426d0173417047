//! Nodes from a file: a JSON list of `{"name", "addresses", "podCIDRs"}`.
//!
//! For sites that use netguard without a Kubernetes API (a tool of theirs writes the file), and for tests. The file is
//! looked at once a second; replace it with a rename. A file that cannot be read changes nothing.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};
use tracing::warn;

use super::Nodes;
use crate::node::{Listed, Node};

/// Follow a nodes file.
pub fn watch_file(path: PathBuf) -> watch::Receiver<Nodes> {
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        let mut complaint = String::new();
        while !sender.is_closed() {
            match read(&path) {
                Ok(nodes) => {
                    complaint.clear();
                    sender.send_if_modified(|known| {
                        let new = known.as_deref() != Some(&nodes);
                        if new {
                            *known = Some(Arc::new(nodes));
                        }
                        new
                    });
                }
                Err(why) if why != complaint => {
                    warn!("{}: {why}; the nodes stay as they were", path.display());
                    complaint = why;
                }
                Err(_) => {}
            }
            sleep(Duration::from_secs(1)).await;
        }
    });
    receiver
}

fn read(path: &PathBuf) -> Result<Vec<Node>, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let listed: Vec<Listed> = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let mut nodes: Vec<Node> = listed.iter().map(Node::from).collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_in_the_file_is_told_with_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nodes.json");
        fs::write(&path, r#"[{"name": "a", "adresses": []}]"#).unwrap();
        let told = read(&path).unwrap_err();
        assert!(told.contains("unknown field `adresses`") && told.contains("line 1"), "{told}");
    }

    #[test]
    fn nodes_come_sorted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nodes.json");
        fs::write(&path, r#"[{"name":"b","addresses":["10.0.0.2"]},{"name":"a","addresses":["10.0.0.1"],"podCIDRs":["10.244.0.0/24"]}]"#)
            .unwrap();
        let nodes = read(&path).unwrap();
        assert_eq!(nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }
}
