//! Files out of Python wheels: some projects publish their programs there.

use super::tool::Tool;
use crate::component::{Component, PypiBuild};
use crate::product::{Context, ProducedFile, Product, RecipeError};

pub(super) const RECIPE: &str = "pypi/1";

/// Downloads a wheel, or a tree of them, and takes files out.
pub(super) fn produce(component: &Component, pypi: &PypiBuild, context: &Context<'_>) -> Result<Product, RecipeError> {
    let version = pypi.version.as_deref().unwrap_or(&component.version);
    let wanted = format!("{}=={version}", pypi.package);
    let out = context.work.join("wheel");
    if let Some(tree) = &pypi.tree {
        return install(&wanted, pypi, tree, context);
    }
    (context.log)(&format!("pip download {wanted}"));
    let folder = context.work.join("download");
    pip(format!("download {wanted}"), "download").arg("--no-deps").arg("--dest").arg(&folder).arg(&wanted).run()?;
    let wheels = super::fingerprint::files(&folder)?;
    let Some(wheel) = wheels.first() else {
        return Err(RecipeError::failed(format!("download {wanted}"), "pip fetched nothing"));
    };
    Tool::new("python3", format!("unpack {wanted}")).args(["-m", "zipfile", "-e"]).arg(wheel).arg(&out).run()?;
    let mut files = Vec::new();
    for (install, inside) in &pypi.files {
        let source = out.join(inside.replace("{version}", version));
        if !source.is_file() {
            return Err(RecipeError::failed(format!("take {inside} out of {wanted}"), "the wheel has no such file"));
        }
        files.push(ProducedFile { path: install.clone(), mode: 0o755, source });
    }
    Ok(Product::Files(files))
}

fn install(wanted: &str, pypi: &PypiBuild, tree: &str, context: &Context<'_>) -> Result<Product, RecipeError> {
    (context.log)(&format!("pip install {wanted}"));
    let root = context.work.join("tree");
    pip(format!("install {wanted}"), "install")
        .arg("--no-compile")
        .arg("--target")
        .arg(root.join(tree))
        .arg(wanted)
        .args(&pypi.requires)
        .run()?;
    let mut files = Vec::new();
    for source in super::fingerprint::files(&root)? {
        let path = source.strip_prefix(&root).unwrap_or(&source).display().to_string();
        files.push(ProducedFile { path, mode: 0o644, source });
    }
    Ok(Product::Files(files))
}

fn pip(act: String, verb: &str) -> Tool<'static> {
    Tool::new("python3", act)
        .args(["-m", "pip", "--quiet", "--disable-pip-version-check", verb])
        .args(["--only-binary=:all:", "--no-input"])
}
