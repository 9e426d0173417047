//! What one root file system adds to another: the layer between them.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tar::{Archive, Builder, Entry, EntryType};

/// How much a layer takes over from its root.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// Entries that the layer has of its own.
    pub(super) kept: usize,
    /// Entries that the base has just like that.
    pub(super) shared: usize,
    /// Entries of the base that the root lacks, and the layer hides.
    pub(super) hidden: usize,
}

/// Writes to `layer` what the root in the tar file `root` has and the folder `base` has not, and a
/// whiteout for what only `base` has. Both are put together by the same packages, so that most is
/// the same. Owners are not compared: a base unpacked without privileges has lost them.
pub(super) fn write(root: &Path, base: &Path, layer: &Path) -> std::io::Result<Counted> {
    let mut counted = Counted::default();
    let mut seen = BTreeSet::new();
    let mut folders: Vec<(PathBuf, tar::Header)> = Vec::new(); // on the way to the current entry
    let mut written = BTreeSet::new();
    let mut out = Builder::new(BufWriter::new(File::create(layer)?));
    let mut archive = Archive::new(BufReader::with_capacity(1 << 20, File::open(root)?));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = plain(&entry.path()?);
        if path.as_os_str().is_empty() || is_device(&entry) {
            continue;
        }
        folders.retain(|(folder, _)| path.starts_with(folder));
        seen.insert(path.clone());
        let same = same(&mut entry, &base.join(&path), base)?;
        if entry.header().entry_type().is_dir() {
            folders.push((path.clone(), entry.header().clone()));
        }
        if let Verdict::Same = same {
            counted.shared += 1;
            continue;
        }
        // Folders on the way are repeated with their modes and owners, for unpackers that would
        // otherwise make them up.
        for (folder, header) in &folders {
            if *folder != path && written.insert(folder.clone()) {
                out.append_data(&mut header.clone(), folder, std::io::empty())?;
            }
        }
        counted.kept += 1;
        written.insert(path.clone());
        append(&mut out, &path, &mut entry, same)?;
    }
    for path in gone(base, &seen)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        out.append_data(&mut header, path.with_file_name(format!(".wh.{name}")), std::io::empty())?;
        counted.hidden += 1;
    }
    out.into_inner()?.flush()?;
    Ok(counted)
}

/// Whether an entry adds something; bytes that had to be read to know are carried along.
enum Verdict {
    Same,
    New,
    NewBytes(Vec<u8>),
}

fn same<R: Read>(entry: &mut Entry<'_, R>, there: &Path, base: &Path) -> std::io::Result<Verdict> {
    let Ok(meta) = std::fs::symlink_metadata(there) else { return Ok(Verdict::New) };
    let header = entry.header();
    let mode_differs = !meta.is_symlink() && (header.mode()? ^ meta.permissions().mode()) & 0o777 != 0;
    match header.entry_type() {
        EntryType::Directory if meta.is_dir() && !mode_differs => Ok(Verdict::Same),
        EntryType::Symlink if meta.is_symlink() => {
            let target = entry.link_name()?.map(|t| t.into_owned());
            Ok(if target == Some(std::fs::read_link(there)?) { Verdict::Same } else { Verdict::New })
        }
        EntryType::Link if meta.is_file() => {
            let target = entry.link_name()?.map(|t| base.join(plain(&t)));
            let one = |other: Metadata| other.is_file() && other.len() == meta.len();
            let linked = target.and_then(|t| std::fs::symlink_metadata(t).ok()).is_some_and(one);
            Ok(if linked { Verdict::Same } else { Verdict::New })
        }
        kind if kind.is_file() && meta.is_file() && meta.len() == entry.size() => {
            let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0));
            entry.read_to_end(&mut bytes)?;
            let equal = !mode_differs && bytes == std::fs::read(there)?;
            Ok(if equal { Verdict::Same } else { Verdict::NewBytes(bytes) })
        }
        _ => Ok(Verdict::New),
    }
}

