//! The lab: eight bare Debian servers on one machine, each a container with systemd and sshd on a network of its own.

mod claim;
mod daemon;
mod image;
mod keys;
mod logs;
mod machine;
mod network;
mod place;
mod topology;

use std::{
    fs,
    io::Read,
    net::{SocketAddr, TcpStream},
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

pub use self::{
    claim::Claim,
    place::Place,
    topology::{Host, hosts},
};
use self::{
    daemon::Daemon,
    topology::{VOLUMES, find},
};
use crate::run::{each, output, text, until};

/// A host boots in a second or two; eight at once on a busy machine take longer.
const BOOT: Duration = Duration::from_secs(120);

/// All that can be done with the lab.
pub struct Lab {
    /// Where its files are.
    pub place: Place,
    daemon: Daemon,
}

impl Lab {
    /// The lab of this repository.
    pub fn here() -> Self {
        let place = Place::here();
        Self { daemon: Daemon::of(&place), place }
    }

    /// Eight fresh hosts, answering on SSH. Takes away what an earlier lab left; on failure leaves nothing.
    pub fn up(&self) -> Result<()> {
        let start = Instant::now();
        machine::check()?;
        self.claim()?;
        // Hosts outlive a daemon that was killed: only a daemon that runs can take them away.
        machine::raise_limits(&self.place)?;
        self.daemon.start()?;
        self.clear();
        let done = self.build();
        if let Err(cause) = done {
            let _ = logs::collect(&self.place, &self.daemon);
            self.clear();
            return Err(cause);
        }
        eprintln!(
            "lab: eight hosts are up after {:.1} s (`lab status`, `lab ssh cp-1`)",
            start.elapsed().as_secs_f64()
        );
        Ok(())
    }

    /// The addresses are fixed, so the machine has one lab; say whose it is.
    fn claim(&self) -> Result<()> {
        let owner = self.place.run.join("owner");
        let ours = self.place.root.display().to_string();
        if let Ok(theirs) = fs::read_to_string(&owner)
            && theirs != ours
            && self.daemon.pid().is_some()
        {
            bail!("this machine's lab is in use by {theirs}: run `dist/hz-e2e lab down` there first");
        }
        for dir in [&self.place.run, &self.place.state, &self.place.cache] {
            fs::create_dir_all(dir).with_context(|| format!("failed to make {}", dir.display()))?;
        }
        fs::write(owner, ours).context("failed to note the lab's owner")
    }

    fn build(&self) -> Result<()> {
        image::ensure(&self.place, &self.daemon)?;
        let hosts = hosts();
        keys::make(&self.place, &hosts)?;
        network::build()?;
        each(&hosts, |host| {
            output(&mut self.create(host)).with_context(|| format!("failed to make the host {}", host.name))?;
            self.boot(host)
        })?;
        each(&hosts, |host| self.answers(host, BOOT))
    }

    fn create(&self, host: &Host) -> Command {
        let mut command = self.daemon.docker([
            "create",
            "--runtime",
            "hz-runc",
            "--privileged",
            "--network",
            "none",
            "--cgroupns",
            "private",
            "--stop-signal",
            "SIGRTMIN+3",
            "--env",
            "container=docker",
            "--name",
            &host.name,
            "--hostname",
            &host.name,
        ]);
        command.arg("--volume").arg(format!("{}:/.lab:ro", self.place.seed(&host.name).display()));
        command.args(VOLUMES.iter().flat_map(|dir| ["--volume", dir]));
        command.arg(image::name());
        command
    }

    /// Power on and cable.
    fn boot(&self, host: &Host) -> Result<()> {
        output(&mut self.daemon.docker(["start", &host.name]))?;
        let pid = text(&mut self.daemon.docker(["inspect", "--format", "{{.State.Pid}}", &host.name]))?;
        let pid = pid.parse().with_context(|| format!("{} ended at once; see `lab logs`", host.name))?;
        network::plug(host, pid)
    }

    /// Wait for the host's SSH greeting.
    fn answers(&self, host: &Host, limit: Duration) -> Result<()> {
        until(&format!("SSH on {}", host.name), limit, || greeting(host)).with_context(|| {
            format!("{} did not boot: docker -H {} logs {}", host.name, self.place.socket(), host.name)
        })
    }

    /// Collect journals, then take everything away: hosts, volumes, network, daemon, raised limits.
    pub fn down(&self) -> Result<()> {
        machine::check()?;
        if self.daemon.pid().is_some()
            && let Err(cause) = logs::collect(&self.place, &self.daemon)
        {
            eprintln!("lab: not all logs could be collected: {cause:#}");
        }
        self.clear();
        self.daemon.stop()?;
        machine::restore_limits(&self.place);
        let _ = fs::remove_dir_all(&self.place.run);
        eprintln!("lab: down; logs are in {}", self.place.logs.display());
        Ok(())
    }

    /// Remove hosts, their volumes and the network. What is not there is fine.
    fn clear(&self) {
        if self.daemon.pid().is_some() {
            let all = text(&mut self.daemon.docker(["ps", "--all", "--quiet"])).unwrap_or_default();
            let ids: Vec<String> = all.lines().map(str::to_owned).collect();
            let gone = each(&ids, |id| output(&mut self.daemon.docker(["rm", "--force", "--volumes", id])).map(drop));
            if let Err(cause) = gone {
                eprintln!("lab: a host could not be removed: {cause:#}");
            }
        }
        network::remove();
    }

    /// One line a host.
    pub fn status(&self) -> Result<()> {
        if self.daemon.pid().is_none() {
            bail!("the lab is down: `dist/hz-e2e lab up` starts it");
        }
        println!("HOST      ADDRESS      POWER     SSH");
        for host in hosts() {
            let power = text(&mut self.daemon.docker(["inspect", "--format", "{{.State.Status}}", &host.name]));
            let power = power.unwrap_or_else(|_| "absent".into());
            let ssh = if greeting(&host).is_ok() { "answers" } else { "silent" };
            println!("{:<9} {:<12} {power:<9} {ssh}", host.name, host.address.to_string());
        }
        Ok(())
    }

    /// Is every host up and answering?
    pub fn is_up(&self) -> bool {
        self.daemon.pid().is_some() && hosts().iter().all(|host| greeting(host).is_ok())
    }

    /// An `ssh` command to that host, with the lab's key and strict host keys.
    pub fn ssh(&self, host: &str) -> Result<Command> {
        let host = find(host)?;
        let mut command = Command::new("ssh");
        command.arg("-i").arg(self.place.key()).arg("-o");
        command.arg(format!("UserKnownHostsFile={}", self.place.known_hosts().display()));
        command.args(["-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR"]);
        command.args(["-o", "ConnectTimeout=10"]).arg(format!("root@{}", host.address));
        Ok(command)
    }

    /// A shell, or one command, on that host; gives its exit status.
    pub fn shell(&self, host: &str, words: &[String]) -> Result<ExitStatus> {
        self.ssh(host)?.args(words).status().context("failed to start `ssh`: apt-get install openssh-client")
    }

    /// Run a command on a host and give what it printed.
    pub fn exec(&self, host: &str, script: &str) -> Result<String> {
        text(self.ssh(host)?.arg(script).stdin(std::process::Stdio::null()))
    }

    /// Collect journals and pod logs now.
    pub fn logs(&self) -> Result<()> {
        logs::collect(&self.place, &self.daemon)?;
        eprintln!("lab: logs are in {}", self.place.logs.display());
        Ok(())
    }

    /// Cut the power of a host, without a warning to it.
    pub fn power_off(&self, host: &str) -> Result<()> {
        let host = find(host)?;
        output(&mut self.daemon.docker(["kill", &host.name])).map(drop)
    }

    /// Power a host on again: same disk, new boot.
    pub fn power_on(&self, host: &str) -> Result<()> {
        let host = find(host)?;
        self.boot(&host)?;
        self.answers(&host, BOOT)
    }

    /// Stop a host in the midst of everything: it does nothing, and believes afterwards that no time has passed.
    pub fn freeze(&self, host: &str) -> Result<()> {
        output(&mut self.daemon.docker(["pause", &find(host)?.name])).map(drop)
    }

    /// Let a frozen host go on.
    pub fn thaw(&self, host: &str) -> Result<()> {
        output(&mut self.daemon.docker(["unpause", &find(host)?.name])).map(drop)
    }

    /// Every host as it was after a fault that was not taken back: thawed, with power and cable.
    pub fn mend(&self) -> Result<()> {
        each(&hosts(), |host| {
            let state = text(&mut self.daemon.docker(["inspect", "--format", "{{.State.Status}}", &host.name]))?;
            match state.as_str() {
                "paused" => self.thaw(&host.name)?,
                "running" => {}
                _ => return self.power_on(&host.name),
            }
            network::cable(host, true)
        })
    }

    /// Pull the network cable of a host, or put it back.
    pub fn cable(&self, host: &str, connected: bool) -> Result<()> {
        network::cable(&find(host)?, connected)
    }
}

/// sshd speaks first: an open port whose server hangs is not up.
fn greeting(host: &Host) -> Result<()> {
    let address = SocketAddr::from((host.address, 22));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(500))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut greeting = [0; 4];
    stream.read_exact(&mut greeting)?;
    if &greeting == b"SSH-" { Ok(()) } else { bail!("port 22 of {} does not speak SSH", host.name) }
}
