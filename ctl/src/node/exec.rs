//! Programs that must not outlive the administrator's connection, and never run twice at once.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal};

use super::{NodeError, at};

/// Wait for the end of standard input: the administrator's connection is gone, or has nothing more for us.
pub fn until_input_closes() {
    let mut buffer = [0; 256];
    let mut input = std::io::stdin();
    while matches!(input.read(&mut buffer), Ok(read) if read > 0) {}
}

/// Run a program under a lock of the host, named for what it protects. Its output is ours; it is stopped if our standard input closes.
///
/// A run that was cut off may still be ending: we wait for it a moment, then stop it.
pub fn exclusive(lock: &str, argv: &[String]) -> Result<i32, NodeError> {
    let (program, arguments) = argv.split_first().ok_or_else(|| NodeError::new("nothing to run", "no program"))?;
    let mut lock = take_lock(&format!("/run/hzctl-{lock}.lock"))?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .process_group(0)
        .spawn()
        .map_err(|error| NodeError::new(format!("failed to run {program}"), error))?;
    let group = child.id();
    let _ = lock.set_len(0).and_then(|()| write!(lock, "{group}"));
    std::thread::spawn(move || {
        until_input_closes();
        stop_group(group);
        std::process::exit(143);
    });
    let status = wait(&mut child)?;
    let _ = lock.set_len(0);
    Ok(status)
}

/// Keep others of us from the same work on this host until this is dropped. A run that was cut off may still be ending,
/// or not know yet that its administrator is gone; it is stopped after a moment, since we begin its work again.
pub fn alone(lock: &str) -> Result<fs::File, NodeError> {
    let mut file = take_lock(&format!("/run/hzctl-{lock}.lock"))?;
    let group = rustix::process::getpgrp().as_raw_nonzero();
    let _ = file.set_len(0).and_then(|()| write!(file, "{group}"));
    Ok(file)
}

fn wait(child: &mut Child) -> Result<i32, NodeError> {
    use std::os::unix::process::ExitStatusExt;
    let status = child.wait().map_err(|error| NodeError::new("failed to wait for a program", error))?;
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

fn take_lock(path: &str) -> Result<fs::File, NodeError> {
    let lock = fs::OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path);
    let lock = lock.map_err(at("open", path))?;
    let begun = Instant::now();
    let mut stopped = false;
    while rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        if begun.elapsed() > Duration::from_secs(20) {
            return Err(NodeError::new("another hzctl works on this host", format!("its lock {path} is held")));
        }
        if !stopped && begun.elapsed() > Duration::from_secs(5) {
            let holder = fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u32>().ok());
            holder.into_iter().for_each(stop_group);
            stopped = true;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(lock)
}

/// Ask our own group of processes to end: us, and what we started and wait for.
pub fn stop_own_group() {
    let _ = rustix::process::kill_process_group(rustix::process::getpgrp(), Signal::TERM);
}

/// Ask a group of processes to end, then end it.
fn stop_group(group: u32) {
    let Some(pid) = i32::try_from(group).ok().and_then(Pid::from_raw) else { return };
    let _ = rustix::process::kill_process_group(pid, Signal::TERM);
    for _ in 0..20 {
        if rustix::process::test_kill_process_group(pid).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
}
