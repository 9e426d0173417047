//! Signatures, and that other minisigns read ours.

use std::fs;
use std::process::Command;

use hz_bundle::verify::Problem;
use hz_bundle::{Bundle, SigningKey, VerifyingKey, verify};

use crate::building::Bench;

#[test]
fn a_bundle_of_another_key_is_told_with_both_keys() {
    let bench = Bench::new();
    bench.build();
    let other = SigningKey::ephemeral().unwrap().verifying();
    let report = verify(bench.archive(), &other, &|_, _| ()).unwrap();
    assert!(!report.is_sound());
    let [fault] = report.faults.as_slice() else { panic!("{:?}", report.faults) };
    assert_eq!(fault.problem, Problem::Signature);
    assert!(
        fault.detail.contains(&bench.key.verifying().id()) && fault.detail.contains(&other.id()),
        "{}",
        fault.detail
    );
}

#[test]
fn a_manifest_with_another_blob_under_the_old_signature_is_refused() {
    let bench = Bench::new();
    bench.build();
    let bundle = Bundle::open(bench.archive()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    bundle.lay_out(folder.path(), None, &|_, _| ()).unwrap();
    let text = String::from_utf8(bundle.manifest_bytes().to_vec())
        .unwrap()
        .replace("\"mode\": \"0755\"", "\"mode\": \"4755\"");
    fs::write(folder.path().join("hz-bundle.json"), text).unwrap();
    let report = verify(folder.path(), &bench.key.verifying(), &|_, _| ()).unwrap();
    assert_eq!(
        report.faults[0].detail,
        "the signature does not fit: hz-bundle.json or its signature was changed after signing"
    );
}

#[test]
fn the_key_is_made_once_and_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hzctl/bundle.key");
    let (first, created) = SigningKey::load_or_create(&path).unwrap();
    assert!(created);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let (second, created) = SigningKey::load_or_create(&path).unwrap();
    assert!(!created);
    assert_eq!(first.verifying().id(), second.verifying().id());
    fs::write(&path, "rubbish").unwrap();
    let error = SigningKey::load_or_create(&path).err().unwrap();
    assert!(error.is_bad_input() && error.to_string().contains("bundle.key"), "{error}");
}

fn minisign(args: &[&str], folder: &std::path::Path) -> std::process::Output {
    Command::new("minisign")
        .args(args)
        .current_dir(folder)
        .output()
        .expect("minisign is not installed: apt-get install minisign")
}

#[test]
fn minisign_itself_accepts_our_signature_and_key() {
    let bench = Bench::new();
    let built = bench.build();
    let bundle = Bundle::open(&built.path).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("hz-bundle.json"), bundle.manifest_bytes()).unwrap();
    fs::write(folder.path().join("hz-bundle.json.minisig"), bundle.signature().unwrap()).unwrap();
    let key = built.public_key.to_string_lossy().into_owned();
    let output = minisign(&["-V", "-p", &key, "-m", "hz-bundle.json"], folder.path());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("Trusted comment: hz-bundle 0.1.0"), "{said}");
}

#[test]
fn a_key_that_minisign_made_signs_and_what_it_signed_we_accept() {
    let folder = tempfile::tempdir().unwrap();
    let output = minisign(&["-G", "-W", "-p", "key.pub", "-s", "key.sec"], folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let public = VerifyingKey::load(&folder.path().join("key.pub")).unwrap();
    let (ours, created) = SigningKey::load_or_create(&folder.path().join("key.sec")).unwrap();
    assert!(!created);
    assert_eq!(ours.verifying().id(), public.id());
    let text = ours.sign(b"a manifest", "hz-bundle 9").unwrap();
    assert_eq!(public.verify(b"a manifest", Some(&text)).unwrap().comment, "hz-bundle 9");

    fs::write(folder.path().join("file"), "a manifest").unwrap();
    let output = minisign(&["-S", "-s", "key.sec", "-t", "theirs", "-m", "file"], folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs = fs::read_to_string(folder.path().join("file.minisig")).unwrap();
    assert_eq!(public.verify(b"a manifest", Some(&theirs)).unwrap().comment, "theirs");
    assert!(public.verify(b"another", Some(&theirs)).is_err());
}

#[test]
fn the_key_we_make_is_one_that_minisign_signs_with() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, _) = SigningKey::load_or_create(&folder.path().join("our.key")).unwrap();
    fs::write(folder.path().join("file"), "x").unwrap();
    let output = minisign(&["-S", "-s", "our.key", "-t", "by hand", "-m", "file"], folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let signature = fs::read_to_string(folder.path().join("file.minisig")).unwrap();
    assert_eq!(ours.verifying().verify(b"x", Some(&signature)).unwrap().comment, "by hand");
}
