//! Files of this source tree as they are.

use std::path::Path;

use super::fingerprint;
use crate::component::FilesBuild;
use crate::product::{Context, ProducedFile, Product, RecipeError};

const RECIPE: &str = "files/1";

pub(super) fn inputs(files: &FilesBuild, repo: &Path) -> Result<Vec<String>, RecipeError> {
    let mut inputs = vec![RECIPE.to_owned()];
    for source in files.files.values() {
        inputs.push(fingerprint::of(&repo.join(source))?);
    }
    Ok(inputs)
}

pub(super) fn produce(files: &FilesBuild, context: &Context<'_>) -> Result<Product, RecipeError> {
    let mut produced = Vec::new();
    for (install, source) in &files.files {
        let source = context.repo.join(source);
        produced.push(ProducedFile { path: install.clone(), mode: mode(&source)?, source });
    }
    Ok(Product::Files(produced))
}

/// Files are 0644, programs 0755, whatever the checkout's umask was.
pub(super) fn mode(source: &Path) -> Result<u32, RecipeError> {
    let meta = std::fs::metadata(source).map_err(RecipeError::io(format!("read {}", source.display())))?;
    Ok(if fingerprint::executable(&meta) { 0o755 } else { 0o644 })
}
