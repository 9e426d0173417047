//! Hashes of our own sources, for the keys of the component cache.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::product::RecipeError;

/// Folders that hold what was built, not what it is built from.
const NOT_SOURCES: [&str; 3] = ["target", "node_modules", "__pycache__"];

/// The hash of a file, or of a folder with everything in it: names, execute bits, bytes.
pub(crate) fn of(path: &Path) -> Result<String, RecipeError> {
    let mut sum = Sha256::new();
    for file in files(path)? {
        let act = || format!("read {}", file.display());
        let meta = std::fs::symlink_metadata(&file).map_err(RecipeError::io(act()))?;
        let name = file.strip_prefix(path).unwrap_or(&file);
        sum.update(name.as_os_str().as_encoded_bytes());
        sum.update([0, u8::from(executable(&meta))]);
        if meta.is_symlink() {
            let target = std::fs::read_link(&file).map_err(RecipeError::io(act()))?;
            sum.update(target.as_os_str().as_encoded_bytes());
        } else {
            let bytes = std::fs::read(&file).map_err(RecipeError::io(act()))?;
            sum.update((bytes.len() as u64).to_le_bytes());
            sum.update(bytes);
        }
    }
    Ok(hex(&sum.finalize()))
}

/// All files below a path in a fixed order; the path itself if it is a file.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>, RecipeError> {
    let act = || format!("read {}", path.display());
    let meta = std::fs::symlink_metadata(path).map_err(RecipeError::io(act()))?;
    if !meta.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path).map_err(RecipeError::io(act()))? {
        entries.push(entry.map_err(RecipeError::io(act()))?.path());
    }
    entries.sort();
    let mut all = Vec::new();
    for entry in entries {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with('.') && !NOT_SOURCES.contains(&name.as_str()) {
            all.extend(files(&entry)?);
        }
    }
    Ok(all)
}

/// Whether the owner may run it.
pub(crate) fn executable(meta: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    meta.permissions().mode() & 0o100 != 0
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_told_by_names_and_bytes_and_not_by_what_was_built_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("a"), "1").unwrap();
        let first = of(folder.path()).unwrap();
        std::fs::create_dir(at("target")).unwrap();
        std::fs::write(at("target/x"), "built").unwrap();
        assert_eq!(of(folder.path()).unwrap(), first);
        std::fs::write(at("a"), "2").unwrap();
        let second = of(folder.path()).unwrap();
        assert_ne!(second, first);
        std::fs::rename(at("a"), at("b")).unwrap();
        assert_ne!(of(folder.path()).unwrap(), second);
    }

    #[test]
    fn a_missing_source_is_named() {
        let told = of(Path::new("/no/such/source")).unwrap_err().to_string();
        assert!(told.contains("/no/such/source"), "{told}");
    }
}
