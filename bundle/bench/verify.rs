//! How fast a bundle is verified, against `sha256sum` of the same file, in turn, in one run.
//!
//! `HZ_BUNDLE` names a bundle (with `hz-bundle.pub` beside it); without it one of 512 MB is made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use hz_bundle::archive::Writer;
use hz_bundle::manifest::{MEDIA_FILE, SCHEMA_VERSION};
use hz_bundle::{Descriptor, Digest, Entry, FileEntry, Kind, Manifest, Role, SigningKey, VerifyingKey, verify};

const ROUNDS: usize = 5;

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (bundle, key) = match std::env::var_os("HZ_BUNDLE").map(PathBuf::from) {
        Some(bundle) => {
            let key = VerifyingKey::load(&bundle.with_file_name("hz-bundle.pub")).expect("the public key beside it");
            (bundle, key)
        }
        None => made_up(folder.path()),
    };
    let size = fs::metadata(&bundle).expect("the bundle").len();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let begun = Instant::now();
        let report = verify(&bundle, &key, &|_, _| ()).expect("a bundle");
        let us = begun.elapsed().as_secs_f64();
        assert!(report.is_sound(), "{:?}", report.faults);
        let begun = Instant::now();
        let status = Command::new("sha256sum").arg(&bundle).stdout(Stdio::null()).status().expect("sha256sum");
        let them = begun.elapsed().as_secs_f64();
        assert!(status.success());
        if round > 0 {
            // The first round only warms the page cache, for both.
            ours.push(us);
            theirs.push(them);
        }
    }
    let (us, them) = (median(ours), median(theirs));
    #[allow(clippy::cast_precision_loss)]
    let rate = |seconds: f64| size as f64 / 1e6 / seconds;
    println!("{} ({} MB), median of {ROUNDS}", bundle.display(), size / 1_000_000);
    println!("hzctl bundle verify  {us:.3} s  {:.0} MB/s", rate(us));
    println!("sha256sum            {them:.3} s  {:.0} MB/s", rate(them));
    println!("ratio of times       {:.2}", us / them);
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn made_up(folder: &Path) -> (PathBuf, VerifyingKey) {
    let blobs: Vec<Vec<u8>> = (0..32_u8).map(|i| vec![i; 16 << 20]).collect();
    let components: Vec<Entry> = blobs
        .iter()
        .enumerate()
        .map(|(i, bytes)| {
            let digest = Digest::of(bytes);
            let file = FileEntry {
                path: "file".into(),
                mode: "0644".into(),
                size: bytes.len() as u64,
                sha256: digest.hex().into(),
                blob: digest.clone(),
            };
            Entry {
                name: format!("component-{i}"),
                version: "v1".into(),
                license: "Apache-2.0".into(),
                kind: Kind::Binary,
                roles: vec![Role::Worker],
                description: None,
                reference: None,
                manifest: digest.clone(),
                blobs: vec![Descriptor { digest, size: bytes.len() as u64, media_type: MEDIA_FILE.into() }],
                files: vec![file],
            }
        })
        .collect();
    let manifest = Manifest {
        schema_version: SCHEMA_VERSION,
        version: "0".into(),
        architecture: "amd64".into(),
        created_from: Digest::of(b""),
        total_size: blobs.iter().map(|bytes| bytes.len() as u64).sum(),
        components,
    };
    let key = SigningKey::ephemeral().expect("a key");
    let bytes = manifest.to_bytes();
    let path = folder.join("bundle.tar");
    let write = || -> std::io::Result<()> {
        let mut writer = Writer::new(fs::File::create(&path)?);
        writer.add("hz-bundle.json", &bytes)?;
        writer.add("hz-bundle.json.minisig", key.sign(&bytes, "hz-bundle 0").expect("a signature").as_bytes())?;
        writer.add("oci-layout", hz_bundle::archive::OCI_LAYOUT)?;
        writer.add("index.json", &manifest.oci_index(manifest.components.iter()))?;
        for (bytes, blob) in blobs.iter().zip(manifest.blobs()) {
            writer.add(&blob.digest.blob_path(), bytes)?;
        }
        writer.finish().map(drop)
    };
    write().expect("an archive");
    (path, key.verifying())
}
