//! Identities: the login key, and for each host its SSH host key, machine-id and name.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::Result;

use super::{
    place::Place,
    topology::{Host, etc_hosts},
};
use crate::run::{cmd, each, output};

/// Nobody answers there, and it is no loopback address: CoreDNS forwards to it without meeting itself, and a server
/// room without internet looks just like this.
const RESOLV_CONF: &str = "nameserver 10.77.0.1\noptions timeout:1 attempts:1\n";

fn keygen(file: &Path, comment: &str) -> Result<()> {
    let _ = fs::remove_file(file);
    let mut command = cmd("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]);
    output(command.arg(file)).map(drop)
}

/// Write new identities for all hosts below `target/lab`.
pub fn make(place: &Place, hosts: &[Host]) -> Result<()> {
    keygen(&place.key(), "hzctl lab")?;
    let login = fs::read_to_string(place.key().with_extension("pub"))?;
    each(hosts, |host| seed(&place.seed(&host.name), host, &login))?;
    let mut known = String::new();
    for host in hosts {
        let key = fs::read_to_string(place.seed(&host.name).join("etc/ssh/ssh_host_ed25519_key.pub"))?;
        let key = key.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        known.push_str(&format!("{},{} {key}\n", host.address, host.name));
    }
    fs::write(place.known_hosts(), known)?;
    Ok(())
}

fn seed(dir: &Path, host: &Host, login: &str) -> Result<()> {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir.join("etc/ssh"))?;
    fs::create_dir_all(dir.join("root/.ssh"))?;
    for private in ["root", "root/.ssh"] {
        fs::set_permissions(dir.join(private), fs::Permissions::from_mode(0o700))?;
    }
    keygen(&dir.join("etc/ssh/ssh_host_ed25519_key"), &host.name)?;
    // As the kernel gives it: 128 random bits, which is what a machine-id is.
    let id = fs::read_to_string("/proc/sys/kernel/random/uuid")?.replace('-', "");
    fs::write(dir.join("etc/machine-id"), id)?;
    fs::write(dir.join("etc/hostname"), format!("{}\n", host.name))?;
    fs::write(dir.join("etc/hosts"), etc_hosts(host))?;
    fs::write(dir.join("etc/resolv.conf"), RESOLV_CONF)?;
    fs::write(dir.join("root/.ssh/authorized_keys"), login)?;
    Ok(())
}
