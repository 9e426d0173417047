//! Debian roots by mmdebstrap, cut down to what a container needs.
//!
//! A root that stands on another is made whole, from the same packages, and only the difference is
//! kept: no overlay mount, no package manager inside, and the shared part is the same bytes.

use std::path::Path;

use super::tool::Tool;
use super::versions::{self, Found};
use super::{SOURCE_DATE_EPOCH, debian, difference};
use crate::component::{Build, Component, DebianRootBuild};
use crate::product::{Context, Product, RecipeError, Tree};

pub(super) const RECIPE: &str = "debian-root/1";

/// Left out of every root while packages are unpacked; licence texts stay.
const LEAVE_OUT: &str = "\
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/man/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/lintian/*
path-exclude=/usr/share/bug/*
path-exclude=/usr/share/i18n/*
path-exclude=/usr/include/*
";

/// Left behind by installing.
const LEFT_BEHIND: [&str; 10] = [
    "var/lib/apt/lists/*",
    "var/cache/*",
    "var/log/*",
    "var/lib/dpkg/*-old",
    "var/lib/dpkg/triggers/*",
    "var/lib/systemd/*",
    "etc/*-",
    "etc/machine-id",
    "tmp/*",
    "run/*",
];

/// Makes a root, or what packages add to one.
pub(super) fn produce(
    component: &Component,
    root: &DebianRootBuild,
    context: &Context<'_>,
) -> Result<Product, RecipeError> {
    let write = |name: &str, text: &str| {
        let file = context.work.join(name);
        std::fs::write(&file, text).map_err(RecipeError::io(format!("write {}", file.display())))?;
        Ok::<_, RecipeError>(file)
    };
    let leave_out = write("dpkg.conf", LEAVE_OUT)?;
    let finish = write("finish.sh", &finish(root)?)?;
    let found = context.work.join("version");
    let whole = context.work.join("root.tar");
    let packages = packages(root, context).join(",");
    let mut sources = debian::sources(&root.suite)?;
    for suite in &root.also {
        sources.extend(debian::sources(suite)?);
    }
    (context.log)(&format!("mmdebstrap {} with {packages}", root.suite));
    Tool::new("mmdebstrap", format!("make a Debian {} root with {packages}", root.suite))
        .env("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH)
        .args(["--variant=essential", "--format=tar"])
        .arg(format!("--dpkgopt={}", leave_out.display()))
        .arg("--aptopt=Acquire::Languages \"none\"")
        .arg("--aptopt=APT::Install-Recommends \"false\"")
        .args((!packages.is_empty()).then(|| format!("--include={packages}")))
        .arg(format!("--customize-hook=sh '{}' \"$1\" '{}'", finish.display(), found.display()))
        .arg(&root.suite)
        .arg(&whole)
        .args(sources)
        .run()?;
    check_version(component, root, &found, context)?;
    let Some(base) = &root.base else { return Ok(Product::Layer(Tree::Tar(whole))) };
    let Some(base) = context.parts.get(base) else {
        return Err(RecipeError::failed(format!("stand on {base}"), "it was not made before this one"));
    };
    let layer = context.work.join("layer.tar");
    let counted = difference::write(&whole, &base.root, &layer)
        .map_err(RecipeError::io(format!("find what {} adds to {}", component.name, base.component.name)))?;
    std::fs::remove_file(&whole).map_err(RecipeError::io("remove the whole root"))?;
    (context.log)(&format!("{} files of its own, {} shared", counted.kept, counted.shared));
    Ok(Product::Layer(Tree::Tar(layer)))
}

/// The root's own packages, the first of which names its version, and those of the root it stands on.
fn packages<'a>(root: &'a DebianRootBuild, context: &'a Context<'_>) -> Vec<&'a str> {
    let base = root.base.as_ref().and_then(|base| context.parts.get(base)?.component.build.as_ref());
    let below: &[String] = if let Some(Build::DebianRoot(base)) = base { &base.packages } else { &[] };
    root.packages.iter().chain(below).map(String::as_str).collect()
}

/// The script that turns an installed root into one for containers: `finish.sh ROOT FOUND`.
fn finish(root: &DebianRootBuild) -> Result<String, RecipeError> {
    let mut lines = vec!["set -eu".to_owned(), "root=$1".into()];
    if let Some(package) = root.packages.first() {
        let name = package.split('=').next().unwrap_or(package);
        lines.push(format!("chroot \"$root\" dpkg-query -W -f '${{Version}}' '{name}' > \"$2\""));
    }
    for (name, uid) in &root.users {
        if !plain(name) {
            return Err(RecipeError::failed("add users", format!("`{name}` is no user name")));
        }
        // A package may have made the user already, with the next free number; numbers in images are fixed.
        lines.push(format!(
            "old=$(chroot \"$root\" id -u {name} 2>/dev/null || true)\n\
             sed -i '/^{name}:/d' \"$root/etc/passwd\" \"$root/etc/group\" \"$root/etc/shadow\"\n\
             echo '{name}:x:{uid}:{uid}:{name}:/tmp:/usr/sbin/nologin' >> \"$root/etc/passwd\"\n\
             echo '{name}:x:{uid}:' >> \"$root/etc/group\"\n\
             echo '{name}:!:::::::' >> \"$root/etc/shadow\"\n\
             [ -z \"$old\" ] || find \"$root\" -xdev -user \"$old\" -exec chown -h {uid}:{uid} {{}} +"
        ));
    }
    for command in &root.run {
        let quoted = command.replace('\'', r"'\''");
        lines.push(format!("chroot \"$root\" sh -euc '{quoted}'"));
    }
    // Globs are expanded by this shell below the root, so only what cannot leave it is let through.
    for path in root.remove.iter().map(String::as_str).chain(LEFT_BEHIND) {
        let path = path.trim_start_matches('/');
        let safe = |c: char| c.is_ascii_alphanumeric() || "/._-+*?[]".contains(c);
        if path.is_empty() || !path.chars().all(safe) || path.split('/').any(|part| part == "..") {
            return Err(RecipeError::failed("leave paths out", format!("`{path}` is no path below the root")));
        }
        lines.push(format!("rm -rf -- \"$root\"/{path}"));
    }
    // Compiled Python is checked by modification times otherwise, and layers have none.
    lines.push(
        "if [ -x \"$root/usr/bin/python3\" ]; then chroot \"$root\" python3 -m compileall -q -f \
         --invalidation-mode unchecked-hash /usr/lib/python3* || true; fi"
            .into(),
    );
    Ok(lines.join("\n") + "\n")
}

/// The component's version is that of the first package.
fn check_version(
    component: &Component,
    root: &DebianRootBuild,
    found: &Path,
    context: &Context<'_>,
) -> Result<(), RecipeError> {
    let Some(package) = root.packages.first() else { return Ok(()) };
    let debian = std::fs::read_to_string(found).map_err(RecipeError::io(format!("read the version of {package}")))?;
    accept_version(component, package, debian.trim(), context)
}

/// Takes a later patch with a word, refuses another series.
pub(super) fn accept_version(
    component: &Component,
    package: &str,
    debian: &str,
    context: &Context<'_>,
) -> Result<(), RecipeError> {
    match versions::compare(&component.version, debian) {
        Found::Same => Ok(()),
        Found::Later(have) => {
            let said = &component.version;
            (context.log)(&format!("Debian has {package} {have} by now, the list says {said}: taken"));
            Ok(())
        }
        Found::Other(have) => Err(RecipeError::failed(
            format!("take {package} {} from Debian", component.version),
            format!("Debian has {have}; name that version in bundle/components.yaml after trying it"),
        )),
    }
}

fn plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leaves_the_root_is_refused() {
        for bad in ["../etc", "usr/../../etc", "a; rm -rf /", "$HOME", ""] {
            let root = DebianRootBuild { remove: vec![bad.into()], ..Default::default() };
            assert!(finish(&root).is_err(), "{bad}");
        }
    }

    #[test]
    fn commands_keep_their_quotes() {
        let root = DebianRootBuild { run: vec!["echo 'a b' > /x".into()], ..Default::default() };
        assert!(finish(&root).unwrap().contains(r"sh -euc 'echo '\''a b'\'' > /x'"));
    }

    #[test]
    fn a_user_gets_the_number_of_the_list_even_if_a_package_made_it() {
        let root = DebianRootBuild { users: [("postgres".into(), 10002)].into(), ..Default::default() };
        let script = finish(&root).unwrap();
        assert!(script.contains("postgres:x:10002:10002:"));
        assert!(script.contains("-user \"$old\" -exec chown -h 10002:10002"));
    }
}
