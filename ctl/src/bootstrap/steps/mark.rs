//! The first change on a host: the mark that says whose it is.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::plan_of;
use crate::bootstrap::connect;
use crate::bootstrap::fault::Fault;
use crate::bootstrap::graph::{Plan, Work};
use crate::bootstrap::server::Server;
use crate::bootstrap::site::Site;
use crate::node::files::ApplyRequest;
use crate::node::types::{FileWrite, Marker, Report};
use crate::node::{BIN_DIR, MARKER};

/// Mark a host, and keep our program on it.
pub struct Mark(pub Arc<Server>);

impl Work for Mark {
    fn probe<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<Plan, Fault>> {
        Box::pin(async move {
            let mut items = Vec::new();
            if self.0.facts().leftovers.marker.as_ref() != Some(&site.marker(&self.0)) {
                items.push(format!("write {MARKER}"));
            }
            if !self.0.program.get().is_some_and(|path| path.starts_with(BIN_DIR)) {
                items.push(format!("keep hzctl in {BIN_DIR}"));
            }
            Ok(plan_of(items))
        })
    }

    fn act<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            write(&self.0, &site.marker(&self.0)).await?;
            connect::settle(site, &self.0).await
        })
    }
}

/// Note on the host that a whole cluster is served from it.
pub async fn served(site: &Site, server: &Server) -> Result<(), Fault> {
    write(server, &Marker { served: true, ..site.marker(server) }).await
}

async fn write(server: &Server, marker: &Marker) -> Result<(), Fault> {
    let act = "failed to mark the host";
    let content = serde_json::to_string_pretty(marker).map_err(|error| Fault::permanent(act, error))?;
    let file = FileWrite { path: MARKER.into(), content: content + "\n", mode: 0o644 };
    let request = ApplyRequest { files: vec![file], ..ApplyRequest::default() };
    let _: Report = server.node(act, &["apply"], &request).await?;
    Ok(())
}
