//! What goes in comes out.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;

use hz_bundle::{Bundle, Digest, Kind, Role, verify};

use crate::building::Bench;

#[test]
fn what_was_built_is_read_back() {
    let bench = Bench::new();
    let built = bench.build();
    let bundle = Bundle::open(&built.path).unwrap();
    let manifest = bundle.manifest();
    let names: Vec<_> = manifest.components.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["kubelet", "haproxy", "records", "imaging"], "neither layers nor internal parts");
    for blob in manifest.blobs() {
        let mut bytes = Vec::new();
        bundle.blob(&blob.digest).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!((Digest::of(&bytes), bytes.len() as u64), (blob.digest.clone(), blob.size));
    }
    let mut kubelet = Vec::new();
    bundle.file("kubelet", "usr/local/bin/kubelet").unwrap().read_to_end(&mut kubelet).unwrap();
    assert_eq!(Digest::of(&kubelet).hex(), manifest.file("kubelet", "usr/local/bin/kubelet").unwrap().sha256);
    assert_eq!(kubelet.len(), 10_000);
}

#[test]
fn roles_get_what_they_need_and_no_more() {
    let bench = Bench::new();
    let bundle = Bundle::open(bench.build().path).unwrap();
    let names = |role| bundle.manifest().components_for(role).map(|c| c.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(Role::ControlPlane), ["kubelet", "haproxy"]);
    assert_eq!(names(Role::Worker), ["kubelet", "records", "imaging"]);
    let haproxy = &bundle.component("haproxy").unwrap().manifest;
    assert!(!bundle.blobs_for(Role::Worker).iter().any(|blob| blob.digest == *haproxy));
}

#[test]
fn a_layer_under_two_images_is_stored_once() {
    let bench = Bench::new();
    let built = bench.build();
    let bundle = Bundle::open(&built.path).unwrap();
    let manifest = bundle.manifest();
    let shared: Vec<_> = manifest
        .blobs()
        .into_iter()
        .filter(|blob| {
            let users: Vec<_> = manifest.users_of(&blob.digest).into_iter().map(|u| u.component).collect();
            users == ["records", "imaging"]
        })
        .collect();
    assert_eq!(shared.len(), 1);
    let sum: u64 = manifest.components.iter().map(hz_bundle::Entry::size).sum();
    assert!(manifest.total_size < sum);
    let archive = std::fs::read(&built.path).unwrap();
    let name = shared[0].digest.blob_path();
    let times = archive.windows(name.len()).filter(|window| *window == name.as_bytes()).count();
    assert_eq!(times, 1, "one header in the archive has its name");
}

#[test]
fn a_cut_transfer_goes_on_at_its_offset() {
    let bench = Bench::new();
    let bundle = Bundle::open(bench.build().path).unwrap();
    let blob = bundle.manifest().blobs()[3].clone();
    let read = |from| {
        let mut bytes = Vec::new();
        bundle.blob_from(&blob.digest, from).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    };
    assert_eq!([&read(0)[..100], &read(100)[..]].concat(), read(0));
    assert!(read(blob.size + 5).is_empty());
}

#[test]
fn files_are_installed_with_their_modes_and_only_when_they_differ() {
    let bench = Bench::new();
    let bundle = Bundle::open(bench.build().path).unwrap();
    let root = tempfile::tempdir().unwrap();
    let target = root.path().join("usr/local/bin/kubelet");
    let first = bundle.install("kubelet", root.path()).unwrap();
    assert_eq!(first, std::slice::from_ref(&target));
    assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o7777, 0o755);
    assert!(bundle.install("kubelet", root.path()).unwrap().is_empty(), "the second time nothing is written");
    std::fs::write(&target, "changed").unwrap();
    assert_eq!(bundle.install("kubelet", root.path()).unwrap(), [target]);
}

