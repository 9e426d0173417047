//! What the tests of the binary share.
#![allow(dead_code)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The binary, away from the settings of whoever runs the tests.
pub fn hzctl(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hzctl"));
    command
        .current_dir(directory)
        .env_clear()
        .env("HOME", directory)
        .env("PATH", "/usr/bin:/bin")
        .env("COLUMNS", "100");
    command.stdin(Stdio::null());
    command
}

/// Run it to its end.
pub fn run(directory: &Path, arguments: &[&str]) -> Output {
    hzctl(directory).args(arguments).output().expect("hzctl starts")
}

/// Run it with this on standard input.
pub fn run_with_input(directory: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = hzctl(directory)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("hzctl starts");
    child.stdin.take().expect("piped").write_all(input).expect("hzctl reads");
    child.wait_with_output().expect("hzctl ends")
}

/// Text of standard output.
pub fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// Text of standard error.
pub fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository").to_owned()
}

/// A directory with the files that the corpus names. Their modes matter, and git keeps none.
pub fn site() -> tempfile::TempDir {
    let site = tempfile::tempdir().expect("a directory");
    let key = "-----BEGIN OPENSSH PRIVATE KEY-----\nnot a real one\n-----END OPENSSH PRIVATE KEY-----\n";
    let files = [
        ("id_ed25519", key, 0o600),
        ("id_open", key, 0o644),
        ("id_ed25519.pub", "ssh-ed25519 AAAA someone@somewhere\n", 0o600),
        ("notes.txt", "remember the milk\n", 0o600),
        ("known_hosts", "10.77.0.11 ssh-ed25519 AAAA\n", 0o644),
        ("hospital.yaml", "kind: Hospital\n", 0o644),
        ("empty.tar", "", 0o644),
        ("bundle.tar", &"x".repeat(1024), 0o644),
    ];
    for (name, text, mode) in files {
        let path = site.path().join(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode set");
    }
    fs::create_dir(site.path().join("keys")).expect("made");
    site
}
