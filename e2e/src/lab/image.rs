//! The disk that every lab host starts from: Debian 12, minimal, with what an installer's "SSH server" leaves behind.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::{daemon::Daemon, place::Place};
use crate::run::{cmd, output, text};

const SUITE: &str = "bookworm";
const INIT: &str = include_str!("../../lab/init");
/// What a bare server has. Nothing of Kubernetes, no container runtime, no nft: hzctl brings what it needs.
const PACKAGES: [&str; 9] =
    ["systemd", "systemd-sysv", "dbus", "openssh-server", "iproute2", "procps", "ca-certificates", "sudo", "kmod"];
/// Run in the new root. Consoles would fight over the machine's terminals; timers would do work in the middle of a
/// measurement; keys and ids are each host's own.
const CUSTOMIZE: &str = r#"
systemctl --root="$1" mask getty.target console-getty.service getty@tty1.service systemd-remount-fs.service \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer systemd-tmpfiles-clean.timer \
    sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount systemd-modules-load.service >/dev/null 2>&1
systemctl --root="$1" set-default multi-user.target >/dev/null 2>&1
rm -f "$1"/etc/ssh/ssh_host_*_key* "$1"/etc/machine-id "$1"/var/lib/dbus/machine-id
: > "$1"/etc/hostname; : > "$1"/etc/resolv.conf
mkdir -p "$1"/etc/ssh/sshd_config.d "$1"/.lab "$1"/var/log/journal
printf 'PermitRootLogin prohibit-password\nPasswordAuthentication no\nUseDNS no\nMaxStartups 64:30:128\nMaxSessions 64\n' \
    > "$1"/etc/ssh/sshd_config.d/lab.conf
printf '[Journal]\nRateLimitIntervalSec=0\nSystemMaxUse=256M\n' > "$1"/etc/systemd/journald.conf.d/lab.conf 2>/dev/null || {
    mkdir -p "$1"/etc/systemd/journald.conf.d
    printf '[Journal]\nRateLimitIntervalSec=0\nSystemMaxUse=256M\n' > "$1"/etc/systemd/journald.conf.d/lab.conf; }
"#;

/// Name of the image; its tag is a hash of all that decides its content, so a changed recipe is a new image.
pub fn name() -> String {
    let mut hash = Sha256::new();
    for part in [SUITE, INIT, CUSTOMIZE, &PACKAGES.join(",")] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let key: String = hash.finalize().iter().take(6).map(|b| format!("{b:02x}")).collect();
    format!("hzlab-host:{key}")
}

/// Make the image unless the lab's daemon has it.
pub fn ensure(place: &Place, daemon: &Daemon) -> Result<()> {
    let name = name();
    if output(&mut daemon.docker(["image", "inspect", &name])).is_ok() {
        return Ok(());
    }
    eprintln!("lab: building the host image {name} (once; needs a Debian mirror)");
    let work = tempfile::tempdir_in(&place.cache).context("failed to make a directory for the host image")?;
    let tar = work.path().join("root.tar");
    let init = work.path().join("init");
    fs::write(&init, INIT)?;
    output(&mut bootstrap(&tar, &init)?).context(
        "failed to build the host image; it needs `mmdebstrap`, root, and a Debian 12 mirror that apt can reach",
    )?;
    output(&mut daemon.docker([
        "import".as_ref(),
        "--change".as_ref(),
        r#"ENTRYPOINT ["/sbin/lab-init"]"#.as_ref(),
        tar.as_os_str(),
        name.as_ref(),
    ]))?;
    // What an older recipe made serves nobody.
    let all = text(&mut daemon.docker(["images", "--format", "{{.Repository}}:{{.Tag}}", "hzlab-host"]))?;
    for old in all.lines().filter(|tag| *tag != name) {
        let _ = output(&mut daemon.docker(["rmi", old]));
    }
    Ok(())
}

fn bootstrap(tar: &Path, init: &Path) -> Result<Command> {
    let mut command = cmd("mmdebstrap", ["--variant=minbase", "--mode=root", "--quiet"]);
    command.arg(format!("--include={}", PACKAGES.join(",")));
    command.args(["--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*"]);
    command.arg(format!("--customize-hook={CUSTOMIZE}"));
    command
        .arg(format!(r#"--customize-hook=cp "{}" "$1"/sbin/lab-init && chmod 755 "$1"/sbin/lab-init"#, init.display()));
    command.arg(SUITE).arg(tar);
    command.args(mirrors()?);
    Ok(command)
}

/// Where this machine's own apt gets Debian 12 from, if it does: sites behind a proxy or mirror have set that up once.
/// Nothing found: mmdebstrap knows the public default.
fn mirrors() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for file in ["/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources"] {
        let Ok(content) = fs::read_to_string(file) else { continue };
        let used = content.lines().any(|l| !l.trim_start().starts_with('#') && l.contains(SUITE));
        if used {
            found.push(file.to_owned());
        }
    }
    if found.is_empty() && text(&mut cmd("sh", ["-c", "command -v mmdebstrap"])).is_err() {
        bail!("`mmdebstrap` is not installed: apt-get install mmdebstrap");
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_image_name_is_stable_for_a_recipe() {
        assert_eq!(super::name(), super::name());
        assert!(super::name().starts_with("hzlab-host:"));
    }

    #[test]
    fn a_bare_host_has_nothing_of_kubernetes() {
        assert!(!super::PACKAGES.iter().any(|p| p.contains("kube") || p.contains("containerd") || p.contains("nft")));
    }
}
