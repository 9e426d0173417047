//! Running `hzctl bootstrap` and reading what it tells.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// The program and the cluster it works on.
#[derive(Clone, Debug)]
pub struct Hzctl {
    program: PathBuf,
    cluster: PathBuf,
    logs: PathBuf,
}

/// How a run ended.
pub struct Ended {
    /// Exit code; None if a signal ended it.
    pub code: Option<i32>,
    /// Wall time.
    pub took: Duration,
    /// What went to standard output.
    pub stdout: String,
    /// Where its standard error was kept.
    pub log: PathBuf,
    /// Phases in the order in which they began.
    pub phases: Vec<String>,
}

impl Ended {
    /// Insist on an exit code.
    pub fn expect(self, code: i32) -> Result<Self> {
        if self.code == Some(code) {
            return Ok(self);
        }
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let last = log.lines().rev().take(8).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n");
        let got = self.code.map_or("a signal".to_owned(), |c| format!("exit code {c}"));
        bail!(
            "hzctl ended with {got} instead of {code} after {:.0} s; {}:\n{last}",
            self.took.as_secs_f64(),
            self.log.display()
        )
    }
}

/// A run in progress.
pub struct Running {
    child: Child,
    started: Instant,
    lines: Receiver<String>,
    log: PathBuf,
    stdout: PathBuf,
    phases: Vec<String>,
}

impl Hzctl {
    /// `dist/hzctl` (or what HZCTL names) on the example cluster.
    pub fn of(root: &Path, logs: &Path) -> Result<Self> {
        let program = std::env::var_os("HZCTL").map_or_else(|| root.join("dist/hzctl"), PathBuf::from);
        ensure!(program.exists(), "{} is missing: run `make bundle` first, or set HZCTL", program.display());
        fs::create_dir_all(logs)?;
        let cluster = root.join("examples/eight-node-cluster/cluster.yaml");
        Ok(Self { program, cluster, logs: logs.to_path_buf() })
    }

    /// Any other command of hzctl on the example cluster, e.g. `status`.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).arg("-f").arg(&self.cluster).stdin(Stdio::null());
        command
    }

    /// Start `hzctl bootstrap`; `label` names its logs.
    pub fn start(&self, label: &str) -> Result<Running> {
        let log = self.logs.join(format!("bootstrap-{label}.log"));
        let stdout = self.logs.join(format!("bootstrap-{label}.out"));
        let mut command = self.command(&["bootstrap"]);
        let mut child = command
            .stdout(fs::File::create(&stdout)?)
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("failed to start {}", self.program.display()))?;
        let pipe = child.stderr.take().expect("stderr was asked for above");
        let mut keep = fs::File::create(&log)?;
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let _ = writeln!(keep, "{line}");
                let _ = send.send(line);
            }
        });
        Ok(Running { child, started: Instant::now(), lines, log, stdout, phases: Vec::new() })
    }

    /// Run `hzctl bootstrap` to its end.
    pub fn bootstrap(&self, label: &str, limit: Duration) -> Result<Ended> {
        self.start(label)?.wait(limit)
    }
}

impl Running {
    /// The next phase that begins; None when hzctl has ended.
    pub fn next_phase(&mut self, limit: Duration) -> Result<Option<String>> {
        loop {
            let left = limit.saturating_sub(self.started.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    if let Some(phase) = phase_of(&line)
                        && !self.phases.contains(&phase)
                    {
                        self.phases.push(phase.clone());
                        return Ok(Some(phase));
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {
                    self.kill()?;
                    bail!("hzctl said nothing of a new phase for {} s; {}", limit.as_secs(), self.log.display());
                }
            }
        }
    }

    /// Wait until a step begins on a host; an error if hzctl ends before.
    pub fn until_step(&mut self, host: &str, step: &str, limit: Duration) -> Result<()> {
        loop {
            let left = limit.saturating_sub(self.started.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) if begins(&line, host, step) => return Ok(()),
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("hzctl ended before `{step}` on {host} began; {}", self.log.display())
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.kill()?;
                    bail!("`{step}` on {host} did not begin within {} s; {}", limit.as_secs(), self.log.display());
                }
            }
        }
    }

    /// SIGKILL, as a power cut at the administrator's desk would.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context("failed to kill hzctl")?;
        self.child.wait().map(drop).context("failed to wait for hzctl")
    }

    /// Wait for the end.
    pub fn wait(mut self, limit: Duration) -> Result<Ended> {
        while self.next_phase(limit)?.is_some() {}
        let status = self.child.wait().context("failed to wait for hzctl")?;
        Ok(Ended {
            code: status.code(),
            took: self.started.elapsed(),
            stdout: fs::read_to_string(&self.stdout).unwrap_or_default(),
            log: self.log,
            phases: self.phases,
        })
    }
}

/// Off a terminal hzctl prints one JSON event a step, each with its phase.
fn phase_of(line: &str) -> Option<String> {
    let event: Value = serde_json::from_str(line).ok()?;
    if event["event"] != "stepStarted" {
        return None;
    }
    event["phase"].as_str().map(str::to_owned)
}

fn begins(line: &str, host: &str, step: &str) -> bool {
    let Ok(event) = serde_json::from_str::<Value>(line) else { return false };
    event["event"] == "stepStarted" && event["host"] == host && event["step"] == step
}

#[cfg(test)]
mod tests {
    use super::{begins, phase_of};

    #[test]
    fn a_step_is_known_by_its_host_and_its_title() {
        let line = r#"{"event":"stepStarted","phase":"images","host":"cp-2","step":"import node images"}"#;
        assert!(begins(line, "cp-2", "import node images"));
        assert!(!begins(line, "cp-3", "import node images") && !begins("talk", "cp-2", "import node images"));
    }

    #[test]
    fn a_phase_is_read_from_an_event_and_other_talk_is_passed_over() {
        assert_eq!(
            phase_of(r#"{"event":"stepStarted","phase":"preflight","host":"cp-1"}"#).as_deref(),
            Some("preflight")
        );
        assert_eq!(phase_of(r#"{"event":"phaseFinished","phase":"preflight"}"#), None);
        assert_eq!(phase_of("warning: something"), None);
    }
}
