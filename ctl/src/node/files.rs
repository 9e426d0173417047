//! Configuration files and services: written only where they differ, restarted only where it matters.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine;
use serde::{Deserialize, Serialize};

use super::types::{FileWrite, Report};
use super::{NodeError, at, run};

/// Files to have, and services that read them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ApplyRequest {
    /// Files.
    pub files: Vec<FileWrite>,
    /// Services to run, in this order.
    pub units: Vec<UnitTask>,
    /// Whether swap is switched off and settings of the kernel are loaded.
    pub kernel: bool,
}

/// A service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UnitTask {
    /// Name, such as `containerd.service`.
    pub name: String,
    /// Files whose change asks for a restart.
    pub reads: Vec<String>,
    /// Whether it runs now; else it is only enabled, and started by somebody else.
    pub start: bool,
    /// Socket or `address:port` that shows that it is ready; empty for none.
    pub ready: String,
}

/// Write what differs, then see to the services.
pub fn apply(request: &ApplyRequest) -> Result<Report, NodeError> {
    let mut report = Report::default();
    for file in &request.files {
        if write(file)? {
            report.changed.push(file.path.clone());
        }
    }
    let touched = |path: &str| report.changed.iter().any(|changed| changed == path);
    let systemd = request.files.iter().any(|file| file.path.starts_with("/etc/systemd/") && touched(&file.path));
    let settings: Vec<&str> = request
        .files
        .iter()
        .filter(|file| file.path.starts_with("/etc/sysctl.d/") && touched(&file.path))
        .map(|file| file.path.as_str())
        .collect();
    if request.kernel {
        for path in &settings {
            load_settings(Path::new(path))?;
        }
    }
    if systemd {
        run("failed to reload systemd", &["systemctl", "daemon-reload"])?;
    }
    let mut started = Vec::new();
    for unit in &request.units {
        let changed = unit.reads.iter().any(|path| touched(path));
        if bring_up(unit, changed)? {
            started.push(unit.name.clone());
        }
    }
    report.changed.extend(started);
    Ok(report)
}

/// Enable, start or restart one service; whether anything was done.
fn bring_up(unit: &UnitTask, changed: bool) -> Result<bool, NodeError> {
    let name = unit.name.as_str();
    let is = |verb: &str| super::output_of(&["systemctl", verb, "--quiet", name]).is_some();
    let mut acted = false;
    if !is("is-enabled") {
        run(&format!("failed to enable {name}"), &["systemctl", "enable", "--quiet", name])?;
        acted = true;
    }
    let active = is("is-active");
    if unit.start && (!active || changed) {
        // A unit that failed too often is held back by systemd until it is told to forget.
        let _ = super::output_of(&["systemctl", "reset-failed", name]);
        run(&format!("failed to start {name}"), &["systemctl", "restart", name])?;
        acted = true;
    }
    if unit.start && !unit.ready.is_empty() {
        until_ready(name, &unit.ready)?;
    }
    Ok(acted)
}

fn until_ready(name: &str, ready: &str) -> Result<(), NodeError> {
    let begun = Instant::now();
    let answers = || match ready.parse::<std::net::SocketAddr>() {
        Ok(address) => std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok(),
        Err(_) => std::os::unix::net::UnixStream::connect(ready).is_ok(),
    };
    while !answers() {
        if begun.elapsed() > Duration::from_secs(30) {
            let log = super::output_of(&["journalctl", "-u", name, "-n", "5", "--no-pager", "-o", "cat"]);
            return Err(NodeError::new(format!("{name} does not get ready"), log.unwrap_or_default()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Whether the file had to be written. It appears whole or not at all.
pub fn write(file: &FileWrite) -> Result<bool, NodeError> {
    let path = Path::new(&file.path);
    let mode_of = |meta: fs::Metadata| meta.permissions().mode() & 0o7777;
    let same = fs::read(path).is_ok_and(|bytes| bytes == file.content.as_bytes());
    if same && fs::metadata(path).is_ok_and(|meta| mode_of(meta) == file.mode) {
        return Ok(false);
    }
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(at("make", parent))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = parent.join(format!(".{name}.hzctl{}", std::process::id()));
    let _ = fs::remove_file(&temporary);
    let mut handle = fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(file.mode)
        .open(&temporary)
        .map_err(at("write", &temporary))?;
    handle.write_all(file.content.as_bytes()).map_err(at("write", &temporary))?;
    handle.sync_all().map_err(at("write", &temporary))?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(file.mode)).map_err(at("protect", &temporary))?;
    fs::rename(&temporary, path).map_err(at("name", path))?;
    Ok(true)
}

/// Load kernel settings one by one. What may not be set but has the value already is fine; a setting that the
/// kernel does not have (yet) is skipped, since its module brings it.
fn load_settings(file: &Path) -> Result<(), NodeError> {
    let text = fs::read_to_string(file).map_err(at("read", file))?;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let optional = line.starts_with('-');
        let Some((key, value)) = line.trim_start_matches('-').split_once('=') else { continue };
        let path = Path::new("/proc/sys").join(key.trim().replace('.', "/"));
        let Ok(now) = fs::read_to_string(&path) else { continue };
        if now.trim() == value.trim() {
            continue;
        }
        if let Err(error) = fs::write(&path, value.trim())
            && !optional
        {
            return Err(NodeError::new(format!("failed to set {} to {}", key.trim(), value.trim()), error));
        }
    }
    Ok(())
}

/// Read files; those that are not there are left out. Contents in base64.
pub fn read(paths: &[String]) -> std::collections::BTreeMap<String, String> {
    let encode = |bytes: Vec<u8>| base64::engine::general_purpose::STANDARD.encode(bytes);
    paths.iter().filter_map(|path| Some((path.clone(), encode(fs::read(path).ok()?)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_right_is_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.conf").display().to_string();
        let file = FileWrite { path: path.clone(), content: "x".into(), mode: 0o600 };
        assert!(write(&file).unwrap());
        assert!(!write(&file).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_with_too_open_a_mode_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key").display().to_string();
        assert!(write(&FileWrite { path: path.clone(), content: "x".into(), mode: 0o644 }).unwrap());
        assert!(write(&FileWrite { path, content: "x".into(), mode: 0o600 }).unwrap());
    }
}
