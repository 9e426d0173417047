//! Every wrong cluster.yaml of the corpus through the real binary: the whole message and the exit code.
//!
//! `UPDATE=1 cargo test -p hzctl --test cluster_corpus` writes the messages anew; read the difference before committing.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{err, out, repository, run, site};

fn corpus(folder: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster-corpus").join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    files.sort();
    files
}

#[test]
fn each_wrong_file_is_told_what_is_wrong_with_it() {
    let files = corpus("");
    assert!(files.len() >= 45, "{}", files.len());
    let update = std::env::var_os("UPDATE").is_some();
    let site = site();
    let mut wrong = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        fs::copy(&file, site.path().join(&name)).unwrap();
        let output = run(site.path(), &["validate", "-f", &name]);
        let told = err(&output).replace(site.path().to_str().unwrap(), "$SITE");
        assert!(!told.contains("hunter2"), "{name} gives its secret away:\n{told}");
        assert!(!told.contains("panicked"), "{name}:\n{told}");
        assert_eq!(out(&output), "", "{name}: data of a wrong file");
        let expected = file.with_extension("expected");
        if update {
            fs::write(&expected, &told).unwrap();
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        if told != expected || output.status.code() != Some(1) {
            wrong.push(format!("--- {name}: exit {:?}, expected\n{expected}--- told\n{told}", output.status.code()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_expected_message_belongs_to_a_file_and_names_file_line_and_column() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster-corpus");
    // What is wrong with these has no line.
    let whole = ["not-utf-8", "utf-16"];
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "expected") {
            continue;
        }
        assert!(path.with_extension("yaml").exists(), "{} belongs to nothing", path.display());
        let name = path.file_stem().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        if !whole.contains(&name) {
            let place = text.split(&format!("[{name}.yaml:")).nth(1).unwrap_or_else(|| panic!("{name} names no place"));
            let numbers: Vec<&str> = place.split(']').next().unwrap().split(':').collect();
            assert!(
                numbers.len() == 2 && numbers.iter().all(|number| number.parse::<u32>().is_ok()),
                "{name}: {numbers:?}"
            );
        }
    }
}

#[test]
fn each_right_file_is_accepted() {
    let site = site();
    for file in corpus("good") {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        fs::copy(&file, site.path().join(&name)).unwrap();
        let output = run(site.path(), &["validate", "-f", &name]);
        assert_eq!(output.status.code(), Some(0), "{name}:\n{}", err(&output));
        assert!(out(&output).starts_with("cluster `"), "{name}");
    }
}

#[test]
fn the_example_is_right_and_ours_to_bootstrap() {
    let output = run(&repository(), &["validate", "--no-files", "-f", "examples/eight-node-cluster/cluster.yaml"]);
    assert_eq!(out(&output), "cluster `st-anna` is valid: 3 control planes, 5 workers\n", "{}", err(&output));
}

#[test]
fn a_file_that_is_no_cluster_yaml_at_all_is_told_so() {
    let site = site();
    fs::write(site.path().join("large.yaml"), vec![b'#'; 2 << 20]).unwrap();
    for (file, told) in
        [("large.yaml", "larger than 1 MiB"), ("not-there.yaml", "hzctl init"), ("keys", "failed to read keys")]
    {
        let output = run(site.path(), &["validate", "-f", file]);
        assert_eq!(output.status.code(), Some(1), "{file}");
        assert!(err(&output).contains(told), "{file}: {}", err(&output));
    }
}

/// Cut and garbled files: any answer will do but a crash, a hang or a success with a wrong exit code.
#[test]
fn no_damage_to_a_file_crashes_the_reader() {
    let good =
        fs::read_to_string(corpus("good").iter().find(|path| path.ends_with("all-fields.yaml")).unwrap()).unwrap();
    let places: Vec<usize> = good.char_indices().map(|(at, _)| at).collect();
    for at in places.iter().copied().step_by(3) {
        let _ = hzctl::cluster::Cluster::parse("cut", &good[..at]);
    }
    for at in places.into_iter().step_by(11) {
        for garble in ["\u{0}", ":", "\t", "- ", "{", "]", "\"", "&a ", "*a", "|", "ä", "\n", "%", "? ", "!!x "] {
            let garbled = format!("{}{garble}{}", &good[..at], &good[at..]);
            let _ = hzctl::cluster::Cluster::parse("garbled", &garbled);
        }
    }
}
