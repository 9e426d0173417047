//! Programs, packages and charts on a host, by hash.

use std::sync::Arc;

use futures::future::BoxFuture;
use hz_bundle::{Kind, Manifest};

use super::{copy, plan_of};
use crate::bootstrap::connect::path_of;
use crate::bootstrap::fault::Fault;
use crate::bootstrap::graph::{Plan, Work};
use crate::bootstrap::server::Server;
use crate::bootstrap::site::Site;
use crate::cluster::Role;
use crate::node::types::{FileTask, InstallRequest, Report};

/// The bundle's word for a role.
pub fn bundle_role(role: Role) -> hz_bundle::Role {
    match role {
        Role::ControlPlane => hz_bundle::Role::ControlPlane,
        Role::Worker => hz_bundle::Role::Worker,
    }
}

fn tasks(manifest: &Manifest, role: Role, kinds: &[Kind]) -> Vec<FileTask> {
    let entries = manifest.components_for(bundle_role(role)).filter(|entry| kinds.contains(&entry.kind));
    let task = |entry: &hz_bundle::Entry, file: &hz_bundle::FileEntry| FileTask {
        path: path_of(entry.kind, &file.path),
        mode: file.permissions().unwrap_or(0o644),
        sha256: file.sha256.clone(),
        blob: file.blob.hex().to_owned(),
    };
    entries.flat_map(|entry| entry.files.iter().map(move |file| task(entry, file))).collect()
}

/// Programs and charts that hosts of a role have.
pub fn targets(manifest: &Manifest, role: Role) -> Vec<FileTask> {
    tasks(manifest, role, &[Kind::Binary, Kind::Chart])
}

/// Packages that hosts of a role have.
pub fn packages(manifest: &Manifest, role: Role) -> Vec<String> {
    tasks(manifest, role, &[Kind::Deb]).iter().map(|task| package_of(&task.path).to_owned()).collect()
}

/// `…/haproxy_2.6.12-1_amd64.deb` is package `haproxy`.
fn package_of(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.split('_').next().unwrap_or(name)
}

/// Programs, packages and charts on one host.
pub struct Programs(pub Arc<Server>);

impl Programs {
    fn request(&self, site: &Site) -> InstallRequest {
        let (manifest, role, facts) = (site.bundle.manifest(), self.0.spec.role, self.0.facts());
        let mut files = targets(manifest, role);
        files.retain(|task| facts.files.get(&task.path) != Some(&task.sha256));
        // A package that is there in any version is the administrator's; only what is missing is brought.
        let mut debs = tasks(manifest, role, &[Kind::Deb]);
        debs.retain(|task| !facts.packages.contains_key(package_of(&task.path)));
        InstallRequest { source: copy::source(site, &self.0), files, debs }
    }
}

impl Work for Programs {
    fn probe<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<Plan, Fault>> {
        Box::pin(async move {
            let request = self.request(site);
            let programs = request.files.iter().map(|task| format!("install {}", task.path));
            let packages = request.debs.iter().map(|task| format!("install package {}", package_of(&task.path)));
            Ok(plan_of(programs.chain(packages).collect()))
        })
    }

    fn act<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let request = self.request(site);
            let _: Report = self.0.node("failed to install programs", &["install"], &request).await?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_named_by_its_file() {
        assert_eq!(package_of("/var/lib/hzctl/debs/liblua5.3-0_5.3.6-2_amd64.deb"), "liblua5.3-0");
    }
}
