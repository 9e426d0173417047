//! The lab's own Docker daemon. The machine's daemon, if there is one, does not know our runtime, owns the firewall,
//! and is not ours to reconfigure; one of our own shares nothing with it but the kernel.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::place::Place;
use crate::run::{cmd, output, text, until};

const RUNC: &str = include_str!("../../lab/hz-runc");

/// A handle on the daemon; it may or may not be running.
pub struct Daemon {
    place: Place,
}

impl Daemon {
    /// The daemon of that place.
    pub fn of(place: &Place) -> Self {
        Self { place: place.clone() }
    }

    /// A `docker` command against this daemon, whatever DOCKER_HOST or the current context say.
    pub fn docker<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = cmd("docker", ["--host", &self.place.socket()]);
        command.env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT").env("DOCKER_CONFIG", &self.place.state);
        command.args(args);
        command
    }

    /// Process id of our daemon, if it lives. The command line is compared, since ids are used again.
    pub fn pid(&self) -> Option<u32> {
        let pid: u32 = fs::read_to_string(self.place.run.join("dockerd.pid")).ok()?.trim().parse().ok()?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let ours = self.config().display().to_string();
        String::from_utf8_lossy(&line).contains(&ours).then_some(pid)
    }

    fn config(&self) -> std::path::PathBuf {
        self.place.run.join("daemon.json")
    }

    /// Start it unless it runs, and wait until it answers.
    pub fn start(&self) -> Result<()> {
        let place = &self.place;
        if self.pid().is_some() {
            return Ok(());
        }
        let wrapper = place.run.join("hz-runc");
        fs::write(&wrapper, RUNC)?;
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
        fs::write(self.config(), self.settings(&wrapper.display().to_string()))?;
        let log = fs::File::create(place.state.join("dockerd.log"))?;
        // A process group of its own: Ctrl-C in the terminal of `lab up` must not end it.
        Command::new("dockerd")
            .arg("--config-file")
            .arg(self.config())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("failed to start `dockerd`: apt-get install docker.io")?;
        until("the lab's Docker daemon", Duration::from_secs(60), || {
            output(&mut self.docker(["version", "--format", "{{.Server.Version}}"]))
        })
        .with_context(|| format!("see {}", place.state.join("dockerd.log").display()))?;
        let driver = text(&mut self.docker(["info", "--format", "{{.Driver}}"]))?;
        if driver != "overlay2" {
            bail!(
                "Docker chose the storage driver `{driver}`, which copies a whole disk for each host; \
                 set XDG_CACHE_HOME to a directory on ext4 or xfs (not on an overlay)"
            );
        }
        Ok(())
    }

    fn settings(&self, wrapper: &str) -> String {
        let place = &self.place;
        serde_json::json!({
            "hosts": [place.socket()],
            "data-root": place.cache.join("docker"),
            "exec-root": place.run.join("exec"),
            "pidfile": place.run.join("dockerd.pid"),
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "runtimes": { "hz-runc": { "path": wrapper } },
            "log-level": "warn",
            // Hosts are cabled by the lab itself; the machine's firewall and forwarding stay as they are.
            "bridge": "none",
            "iptables": false,
            "ip-forward": false,
            "ip-masq": false,
            "userland-proxy": false,
        })
        .to_string()
    }

    /// Stop it, by its id, and wait until it is gone.
    pub fn stop(&self) -> Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        output(&mut cmd("kill", ["-TERM", &pid.to_string()]))?;
        let gone = || if self.pid().is_none() { Ok(()) } else { bail!("process {pid} is still there") };
        if until("dockerd to end", Duration::from_secs(30), gone).is_err() {
            output(&mut cmd("kill", ["-KILL", &pid.to_string()]))?;
        }
        Ok(())
    }
}
