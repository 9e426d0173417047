//! The component list is read strictly.

use std::path::Path;

use hz_bundle::component::ComponentList;

use crate::building::LIST;

fn error(list: &str) -> String {
    ComponentList::parse(Path::new("components.yaml"), list).unwrap_err().to_string()
}

fn with(line: &str) -> String {
    error(&format!("{LIST}{line}\n"))
}

#[test]
fn the_real_list_is_right() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("components.yaml");
    let list = ComponentList::load(&path).unwrap();
    assert!(list.components.len() > 20);
    assert_eq!(list.in_build_order().len(), list.components.len());
}

#[test]
fn mistakes_are_named_with_their_component() {
    let tail = "version: v1, license: MIT, kind: binary, roles: [worker], build: { files: {} } }";
    for (list, expected) in [
        (with(&format!("- {{ name: kubelet, {tail}")), "component kubelet: is listed twice"),
        (with(&format!("- {{ name: Kubelet, {tail}")), "name must be 1 to 63 lower-case letters"),
        (
            with("- { name: a, version: v1, license: MIT, kind: binary, roles: [worker] }"),
            "neither `build` nor `official`",
        ),
        (with("- { name: a, version: v1, license: MIT, kind: binary, build: { files: {} } }"), "roles is empty"),
        (
            with("- { name: a, version: v1, license: '', kind: binary, roles: [worker], build: { files: {} } }"),
            "license is empty",
        ),
        (
            with(
                "- { name: a, version: v1, license: MIT, kind: image, roles: [worker], build: { image: { from: bse } } }",
            ),
            "component a: is made from bse, which is not in the list; did you mean base?",
        ),
        (
            with(
                "- { name: a, version: v1, license: MIT, kind: image, roles: [worker], build: { image: { from: a } } }",
            ),
            "component a: is, in the end, made from itself",
        ),
        (
            with(
                "- { name: a, version: v1, license: MIT, kind: image, roles: [worker], build: { image: { binaries: { b: program } } } }",
            ),
            "write component:install/path",
        ),
        (
            with(
                "- { name: a, version: v1, license: MIT, kind: binary, roles: [worker], official: { url: 'http://x/y', sha256: '00' } }",
            ),
            "must be https",
        ),
        (
            with(
                "- { name: a, version: v1, license: MIT, kind: binary, roles: [worker], official: { url: 'https://x/y', sha256: '00' } }",
            ),
            "official.sha256 must be 64 hexadecimal digits",
        ),
        (
            with(
                "- { name: a, version: v1, license: MIT, kind: image, roles: [worker], official: { image: x/y, digest: 'sha256:0' } }",
            ),
            "official.digest must be",
        ),
        (
            with("- { name: a, version: v1, licence: MIT, kind: binary, build: { files: {} } }"),
            "unknown field `licence`",
        ),
        (
            with("- { name: a, version: v1, license: MIT, kind: binari, build: { files: {} } }"),
            "unknown variant `binari`",
        ),
    ] {
        assert!(list.contains(expected), "expected `{expected}` in: {list}");
    }
}

#[test]
fn parts_come_before_what_is_made_from_them() {
    let reversed = "
components:
- { name: c, version: v1, license: MIT, kind: image, roles: [worker], build: { image: { from: b, binaries: { x: 'a:y' } } } }
- { name: b, version: v1, license: MIT, kind: layer, build: { debianRoot: { suite: trixie, base: a2, packages: [] } } }
- { name: a2, version: v1, license: MIT, kind: layer, build: { debianRoot: { suite: trixie, packages: [] } } }
- { name: a, version: v1, license: MIT, kind: binary, internal: true, build: { files: {} } }
";
    let list = ComponentList::parse(Path::new("x"), reversed).unwrap();
    let order: Vec<_> = list.in_build_order().iter().map(|c| c.name.as_str()).collect();
    assert_eq!(order, ["a2", "a", "b", "c"]);
}
