//! Go commands out of published modules.
//!
//! Each project has a folder under `bundle/gomod/` with a go.mod and go.sum of ours: its versions,
//! and those of all it needs, are pinned there with their hashes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::fingerprint;
use super::tool::{Tool, on_path};
use crate::component::{Component, GoBuild};
use crate::product::{Context, ProducedFile, Product, RecipeError};

const RECIPE: &str = "go/1";

/// What the commands are made of, besides the list.
pub(super) fn inputs(go: &GoBuild, repo: &Path) -> Result<Vec<String>, RecipeError> {
    let mut inputs = vec![RECIPE.to_owned(), compiler()];
    if let Some(workspace) = &go.workspace {
        inputs.push(fingerprint::of(&repo.join("bundle").join(workspace))?);
    }
    Ok(inputs)
}

/// Builds the commands, all of them by one call so that they share what they have in common.
pub(super) fn produce(component: &Component, go: &GoBuild, context: &Context<'_>) -> Result<Product, RecipeError> {
    let folder = workspace(component, go, context)?;
    let (c_sources, packages): (BTreeMap<_, _>, BTreeMap<_, _>) =
        go.commands.iter().partition(|(_, package)| package.ends_with(".c"));
    let mut files = Vec::new();
    if !packages.is_empty() {
        files.extend(build(component, go, &packages, &folder, context)?);
    }
    for (install, source) in c_sources {
        files.push(compile(component, install, source, &folder, context)?);
    }
    for (install, source) in &go.files {
        let source = in_module(source, &folder)?;
        let mode = if fingerprint::executable(
            &std::fs::metadata(&source).map_err(RecipeError::io(format!("read {}", source.display())))?,
        ) {
            0o755
        } else {
            0o644
        };
        files.push(ProducedFile { path: install.clone(), mode, source });
    }
    Ok(Product::Files(files))
}

fn build(
    component: &Component,
    go: &GoBuild,
    packages: &BTreeMap<&String, &String>,
    folder: &Path,
    context: &Context<'_>,
) -> Result<Vec<ProducedFile>, RecipeError> {
    let names: Vec<&str> = packages.values().map(|p| p.as_str()).collect();
    let act = format!("build {}", names.join(", "));
    if go.cgo {
        require_c(go, &act)?;
    }
    (context.log)(&format!("go build {}", names.iter().map(|n| command_name(n)).collect::<Vec<_>>().join(" ")));
    let out = context.work.join("go-bin");
    std::fs::create_dir_all(&out).map_err(RecipeError::io(format!("make {}", out.display())))?;
    let ldflags: Vec<_> = go.ldflags.iter().map(|flag| flag.replace("{version}", &component.version)).collect();
    let mut tool = in_workspace(Tool::gentle("go", act), folder)
        .env("CGO_ENABLED", if go.cgo { "1" } else { "0" })
        .args(["build", "-trimpath", "-mod=readonly", "-buildvcs=false", "-o"])
        .arg(format!("{}/", out.display()))
        .arg("-ldflags")
        .arg(ldflags.join(" "));
    if !go.tags.is_empty() {
        tool = tool.arg("-tags").arg(go.tags.join(","));
    }
    tool.args(&names).run()?;
    let file = |(install, package): (&&String, &&String)| ProducedFile {
        path: (*install).clone(),
        mode: 0o755,
        source: out.join(command_name(package)),
    };
    Ok(packages.iter().map(file).collect())
}

/// A command that its project writes in C, as one static program.
fn compile(
    component: &Component,
    install: &str,
    source: &str,
    folder: &Path,
    context: &Context<'_>,
) -> Result<ProducedFile, RecipeError> {
    (context.log)(&format!("gcc {source}"));
    let out = context.work.join(install.replace('/', "_"));
    Tool::new("gcc", format!("compile {source}"))
        .args(["-Os", "-Wall", "-static", "-s"])
        .arg(format!("-DVERSION=v{}", component.version))
        .arg("-o")
        .arg(&out)
        .arg(in_module(source, folder)?)
        .run()?;
    Ok(ProducedFile { path: install.to_owned(), mode: 0o755, source: out })
}

/// The folder in which `go` runs: ours in the tree, or one made up around a single module.
fn workspace(component: &Component, go: &GoBuild, context: &Context<'_>) -> Result<PathBuf, RecipeError> {
    if let Some(workspace) = &go.workspace {
        return Ok(context.repo.join("bundle").join(workspace));
    }
    let Some(module) = &go.module else {
        return Err(RecipeError::failed(format!("build {}", component.name), "build.go needs `workspace` or `module`"));
    };
    let folder = context.work.join("go-module");
    std::fs::create_dir_all(&folder).map_err(RecipeError::io(format!("make {}", folder.display())))?;
    let version = go.version.clone().unwrap_or_else(|| component.version.clone());
    let text = format!("module hz.hospital/bundle/{}\n\nrequire {module} {version}\n", component.name);
    std::fs::write(folder.join("go.mod"), text).map_err(RecipeError::io("write a go.mod"))?;
    let packages: Vec<_> = go.commands.values().map(|package| format!("{package}@{version}")).collect();
    in_workspace(Tool::new("go", format!("resolve {module} {version}")), &folder).arg("get").args(packages).run()?;
    Ok(folder)
}

