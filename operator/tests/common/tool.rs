//! Programs that tests run, out of what the bundle was built from.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Where a test tool is: named by the environment, or among what the bundle was built from, or on the path.
pub fn tool(variable: &str, name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    unpacked(&home.join(".cache/hzctl"), name)
        .or_else(|| std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.exists()))
        .unwrap_or_else(|| panic!("{name} is not here: run `make bundle` first, or set {variable} to its path"))
}

/// The program as the bundle's build keeps it, unpacked beside that once.
fn unpacked(cache: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(cache.join("components")).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let (_, component, file) = entries
        .filter_map(|component| {
            let path = component.join("entry.json");
            let entry: Value = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
            let files = entry["packed"]["files"].as_array()?;
            let file = files
                .iter()
                .find(|file| file["path"].as_str().is_some_and(|path| path.ends_with(&format!("/bin/{name}"))))?;
            Some((path.metadata().ok()?.modified().ok()?, component, file.clone()))
        })
        .max_by_key(|(built, _, _)| *built)?;
    let blob = file["blob"].as_str()?.strip_prefix("sha256:")?.to_owned();
    let program = cache.join("test-tools").join(format!("{name}-{}", &blob[..12]));
    if !program.exists() {
        std::fs::create_dir_all(program.parent()?).ok()?;
        let packed = std::fs::File::open(component.join("blobs").join(&blob)).ok()?;
        // Under another name until it is whole: two test programs may be at it at once.
        let part = program.with_extension(std::process::id().to_string());
        zstd::stream::copy_decode(packed, std::fs::File::create(&part).ok()?).ok()?;
        std::fs::set_permissions(&part, std::fs::Permissions::from_mode(0o755)).ok()?;
        std::fs::rename(&part, &program).ok()?;
    }
    Some(program)
}
