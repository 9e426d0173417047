//! Where the nodes are learned from: the Kubernetes API, or a file.

mod api;
mod file;

use std::sync::Arc;

pub use self::{
    api::{Unwatchable, watch_api},
    file::watch_file,
};
use crate::node::Node;

/// The nodes, once they are known; sorted by name.
pub type Nodes = Option<Arc<Vec<Node>>>;
