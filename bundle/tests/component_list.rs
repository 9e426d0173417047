//! The list that is shipped: what it says must be what is built, in every place that says it.

#![allow(clippy::unwrap_used)] // a test may say so

use std::fs;
use std::path::{Path, PathBuf};

use hz_bundle::component::{Build, ComponentList};

fn repo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn list() -> ComponentList {
    ComponentList::load(&repo().join("bundle/components.yaml")).unwrap()
}

#[test]
fn versions_of_go_projects_are_those_that_their_go_mod_pins() {
    let mut checked = 0;
    for component in &list().components {
        let Some(Build::Go(go)) = &component.build else {
            continue;
        };
        let file = repo().join("bundle").join(go.workspace.as_ref().unwrap()).join("go.mod");
        let text = fs::read_to_string(&file).unwrap();
        // Those that a command is named after, `module version` in a require line.
        let pins: Vec<(&str, &str)> = text
            .lines()
            .filter(|line| !line.contains("=>"))
            .filter_map(|line| line.trim().trim_start_matches("require ").split_once(" v"))
            .collect();
        for package in go.commands.values().filter(|package| !package.ends_with(".c")) {
            let inside = |module: &str| {
                package.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            let (module, version) = pins
                .iter()
                .filter(|(module, _)| inside(module))
                .max_by_key(|(module, _)| module.len())
                .unwrap_or_else(|| panic!("{} does not require {package}", file.display()));
            assert_eq!(
                component.version.trim_start_matches('v'),
                version.split_whitespace().next().unwrap(),
                "{}: components.yaml and {} disagree on {module}",
                component.name,
                file.display()
            );
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked} commands");
}

#[test]
fn our_own_components_have_the_version_of_the_workspace() {
    for component in &list().components {
        if let Some(Build::Cargo(_) | Build::Chart(_)) = &component.build {
            assert_eq!(component.version, env!("CARGO_PKG_VERSION"), "{}", component.name);
        }
    }
}

#[test]
fn every_image_that_the_tree_names_is_in_the_bundle() {
    let list = list();
    let images: Vec<String> = list.components.iter().map(hz_bundle::component::Component::image_name).collect();
    let mut named = Vec::new();
    for folder in ["crds/src", "charts", "examples/eight-node-cluster"] {
        collect(&repo().join(folder), &mut named);
    }
    assert!(named.len() > 3, "{named:?}");
    for (file, image) in named {
        assert!(images.contains(&image), "{} names {image}, which components.yaml does not make", file.display());
    }
}

/// Our image names with a tag, in sources and charts; snapshots and tests repeat or make up names.
fn collect(folder: &Path, named: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !["snapshots", "fixtures", "tests"].contains(&name.as_str()) {
                collect(&path, named);
            }
            continue;
        }
        if !["rs", "yaml"].iter().any(|end| path.extension().is_some_and(|e| e == *end)) || name == "tests.rs" {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for rest in text.split("hz.hospital/").skip(1) {
            let image: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "-.:".contains(*c)).collect();
            let tagged =
                |(_, tag): (&str, &str)| tag.starts_with(|c: char| c.is_ascii_digit() || c == 'v') && tag.contains('.');
            if image.split_once(':').is_some_and(tagged) {
                named.push((path.clone(), format!("hz.hospital/{}", image.trim_end_matches('.'))));
            }
        }
    }
}
