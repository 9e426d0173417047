//! The translation table, through the `nft` program: it speaks to every kernel the host may have, and takes a whole table
//! in one transaction.

use std::{path::PathBuf, process::Stdio};

use tokio::{io::AsyncWriteExt, process::Command};

use super::Error;
use crate::masquerade::{self, Masquerade};

/// Our table, and what it looked like when we last wrote it.
pub struct NatTable {
    program: PathBuf,
    /// The script we wrote and how `nft` lists it. `None` at first: a new netguard always writes once, in one
    /// transaction, since it cannot know what the listing of a whole table ought to be in the words of this `nft`.
    written: Option<(String, String)>,
}

impl NatTable {
    /// With the `nft` program at this path.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), written: None }
    }

    /// Make the table say what is wanted. Returns whether it had to be written.
    pub async fn reconcile(&mut self, wanted: Option<&Masquerade>) -> Result<bool, Error> {
        let script = wanted.map_or_else(masquerade::removal, Masquerade::script);
        let listed = self.list().await?;
        if self.written.as_ref().is_some_and(|(wrote, then)| *wrote == script && *then == listed) {
            return Ok(false);
        }
        if wanted.is_none() && listed.is_empty() {
            self.written = Some((script, listed));
            return Ok(false);
        }
        self.run("replace its table", &["-f", "-"], Some(&script)).await?;
        let listed = self.list().await?;
        self.written = Some((script, listed));
        Ok(true)
    }

    /// The table as `nft` lists it; nothing if it is not there.
    async fn list(&self) -> Result<String, Error> {
        // `-s` leaves out counters, so that only what was written counts.
        match self.run("list its table", &["-s", "list", "table", "inet", masquerade::TABLE], None).await {
            Err(Error::Nft { said, .. }) if said.contains("No such file or directory") => Ok(String::new()),
            other => other,
        }
    }

    async fn run(&self, act: &'static str, arguments: &[&str], input: Option<&str>) -> Result<String, Error> {
        let mut child = Command::new(&self.program)
            .args(arguments)
            // Its words are matched above.
            .env("LC_ALL", "C")
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(Error::NftMissing)?;
        if let (Some(text), Some(mut stdin)) = (input, child.stdin.take()) {
            // A broken pipe here means that nft ended early; its own words, below, say why.
            let _ = stdin.write_all(text.as_bytes()).await;
        }
        let output = child.wait_with_output().await.map_err(Error::NftMissing)?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
            // An nft that is older than the one that made a table of this host may crash over it, without a word.
            let said = if said.is_empty() { format!("it ended with {}", output.status) } else { said };
            Err(Error::Nft { act, said })
        }
    }
}
