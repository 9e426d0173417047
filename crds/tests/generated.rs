//! Generated files are what the code says. `UPDATE=1 cargo test -p hz-crds --test generated` writes them anew.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // files and the environment are what this test is about

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn same(path: &Path, wanted: &str) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, wanted).unwrap();
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        there == wanted,
        "{} is not what the code says; run UPDATE=1 cargo test -p hz-crds --test generated",
        path.display()
    );
}

#[test]
fn the_definitions_are_what_the_code_says() {
    for (file, text) in hz_crds::crd::manifests() {
        same(&root().join("crds/manifests").join(file), &text);
    }
}

#[test]
fn no_definition_is_left_of_a_kind_that_is_gone() {
    let known: Vec<String> = hz_crds::crd::manifests().into_iter().map(|(file, _)| file).collect();
    for file in std::fs::read_dir(root().join("crds/manifests")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(known.contains(&name), "crds/manifests/{name} belongs to no kind");
    }
}

#[test]
fn the_reference_is_what_the_code_says() {
    same(&root().join("docs/reference/kinds.md"), &hz_crds::reference::page());
}
