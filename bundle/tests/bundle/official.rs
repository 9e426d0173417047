//! Official artefacts, from a server on this machine that behaves badly on request.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use hz_bundle::build::From;
use hz_bundle::{Bundle, Digest, Kind};

use crate::building::Bench;

type Files = BTreeMap<String, Vec<u8>>;

/// A server of files. Knows ranges; closes the line after `cut` bytes of a body while cuts are left;
/// wants a token where a path begins with /v2.
struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    cuts: Arc<Mutex<usize>>,
}

impl Server {
    fn start(files: impl Fn(u16) -> Files, cuts: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (files, asked, left) = (files(port), Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(cuts)));
        let server = Server { port, asked: asked.clone(), cuts: left.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(stream, &files, port, &asked, &left);
            }
        });
        server
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut stream: std::net::TcpStream, files: &Files, port: u16, asked: &Mutex<Vec<String>>, cuts: &Mutex<usize>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else {
        return;
    };
    let headers: Vec<String> =
        lines.map_while(Result::ok).take_while(|line| !line.is_empty()).map(|line| line.to_lowercase()).collect();
    let path = first.split(' ').nth(1).unwrap().to_owned();
    let range: usize = headers
        .iter()
        .find_map(|header| header.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok())
        .unwrap_or(0);
    asked.lock().unwrap().push(format!("{path} from {range}"));
    let mut head = |text: &str| write!(stream, "HTTP/1.1 {text}\r\nconnection: close\r\n").unwrap();
    let token = headers.iter().any(|header| header == "authorization: bearer anonymous");
    if path.starts_with("/v2") && !token {
        head("401 Unauthorized");
        let challenge =
            format!("Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"s\",scope=\"repository:a:pull\"");
        write!(stream, "www-authenticate: {challenge}\r\ncontent-length: 0\r\n\r\n").unwrap();
        return;
    }
    let Some(body) = files.get(path.split('?').next().unwrap()) else {
        head("404 Not Found");
        write!(stream, "content-length: 0\r\n\r\n").unwrap();
        return;
    };
    let body = &body[range.min(body.len())..];
    head(if range > 0 { "206 Partial Content" } else { "200 OK" });
    write!(stream, "content-length: {}\r\n\r\n", body.len()).unwrap();
    let mut left = cuts.lock().unwrap();
    let some = if *left > 0 && body.len() > 1000 { body.len() / 3 } else { body.len() };
    *left = left.saturating_sub(1);
    let _ = stream.write_all(&body[..some]); // the other side may have had enough
}

