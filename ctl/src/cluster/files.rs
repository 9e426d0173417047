//! The files a cluster.yaml names: where they are, and whether they are there and fit for use.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::problem::Problem;
use super::yaml::{Node, Span};
use super::{Cluster, HostKeys};

/// Make the paths of the cluster absolute: they are relative to the file's own directory.
pub fn resolve(cluster: &mut Cluster, base: &Path) {
    let spec = &mut cluster.spec;
    let own = spec.hosts.iter_mut().filter_map(|host| host.ssh.as_mut()?.identity_file.as_mut());
    let named = [&mut spec.ssh.identity_file, &mut spec.ssh.known_hosts_file, &mut spec.bundle];
    for path in own.chain(named).chain(&mut spec.manifests) {
        *path = absolute(base, path);
    }
}

fn absolute(base: &Path, path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => base.join(path),
    }
}

/// Everything that is wrong with the files the cluster names. `cluster` has its paths made absolute.
pub fn check(root: &Node, cluster: &Cluster) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut look = |field: &str, keys: &[&str], path: &Path, what: &What| {
        let Err(refusal) = inspect(path, what) else { return };
        let owner = root.at(&keys[..keys.len() - 2]).and_then(|node| node.name_of(keys[keys.len() - 2]));
        match (root.at(keys), owner) {
            (Some(node), _) => problems.push(refusal.problem(node, field)),
            // A file that goes without saying is told of where it would be named.
            (None, Some(span)) => {
                problems.push(refusal.at(span.clone(), field).label("the default, since none is named"))
            }
            (None, None) => {}
        }
    };
    let spec = &cluster.spec;
    look("spec.ssh.identityFile", &["spec", "ssh", "identityFile"], &spec.ssh.identity_file, &IDENTITY);
    if spec.ssh.host_keys == HostKeys::Strict {
        look("spec.ssh.knownHostsFile", &["spec", "ssh", "knownHostsFile"], &spec.ssh.known_hosts_file, &KNOWN_HOSTS);
    }
    look("spec.bundle", &["spec", "bundle"], &spec.bundle, &BUNDLE);
    let nodes = root.at(&["spec", "manifests"]).map(Node::items).unwrap_or_default();
    for (index, (node, path)) in nodes.iter().zip(&spec.manifests).enumerate() {
        if let Err(refusal) = inspect(path, &MANIFEST) {
            problems.push(refusal.problem(node, &format!("spec.manifests[{index}]")));
        }
    }
    let hosts = root.at(&["spec", "hosts"]).map(Node::items).unwrap_or_default();
    for (index, (node, host)) in hosts.iter().zip(&spec.hosts).enumerate() {
        let path = host.ssh.as_ref().and_then(|ssh| ssh.identity_file.as_ref());
        if let (Some(node), Some(Err(refusal))) =
            (node.at(&["ssh", "identityFile"]), path.map(|path| inspect(path, &IDENTITY)))
        {
            problems.push(refusal.problem(node, &format!("spec.hosts[{index}].ssh.identityFile")));
        }
    }
    problems
}

/// A sort of file: whether one is fit for use, and how one is had.
struct What {
    fit: fn(&Path, &Metadata) -> Result<(), Refusal>,
    had: &'static str,
}

const IDENTITY: What = What {
    fit: identity,
    had: "`ssh-keygen -t ed25519` makes a key, and `ssh-copy-id` brings its public half to a host",
};
const KNOWN_HOSTS: What = What {
    fit: |_, _| Ok(()),
    had: "`ssh-keyscan ADDRESS` prints a host's keys, to compare at its console; with `hostKeys: AcceptNew` they are taken at first sight",
};
const BUNDLE: What = What {
    fit: bundle,
    had: "`hzctl bundle build` makes the bundle; paths are relative to the directory of this cluster.yaml",
};
const MANIFEST: What = What { fit: manifest, had: "paths are relative to the directory of this cluster.yaml" };

struct Refusal {
    message: String,
    hint: Option<String>,
}

impl Refusal {
    fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Refusal { message: message.into(), hint: Some(hint.into()) }
    }

    fn problem(self, node: &Node, path: &str) -> Problem {
        self.at(node.span.clone(), path)
    }

    fn at(self, span: Span, path: &str) -> Problem {
        let problem = Problem::at(span, self.message).path(path).label("this file");
        Problem { hint: self.hint, ..problem }
    }
}

fn inspect(path: &Path, what: &What) -> Result<(), Refusal> {
    let found = fs::metadata(path).map_err(|error| Refusal {
        message: match error.kind() {
            io::ErrorKind::NotFound => format!("there is no file {}", path.display()),
            io::ErrorKind::PermissionDenied => {
                format!("no permission to look at {}", path.display())
            }
            _ => format!("failed to look at {}: {error}", path.display()),
        },
        hint: missing_hint(path, what.had),
    })?;
    if found.is_dir() {
        return Err(Refusal::new(
            format!("{} is a directory; a file belongs here", path.display()),
            "name the file in it",
        ));
    }
    (what.fit)(path, &found)?;
    fs::File::open(path)
        .map(drop)
        .map_err(|error| Refusal { message: format!("failed to open {}: {error}", path.display()), hint: None })
}

/// A file of nearly the same name in the same place; else how such a file is had.
fn missing_hint(path: &Path, otherwise: &str) -> Option<String> {
    let directory = path.parent()?;
    let name = path.file_name()?.to_str()?;
    let Ok(entries) = fs::read_dir(directory) else {
        return Some(otherwise.to_owned());
    };
    let names: Vec<String> =
        entries.take(1000).filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    match super::nearest::nearest(name, names.iter().map(String::as_str)) {
        Some(near) => Some(format!("did you mean {near}?")),
        None => Some(otherwise.to_owned()),
    }
}

fn identity(path: &Path, found: &Metadata) -> Result<(), Refusal> {
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Refusal::new(
            format!("the private key {} can be read by others (mode {mode:04o})", path.display()),
            format!("chmod 600 {}", path.display()),
        ));
    }
    let start = fs::read(path).unwrap_or_default();
    if path.extension().is_some_and(|ending| ending == "pub") || start.starts_with(b"ssh-") {
        return Err(Refusal::new(
            format!("{} is a public key; the private one belongs here", path.display()),
            "name the file without .pub",
        ));
    }
    if !start.is_empty() && !start.starts_with(b"-----BEGIN") {
        return Err(Refusal::new(
            format!("{} is not a private key", path.display()),
            "`ssh-keygen -t ed25519` makes one",
        ));
    }
    if start.is_empty() && found.len() == 0 {
        return Err(Refusal::new(
            format!("the private key {} is empty", path.display()),
            "`ssh-keygen -t ed25519` makes one",
        ));
    }
    Ok(())
}

fn bundle(path: &Path, found: &Metadata) -> Result<(), Refusal> {
    // The contents are verified by the preflight; a file too short for one tar header is none for certain.
    if found.len() < 512 {
        return Err(Refusal::new(
            format!("{} is too short to be a bundle ({} bytes)", path.display(), found.len()),
            "`hzctl bundle build` makes one",
        ));
    }
    Ok(())
}

fn manifest(path: &Path, found: &Metadata) -> Result<(), Refusal> {
    if found.len() == 0 {
        return Err(Refusal::new(format!("{} is empty", path.display()), "fill it, or take it off the list"));
    }
    Ok(())
}
