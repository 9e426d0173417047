//! How each component is made from package registries alone: one file a recipe.
//!
//! A recipe drives the ordinary tools (go, cargo, mmdebstrap, apt-get, pip), so that whatever
//! proxy or mirror this machine is set up for is used, and says what to install where one is missing.

mod cargo;
mod chart;
mod debian;
mod debian_root;
mod debs;
mod difference;
mod files;
mod fingerprint;
mod go;
mod image;
mod pypi;
mod tool;
mod versions;

use std::path::Path;

use crate::component::{Build, Component};
use crate::product::{Context, Product, RecipeError};

/// Moments inside files and binaries that ask for one: the same sources give the same bytes.
pub(crate) const SOURCE_DATE_EPOCH: &str = "1767225600"; // 2026-01-01

/// All that the product depends on besides the component's own lines in the list and the
/// components it is made from: version of the recipe, hashes of our sources, versions of tools.
/// Quick: it runs for every component at every build.
pub fn inputs(component: &Component, repo: &Path) -> Result<Vec<String>, RecipeError> {
    let Some(build) = &component.build else { return Ok(Vec::new()) };
    match build {
        Build::Go(go) => go::inputs(go, repo),
        Build::DebianRoot(_) => Ok(vec![debian_root::RECIPE.into()]),
        Build::Debs(_) => Ok(vec![debs::RECIPE.into()]),
        Build::Pypi(_) => Ok(vec![pypi::RECIPE.into()]),
        Build::Cargo(cargo) => cargo::inputs(cargo, repo),
        Build::Chart(chart) => chart::inputs(chart, repo),
        Build::Files(files) => files::inputs(files, repo),
        Build::Image(image) => image::inputs(image, repo),
    }
}

/// Makes a component.
pub fn produce(component: &Component, context: &Context<'_>) -> Result<Product, RecipeError> {
    let Some(build) = &component.build else {
        return Err(RecipeError::failed(
            format!("make {}", component.name),
            "it has no `build` recipe, only an official artefact",
        ));
    };
    match build {
        Build::Go(go) => go::produce(component, go, context),
        Build::DebianRoot(root) => debian_root::produce(component, root, context),
        Build::Debs(debs) => debs::produce(component, debs, context),
        Build::Pypi(pypi) => pypi::produce(component, pypi, context),
        Build::Cargo(cargo) => cargo::produce(cargo, context),
        Build::Chart(chart) => chart::produce(chart, context),
        Build::Files(files) => files::produce(files, context),
        Build::Image(image) => image::produce(image, context),
    }
}
