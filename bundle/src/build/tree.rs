//! File trees as tar streams that are the same whenever, wherever and by whomever they are made:
//! sorted, without times, without names of users.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};

use crate::product::{Entry, EntryKind, Tree};

/// Writes a tree as a tar stream.
pub fn write(tree: &Tree, out: impl Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(out);
    match tree {
        Tree::Directory(root) => write_directory(root, &mut tar)?,
        Tree::Tar(path) => write_tar(path, &mut tar)?,
        Tree::Entries(entries) => write_entries(entries, &mut tar)?,
    }
    tar.into_inner()?.flush()
}

fn blank(kind: EntryType, mode: u32, uid: u64, gid: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode & 0o7777);
    header.set_uid(uid);
    header.set_gid(gid);
    header.set_mtime(0);
    header.set_size(0);
    header
}

fn write_directory<W: Write>(root: &Path, tar: &mut tar::Builder<W>) -> io::Result<()> {
    let mut paths = Vec::new();
    collect(root, Path::new(""), &mut paths)?;
    paths.sort();
    let mut links: HashMap<(u64, u64), PathBuf> = HashMap::new();
    for path in paths {
        let full = root.join(&path);
        let meta = fs::symlink_metadata(&full)?;
        let kind = meta.file_type();
        let header = |entry: EntryType| blank(entry, meta.mode(), meta.uid().into(), meta.gid().into());
        if kind.is_dir() {
            tar.append_data(&mut header(EntryType::Directory), &path, io::empty())?;
        } else if kind.is_symlink() {
            tar.append_link(&mut header(EntryType::Symlink), &path, fs::read_link(&full)?)?;
        } else if let Some(first) = links.get(&(meta.dev(), meta.ino())) {
            tar.append_link(&mut header(EntryType::Link), &path, first)?;
        } else {
            if meta.nlink() > 1 {
                links.insert((meta.dev(), meta.ino()), path.clone());
            }
            let mut header = header(EntryType::Regular);
            header.set_size(meta.len());
            tar.append_data(&mut header, &path, File::open(&full)?.take(meta.len()))?;
        }
    }
    Ok(())
}

/// All paths below a folder, without device nodes and sockets, which no container needs from an image.
fn collect(root: &Path, below: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for item in fs::read_dir(root.join(below))? {
        let item = item?;
        let kind = item.file_type()?;
        let path = below.join(item.file_name());
        if kind.is_dir() {
            paths.push(path.clone());
            collect(root, &path, paths)?;
        } else if !(kind.is_block_device() || kind.is_char_device() || kind.is_fifo() || kind.is_socket()) {
            paths.push(path);
        }
    }
    Ok(())
}

struct Stored {
    header: Header,
    link: Option<PathBuf>,
    at: u64,
    size: u64,
}

fn write_tar<W: Write>(path: &Path, tar: &mut tar::Builder<W>) -> io::Result<()> {
    let mut source = tar::Archive::new(File::open(path)?);
    // Hard links last: what they point to must be there before them, whatever it is called.
    let mut stored: BTreeMap<(bool, PathBuf), Stored> = BTreeMap::new();
    for entry in source.entries_with_seek()? {
        let entry = entry?;
        let name: PathBuf =
            entry.path()?.components().filter(|c| matches!(c, std::path::Component::Normal(_))).collect();
        let kind = entry.header().entry_type();
        let kept = matches!(kind, EntryType::Regular | EntryType::Directory | EntryType::Symlink | EntryType::Link);
        if !kept || name.as_os_str().is_empty() {
            continue;
        }
        let old = entry.header();
        let header = blank(kind, old.mode()?, old.uid()?, old.gid()?);
        let link = entry.link_name()?.map(|target| match kind {
            EntryType::Link => target.strip_prefix("./").unwrap_or(&target).to_path_buf(),
            _ => target.into_owned(),
        });
        let item = Stored { header, link, at: entry.raw_file_position(), size: entry.size() };
        stored.insert((kind == EntryType::Link, name), item);
    }
    let mut file = File::open(path)?;
    for ((_, name), mut item) in stored {
        match item.link {
            Some(target) => tar.append_link(&mut item.header, &name, target)?,
            None => {
                file.seek(SeekFrom::Start(item.at))?;
                item.header.set_size(item.size);
                tar.append_data(&mut item.header, &name, (&mut file).take(item.size))?;
            }
        }
    }
    Ok(())
}

fn write_entries<W: Write>(entries: &[Entry], tar: &mut tar::Builder<W>) -> io::Result<()> {
    let mut sorted: BTreeMap<PathBuf, Option<&Entry>> = BTreeMap::new();
    for entry in entries {
        if !crate::manifest::is_safe(&entry.path) {
            return Err(io::Error::other(format!("`{}` is no path inside an image", entry.path)));
        }
        let path = PathBuf::from(&entry.path);
        for parent in path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()) {
            sorted.entry(parent.into()).or_insert(None);
        }
        sorted.insert(path, Some(entry));
    }
    for (path, entry) in sorted {
        let Some(entry) = entry else {
            tar.append_data(&mut blank(EntryType::Directory, 0o755, 0, 0), &path, io::empty())?;
            continue;
        };
        let header = |kind: EntryType| blank(kind, entry.mode, entry.uid.into(), entry.gid.into());
        match &entry.what {
            EntryKind::Directory => tar.append_data(&mut header(EntryType::Directory), &path, io::empty())?,
            EntryKind::Symlink(target) => tar.append_link(&mut header(EntryType::Symlink), &path, target)?,
            EntryKind::Bytes(bytes) => {
                let mut header = header(EntryType::Regular);
                header.set_size(bytes.len() as u64);
                tar.append_data(&mut header, &path, bytes.as_slice())?;
            }
            EntryKind::File(source) => {
                let file =
                    File::open(source).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", source.display())))?;
                let mut header = header(EntryType::Regular);
                header.set_size(file.metadata()?.len());
                tar.append_data(&mut header, &path, file)?;
            }
        }
    }
    Ok(())
}
