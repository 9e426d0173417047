//! The kernel switches without which pods reach nothing.

use std::{fs, io, path::PathBuf};

use super::Error;
use crate::node::Family;

/// Where the switches are: `/proc/sys`, or where a container sees the host's.
pub struct Sysctls {
    root: PathBuf,
}

impl Sysctls {
    /// Switches under this directory.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Make the host forward packets. Returns what was changed.
    ///
    /// Strict reverse path filtering (`rp_filter=1`) needs nothing: by design each packet of a pod arrives on the link
    /// on which an answer would leave. `br_netfilter` needs nothing either, since there is no bridge.
    pub fn ensure(&self, families: impl IntoIterator<Item = Family>) -> Result<Vec<String>, Error> {
        let mut changed = vec![];
        for family in families {
            let name = match family {
                Family::V4 => "net.ipv4.ip_forward",
                Family::V6 => "net.ipv6.conf.all.forwarding",
            };
            if self.set(name, "1")? {
                changed.push(format!("{name}=1"));
            }
        }
        Ok(changed)
    }

    fn set(&self, name: &str, wanted: &'static str) -> Result<bool, Error> {
        let path = self.root.join(name.replace('.', "/"));
        let found = fs::read_to_string(&path)
            .map_err(|source| Error::SysctlUnread { name: name.into(), source })?
            .trim()
            .to_string();
        if found == wanted {
            return Ok(false);
        }
        fs::write(&path, wanted).map_err(|source| Error::Sysctl { name: name.into(), found, wanted, source })?;
        Ok(true)
    }

    /// The value of a switch, for messages.
    pub fn get(&self, name: &str) -> io::Result<String> {
        Ok(fs::read_to_string(self.root.join(name.replace('.', "/")))?.trim().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switches(forward: &str) -> (tempfile::TempDir, Sysctls) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("net/ipv4")).unwrap();
        fs::write(root.path().join("net/ipv4/ip_forward"), forward).unwrap();
        let switches = Sysctls::at(root.path());
        (root, switches)
    }

    #[test]
    fn what_is_right_already_is_not_written() {
        let (_root, switches) = switches("1\n");
        assert_eq!(switches.ensure([Family::V4]).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn forwarding_is_switched_on() {
        let (_root, switches) = switches("0\n");
        assert_eq!(switches.ensure([Family::V4]).unwrap(), ["net.ipv4.ip_forward=1"]);
        assert_eq!(switches.get("net.ipv4.ip_forward").unwrap(), "1");
    }

    #[test]
    fn a_switch_that_is_missing_is_named() {
        let (_root, switches) = switches("1\n");
        let told = switches.ensure([Family::V6]).unwrap_err().to_string();
        assert_eq!(told, "failed to read net.ipv6.conf.all.forwarding");
    }
}
