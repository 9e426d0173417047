//! The program beside PostgreSQL that serves numbers, run as the pod runs it, with exporters that are good, bad or not there.

#![allow(clippy::unwrap_used)] // a test that cannot go on should say where

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hz_crds::postgres::exporter::SERVE;
use hz_crds::postgres::room::Room;

struct Served {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Served {
    /// Serves with this shell script for an exporter.
    fn with(exporter: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (script, program) = (folder.path().join("metrics.py"), folder.path().join("exporter"));
        std::fs::write(&script, SERVE).unwrap();
        if let Some(exporter) = exporter {
            std::fs::write(&program, format!("#!/bin/sh\n{exporter}\n")).unwrap();
            std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("python3")
            .arg(&script)
            .env("HZ_PORT", port.to_string())
            .env("HZ_VOLUME", folder.path())
            .env("HZ_EXPORTER", &program)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let served = Self { child, port, folder };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        served
    }

    fn get(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }
}

fn size_of(folder: &Path) -> i64 {
    let output = Command::new("df").args(["--output=size", "-B1"]).arg(folder).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().last().unwrap().trim().parse().unwrap()
}

#[test]
fn room_is_told_without_an_exporter_and_is_that_of_the_volume() {
    let served = Served::with(None);
    let (head, body) = served.get("/room");
    assert!(head.starts_with("HTTP/1.0 200"), "{head}");
    let room: Room = serde_json::from_str(&body).unwrap();
    assert_eq!(room.size, size_of(served.folder.path()));
    assert!(room.free > 0 && room.free < room.size, "{room:?}");
    let (_, page) = served.get("/metrics");
    assert!(page.contains("\nhz_exporter_up 0\n") || page.starts_with("hz_exporter_up 0"), "{page}");
    assert!(page.contains(&format!("\nhz_volume_size_bytes {}\n", room.size)), "{page}");
    assert!(served.get("/etc/passwd").0.contains("404"));
}

#[test]
fn an_exporter_that_ends_at_once_takes_nothing_with_it() {
    let mut served = Served::with(Some("exit 3"));
    std::thread::sleep(Duration::from_millis(300));
    assert!(served.get("/metrics").1.contains("hz_volume_free_bytes "));
    assert!(served.child.try_wait().unwrap().is_none(), "it goes on");
}
