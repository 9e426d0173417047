//! Real listeners and real connections between hosts, and how fast a write is durable.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::types::{Dial, Dialled, FsyncReport};
use super::{NodeError, at};

/// Listen on ports and greet with the host's name, until our standard input closes.
pub fn listen(host: &str, ports: &[u16]) -> Result<(), NodeError> {
    let mut open = Vec::new();
    for port in ports {
        let Ok(listener) = TcpListener::bind(("0.0.0.0", *port)) else { continue };
        open.push(*port);
        let greeting = format!("hzctl {host}\n");
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.write_all(greeting.as_bytes());
            }
        });
    }
    println!("{}", serde_json::json!({ "listening": open }));
    super::exec::until_input_closes();
    Ok(())
}

/// Connect to everything at once.
pub fn connect(dials: &[Dial]) -> Vec<Dialled> {
    std::thread::scope(|scope| {
        let tries: Vec<_> = dials.iter().map(|dial| (dial, scope.spawn(move || greet(dial)))).collect();
        tries
            .into_iter()
            .map(|(dial, thread)| {
                let result = thread.join().unwrap_or_else(|_| Err("the probe failed".into()));
                Dialled { dial: dial.clone(), error: result.err().unwrap_or_default() }
            })
            .collect()
    })
}

fn greet(dial: &Dial) -> Result<(), String> {
    let address: SocketAddr =
        format!("{}:{}", dial.address, dial.port).parse().map_err(|_| "not an address".to_owned())?;
    let mut last = String::new();
    for _ in 0..2 {
        match greeting(&address) {
            // Whoever greets must be the host we meant: a proxy in between would greet as itself or not at all.
            Ok(words) if words.trim() == format!("hzctl {}", dial.host) => return Ok(()),
            Ok(words) => return Err(format!("somebody else answers: {:?}", words.trim())),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

fn greeting(address: &SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut bytes = [0; 128];
    let read = stream.read(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..read]).into_owned())
}

/// Append as etcd does (2300 bytes, then fdatasync) for about a second, beside where its data will be.
pub fn fsync_probe() -> Result<FsyncReport, NodeError> {
    let mut near = PathBuf::from("/var/lib/etcd");
    while !near.exists() {
        near.pop();
    }
    let path = near.join(format!(".hzctl-fsync-{}", std::process::id()));
    let result = append(&path);
    let _ = std::fs::remove_file(&path);
    result
}

fn append(path: &PathBuf) -> Result<FsyncReport, NodeError> {
    let mut file = std::fs::File::create(path).map_err(at("write", path))?;
    let block = [0x5a; 2300];
    let mut times = Vec::new();
    let begun = Instant::now();
    while times.len() < 200 && begun.elapsed() < Duration::from_secs(1) || times.len() < 10 {
        let one = Instant::now();
        file.write_all(&block).map_err(at("write", path))?;
        file.sync_data().map_err(at("sync", path))?;
        times.push(one.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Ok(FsyncReport { writes: times.len() as u32, median_ms: at(0.5), p99_ms: at(0.99) })
}
