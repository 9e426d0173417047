//! How each component is made. Owned by the recipes; this is their door.

use std::path::Path;

use crate::component::Component;
use crate::product::{Context, Product, RecipeError};

/// All that the product depends on besides the component's own lines in the list and the
/// components it is made from: version of the recipe, hashes of our sources, versions of tools.
/// Quick: it runs for every component at every build.
pub fn inputs(_component: &Component, _repo: &Path) -> Result<Vec<String>, RecipeError> {
    Ok(Vec::new())
}

/// Makes a component.
pub fn produce(component: &Component, _context: &Context<'_>) -> Result<Product, RecipeError> {
    Err(RecipeError::failed(format!("make {}", component.name), "no recipe yet"))
}
