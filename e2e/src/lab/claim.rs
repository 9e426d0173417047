//! Whose turn it is: the machine has one lab, and two commands at once would take each other's hosts away.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Write},
};

use anyhow::{Context, Result, bail};

/// Beside the lab's own directory, which `lab down` removes.
const LOCK: &str = "/run/hzlab.lock";

/// Held by who starts, stops or tests the lab; the kernel lets go of it when the process ends, however it ends.
pub struct Claim(#[expect(dead_code, reason = "held, not used")] File);

impl Claim {
    /// Take the lab, or say who has it.
    pub fn take() -> Result<Self> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(LOCK)
            .with_context(|| format!("failed to open {LOCK}; the lab needs root"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut who = String::new();
                let _ = file.read_to_string(&mut who);
                bail!("the lab is in use by {}; wait for its end, or end it", who.trim());
            }
            Err(TryLockError::Error(cause)) => return Err(cause).with_context(|| format!("failed to lock {LOCK}")),
        }
        let line = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
        file.set_len(0)?;
        writeln!(file, "`hz-e2e {line}` (process {})", std::process::id())?;
        Ok(Self(file))
    }
}
