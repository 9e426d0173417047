//! The CNI file: written whole or not at all, and only when it differs.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::Error;
use crate::cni::{self, CniConfig};

/// The configuration file in its directory.
pub struct CniFile {
    directory: PathBuf,
}

impl CniFile {
    /// In this directory (`/etc/cni/net.d` on hosts).
    pub fn in_directory(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Make the file say what is wanted. Returns whether it had to be written.
    pub fn reconcile(&self, config: &CniConfig) -> Result<bool, Error> {
        let path = self.path();
        let wanted = config.render();
        if fs::read_to_string(&path).is_ok_and(|found| found == wanted) {
            return Ok(false);
        }
        let fail = |act| move |source| Error::File { act, path: self.path().display().to_string(), source };
        fs::create_dir_all(&self.directory).map_err(fail("make the directory of"))?;
        write_whole(&path, wanted.as_bytes()).map_err(fail("write"))?;
        Ok(true)
    }

    /// Remove the file.
    pub fn remove(&self) -> Result<bool, Error> {
        match fs::remove_file(self.path()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(Error::File { act: "remove", path: self.path().display().to_string(), source }),
        }
    }

    /// A file of somebody else that the container runtime takes before ours.
    pub fn shadowed_by(&self) -> Option<String> {
        let names: Vec<String> = fs::read_dir(&self.directory)
            .ok()?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        cni::shadowing(names.iter().map(String::as_str)).map(Into::into)
    }

    fn path(&self) -> PathBuf {
        self.directory.join(cni::FILE)
    }
}

/// The runtime watches the directory: it must never see half a file, nor take the draft for one (hence the ending).
fn write_whole(path: &Path, text: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("conflist.draft");
    let mut file = File::create(&draft)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn the_file_is_written_once_and_replaced_whole_when_it_differs() {
        let directory = tempfile::tempdir().unwrap();
        let file = CniFile::in_directory(directory.path().join("net.d"));
        let mut config = CniConfig { ranges: vec!["10.244.0.0/24".parse().unwrap()], mtu: 1450 };
        assert!(file.reconcile(&config).unwrap());
        let first = fs::metadata(file.path()).unwrap().ino();
        assert!(!file.reconcile(&config).unwrap());
        config.mtu = 1400;
        assert!(file.reconcile(&config).unwrap());
        assert_ne!(fs::metadata(file.path()).unwrap().ino(), first);
        assert_eq!(fs::read_dir(directory.path().join("net.d")).unwrap().count(), 1);
        assert!(file.remove().unwrap());
        assert!(!file.remove().unwrap());
    }
}
