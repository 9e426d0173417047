//! Logs of a host that failed, kept on this machine.

use std::path::PathBuf;

use super::fault::Fault;
use super::server::Server;
use super::site::Site;
use crate::host::Call;

/// What a support engineer asks for first.
const GATHER: &str = r#"
for u in kubelet containerd hz-apiserver-balancer; do echo "== journal of $u"; journalctl -u "$u" -n 200 --no-pager -o short-iso 2>&1; done
echo "== static pods"; ls -l /etc/kubernetes/manifests 2>&1
echo "== containers"; ctr -n k8s.io tasks ls 2>&1
for f in /var/log/pods/kube-system_*/*/*.log; do [ -f "$f" ] && { echo "== $f"; tail -n 40 "$f"; }; done
echo "== disks"; df -h 2>&1
"#;

/// Keep a program's output, and tell where in the fault.
pub fn keep(site: &Site, host: &str, what: &str, output: &str, fault: Fault) -> Fault {
    let path = site.state.join("logs").join(format!("{host}-{what}.log"));
    match write(&path, output) {
        Ok(()) => {
            let fix = fault.fix.clone().unwrap_or_default();
            let told =
                format!("{fix}{}its full output is in {}", if fix.is_empty() { "" } else { "; " }, path.display());
            fault.fix(told)
        }
        Err(_) => fault,
    }
}

/// Gather the logs of a host; none if it cannot be reached.
pub async fn gather(site: &Site, server: &Server) -> Option<PathBuf> {
    let ended =
        tokio::time::timeout(std::time::Duration::from_secs(20), server.run(Call::script(GATHER))).await.ok()?.ok()?;
    let path = site.state.join("logs").join(format!("{}.log", server.name()));
    write(&path, &ended.text()).ok()?;
    Some(path)
}

fn write(path: &PathBuf, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)?
        .write_all(text.as_bytes())
}