/// A file by its path as an import path: `k8s.io/kubernetes/build/pause/linux/pause.c`.
fn in_module(path: &str, folder: &Path) -> Result<PathBuf, RecipeError> {
    let act = format!("find {path}");
    let file = folder.join("go.mod");
    let text = std::fs::read_to_string(&file).map_err(RecipeError::io(format!("read {}", file.display())))?;
    let Some(module) = module_of(path, &text) else {
        return Err(RecipeError::failed(act, format!("no module in {} has it", file.display())));
    };
    let inside = path[module.len()..].trim_start_matches('/');
    let fetch = |tool: Tool<'_>| in_workspace(tool, folder).args(["mod", "download", "-json", module]).run();
    let told = fetch(Tool::new("go", act.clone()))?;
    let told: serde_json::Value =
        serde_json::from_str(&told).map_err(|e| RecipeError::failed(&act, format!("go mod download: {e}")))?;
    match told["Dir"].as_str() {
        Some(dir) => Ok(Path::new(dir).join(inside)),
        None => Err(RecipeError::failed(act, format!("module {module} was not unpacked"))),
    }
}

/// The required module with the longest path that `path` is inside of.
fn module_of<'a>(path: &str, go_mod: &'a str) -> Option<&'a str> {
    go_mod
        .lines()
        .filter_map(|line| line.trim().trim_start_matches("require ").split_whitespace().next())
        .filter(|module| path.strip_prefix(*module).is_some_and(|rest| rest.starts_with('/')))
        .max_by_key(|module| module.len())
}

fn in_workspace<'a>(tool: Tool<'a>, folder: &Path) -> Tool<'a> {
    tool.dir(folder).env("GOWORK", "off").env("GOOS", "linux").env("GOARCH", "amd64").env("GOFLAGS", "")
}

/// The name `go build` gives to the command of a package: its last path element that is no version.
fn command_name(package: &str) -> &str {
    let version =
        |part: &str| part.strip_prefix('v').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    package.rsplit('/').find(|part| !version(part)).unwrap_or(package)
}

/// C is needed only by runc; its absence is told before a minute is spent.
fn require_c(go: &GoBuild, act: &str) -> Result<(), RecipeError> {
    for program in ["gcc", "pkg-config"] {
        if !on_path(program) {
            return Err(super::tool::missing(program, act));
        }
    }
    let asked = Tool::new("pkg-config", "look for libseccomp").args(["--exists", "libseccomp"]).run();
    if go.tags.iter().any(|tag| tag == "seccomp") && asked.is_err() {
        return Err(RecipeError::Missing {
            program: "libseccomp".into(),
            act: act.into(),
            hint: "apt-get install libseccomp-dev".into(),
        });
    }
    Ok(())
}

/// The compiler's version, asked once; empty where there is none, and building will say so.
fn compiler() -> String {
    static VERSION: OnceLock<String> = OnceLock::new();
    let ask = || Tool::new("go", "ask go for its version").args(["env", "GOVERSION"]).run();
    VERSION.get_or_init(|| ask().unwrap_or_default().trim().to_owned()).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_named_like_go_names_it() {
        assert_eq!(command_name("k8s.io/kubernetes/cmd/kubelet"), "kubelet");
        assert_eq!(command_name("go.etcd.io/etcd/server/v3"), "server");
        assert_eq!(command_name("github.com/containerd/containerd/v2/cmd/ctr"), "ctr");
        assert_eq!(command_name("github.com/x/containerd-shim-runc-v2"), "containerd-shim-runc-v2");
    }

    #[test]
    fn a_file_belongs_to_the_innermost_module() {
        let text =
            "module m\n\nrequire k8s.io/kubernetes v1.36.3\n\nrequire (\n\tk8s.io/kubernetes/x v1.0.0 // indirect\n)\n";
        assert_eq!(module_of("k8s.io/kubernetes/build/pause.c", text), Some("k8s.io/kubernetes"));
        assert_eq!(module_of("k8s.io/kubernetes/x/y.c", text), Some("k8s.io/kubernetes/x"));
        assert_eq!(module_of("k8s.io/kubernetesque/y.c", text), None);
    }
}
