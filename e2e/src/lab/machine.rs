//! What the lab asks of the machine it runs on, and the little it changes there.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};

use super::place::Place;
use crate::run::{cmd, text};

/// Kernel limits that eight hosts in one kernel exhaust: 128 inotify instances break the third control plane.
const LIMITS: [(&str, u64); 2] = [("fs/inotify/max_user_instances", 8192), ("fs/inotify/max_user_watches", 524_288)];

/// Programs, and the Debian package each comes with.
const PROGRAMS: [(&str, &str); 6] = [
    ("dockerd", "docker.io"),
    ("docker", "docker.io"),
    ("runc", "runc"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("ssh-keygen", "openssh-client"),
];

/// Refuse early, with what to do about it.
pub fn check() -> Result<()> {
    if text(&mut cmd("id", ["-u"]))? != "0" {
        bail!("the lab needs root (containers with systemd, network namespaces): run it with sudo or as root");
    }
    let missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| text(&mut cmd("sh", ["-c", &format!("command -v {program}")])).is_err())
        .map(|(_, package)| *package)
        .collect();
    if !missing.is_empty() {
        bail!("the lab needs programs that are not installed: apt-get install {}", missing.join(" "));
    }
    Ok(())
}

/// Raise what is too low, and note what it was so that `lab down` can put it back.
pub fn raise_limits(place: &Place) -> Result<()> {
    for (name, wanted) in LIMITS {
        let file = Path::new("/proc/sys").join(name);
        let now: u64 = fs::read_to_string(&file)?.trim().parse().with_context(|| format!("odd value in {name}"))?;
        if now < wanted {
            fs::write(&file, wanted.to_string())
                .with_context(|| format!("failed to raise {name} to {wanted}; raise it with sysctl and run again"))?;
            fs::write(place.run.join(name.replace('/', ".")), now.to_string())?;
        }
    }
    Ok(())
}

/// Put the limits back that `raise_limits` raised.
pub fn restore_limits(place: &Place) {
    for (name, _) in LIMITS {
        if let Ok(before) = fs::read_to_string(place.run.join(name.replace('/', "."))) {
            let _ = fs::write(Path::new("/proc/sys").join(name), before);
        }
    }
}
