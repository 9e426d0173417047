//! What is made once is not made again, unless it cannot be trusted.

use std::fs;

use crate::building::{Bench, LIST};

#[test]
fn a_second_build_makes_and_writes_nothing() {
    let bench = Bench::new();
    let first = bench.build();
    assert_eq!(bench.asked(), ["base", "haproxy", "imaging", "kubelet", "program", "records"]);
    let written = fs::metadata(bench.archive()).unwrap().modified().unwrap();
    let second = bench.build();
    assert!(!first.unchanged && second.unchanged);
    assert!(bench.asked().is_empty());
    assert_eq!(fs::metadata(bench.archive()).unwrap().modified().unwrap(), written);
}

#[test]
fn two_machines_build_the_same_manifest() {
    let (one, other) = (Bench::new(), Bench::new());
    one.build();
    other.build();
    let manifest = |bench: &Bench| hz_bundle::Bundle::open(bench.archive()).unwrap().manifest_bytes().to_vec();
    assert_eq!(String::from_utf8(manifest(&one)).unwrap(), String::from_utf8(manifest(&other)).unwrap());
}

#[test]
fn a_lost_archive_is_written_from_the_cache() {
    let bench = Bench::new();
    bench.build();
    bench.asked();
    fs::remove_file(bench.archive()).unwrap();
    assert!(!bench.build().unchanged);
    assert!(bench.asked().is_empty());
}

#[test]
fn a_damaged_archive_is_written_again() {
    let bench = Bench::new();
    bench.build();
    let mut bytes = fs::read(bench.archive()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(bench.archive(), bytes).unwrap();
    assert!(!bench.build().unchanged);
    assert!(bench.build().unchanged);
}

#[test]
fn a_new_role_changes_the_manifest_but_makes_nothing() {
    let bench = Bench::new();
    bench.build();
    bench.asked();
    bench.list(&LIST.replace("roles: [worker]", "roles: [control-plane, worker]"));
    assert!(!bench.build().unchanged);
    assert!(bench.asked().is_empty());
}

#[test]
fn a_new_version_makes_only_what_stands_on_it() {
    let bench = Bench::new();
    bench.build();
    bench.asked();
    bench.recipes.salts.lock().unwrap().insert("program".into(), "v2".into());
    bench.list(&LIST.replace("version: v1,", "version: v2,"));
    bench.build();
    assert_eq!(bench.asked(), ["program", "records"]);
}

#[test]
fn a_part_that_comes_out_the_same_costs_the_others_nothing() {
    let bench = Bench::new();
    bench.build();
    bench.asked();
    bench.recipes.inputs.lock().unwrap().insert("program".into(), "a comment in its source changed".into());
    let built = bench.build();
    assert_eq!(bench.asked(), ["program"]);
    assert!(built.unchanged, "not even the archive");
}

#[test]
fn a_flipped_byte_in_the_cache_is_found_before_it_reaches_a_bundle() {
    for component in ["kubelet", "base", "program", "imaging"] {
        let bench = Bench::new();
        let before = bench.build();
        bench.asked();
        let good = fs::read(&before.path).unwrap();
        let blob = &bench.cached_blobs(component)[0];
        let mut bytes = fs::read(blob).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x20;
        fs::write(blob, bytes).unwrap();
        fs::remove_file(bench.archive()).unwrap();
        bench.build();
        assert_eq!(bench.asked(), [component], "made again, and only this");
        let told = bench.events.lock().unwrap().join("\n");
        assert!(told.contains(&format!("evicted {component}: blob sha256:")), "{told}");
        let again = hz_bundle::Bundle::open(bench.archive()).unwrap();
        assert!(
            good.windows(again.manifest_bytes().len()).any(|window| window == again.manifest_bytes()),
            "the same as before"
        );
    }
}

#[test]
fn half_an_entry_is_thrown_away() {
    let bench = Bench::new();
    bench.build();
    bench.asked();
    let blob = bench.cached_blobs("kubelet").remove(0);
    let entry = blob.parent().unwrap().parent().unwrap().to_path_buf();
    for wrong in ["entry.json", "entry.sha256"] {
        fs::remove_file(entry.join(wrong)).unwrap();
        bench.build();
        assert_eq!(bench.asked(), ["kubelet"], "without {wrong}");
    }
    fs::write(entry.join("entry.json"), "{}").unwrap();
    bench.build();
    assert_eq!(bench.asked(), ["kubelet"], "with another entry.json");
    fs::remove_file(&blob).unwrap();
    bench.build();
    assert_eq!(bench.asked(), ["kubelet"], "without a blob");
}

#[test]
fn a_component_that_fails_is_named_and_the_others_are_kept() {
    let broken = "- { name: broken, version: v1, license: MIT, kind: binary, roles: [worker], build: { files: { files: { a: x } } } }\n";
    let bench = Bench::with(&format!("{LIST}{broken}"));
    let error = bench.try_build().unwrap_err();
    assert_eq!(error.to_string(), "failed to make component broken");
    assert!(!bench.archive().exists());
    let asked = bench.asked();
    bench.list(LIST);
    bench.build();
    let made_later = bench.asked();
    assert!(
        asked.iter().filter(|name| *name != "broken").all(|name| !made_later.contains(name)),
        "{asked:?} {made_later:?}"
    );
}

#[test]
fn what_a_killed_build_left_is_cleared() {
    let bench = Bench::new();
    let left = bench.cache().join("tmp/kubelet/work");
    fs::create_dir_all(&left).unwrap();
    bench.build();
    assert!(!left.exists());
}

#[test]
fn what_no_build_used_for_a_month_is_thrown_away() {
    let bench = Bench::new();
    bench.build();
    let entry = |component: &str| bench.cached_blobs(component)[0].parent().unwrap().parent().unwrap().to_path_buf();
    let (old, used) = (entry("haproxy"), entry("kubelet"));
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(31 * 24 * 3600);
    for folder in [&old, &used] {
        fs::File::open(folder).unwrap().set_modified(long_ago).unwrap();
    }
    let without: String =
        LIST.split("- name: ").filter(|part| !part.starts_with("haproxy")).collect::<Vec<_>>().join("- name: ");
    bench.list(&without);
    bench.build();
    assert!(used.exists() && !old.exists());
}
