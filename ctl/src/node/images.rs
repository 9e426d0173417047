//! Images from blobs into the container runtime, as one stream: nothing is written twice.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use super::types::{ImageTask, ImportRequest, Report, Source};
use super::{NodeError, blobs, output_of};

const CTR: &str = "/usr/local/bin/ctr";

/// Import what is missing: first the images that run for sure, unpacked; then the others as they are, to be
/// unpacked by the runtime if and when a pod lands here.
pub fn import(request: &ImportRequest) -> Result<Report, NodeError> {
    let there = super::facts::parse_images(&output_of(&[CTR, "-n", "k8s.io", "images", "ls"]).unwrap_or_default());
    let missing: Vec<&ImageTask> =
        request.images.iter().filter(|image| there.get(&image.name) != Some(&image.manifest)).collect();
    let mut report = Report::default();
    for unpack in [true, false] {
        let batch: Vec<&ImageTask> = missing.iter().filter(|image| image.unpack == unpack).copied().collect();
        if !batch.is_empty() {
            report.bytes += stream(&request.source, &batch, unpack)?;
            report.changed.extend(batch.iter().map(|image| image.name.clone()));
        }
    }
    Ok(report)
}

/// One archive with all images of the batch into one `ctr images import`.
fn stream(source: &Source, images: &[&ImageTask], unpack: bool) -> Result<u64, NodeError> {
    let names = images.iter().map(|image| image.name.as_str()).collect::<Vec<_>>().join(", ");
    let act = format!("failed to import {names}");
    let mut command = Command::new(CTR);
    command.args(["-n", "k8s.io", "images", "import", "--local"]);
    if !unpack {
        command.arg("--no-unpack");
    }
    let mut child = command
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| NodeError::new(&act, format!("{CTR}: {error}")))?;
    let mut stderr = child.stderr.take();
    let words = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = stderr.as_mut().map(|stderr| stderr.read_to_string(&mut text));
        text
    });
    let present = content();
    let written = match child.stdin.take() {
        Some(input) => archive(input, source, images, &present),
        None => Ok(0),
    };
    let status = child.wait().map_err(|error| NodeError::new(&act, error))?;
    let words = words.join().unwrap_or_default();
    if !status.success() {
        let cause = match &written {
            Err(error) if words.is_empty() => error.to_string(),
            _ => crate::host::last_lines(&words, 4),
        };
        return Err(NodeError::new(act, cause));
    }
    written.map_err(|error| NodeError::new(act, error))
}

/// Blobs that the runtime has already, hexadecimal digests.
fn content() -> BTreeSet<String> {
    let text = output_of(&[CTR, "-n", "k8s.io", "content", "ls", "-q"]).unwrap_or_default();
    text.lines().filter_map(|line| line.trim().strip_prefix("sha256:")).map(str::to_owned).collect()
}

fn archive(
    out: impl Write,
    source: &Source,
    images: &[&ImageTask],
    present: &BTreeSet<String>,
) -> std::io::Result<u64> {
    let mut tar = Tar { out: std::io::BufWriter::with_capacity(1 << 20, out), bytes: 0 };
    tar.small("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    tar.small("index.json", index(images).as_bytes())?;
    let mut seen = BTreeSet::new();
    for (digest, size) in images.iter().flat_map(|image| &image.blobs) {
        if seen.insert(digest) && !present.contains(digest) {
            tar.entry(&format!("blobs/sha256/{digest}"), *size, blobs::open(source, digest, *size))?;
        }
    }
    tar.finish()
}

/// The index that tells the runtime which manifests are images, and what they are called.
pub fn index(images: &[&ImageTask]) -> String {
    let entry = |image: &&ImageTask| {
        let size = image.blobs.iter().find(|(digest, _)| *digest == image.manifest).map_or(0, |(_, size)| *size);
        serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": format!("sha256:{}", image.manifest),
            "size": size,
            "annotations": {
                "io.containerd.image.name": image.name,
                "org.opencontainers.image.ref.name": image.name,
            },
        })
    };
    let manifests: Vec<_> = images.iter().map(entry).collect();
    let media = "application/vnd.oci.image.index.v1+json";
    serde_json::json!({ "schemaVersion": 2, "mediaType": media, "manifests": manifests }).to_string()
}

/// Just enough of tar to write plain files with short names.
struct Tar<W: Write> {
    out: W,
    bytes: u64,
}

impl<W: Write> Tar<W> {
    fn small(&mut self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        self.entry(name, bytes.len() as u64, bytes)
    }

    fn entry(&mut self, name: &str, size: u64, mut from: impl Read) -> std::io::Result<()> {
        self.out.write_all(&header(name, size))?;
        let copied = std::io::copy(&mut from, &mut self.out)?;
        if copied != size {
            return Err(std::io::Error::other(format!("{name} has {copied} bytes and should have {size}")));
        }
        let padding = (512 - size % 512) % 512;
        self.out.write_all(&[0; 512][..padding as usize])?;
        self.bytes += size;
        Ok(())
    }

    fn finish(mut self) -> std::io::Result<u64> {
        self.out.write_all(&[0; 1024])?;
        self.out.flush()?;
        Ok(self.bytes)
    }
}

/// A ustar header. Sizes beyond 8 GiB do not fit and do not occur: no layer is that large.
fn header(name: &str, size: u64) -> [u8; 512] {
    let mut block = [0u8; 512];
    let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644");
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, "00000000000");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar");
    put(263, "00");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    let text = format!("{sum:06o}\0 ");
    block[148..156].copy_from_slice(text.as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> ImageTask {
        ImageTask {
            name: "hz.hospital/pause:3.10.1".into(),
            manifest: "a".repeat(64),
            blobs: vec![("a".repeat(64), 3)],
            unpack: true,
        }
    }

    #[test]
    fn the_archive_is_one_that_tar_reads() {
        let mut tar = Tar { out: Vec::new(), bytes: 0 };
        tar.small("oci-layout", b"{}").unwrap();
        tar.small("blobs/sha256/x", b"abc").unwrap();
        tar.out.extend([0; 1024]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar");
        std::fs::write(&path, &tar.out).unwrap();
        let listed = output_of(&["tar", "-tf", path.to_str().unwrap()]).unwrap();
        assert_eq!(listed, "oci-layout\nblobs/sha256/x\n");
    }

    #[test]
    fn the_index_names_each_image_for_the_runtime() {
        let image = image();
        let index: serde_json::Value = serde_json::from_str(&index(&[&image])).unwrap();
        let first = &index["manifests"][0];
        assert_eq!(first["size"], 3);
        assert_eq!(first["annotations"]["io.containerd.image.name"], "hz.hospital/pause:3.10.1");
    }
}
