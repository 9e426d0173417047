//! Real DICOM files go through the gateway into Orthanc, are found again, and come back byte for byte; their index is
//! in the hospital's own PostgreSQL.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};

use super::Scene;
use crate::{
    cluster::Cluster,
    dicom::{self, Ids},
    run::{cmd, output},
};

const HOST: &str = "imaging.st-anna.hospital.internal";
/// The test files come with pydicom; the hash pins them.
const WHEEL: &str = "pydicom==3.0.1 --hash=sha256:db32f78b2641bd7972096b8289111ddab01fb221610de8d7afa835eb938adb41";
/// A computed tomogram, a magnetic resonance image, and the same compressed as JPEG 2000.
const FILES: [&str; 3] = ["CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm"];

pub fn run(scene: &Scene) -> Result<()> {
    let cluster = scene.cluster();
    let dir = test_files(&scene.lab.place.root.join("target/e2e-data"))?;
    for name in FILES {
        let file = fs::read(dir.join(name)).with_context(|| format!("{name} is not in the pydicom wheel"))?;
        let ids = dicom::ids(&file).with_context(|| format!("failed to read {name}"))?;
        store(&cluster, &file).with_context(|| format!("failed to store {name}"))?;
        find(&cluster, &ids).with_context(|| format!("failed to find {name}"))?;
        let back = retrieve(&cluster, &ids).with_context(|| format!("failed to read back {name}"))?;
        ensure!(back == file, "{name} came back changed: {} bytes in, {} bytes out", file.len(), back.len());
        indexed(&cluster, &ids).with_context(|| format!("{name} is not in the hospital's database"))?;
        eprintln!("    {name}: {} bytes stored, found, read back identical, in PostgreSQL", file.len());
    }
    Ok(())
}

/// Fetched once with pip, unpacked with Python's own zip.
fn test_files(data: &Path) -> Result<std::path::PathBuf> {
    let dir = data.join("pydicom/data/test_files");
    if dir.join(FILES[0]).exists() {
        return Ok(dir);
    }
    fs::create_dir_all(data)?;
    fs::write(data.join("requirements.txt"), WHEEL)?;
    let mut pip = cmd("python3", ["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "-r"]);
    output(pip.arg(data.join("requirements.txt")).arg("--dest").arg(data))
        .context("failed to fetch pydicom's test files; pip needs a package index")?;
    let unpack = format!("cd '{}' && python3 -m zipfile -e pydicom-*.whl .", data.display());
    output(&mut cmd("sh", ["-c", &unpack]))?;
    Ok(dir)
}

fn store(cluster: &Cluster, file: &[u8]) -> Result<()> {
    let kind = "multipart/related; type=\"application/dicom\"; boundary=hz-e2e-part";
    let answer = cluster.post(HOST, "/dicom-web/studies", kind, &dicom::multipart("hz-e2e-part", file))?;
    ensure!(answer.status == 200, "STOW-RS answered {}: {}", answer.status, answer.excerpt());
    // (0008,1198) lists what was refused; a 200 may carry it.
    ensure!(answer.json()?["00081198"].is_null(), "STOW-RS refused the instance: {}", answer.excerpt());
    Ok(())
}

fn find(cluster: &Cluster, ids: &Ids) -> Result<()> {
    let path = format!("/dicom-web/studies/{}/instances?SOPInstanceUID={}", ids.study, ids.instance);
    let answer = cluster.get(HOST, &path, "application/dicom+json")?;
    ensure!(answer.status == 200, "QIDO-RS answered {}: {}", answer.status, answer.excerpt());
    let found = answer.json()?;
    let uid = found[0]["00080018"]["Value"][0].as_str();
    ensure!(uid == Some(&ids.instance), "QIDO-RS found {uid:?} instead of {}", ids.instance);
    Ok(())
}

fn retrieve(cluster: &Cluster, ids: &Ids) -> Result<Vec<u8>> {
    let path = format!("/dicom-web/studies/{}/series/{}/instances/{}", ids.study, ids.series, ids.instance);
    // Any transfer syntax: as it was stored, not converted.
    let accept = "multipart/related; type=\"application/dicom\"; transfer-syntax=*";
    let answer = cluster.get(HOST, &path, accept)?;
    ensure!(answer.status == 200, "WADO-RS answered {}: {}", answer.status, answer.excerpt());
    dicom::first_part(&answer.content_type, &answer.body).map(<[u8]>::to_vec)
}

/// Orthanc could as well keep its index in a file of its own; then this table would not know the instance.
fn indexed(cluster: &Cluster, ids: &Ids) -> Result<()> {
    let count =
        cluster.sql("orthanc", &format!("select count(*) from dicomidentifiers where value = '{}';", ids.instance))?;
    ensure!(count.trim() == "1", "table dicomidentifiers has {} rows of {}", count.trim(), ids.instance);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "fetches pydicom from a package index"]
    fn the_pinned_files_are_there_and_name_themselves() {
        let data = tempfile::tempdir().unwrap();
        let dir = test_files(data.path()).unwrap();
        for name in FILES {
            let ids = dicom::ids(&fs::read(dir.join(name)).unwrap()).unwrap();
            assert!(ids.instance.starts_with("1."), "{name}: {ids:?}");
        }
    }
}
