//! Programs and packages: fetched by hash, unpacked, put in place whole.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;

use sha2::{Digest, Sha256};

use super::hashes::{self, hex};
use super::types::{FileTask, InstallRequest, Report, Source};
use super::{NodeError, at, blobs, run};

/// Install files a few at a time, then the packages in one go.
pub fn install(request: &InstallRequest) -> Result<Report, NodeError> {
    // Two writers of one program: the second one's could not be started while the first still has it open.
    let _alone = super::exec::alone("install")?;
    let queue = Mutex::new(request.files.iter().chain(&request.debs));
    let report = Mutex::new(Report::default());
    let lane = || -> Result<(), NodeError> {
        loop {
            let next = queue.lock().ok().and_then(|mut queue| queue.next());
            let Some(file) = next else { return Ok(()) };
            let bytes = place(&request.source, file)?;
            if let Ok(mut report) = report.lock() {
                report.bytes += bytes;
                report.changed.push(file.path.clone());
            }
        }
    };
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..2).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().try_for_each(|lane| lane.join().unwrap_or(Ok(())))
    })?;
    hashes::remember(request.files.iter().map(|file| (file.path.as_str(), file.sha256.as_str())));
    if !request.debs.is_empty() {
        packages(&request.debs)?;
    }
    Ok(report.into_inner().unwrap_or_default())
}

/// Unpack one file next to its place, check it, and move it there.
fn place(source: &Source, file: &FileTask) -> Result<u64, NodeError> {
    let path = Path::new(&file.path);
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(at("make", parent))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = parent.join(format!(".{name}.hzctl"));
    let failed = |cause: &dyn ToString| NodeError::new(format!("failed to install {}", file.path), cause.to_string());
    let raw = blobs::open(source, &file.blob, 0);
    let mut unpacked = zstd::stream::read::Decoder::new(raw).map_err(|error| failed(&error))?;
    // What a run that was cut off left is another file from here on.
    let _ = fs::remove_file(&temporary);
    let mut out = fs::File::create(&temporary).map_err(at("write", &temporary))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut bytes = 0;
    loop {
        let read = unpacked.read(&mut buffer).map_err(|error| failed(&error))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        out.write_all(&buffer[..read]).map_err(at("write", &temporary))?;
        bytes += read as u64;
    }
    let found = hex(&hasher.finalize());
    if found != file.sha256 {
        let _ = fs::remove_file(&temporary);
        return Err(failed(&format!("its hash is {found} and should be {}", file.sha256)));
    }
    fs::set_permissions(&temporary, fs::Permissions::from_mode(file.mode)).map_err(at("protect", &temporary))?;
    fs::rename(&temporary, path).map_err(at("name", path))?;
    Ok(bytes)
}

/// dpkg alone, without apt: nothing is asked of the network, and what is missing is said by dpkg.
fn packages(debs: &[FileTask]) -> Result<(), NodeError> {
    let policy = Policy::deny_services()?;
    // Without a flush after every file, which takes most of the time; one flush at the end serves as well, since a
    // package counts as installed only after it.
    let mut argv = vec!["dpkg", "--install", "--force-unsafe-io", "--force-confold", "--skip-same-version"];
    argv.extend(debs.iter().map(|deb| deb.path.as_str()));
    // A dpkg that was cut off leaves packages half configured. That is mended first, as far as it can be; one that needs a
    // package which had not come yet is mended after that has, for it counts as the same version and is skipped.
    let configure = ["dpkg", "--configure", "-a", "--force-confold"];
    let _ = super::output_of(&configure);
    let act = "failed to install packages";
    let result = run(act, &argv).and_then(|_| run(act, &configure));
    drop(policy);
    for dir in ["/usr", "/var/lib/dpkg"] {
        let _ = fs::File::open(dir).map(|dir| rustix::fs::syncfs(&dir));
    }
    // Debian's own service of the balancer would start at the next boot, with a configuration that is not ours.
    let _ = super::output_of(&["systemctl", "disable", "--now", "haproxy.service"]);
    result.map(|_| ())
}

/// While it lives, packages do not start their own services: ours come with their own units.
struct Policy(bool);

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl Policy {
    fn deny_services() -> Result<Self, NodeError> {
        if Path::new(POLICY).exists() {
            return Ok(Policy(false));
        }
        fs::write(POLICY, "#!/bin/sh\n# made by hzctl for the time of a package installation\nexit 101\n")
            .map_err(at("write", POLICY))?;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755)).map_err(at("protect", POLICY))?;
        Ok(Policy(true))
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if self.0 {
            let _ = fs::remove_file(POLICY);
        }
    }
}
