//! Helm charts of ours, packed so that the same files give the same bytes.

use std::io::Write;
use std::path::Path;

use super::fingerprint;
use crate::component::ChartBuild;
use crate::product::{Context, ProducedFile, Product, RecipeError};

const RECIPE: &str = "chart/1";

pub(super) fn inputs(chart: &ChartBuild, repo: &Path) -> Result<Vec<String>, RecipeError> {
    Ok(vec![RECIPE.into(), fingerprint::of(&repo.join(&chart.path))?])
}

/// Packs a chart like `helm package` does.
pub(super) fn produce(chart: &ChartBuild, context: &Context<'_>) -> Result<Product, RecipeError> {
    let folder = context.repo.join(&chart.path);
    let act = format!("pack the chart {}", chart.path);
    let described = folder.join("Chart.yaml");
    let text = std::fs::read_to_string(&described).map_err(RecipeError::io(format!("read {}", described.display())))?;
    let (Some(name), Some(version)) = (field(&text, "name"), field(&text, "version")) else {
        return Err(RecipeError::failed(act, "its Chart.yaml has no name or version"));
    };
    (context.log)(&format!("chart {name} {version}"));
    let file = format!("{name}-{version}.tgz");
    let packed = context.work.join(&file);
    pack(&folder, &name, &packed).map_err(RecipeError::io(act))?;
    Ok(Product::Files(vec![ProducedFile { path: format!("charts/{file}"), mode: 0o644, source: packed }]))
}

/// A plain value at the top of a Chart.yaml.
fn field(text: &str, key: &str) -> Option<String> {
    let chart: serde_yaml::Value = serde_yaml::from_str(text).ok()?;
    chart.get(key)?.as_str().map(str::to_owned)
}

fn pack(folder: &Path, name: &str, packed: &Path) -> std::io::Result<()> {
    let zip = flate2::write::GzEncoder::new(std::fs::File::create(packed)?, flate2::Compression::best());
    let mut tar = tar::Builder::new(zip);
    let mut files = fingerprint::files(folder).map_err(std::io::Error::other)?;
    // Helm wants Chart.yaml first.
    files.sort_by_key(|file| (file.file_name().is_none_or(|n| n != "Chart.yaml"), file.clone()));
    for file in files {
        let bytes = std::fs::read(&file)?;
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        let inside = Path::new(name).join(file.strip_prefix(folder).unwrap_or(&file));
        tar.append_data(&mut header, inside, bytes.as_slice())?;
    }
    tar.into_inner()?.finish()?.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_chart_gives_the_same_bytes_with_chart_yaml_first() {
        let folder = tempfile::tempdir().unwrap();
        let chart = folder.path().join("x");
        std::fs::create_dir_all(chart.join("crds")).unwrap();
        std::fs::write(chart.join("Chart.yaml"), "name: hz-x\nversion: 0.1.0\n").unwrap();
        std::fs::write(chart.join("crds/a.yaml"), "a: 1\n").unwrap();
        let (one, two) = (folder.path().join("1"), folder.path().join("2"));
        pack(&chart, "hz-x", &one).unwrap();
        pack(&chart, "hz-x", &two).unwrap();
        assert_eq!(std::fs::read(&one).unwrap(), std::fs::read(&two).unwrap());
        let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(&one).unwrap()));
        let names: Vec<_> = tar.entries().unwrap().map(|e| e.unwrap().path().unwrap().into_owned()).collect();
        assert_eq!(names, [Path::new("hz-x/Chart.yaml"), Path::new("hz-x/crds/a.yaml")]);
    }

    #[test]
    fn a_quoted_version_is_read() {
        assert_eq!(field("version: \"0.1.0\"\n", "version").as_deref(), Some("0.1.0"));
        assert_eq!(field("name: a\n", "version"), None);
    }
}
