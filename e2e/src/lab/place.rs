//! Where the lab keeps its things.

use std::path::{Path, PathBuf};

/// Paths of one working tree's lab. There is one lab per machine at a time, since its addresses are fixed.
#[derive(Clone, Debug)]
pub struct Place {
    /// The repository.
    pub root: PathBuf,
    /// `target/lab`: keys, per-host files, the daemon's configuration and log.
    pub state: PathBuf,
    /// `target/lab-logs`: what is left for people after the lab is gone.
    pub logs: PathBuf,
    /// `~/.cache/hzctl/lab`: the daemon's data with the host image, kept between labs.
    pub cache: PathBuf,
    /// `/run/hzlab`: sockets and process ids; gone after a reboot, as are the processes. Short, for socket paths.
    pub run: PathBuf,
}

impl Place {
    /// The lab of this repository.
    pub fn here() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/")).to_path_buf();
        let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
        let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
        Self {
            state: root.join("target/lab"),
            logs: root.join("target/lab-logs"),
            cache: cache.join("hzctl/lab"),
            run: PathBuf::from("/run/hzlab"),
            root,
        }
    }

    /// Socket of the lab's own Docker daemon.
    pub fn socket(&self) -> String {
        format!("unix://{}", self.run.join("docker.sock").display())
    }

    /// Login key for every host.
    pub fn key(&self) -> PathBuf {
        self.state.join("id_ed25519")
    }

    /// Host keys of every host.
    pub fn known_hosts(&self) -> PathBuf {
        self.state.join("known_hosts")
    }

    /// Files laid into a host before its first boot.
    pub fn seed(&self, host: &str) -> PathBuf {
        self.state.join("hosts").join(host)
    }
}
