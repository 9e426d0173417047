//! Whatever is wrong with a bundle is found, and named.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use hz_bundle::archive::{self, Slot, Writer};
use hz_bundle::verify::Problem;
use hz_bundle::{Bundle, Error, Manifest, Report, verify};
use proptest::prelude::*;

use crate::building::Bench;

struct Good {
    bench: Bench,
    bytes: Vec<u8>,
    slots: Vec<Slot>,
}

/// One bundle for all; nobody changes it.
static GOOD: LazyLock<Good> = LazyLock::new(|| {
    let bench = Bench::new();
    let built = bench.build();
    let bundle = Bundle::open(&built.path).unwrap();
    let slots = archive::expected_slots(
        bundle.manifest(),
        bundle.manifest_bytes().len() as u64,
        bundle.signature().unwrap().len() as u64,
    );
    Good { bytes: fs::read(&built.path).unwrap(), bench, slots }
});

fn check(bytes: &[u8]) -> Result<Report, Error> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    verify(file.path(), &GOOD.bench.key.verifying(), &|_, _| ())
}

/// What a fault at this byte must be called.
fn name_at(offset: u64) -> String {
    match GOOD.slots.iter().find(|slot| (slot.header_at..slot.end()).contains(&offset)) {
        None => "the end of the archive".into(),
        Some(slot) => slot.name.replace("blobs/sha256/", "blob sha256:"),
    }
}

fn manifest() -> Manifest {
    Bundle::open(GOOD.bench.archive()).unwrap().manifest().clone()
}

#[test]
fn a_good_bundle_is_sound() {
    let report = check(&GOOD.bytes).unwrap();
    assert!(report.is_sound(), "{:?}", report.faults);
    assert_eq!(report.blobs, manifest().blobs().len());
    assert_eq!(report.bytes, GOOD.slots.iter().map(|slot| slot.size).sum::<u64>());
    assert_eq!(report.signed.unwrap().comment, "hz-bundle 0.1.0");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_flipped_byte_anywhere_is_found_and_named(place in 0.0..1.0_f64, flip in 1..=255_u8) {
        let at = ((GOOD.bytes.len() - 1) as f64 * place) as usize;
        flip_is_named(at, flip);
    }

    #[test]
    fn a_flipped_byte_in_a_header_is_found_and_named(slot in any::<prop::sample::Index>(), byte in 0..512_usize, flip in 1..=255_u8) {
        flip_is_named(slot.get(&GOOD.slots).header_at as usize + byte, flip);
    }

    #[test]
    fn a_cut_anywhere_is_found(place in 0.0..1.0_f64) {
        let length = (GOOD.bytes.len() as f64 * place) as usize;
        match check(&GOOD.bytes[..length]) {
            Ok(report) => prop_assert!(!report.is_sound()),
            Err(Error::NotABundle { .. }) => prop_assert!(length < 512),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}

fn flip_is_named(at: usize, flip: u8) {
    let mut bytes = GOOD.bytes.clone();
    bytes[at] ^= flip;
    let report = check(&bytes).unwrap();
    assert!(!report.is_sound(), "byte {at} ^ {flip}");
    let name = name_at(at as u64);
    let named = report
        .faults
        .iter()
        .any(|fault| fault.subject == name || (at < 2048 && fault.subject.starts_with("hz-bundle.json")))
        || (name.starts_with("hz-bundle.json")
            && report.faults.iter().any(|fault| fault.subject.starts_with("hz-bundle.json")));
    assert!(named, "byte {at} ^ {flip} is in {name}, told were {:?}", report.faults);
    // And nothing else is blamed, once the head is whole.
    if !name.starts_with("hz-bundle.json") {
        assert_eq!(report.faults.len(), 1, "{:?}", report.faults);
    }
}

#[test]
fn a_wrong_blob_is_told_with_its_place_component_and_file() {
    let manifest = manifest();
    let file = manifest.file("kubelet", "usr/local/bin/kubelet").unwrap();
    let slot = GOOD.slots.iter().find(|slot| slot.name == file.blob.blob_path()).unwrap();
    let mut bytes = GOOD.bytes.clone();
    bytes[slot.data_at as usize + 5] ^= 1;
    let report = check(&bytes).unwrap();
    let [fault] = report.faults.as_slice() else { panic!("{:?}", report.faults) };
    assert_eq!(fault.problem, Problem::WrongBytes);
    assert_eq!(fault.offset, Some(slot.data_at));
    let text = fault.to_string();
    assert!(text.starts_with(&format!("blob {} at byte {}", file.blob, slot.data_at)), "{text}");
    assert!(text.ends_with("needed by kubelet (usr/local/bin/kubelet)"), "{text}");
}

#[test]
fn a_shared_layer_that_is_wrong_names_all_its_images() {
    let manifest = manifest();
    let is_shared = |blob: &&hz_bundle::Descriptor| {
        blob.media_type.ends_with("tar+zstd") && manifest.users_of(&blob.digest).len() == 2
    };
    let shared = manifest.blobs().into_iter().find(is_shared).unwrap().clone();
    let slot = GOOD.slots.iter().find(|slot| slot.name == shared.digest.blob_path()).unwrap();
    let mut bytes = GOOD.bytes.clone();
    bytes[slot.data_at as usize] ^= 1;
    let text = check(&bytes).unwrap().faults[0].to_string();
    assert!(text.contains("needed by records (layer), imaging (layer)"), "{text}");
}

#[test]
fn a_cut_archive_says_where_it_ends_and_what_is_missing() {
    let cut = GOOD.slots[7].data_at + 10;
    let report = check(&GOOD.bytes[..cut as usize]).unwrap();
    let told: Vec<_> = report.faults.iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|text| text.contains(&format!("the archive ends inside it, at byte {cut}"))), "{told:?}");
    assert!(told.iter().any(|text| {
        text.starts_with(&format!("the archive at byte {cut}: it ends at byte {cut} of {}", GOOD.bytes.len()))
    }));
    let missing = report.faults.iter().filter(|fault| fault.problem == Problem::Missing).count();
    assert_eq!(missing, GOOD.slots.len() - 8);
    let open = Bundle::open(write(&GOOD.bytes[..cut as usize])).unwrap_err().to_string();
    assert!(open.contains("is damaged at byte"), "{open}");
}

