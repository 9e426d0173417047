//! Hosts over the system's OpenSSH: one master connection a host, every command a channel in it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use super::{Call, Ended, Host, HostError, Session, last_lines, quote};

/// Channels in one connection besides its own: sshd allows ten unless it is told otherwise.
const CHANNELS: usize = 9;

/// How to reach one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name in cluster.yaml.
    pub name: String,
    /// Address to connect to.
    pub address: String,
    /// TCP port.
    pub port: u16,
    /// User; commands go through `sudo -n` unless it is root.
    pub user: String,
    /// Private key; none leaves the choice to the client (agent, its own configuration).
    pub identity: Option<PathBuf>,
    /// Known host keys; none means the client's own file.
    pub known_hosts: Option<PathBuf>,
    /// Take the key of a host that is seen for the first time.
    pub accept_new: bool,
}

/// A short private folder for control sockets; gone when dropped.
#[derive(Debug)]
pub struct Sockets(PathBuf);

impl Sockets {
    /// Make it. Socket paths are limited to about 100 bytes, so it is kept short.
    pub fn new() -> std::io::Result<Arc<Self>> {
        use std::os::unix::fs::DirBuilderExt;
        let tag: u32 = rand::random();
        let path = std::env::temp_dir().join(format!("hz{tag:08x}"));
        let short = if path.as_os_str().len() > 60 { PathBuf::from(format!("/tmp/hz{tag:08x}")) } else { path };
        std::fs::DirBuilder::new().mode(0o700).create(&short)?;
        Ok(Arc::new(Sockets(short)))
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A host over SSH.
pub struct Ssh {
    target: Target,
    socket: PathBuf,
    master: Mutex<Option<Child>>,
    channels: Arc<Semaphore>,
    // Held so that the folder of the socket outlives it.
    _sockets: Arc<Sockets>,
}

impl Ssh {
    /// A host that is not connected yet.
    pub fn new(target: Target, sockets: &Arc<Sockets>, index: usize) -> Self {
        let (master, channels) = (Mutex::new(None), Arc::new(Semaphore::new(CHANNELS)));
        Ssh { target, socket: sockets.0.join(index.to_string()), master, channels, _sockets: sockets.clone() }
    }

    fn base(&self) -> Command {
        let mut command = Command::new("ssh");
        command.args(options(&self.target, &self.socket));
        command.kill_on_drop(true);
        command
    }

    fn remote(&self, call: &Call) -> Command {
        let mut command = self.base();
        command.args(["-o", "ControlMaster=no", "-T", "--"]).arg(&self.target.address);
        command.arg(remote_line(&self.target.user, &call.argv));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn place(&self) -> Result<OwnedSemaphorePermit, HostError> {
        let place = self.channels.clone().acquire_owned().await;
        place.map_err(|error| HostError::Client { message: error.to_string() })
    }

    async fn ensure_master(&self) -> Result<(), HostError> {
        let mut master = self.master.lock().await;
        if let Some(child) = master.as_mut() {
            if matches!(child.try_wait(), Ok(None)) && self.socket.exists() {
                return Ok(());
            }
            *master = None;
        }
        let _ = std::fs::remove_file(&self.socket);
        let mut child = self
            .base()
            .args(["-o", "ControlMaster=yes", "-o", "ControlPersist=no", "-T", "--"])
            .arg(&self.target.address)
            // Reads nothing until we are gone, however we go: then the connection ends too.
            .arg("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| HostError::Client { message: error.to_string() })?;
        let stderr = child.stderr.take();
        let begun = Instant::now();
        loop {
            if self.socket.exists() {
                *master = Some(child);
                return Ok(());
            }
            if let Ok(Some(_)) = child.try_wait() {
                return Err(classify(&self.target, &drain(stderr).await));
            }
            if begun.elapsed() > Duration::from_secs(15) {
                return Err(HostError::Unreachable {
                    host: self.target.name.clone(),
                    message: "no answer within 15 seconds".into(),
                });
            }
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    }
}

impl Host for Ssh {
    fn name(&self) -> &str {
        &self.target.name
    }

    fn connect(&self) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(self.ensure_master())
    }

    fn run(&self, call: Call) -> BoxFuture<'_, Result<Ended, HostError>> {
        Box::pin(async move {
            self.ensure_master().await?;
            let _place = self.place().await?;
            let mut child =
                self.remote(&call).spawn().map_err(|error| HostError::Client { message: error.to_string() })?;
            let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
            let feed = async {
                let mut stdin = stdin?;
                // A command that ends without reading all of it is no failure of ours.
                let _ = stdin.write_all(&call.stdin).await;
                if call.attached {
                    let _ = stdin.flush().await;
                    return Some(stdin);
                }
                let _ = stdin.shutdown().await;
                None
            };
            let read = async {
                let mut bytes = Vec::new();
                if let Some(mut stdout) = stdout {
                    let _ = stdout.read_to_end(&mut bytes).await;
                }
                bytes
            };
            // `wait` would close what it finds in the child; what is fed was taken out of it, and stays until all are done.
            let (_held, stdout, stderr, status) = tokio::join!(feed, read, drain(stderr), child.wait());
            let status = status.map_err(|error| HostError::Client { message: error.to_string() })?;
            let code = status.code().unwrap_or(255);
            if code == 255 {
                return Err(classify(&self.target, &stderr));
            }
            Ok(Ended { code, stdout, stderr })
        })
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Session, HostError>> {
        Box::pin(async move {
            self.ensure_master().await?;
            let place = Some(self.place().await?);
            let client = |message: String| HostError::Client { message };
            let mut child = self.remote(&call).spawn().map_err(|error| client(error.to_string()))?;
            let lost = || client("a pipe to ssh is missing".into());
            let stdin = child.stdin.take().ok_or_else(lost)?;
            let stdout = child.stdout.take().ok_or_else(lost)?;
            let stderr = child.stderr.take().ok_or_else(lost)?;
            Ok(Session { child, stdin, stdout, stderr, place })
        })
    }
}

async fn drain(stderr: Option<tokio::process::ChildStderr>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut stderr) = stderr {
        let _ = stderr.read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Client options, the same for the master and for every channel, so that a channel without a master still works.
fn options(target: &Target, socket: &Path) -> Vec<String> {
    let mut options: Vec<String> = [
        "BatchMode=yes",
        "ConnectTimeout=10",
        // A silent host is seen after three missed answers: 12 seconds.
        "ServerAliveInterval=4",
        "ServerAliveCountMax=3",
        "TCPKeepAlive=yes",
        "Compression=no",
        "LogLevel=ERROR",
        "ForwardAgent=no",
        "ForwardX11=no",
        "PermitLocalCommand=no",
        // AES-GCM first: with hardware support it is several times faster than the default.
        "Ciphers=^aes128-gcm@openssh.com",
    ]
    .into_iter()
    .flat_map(|option| ["-o".to_owned(), option.to_owned()])
    .collect();
    let mut set = |key: &str, value: String| options.extend(["-o".to_owned(), format!("{key}={value}")]);
    set("StrictHostKeyChecking", if target.accept_new { "accept-new" } else { "yes" }.into());
    if let Some(path) = &target.known_hosts {
        set("UserKnownHostsFile", path.display().to_string());
    }
    if let Some(path) = &target.identity {
        set("IdentityFile", path.display().to_string());
        set("IdentitiesOnly", "yes".into());
    }
    set("ControlPath", socket.display().to_string());
    set("Port", target.port.to_string());
    set("User", target.user.clone());
    options
}

/// The line that the login shell of the host gets.
fn remote_line(user: &str, argv: &[String]) -> String {
    let line = quote::line(argv);
    if user == "root" { line } else { format!("sudo -n -- {line}") }
}

/// What ssh's last words mean.
fn classify(target: &Target, stderr: &str) -> HostError {
    let host = target.name.clone();
    let message = match last_lines(stderr, 3) {
        empty if empty.is_empty() => "the connection closed".to_owned(),
        text => text,
    };
    let says = |needle: &str| stderr.contains(needle);
    let fix = if says("REMOTE HOST IDENTIFICATION HAS CHANGED") || says("Host key verification failed") {
        let file = target.known_hosts.as_ref().map_or("~/.ssh/known_hosts".into(), |path| path.display().to_string());
        format!(
            "compare the host's key with what its console shows (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), \
             then put it into {file}, or set spec.ssh.hostKeys: AcceptNew for a first contact"
        )
    } else if says("Permission denied") || says("Too many authentication failures") {
        format!("put the public key into ~{}/.ssh/authorized_keys on {}", target.user, target.address)
    } else if says("Could not resolve hostname") {
        "write the host's address as an IP address, or mend the name in DNS".into()
    } else if says("sudo:") {
        format!("let {} run sudo without a password: `{} ALL=(ALL) NOPASSWD: ALL`", target.user, target.user)
    } else if says("no such identity") || says("Bad configuration option") || says("Load key") {
        "check spec.ssh.identityFile".into()
    } else {
        return HostError::Unreachable { host, message };
    };
    HostError::Refused { host, message, fix }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target {
            name: "cp-1".into(),
            address: "10.0.0.1".into(),
            port: 22,
            user: "admin".into(),
            identity: Some("/keys/id".into()),
            known_hosts: Some("/keys/known".into()),
            accept_new: false,
        }
    }

    #[test]
    fn a_changed_host_key_is_permanent_and_says_where_to_mend_it() {
        let error = classify(&target(), "Host key verification failed.\r\n");
        assert!(!error.transient());
        let HostError::Refused { fix, .. } = error else { panic!("{error:?}") };
        assert!(fix.contains("/keys/known"), "{fix}");
    }

    #[test]
    fn a_refused_connection_may_come_back() {
        assert!(classify(&target(), "ssh: connect to host 10.0.0.1 port 22: Connection refused").transient());
        assert!(classify(&target(), "").transient());
    }

    #[test]
    fn a_missing_key_is_permanent() {
        assert!(!classify(&target(), "admin@10.0.0.1: Permission denied (publickey).").transient());
    }

    #[test]
    fn commands_of_plain_users_go_through_sudo() {
        let argv = ["echo".to_owned(), "a b".to_owned()];
        assert_eq!(remote_line("admin", &argv), "sudo -n -- echo 'a b'");
        assert_eq!(remote_line("root", &argv), "echo 'a b'");
    }

    #[test]
    fn strict_host_keys_are_the_default_and_the_key_file_is_the_only_one_tried() {
        let all = options(&target(), Path::new("/tmp/x/0")).join(" ");
        for needle in ["StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "BatchMode=yes", "ControlPath=/tmp/x/0"] {
            assert!(all.contains(needle), "{needle} is missing in {all}");
        }
    }
}
