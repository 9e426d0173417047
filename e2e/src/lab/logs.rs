//! What is left of a lab for people to read: journals and pod logs of every host.

use std::{fs, process::Stdio};

use anyhow::{Context, Result};

use super::{daemon::Daemon, place::Place, topology::hosts};
use crate::run::{each, output};

/// Write `target/lab-logs/<host>/journal.log` and its pod logs. A powered-off host gives its journal files as they are.
pub fn collect(place: &Place, daemon: &Daemon) -> Result<()> {
    each(&hosts(), |host| {
        let dir = place.logs.join(&host.name);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).with_context(|| format!("failed to make {}", dir.display()))?;
        let journal = fs::File::create(dir.join("journal.log"))?;
        let mut read = daemon.docker(["exec", &host.name, "journalctl", "--no-pager", "-o", "short-iso-precise"]);
        let status = read.stdout(journal).stderr(Stdio::null()).status()?;
        if !status.success() {
            // Not running: first what the container said, then the raw journal.
            let said = fs::File::create(dir.join("console.log"))?;
            let _ = daemon.docker(["logs", &host.name]).stdout(said.try_clone()?).stderr(said).status();
            let target = dir.join("journal");
            let mut copy = daemon.docker(["cp", &format!("{}:/var/log/journal", host.name)]);
            let _ = output(copy.arg(target));
        }
        let mut pods = daemon.docker(["cp", &format!("{}:/var/log/pods", host.name)]);
        let _ = output(pods.arg(dir.join("pods")));
        Ok(())
    })
}