fn append<W: Write, R: Read>(
    out: &mut Builder<W>,
    path: &Path,
    entry: &mut Entry<'_, R>,
    verdict: Verdict,
) -> std::io::Result<()> {
    let mut header = entry.header().clone();
    match (header.entry_type(), verdict) {
        (EntryType::Symlink | EntryType::Link, _) => {
            let target = entry.link_name()?.unwrap_or_default().into_owned();
            let target = if header.entry_type() == EntryType::Link { plain(&target) } else { target };
            out.append_link(&mut header, path, target)
        }
        (_, Verdict::NewBytes(bytes)) => out.append_data(&mut header, path, bytes.as_slice()),
        _ => out.append_data(&mut header, path, entry),
    }
}

/// What only the base has; a folder stands for all that is in it.
fn gone(base: &Path, seen: &BTreeSet<PathBuf>) -> std::io::Result<Vec<PathBuf>> {
    let mut gone = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let mut entries = std::fs::read_dir(base.join(&folder))?.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let path = folder.join(entry.file_name());
            if !seen.contains(&path) {
                gone.push(path);
            } else if entry.file_type()?.is_dir() {
                folders.push(path);
            }
        }
    }
    gone.sort();
    Ok(gone)
}

fn is_device<R: Read>(entry: &Entry<'_, R>) -> bool {
    let kind = entry.header().entry_type();
    kind.is_block_special() || kind.is_character_special() || kind.is_fifo()
}

/// `./usr/bin/` → `usr/bin`.
fn plain(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, std::path::Component::Normal(_))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(entries: &[(&str, EntryType, &str)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut tar = Builder::new(file.reopen().unwrap());
        for (path, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
            match kind {
                EntryType::Symlink | EntryType::Link => {
                    header.set_size(0);
                    tar.append_link(&mut header, path, content).unwrap();
                }
                _ => {
                    header.set_size(content.len() as u64);
                    tar.append_data(&mut header, path, content.as_bytes()).unwrap();
                }
            }
        }
        tar.finish().unwrap();
        file
    }

    fn names(layer: &Path) -> Vec<String> {
        let mut archive = Archive::new(File::open(layer).unwrap());
        archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect()
    }

    const DIR: EntryType = EntryType::Directory;
    const FILE: EntryType = EntryType::Regular;
    const LINK: EntryType = EntryType::Symlink;

    #[test]
    fn only_what_is_added_or_changed_is_in_the_layer_with_the_folders_above_it() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("base");
        let same = [("usr", DIR, ""), ("usr/same", FILE, "1"), ("usr/changed", FILE, "old"), ("bin", LINK, "usr/bin")];
        Archive::new(File::open(root(&same).path()).unwrap()).unpack(&base).unwrap();
        let new = root(&[
            ("./usr/", DIR, ""),
            ("./usr/same", FILE, "1"),
            ("./usr/changed", FILE, "new"),
            ("./usr/lib/", DIR, ""),
            ("./usr/lib/added", FILE, "2"),
            ("./bin", LINK, "usr/bin"),
            ("./sbin", LINK, "usr/bin"),
        ]);
        let layer = folder.path().join("layer.tar");
        let counted = write(new.path(), &base, &layer).unwrap();
        assert_eq!(names(&layer), ["usr", "usr/changed", "usr/lib", "usr/lib/added", "sbin"]);
        assert_eq!(counted, Counted { kept: 4, shared: 3, hidden: 0 });
    }

    #[test]
    fn what_the_root_no_longer_has_is_hidden_once_at_the_top() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("base");
        let old = [("a", DIR, ""), ("a/b", DIR, ""), ("a/b/c", FILE, "1"), ("a/d", FILE, "2")];
        Archive::new(File::open(root(&old).path()).unwrap()).unpack(&base).unwrap();
        let layer = folder.path().join("layer.tar");
        write(root(&[("a", DIR, ""), ("a/d", FILE, "2")]).path(), &base, &layer).unwrap();
        assert_eq!(names(&layer), ["a/.wh.b"]);
    }

    #[test]
    fn a_file_that_became_a_link_is_in_the_layer() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("base");
        Archive::new(File::open(root(&[("x", FILE, "1")]).path()).unwrap()).unpack(&base).unwrap();
        let layer = folder.path().join("layer.tar");
        write(root(&[("x", LINK, "y")]).path(), &base, &layer).unwrap();
        assert_eq!(names(&layer), ["x"]);
    }
}
