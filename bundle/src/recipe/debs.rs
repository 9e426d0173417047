//! Debian packages for hosts, with all they need beyond what every host has.
//!
//! apt works in a state of its own for the hosts' release: this machine's packages are neither
//! asked nor touched.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::debian;
use super::debian_root::accept_version;
use super::tool::Tool;
use crate::component::{Component, DebsBuild};
use crate::product::{Context, ProducedFile, Product, RecipeError};

pub(super) const RECIPE: &str = "debs/2";

/// What every Debian has, in apt's pattern language. apt counts itself in, but a host made without it
/// lacks also what it brings, libstdc++ among others.
const ESSENTIAL: &str = "?and(?essential, ?not(?name(^apt$)))";

/// Fetches the packages and what they need.
pub(super) fn produce(component: &Component, debs: &DebsBuild, context: &Context<'_>) -> Result<Product, RecipeError> {
    let apt = Apt::new(&debs.suite, context)?;
    (context.log)(&format!("apt-get update for {}", debs.suite));
    apt.get("read the package lists").arg("update").run()?;
    let assumed = [ESSENTIAL].into_iter().chain(debs.assume.iter().map(String::as_str));
    let there = apt.closure(assumed.clone())?;
    let wanted = apt.closure(assumed.chain(debs.packages.iter().map(String::as_str)))?;
    let missing: Vec<_> = wanted.difference(&there).collect();
    if let Some(package) = debs.packages.first() {
        let version = missing.iter().find_map(|one| one.strip_prefix(package.as_str())?.strip_prefix('='));
        accept_version(component, package, version.unwrap_or_default(), context)?;
    }
    (context.log)(&format!("{} packages to fetch", missing.len()));
    let folder = context.work.join("debs");
    std::fs::create_dir_all(&folder).map_err(RecipeError::io(format!("make {}", folder.display())))?;
    apt.get("fetch packages").dir(&folder).arg("download").args(&missing).run()?;
    let mut files = Vec::new();
    for source in super::fingerprint::files(&folder)? {
        // apt writes the `:` of an epoch as %3a, which is no good in a path that people type.
        let name = source.file_name().unwrap_or_default().to_string_lossy().replace("%3a", "_");
        files.push(ProducedFile { path: format!("debs/{name}"), mode: 0o644, source });
    }
    Ok(Product::Files(files))
}

/// apt with lists, cache and installed packages (none) of its own.
struct Apt {
    home: PathBuf,
}

impl Apt {
    fn new(suite: &str, context: &Context<'_>) -> Result<Self, RecipeError> {
        let home = context.work.join("apt");
        for folder in ["lists/partial", "cache/archives/partial"] {
            let folder = home.join(folder);
            std::fs::create_dir_all(&folder).map_err(RecipeError::io(format!("make {}", folder.display())))?;
        }
        let write = |name: &str, text: &str| {
            std::fs::write(home.join(name), text).map_err(RecipeError::io(format!("write apt's {name}")))
        };
        write("sources.list", &(debian::sources(suite)?.join("\n") + "\n"))?;
        write("status", "")?;
        Ok(Self { home })
    }

    fn get(&self, act: &str) -> Tool<'static> {
        let option = |key: &str, path: &Path| format!("-o{key}={}", path.display());
        Tool::new("apt-get", act)
            .arg(option("Dir::State", &self.home))
            .arg(option("Dir::State::lists", &self.home.join("lists")))
            .arg(option("Dir::State::status", &self.home.join("status")))
            .arg(option("Dir::Cache", &self.home.join("cache")))
            .arg(option("Dir::Etc::sourcelist", &self.home.join("sources.list")))
            .args(["-oDir::Etc::sourceparts=-", "-oDir::Etc::preferencesparts=-", "-oDir::Etc::preferences=-"])
            .args(["-oAPT::Architecture=amd64", "-oAPT::Architectures=amd64", "-oAPT::Install-Recommends=false"])
            .args(["-oAPT::Sandbox::User=root", "-oAcquire::Languages=none", "-q"])
    }

    /// `name=version` of all that an empty system would get.
    fn closure<'a>(&self, packages: impl Iterator<Item = &'a str>) -> Result<BTreeSet<String>, RecipeError> {
        let packages: Vec<_> = packages.collect();
        let act = format!("find what {} need", packages.join(" "));
        let told = self.get(&act).args(["install", "--simulate", "--yes"]).args(packages).run()?;
        Ok(told.lines().filter_map(installed).collect())
    }
}

/// `Inst haproxy (2.6.12-1 Debian:12/stable [amd64])` → `haproxy=2.6.12-1`.
fn installed(line: &str) -> Option<String> {
    let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
    let version = rest.split([' ', ')']).next()?;
    Some(format!("{name}={version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apt_would_install_is_read_from_its_simulation() {
        assert_eq!(
            installed("Inst haproxy (2.6.12-1+deb12u3 Debian:12.12/oldstable [amd64])").as_deref(),
            Some("haproxy=2.6.12-1+deb12u3")
        );
        assert_eq!(installed("Conf haproxy (2.6.12-1 Debian [amd64])"), None);
        assert_eq!(installed("Reading package lists..."), None);
    }
}