fn write(bytes: &[u8]) -> PathBuf {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    file.into_temp_path().keep().unwrap()
}

/// The archive again, with files left out or added.
fn rewritten(keep: impl Fn(&str) -> bool, extra: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for slot in GOOD.slots.iter().filter(|slot| keep(&slot.name)) {
        let data = &GOOD.bytes[slot.data_at as usize..][..slot.size as usize];
        writer.add(&slot.name, data).unwrap();
    }
    for (name, data) in extra {
        writer.add(name, data).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn a_blob_that_is_not_there_is_named() {
    let gone = GOOD.slots[6].name.clone();
    let report = check(&rewritten(|name| name != gone, &[])).unwrap();
    let [fault] = report.faults.as_slice() else { panic!("{:?}", report.faults) };
    assert_eq!(fault.problem, Problem::Missing);
    assert_eq!(fault.subject, gone.replace("blobs/sha256/", "blob sha256:"));
    assert!(!fault.users.is_empty());
}

#[test]
fn a_blob_that_nobody_named_is_told() {
    let digest = hz_bundle::Digest::of(b"intruder");
    let report = check(&rewritten(|_| true, &[(&digest.blob_path(), b"intruder")])).unwrap();
    let [fault] = report.faults.as_slice() else { panic!("{:?}", report.faults) };
    assert_eq!((fault.problem, fault.subject.clone()), (Problem::Extra, format!("blob {digest}")));
}

#[test]
fn bytes_after_the_end_are_told() {
    let report = check(&[GOOD.bytes.as_slice(), b"more"].concat()).unwrap();
    assert_eq!(report.faults[0].subject, "the end of the archive");
}

#[test]
fn a_folder_with_wrong_missing_and_extra_blobs_is_told_all_three() {
    let folder = tempfile::tempdir().unwrap();
    Bundle::open(GOOD.bench.archive()).unwrap().lay_out(folder.path(), None, &|_, _| ()).unwrap();
    let manifest = manifest();
    let blobs = manifest.blobs();
    let path = |digest: &hz_bundle::Digest| folder.path().join(digest.blob_path());
    let mut wrong = fs::read(path(&blobs[1].digest)).unwrap();
    wrong[0] ^= 1;
    fs::write(path(&blobs[1].digest), wrong).unwrap();
    fs::remove_file(path(&blobs[2].digest)).unwrap();
    let intruder = hz_bundle::Digest::of(b"intruder");
    fs::write(path(&intruder), "intruder").unwrap();
    let report = verify(folder.path(), &GOOD.bench.key.verifying(), &|_, _| ()).unwrap();
    let told: Vec<_> = report.faults.iter().map(|fault| (fault.problem, fault.subject.clone())).collect();
    assert_eq!(told.len(), 3);
    for expected in [
        (Problem::WrongBytes, format!("blob {}", blobs[1].digest)),
        (Problem::Missing, format!("blob {}", blobs[2].digest)),
        (Problem::Extra, format!("blob {intruder}")),
    ] {
        assert!(told.contains(&expected), "{told:?}");
    }
}

#[test]
fn what_is_no_bundle_is_said_to_be_none() {
    for (bytes, reason) in [
        (b"hello".to_vec(), "it is too short"),
        (vec![7; 4096], "it is not a tar archive"),
        (vec![0; 4096], "it begins with zeros"),
        (rewritten(|name| name != "hz-bundle.json", &[]), "its first file is hz-bundle.json.minisig"),
    ] {
        let Err(error) = check(&bytes) else { panic!("{reason}") };
        assert!(error.is_bad_input() && error.to_string().contains(reason), "{error}");
        assert!(matches!(Bundle::open(write(&bytes)), Err(Error::NotABundle { .. })));
    }
    let missing = Bundle::open("/nowhere/bundle.tar").unwrap_err();
    assert!(missing.is_bad_input());
}

#[test]
fn a_newer_schema_is_told_as_such() {
    let bundle = Bundle::open(GOOD.bench.archive()).unwrap();
    let text = String::from_utf8(bundle.manifest_bytes().to_vec())
        .unwrap()
        .replace("\"schemaVersion\": 1", "\"schemaVersion\": 7");
    let signature = GOOD.bench.key.sign(text.as_bytes(), "hz-bundle 0.1.0").unwrap();
    let mut writer = Writer::new(Vec::new());
    writer.add("hz-bundle.json", text.as_bytes()).unwrap();
    writer.add("hz-bundle.json.minisig", signature.as_bytes()).unwrap();
    let bytes = writer.finish().unwrap();
    for error in [check(&bytes).unwrap_err(), Bundle::open(write(&bytes)).unwrap_err()] {
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(cause, "hz-bundle.json has schemaVersion 7, and this program reads up to 1");
    }
}

#[test]
fn a_change_in_the_unsigned_line_of_the_signature_is_found_too() {
    let slot = &GOOD.slots[1];
    for (at, flip) in [(29, 192), (29, 1), (5, 1), (18, 1)] {
        flip_is_named(slot.data_at as usize + at, flip);
    }
}