fn noise(size: usize) -> Vec<u8> {
    let mut state = 1_u32;
    (0..size)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

fn bench(official: &str, kind: &str) -> Bench {
    let list = format!(
        "components:\n- {{ name: tool, version: v1, license: MIT, kind: {kind}, roles: [worker], official: {{ {official} }} }}\n"
    );
    let mut bench = Bench::with(&list);
    bench.from = From::Official;
    bench
}

#[test]
fn a_download_that_is_cut_goes_on_where_it_was() {
    let body = noise(90_000);
    let sum = Digest::of(&body);
    let server = Server::start(|_| Files::from([("/tool".into(), body.clone())]), 2);
    let bench = bench(
        &format!("url: 'http://127.0.0.1:{}/tool', sha256: '{}', install: usr/bin/tool", server.port, sum.hex()),
        "binary",
    );
    bench.build();
    assert_eq!(server.asked(), ["/tool from 0", "/tool from 30000", "/tool from 50000"]);
    assert_eq!(*server.cuts.lock().unwrap(), 0);
    let bundle = Bundle::open(bench.archive()).unwrap();
    assert_eq!(bundle.manifest().file("tool", "usr/bin/tool").unwrap().sha256, sum.hex());
}

#[test]
fn a_download_with_another_checksum_is_refused() {
    let server = Server::start(|_| Files::from([("/tool".into(), noise(2_000))]), 0);
    let wrong = "ab".repeat(32);
    let bench = bench(&format!("url: 'http://127.0.0.1:{}/tool', sha256: '{wrong}'", server.port), "binary");
    let error = bench.try_build().unwrap_err().to_string();
    assert!(error.contains("its checksum is wrong: expected sha256:abab"), "{error}");
    assert!(!bench.archive().exists());
}

#[test]
fn a_file_that_is_not_there_is_not_asked_for_again() {
    let server = Server::start(|_| Files::new(), 0);
    let bench =
        bench(&format!("url: 'http://127.0.0.1:{}/tool', sha256: '{}'", server.port, "ab".repeat(32)), "binary");
    let error = bench.try_build().unwrap_err().to_string();
    assert!(error.contains("404"), "{error}");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn files_are_taken_out_of_an_archive() {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o755);
    tar.append_data(&mut header, "./linux-amd64/helm", b"hello".as_slice()).unwrap();
    let body = tar.into_inner().unwrap().finish().unwrap();
    let sum = Digest::of(&body);
    let server = Server::start(|_| Files::from([("/helm.tgz".into(), body.clone())]), 0);
    let official = |inside: &str| {
        format!(
            "url: 'http://127.0.0.1:{}/helm.tgz', sha256: '{}', extract: {{ usr/local/bin/helm: {inside} }}",
            server.port,
            sum.hex()
        )
    };
    let good = bench(&official("linux-amd64/helm"), "binary");
    good.build();
    let bundle = Bundle::open(good.archive()).unwrap();
    assert_eq!(bundle.manifest().file("tool", "usr/local/bin/helm").unwrap().size, 5);
    let error = bench(&official("helm"), "binary").try_build().unwrap_err().to_string();
    assert!(error.contains("has no file helm"), "{error}");
}

#[test]
fn an_image_is_pulled_by_digest_as_it_is() {
    let layer = noise(5_000);
    let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#.to_vec();
    let of = |media: &str, bytes: &[u8]| serde_json::json!({ "mediaType": media, "digest": Digest::of(bytes), "size": bytes.len() });
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": of("application/vnd.oci.image.config.v1+json", &config),
        "layers": [of("application/vnd.oci.image.layer.v1.tar+gzip", &layer)],
    })
    .to_string()
    .into_bytes();
    let mut child = of("application/vnd.oci.image.manifest.v1+json", &manifest);
    child["platform"] = serde_json::json!({ "architecture": "amd64", "os": "linux" });
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [child] }).to_string().into_bytes();
    let top = Digest::of(&index);
    let server = Server::start(
        |_| {
            Files::from([
                ("/token".into(), br#"{"token":"anonymous"}"#.to_vec()),
                (format!("/v2/a/b/manifests/{top}"), index.clone()),
                (format!("/v2/a/b/manifests/{}", Digest::of(&manifest)), manifest.clone()),
                (format!("/v2/a/b/blobs/{}", Digest::of(&config)), config.clone()),
                (format!("/v2/a/b/blobs/{}", Digest::of(&layer)), layer.clone()),
            ])
        },
        0,
    );
    let bench = bench(&format!("image: '127.0.0.1:{}/a/b', digest: '{top}'", server.port), "image");
    bench.build();
    let bundle = Bundle::open(bench.archive()).unwrap();
    let tool = bundle.component("tool").unwrap();
    assert_eq!((tool.kind, tool.manifest.clone()), (Kind::Image, Digest::of(&manifest)));
    assert_eq!(tool.reference.as_deref(), Some("hz.hospital/tool:v1"));
    assert_eq!(tool.blobs.len(), 3);
    assert!(server.asked().iter().any(|path| path.starts_with("/token?service=s&scope=repository:a:pull")));
    assert!(bench.build().unchanged);
}

#[test]
fn what_has_no_official_artefact_is_built() {
    let mut bench = Bench::new();
    bench.from = From::Official;
    bench.build();
    assert_eq!(bench.asked().len(), 6);
}

#[test]
fn what_can_only_be_downloaded_is_named_before_anything_is_made() {
    let mut bench = bench(&format!("url: 'https://x/tool', sha256: '{}'", "ab".repeat(32)), "binary");
    bench.from = From::Registries;
    let error = bench.try_build().unwrap_err();
    assert_eq!(
        error.to_string(),
        "component tool cannot be had from registries: it has no `build`; try --from official"
    );
    assert!(error.is_bad_input());
}