#[test]
fn a_folder_laid_out_is_a_bundle_too() {
    let bench = Bench::new();
    let built = bench.build();
    let bundle = Bundle::open(&built.path).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let first = bundle.lay_out(folder.path(), None, &|_, _| ()).unwrap();
    assert_eq!(first.written, bundle.manifest().blobs().len());
    let report = verify(folder.path(), &bench.key.verifying(), &|_, _| ()).unwrap();
    assert!(report.is_sound(), "{:?}", report.faults);
    let again = bundle.lay_out(folder.path(), None, &|_, _| ()).unwrap();
    assert_eq!((again.written, again.kept), (0, first.written));

    let laid = Bundle::open(folder.path()).unwrap();
    assert_eq!(laid.manifest(), bundle.manifest());
    let root = tempfile::tempdir().unwrap();
    assert_eq!(laid.install("kubelet", root.path()).unwrap().len(), 1);

    let one = bundle.manifest().blobs()[2].digest.clone();
    std::fs::write(folder.path().join(one.blob_path()), "half").unwrap();
    assert_eq!(laid.missing(laid.manifest().blobs()).len(), 1);
    let mended = bundle.lay_out(folder.path(), None, &|_, _| ()).unwrap();
    assert_eq!(mended.written, 1, "only the wrong one is written again");
}

#[test]
fn a_role_laid_out_is_what_the_role_needs() {
    let bench = Bench::new();
    let bundle = Bundle::open(bench.build().path).unwrap();
    let folder = tempfile::tempdir().unwrap();
    bundle.lay_out(folder.path(), Some(Role::ControlPlane), &|_, _| ()).unwrap();
    let laid = Bundle::open(folder.path()).unwrap();
    assert!(laid.missing(laid.manifest().blobs_for(Role::ControlPlane)).is_empty());
    assert!(!laid.missing(laid.manifest().blobs_for(Role::Worker)).is_empty());
}

#[test]
fn an_oci_archive_of_images_has_their_names_and_blobs() {
    let bench = Bench::new();
    let bundle = Bundle::open(bench.build().path).unwrap();
    let mut bytes = Vec::new();
    bundle.write_oci_archive(bundle.manifest().images_for(Role::Worker), &mut bytes).unwrap();
    let mut files = std::collections::BTreeMap::new();
    for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        files.insert(entry.path().unwrap().to_string_lossy().into_owned(), content);
    }
    let index: serde_json::Value = serde_json::from_slice(&files["index.json"]).unwrap();
    let names: Vec<_> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["annotations"]["io.containerd.image.name"].clone())
        .collect();
    assert_eq!(names, ["hz.hospital/records:17.5", "hz.hospital/imaging:1.12.7"]);
    for image in bundle.manifest().components.iter().filter(|c| c.kind == Kind::Image) {
        let text: serde_json::Value = serde_json::from_slice(&files[&image.manifest.blob_path()]).unwrap();
        let config: serde_json::Value = {
            let digest = Digest::parse(text["config"]["digest"].as_str().unwrap()).unwrap();
            serde_json::from_slice(&files[&digest.blob_path()]).unwrap()
        };
        assert_eq!(config["config"]["User"], "10001");
        let layers = text["layers"].as_array().unwrap();
        assert_eq!(layers.len(), config["rootfs"]["diff_ids"].as_array().unwrap().len());
        for (layer, diff_id) in layers.iter().zip(config["rootfs"]["diff_ids"].as_array().unwrap()) {
            let blob = Digest::parse(layer["digest"].as_str().unwrap()).unwrap();
            let plain = zstd::decode_all(files[&blob.blob_path()].as_slice()).unwrap();
            assert_eq!(Digest::of(&plain).as_str(), diff_id.as_str().unwrap());
        }
    }
}

#[test]
fn a_part_reaches_the_image_that_is_made_from_it() {
    let bench = Bench::new();
    let bundle = Bundle::open(bench.build().path).unwrap();
    let records = bundle.component("records").unwrap();
    let own = records.blobs.iter().rfind(|blob| blob.media_type.ends_with("tar+zstd")).unwrap();
    let plain = zstd::decode_all(bundle.blob(&own.digest).unwrap()).unwrap();
    let mut archive = tar::Archive::new(plain.as_slice());
    let paths: Vec<_> =
        archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(paths, ["opt", "opt/own", "usr", "usr/bin", "usr/bin/program"]);
}

#[test]
fn names_that_are_nearly_right_are_told() {
    let bench = Bench::new();
    let bundle = Bundle::open(bench.build().path).unwrap();
    let error = bundle.component("kublet").unwrap_err().to_string();
    assert_eq!(error, "the bundle has no component kublet; did you mean kubelet?");
    let error = bundle.file("kubelet", "usr/bin/kubelet").err().unwrap().to_string();
    assert!(error.contains("usr/bin/kubelet in component kubelet"), "{error}");
}
