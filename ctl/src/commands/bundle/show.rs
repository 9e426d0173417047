//! What people see of a bundle.

use std::collections::BTreeSet;
use std::path::Path;

use hz_bundle::manifest::roles_csv;
use hz_bundle::{Entry, Kind, Manifest, Report, Role};
use serde::Serialize;

use crate::commands::table::{plain, right, trimmed};

/// `hzctl bundle list`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct List {
    version: String,
    architecture: String,
    components: Vec<Line>,
    blobs: usize,
    total_size: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    name: String,
    version: String,
    license: String,
    kind: Kind,
    size: u64,
    /// Bytes that no other component needs.
    own_size: u64,
    roles: Vec<Role>,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

impl List {
    /// The components of a manifest, or those that a role needs.
    pub fn of(manifest: &Manifest, role: Option<Role>) -> Self {
        let chosen = |c: &&Entry| role.is_none_or(|role| c.roles.contains(&role));
        let components =
            manifest.components.iter().filter(chosen).map(|component| Line::of(component, manifest)).collect();
        let blobs = role.map_or_else(|| manifest.blobs(), |role| manifest.blobs_for(role));
        List {
            version: manifest.version.clone(),
            architecture: manifest.architecture.clone(),
            components,
            blobs: blobs.len(),
            total_size: blobs.iter().map(|blob| blob.size).sum(),
        }
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut table = plain(&["NAME", "VERSION", "LICENCE", "KIND", "SIZE", "OWN", "ROLES"]);
        for line in &self.components {
            table.add_row([
                line.name.clone(),
                line.version.clone(),
                line.license.clone(),
                line.kind.to_string(),
                bytes(line.size),
                bytes(line.own_size),
                roles_csv(&line.roles),
            ]);
        }
        right(&mut table, &[4, 5]);
        format!(
            "{}\n\n{} components, {} blobs, {} in all (bundle {}, {})",
            trimmed(&table),
            self.components.len(),
            self.blobs,
            bytes(self.total_size),
            self.version,
            self.architecture,
        )
    }
}

impl Line {
    fn of(component: &Entry, manifest: &Manifest) -> Self {
        let others: BTreeSet<_> = manifest
            .components
            .iter()
            .filter(|other| other.name != component.name)
            .flat_map(|other| other.blobs.iter().map(|blob| &blob.digest))
            .collect();
        let own = component.blobs.iter().filter(|blob| !others.contains(&blob.digest)).map(|blob| blob.size).sum();
        Line {
            name: component.name.clone(),
            version: component.version.clone(),
            license: component.license.clone(),
            kind: component.kind,
            size: component.size(),
            own_size: own,
            roles: component.roles.clone(),
            reference: component.reference.clone(),
            description: component.description.clone(),
        }
    }
}

/// `hzctl bundle inspect`, for people.
pub fn component(component: &Entry, manifest: &Manifest) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<13}{value}\n"));
    line("name", &component.name);
    line("version", &component.version);
    line("licence", &component.license);
    line("kind", &component.kind.to_string());
    line("roles", &roles_csv(&component.roles));
    if let Some(description) = &component.description {
        line("description", description);
    }
    if let Some(reference) = &component.reference {
        line("image", reference);
    }
    line("manifest", component.manifest.as_str());
    line("size", &bytes(component.size()));
    if !component.files.is_empty() {
        let mut table = plain(&["FILE", "MODE", "SIZE", "SHA256"]);
        for file in &component.files {
            table.add_row([file.path.clone(), file.mode.clone(), bytes(file.size), file.sha256.clone()]);
        }
        right(&mut table, &[2]);
        text.push_str(&format!("\n{}\n", trimmed(&table)));
    }
    let mut table = plain(&["BLOB", "SIZE", "PART", "ALSO IN"]);
    for blob in &component.blobs {
        let users = manifest.users_of(&blob.digest);
        let part = users
            .iter()
            .find(|user| user.component == component.name)
            .map_or_else(String::new, |user| user.part.clone());
        let mut others: Vec<_> =
            users.into_iter().map(|user| user.component).filter(|name| *name != component.name).collect();
        others.dedup();
        table.add_row([blob.digest.to_string(), bytes(blob.size), part, shortened(&others)]);
    }
    right(&mut table, &[1]);
    format!("{text}\n{}", trimmed(&table))
}

fn shortened(names: &[String]) -> String {
    match names {
        [] => "-".into(),
        [first, second, rest @ ..] if !rest.is_empty() => {
            format!("{first}, {second} and {} more", rest.len())
        }
        few => few.join(", "),
    }
}

/// `hzctl bundle verify`, for people.
pub fn report(report: &Report, key: &Path) -> String {
    let mut text = String::new();
    for fault in &report.faults {
        text.push_str(&format!("✗ {fault}\n"));
    }
    if let Some(signed) = &report.signed {
        text.push_str(&format!(
            "✓ signed by key {} ({}), comment `{}`\n",
            signed.key_id,
            key.display(),
            signed.comment
        ));
    }
    if report.is_sound() {
        text.push_str(&format!("✓ {} blobs, {} are as they were signed", report.blobs, bytes(report.bytes)));
    }
    text
}

/// `12.3 MB`, in powers of ten as disks are sold.
#[allow(clippy::cast_precision_loss)] // one digit after the point is shown
pub fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.2} GB", n as f64 / 1e9),
    }
}
