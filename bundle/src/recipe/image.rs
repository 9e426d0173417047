//! Container images put together from layers, programs and files, without a container engine.

use std::path::{Path, PathBuf};

use super::files::mode;
use super::fingerprint;
use crate::component::ImageBuild;
use crate::product::{Context, Entry, EntryKind, ImageLayer, ProducedImage, Product, RecipeError, Tree};

const RECIPE: &str = "image/1";

pub(super) fn inputs(image: &ImageBuild, repo: &Path) -> Result<Vec<String>, RecipeError> {
    let mut inputs = vec![RECIPE.to_owned()];
    for source in image.files.values() {
        inputs.push(fingerprint::of(&repo.join(source))?);
    }
    Ok(inputs)
}

pub(super) fn produce(image: &ImageBuild, context: &Context<'_>) -> Result<Product, RecipeError> {
    let mut layers: Vec<_> = image.from.iter().chain(&image.layers).cloned().map(ImageLayer::Shared).collect();
    let own = own_layer(image, context)?;
    if !own.is_empty() {
        layers.push(ImageLayer::Own(Tree::Entries(own)));
    }
    if layers.is_empty() {
        return Err(RecipeError::failed("put the image together", "it has no layer, program or file"));
    }
    Ok(Product::Image(ProducedImage { layers, config: image.config.clone() }))
}

/// What is this image's alone, as one layer.
fn own_layer(image: &ImageBuild, context: &Context<'_>) -> Result<Vec<Entry>, RecipeError> {
    let entry = |path: &str, what: EntryKind, mode: u32| Entry {
        path: path.trim_start_matches('/').to_owned(),
        what,
        mode,
        uid: 0,
        gid: 0,
    };
    let mut entries = Vec::new();
    for (path, owner) in &image.directories {
        let (uid, gid, mode) = ownership(owner).ok_or_else(|| {
            RecipeError::failed(format!("make {path}"), format!("`{owner}` is not uid:gid:mode, like 10001:10001:0755"))
        })?;
        entries.push(Entry { uid, gid, ..entry(path, EntryKind::Directory, mode) });
    }
    for (path, of) in &image.binaries {
        entries.push(entry(path, EntryKind::File(program(of, context)?), 0o755));
    }
    for (path, source) in &image.files {
        let source = context.repo.join(source);
        entries.push(entry(path, EntryKind::File(source.clone()), mode(&source)?));
    }
    for (path, target) in &image.links {
        entries.push(entry(path, EntryKind::Symlink(target.clone()), 0o777));
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

/// `component:install/path` as a file on this machine.
fn program(of: &str, context: &Context<'_>) -> Result<PathBuf, RecipeError> {
    let act = || format!("take {of}");
    let (name, path) = of.split_once(':').ok_or_else(|| RecipeError::failed(act(), "write component:install/path"))?;
    let part =
        context.parts.get(name).ok_or_else(|| RecipeError::failed(act(), format!("{name} was not made before")))?;
    let file = part.root.join(path.trim_start_matches('/'));
    if file.is_file() {
        return Ok(file);
    }
    let has = fingerprint::files(&part.root)?;
    let has: Vec<_> =
        has.iter().filter_map(|f| f.strip_prefix(&part.root).ok()).map(|f| f.display().to_string()).collect();
    Err(RecipeError::failed(act(), format!("{name} has no such file; it has {}", has.join(", "))))
}

/// `uid:gid:mode`.
fn ownership(text: &str) -> Option<(u32, u32, u32)> {
    let mut parts = text.split(':');
    let (uid, gid, mode) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    Some((uid.parse().ok()?, gid.parse().ok()?, u32::from_str_radix(mode, 8).ok()?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::component::{Component, ComponentList};
    use crate::product::Part;

    fn part(root: &Path) -> Part {
        let text = "components: [{name: tool, version: '1', license: MIT, kind: binary, roles: [worker], \
                    build: {files: {files: {}}}}]";
        let list = ComponentList::parse(Path::new("test"), text).unwrap();
        let component: Component = list.components[0].clone();
        Part { component, root: root.to_owned() }
    }

    fn make(image: &ImageBuild, folder: &Path) -> Result<Product, RecipeError> {
        let parts = BTreeMap::from([("tool".to_owned(), part(folder))]);
        let context = Context { repo: folder, work: folder, cache: folder, parts: &parts, log: &|_| {} };
        produce(image, &context)
    }

    #[test]
    fn an_image_is_its_layers_and_one_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("usr/bin")).unwrap();
        std::fs::write(folder.path().join("usr/bin/tool"), "x").unwrap();
        let image = ImageBuild {
            from: Some("hz-base".into()),
            binaries: [("/tool".to_owned(), "tool:usr/bin/tool".to_owned())].into(),
            directories: [("/data".to_owned(), "5:6:0750".to_owned())].into(),
            ..Default::default()
        };
        let Product::Image(image) = make(&image, folder.path()).unwrap() else { panic!("an image") };
        assert!(matches!(&image.layers[0], ImageLayer::Shared(name) if name == "hz-base"));
        let ImageLayer::Own(Tree::Entries(entries)) = &image.layers[1] else { panic!("entries") };
        assert_eq!((entries[0].path.as_str(), entries[0].uid, entries[0].gid, entries[0].mode), ("data", 5, 6, 0o750));
        assert_eq!((entries[1].path.as_str(), entries[1].mode), ("tool", 0o755));
    }

    #[test]
    fn a_program_that_a_part_lacks_is_told_with_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("other"), "x").unwrap();
        let image =
            ImageBuild { binaries: [("/tool".to_owned(), "tool:tool".to_owned())].into(), ..Default::default() };
        let told = make(&image, folder.path()).unwrap_err().to_string();
        assert!(told.contains("tool has no such file; it has other"), "{told}");
    }

    #[test]
    fn owners_are_three_numbers_the_last_octal() {
        assert_eq!(ownership("1:2:0755"), Some((1, 2, 0o755)));
        assert_eq!(ownership("1:2"), None);
        assert_eq!(ownership("1:2:9"), None);
    }
}
