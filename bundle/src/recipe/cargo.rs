//! Our own programs, from this source tree.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::fingerprint;
use super::tool::Tool;
use crate::component::CargoBuild;
use crate::product::{Context, ProducedFile, Product, RecipeError};

const RECIPE: &str = "cargo/2";

/// The platform of every host; named also where it is the machine's own, so that flags for the
/// program do not reach build scripts and macros.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What the programs are made of: their crate, the crates of ours that it uses, and the lock file.
pub(super) fn inputs(cargo: &CargoBuild, repo: &Path) -> Result<Vec<String>, RecipeError> {
    let mut inputs = vec![RECIPE.to_owned()];
    for file in ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml"] {
        inputs.push(fingerprint::of(&repo.join(file))?);
    }
    for folder in crates(&cargo.package, repo)? {
        inputs.push(fingerprint::of(&folder)?);
    }
    Ok(inputs)
}

/// Builds the programs.
pub(super) fn produce(cargo: &CargoBuild, context: &Context<'_>) -> Result<Product, RecipeError> {
    let act = format!("build {}", cargo.package);
    let mut tool = Tool::gentle("cargo", act.as_str()).dir(context.repo).args([
        "build",
        "--release",
        "--locked",
        "--message-format",
        "json-render-diagnostics",
    ]);
    if cargo.r#static {
        // All static programs of the tree at once, as scripts/build-hzctl.sh does: one by one, each would have what they
        // share compiled again, for the features that it alone asks for.
        (context.log)("cargo build --workspace --bins");
        tool = tool.args(["--workspace", "--bins", "--target", TARGET]);
        tool = tool.env("RUSTFLAGS", "-C target-feature=+crt-static");
    } else {
        (context.log)(&format!("cargo build -p {}", cargo.package));
        tool = tool.args(["--package", &cargo.package]);
        for binary in cargo.binaries.values() {
            tool = tool.args(["--bin", binary]);
        }
    }
    let told = tool.run()?;
    let mut files = Vec::new();
    for (install, binary) in &cargo.binaries {
        let built = executable(&told, binary)
            .ok_or_else(|| RecipeError::failed(&act, format!("cargo named no program `{binary}`")))?;
        // Out of the target folder, which the next build changes.
        let source = context.work.join(binary);
        std::fs::copy(&built, &source).map_err(RecipeError::io(format!("copy {}", built.display())))?;
        files.push(ProducedFile { path: install.clone(), mode: 0o755, source });
    }
    Ok(Product::Files(files))
}

/// Where cargo says that it put a program.
fn executable(told: &str, binary: &str) -> Option<PathBuf> {
    told.lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == binary)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

/// Folders of a crate and of all crates in this tree that it is built from.
fn crates(package: &str, repo: &Path) -> Result<Vec<PathBuf>, RecipeError> {
    let metadata = metadata(repo)?;
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let find = |name: &str| packages.iter().find(|p| p["name"] == name);
    let mut found = BTreeSet::new();
    let mut todo = vec![package.to_owned()];
    while let Some(name) = todo.pop() {
        let Some(one) = find(&name) else {
            return Err(RecipeError::failed(format!("find the crate {name}"), "it is not in this workspace"));
        };
        let manifest = Path::new(one["manifest_path"].as_str().unwrap_or_default());
        if found.insert(manifest.parent().unwrap_or(repo).to_owned()) {
            let dependencies = one["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
            let ours = dependencies.iter().filter(|d| d["path"].is_string() && d["kind"] != "dev");
            todo.extend(ours.filter_map(|d| d["name"].as_str().map(str::to_owned)));
        }
    }
    Ok(found.into_iter().collect())
}

/// What cargo knows of the workspace, asked once a run.
fn metadata(repo: &Path) -> Result<serde_json::Value, RecipeError> {
    static KNOWN: Mutex<Option<(PathBuf, serde_json::Value)>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((of, metadata)) = &*known
        && of == repo
    {
        return Ok(metadata.clone());
    }
    let act = "ask cargo for the crates of this workspace";
    let told = Tool::new("cargo", act)
        .dir(repo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .run()?;
    let told: serde_json::Value = serde_json::from_str(&told).map_err(|e| RecipeError::failed(act, e.to_string()))?;
    *known = Some((repo.to_owned(), told.clone()));
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repo() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
    }

    #[test]
    fn a_program_is_made_of_its_crate_and_those_of_ours_it_uses() {
        let folders = crates("hzctl", &repo()).unwrap();
        for one in ["ctl", "crds", "bundle"] {
            assert!(folders.contains(&repo().join(one)), "{one} in {folders:?}");
        }
        assert!(!folders.contains(&repo().join("operator")));
    }

    #[test]
    fn an_unknown_crate_is_told() {
        assert!(crates("hz-nothing", &repo()).unwrap_err().to_string().contains("hz-nothing"));
    }

    #[test]
    fn the_program_is_found_in_what_cargo_says() {
        let told = "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"hzctl\"},\"executable\":\"/t/hzctl\"}\n";
        assert_eq!(executable(told, "hzctl"), Some("/t/hzctl".into()));
        assert_eq!(executable(told, "other"), None);
    }
}
