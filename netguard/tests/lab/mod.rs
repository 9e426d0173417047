//! A small network of real network namespaces: three nodes, a router that knows nothing of pods, and a host outside.
//!
//! ```text
//!   a 10.77.0.11 ──┐
//!                  ├── bridge 10.77.0.1 ─ router ─ 10.78.0.1 ── c 10.78.0.13
//!   b 10.77.0.12 ──┘                        └───── 192.0.2.1 ── outside 192.0.2.2
//! ```
//!
//! Reverse path filtering is strict everywhere, so a packet with a source that does not belong where it comes from is
//! dropped, as on hardened hosts and routers. The helpers that run inside a namespace are the test program itself.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// A node of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    pub name: &'static str,
    pub address: &'static str,
    pub range: &'static str,
    pub pod: &'static str,
    pub gateway: &'static str,
}

pub const A: Spot =
    Spot { name: "a", address: "10.77.0.11", range: "10.244.0.0/24", pod: "10.244.0.2", gateway: "10.244.0.1" };
pub const B: Spot =
    Spot { name: "b", address: "10.77.0.12", range: "10.244.1.0/24", pod: "10.244.1.2", gateway: "10.244.1.1" };
pub const C: Spot =
    Spot { name: "c", address: "10.78.0.13", range: "10.244.2.0/24", pod: "10.244.2.2", gateway: "10.244.2.1" };
pub const OUTSIDE: &str = "192.0.2.2";
/// Where the answering helper listens.
pub const PORT: &str = "7777";

pub struct Lab {
    prefix: String,
    directory: tempfile::TempDir,
    children: Vec<(String, Child)>,
}

/// Whether this program may make namespaces; says so if not.
pub fn allowed() -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|own| {
        use std::os::unix::fs::MetadataExt;
        own.uid() == 0
    });
    let tools = ["ip", "nft"].iter().all(|tool| Command::new(tool).arg("-V").output().is_ok());
    assert!(tools || !root, "iproute2 and nftables are not installed: run scripts/install-build-deps.sh");
    if !root {
        eprintln!("skipped: network namespaces need root");
    }
    root
}

impl Lab {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("hzt-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let lab = Self { prefix, directory: tempfile::tempdir().unwrap(), children: vec![] };
        for name in ["r", "o", "a", "b", "c"] {
            lab.space(name);
        }
        lab.inside("r", "ip link add br0 type bridge && ip addr add 10.77.0.1/24 dev br0 && ip link set br0 up");
        for spot in [A, B] {
            lab.cable(spot.name, "10.77.0.0/24", spot.address, "10.77.0.1");
            lab.inside("r", &format!("ip link set to-{} master br0", spot.name));
        }
        lab.cable("c", "10.78.0.0/24", C.address, "10.78.0.1");
        lab.inside("r", "ip addr add 10.78.0.1/24 dev to-c");
        lab.cable("o", "192.0.2.0/24", OUTSIDE, "192.0.2.1");
        lab.inside("r", "ip addr add 192.0.2.1/24 dev to-o");
        lab.inside("r", "echo 1 > /proc/sys/net/ipv4/ip_forward");
        for spot in [A, B, C] {
            lab.pod(spot);
        }
        lab.list(&[A, B, C]);
        lab
    }

    fn space(&self, name: &str) {
        sh(&format!("ip netns add {}", self.full(name)));
        self.inside(
            name,
            "ip link set lo up; echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter; echo 1 > /proc/sys/net/ipv4/conf/default/rp_filter",
        );
    }

    /// A cable from a host to the router.
    fn cable(&self, name: &str, subnet: &str, address: &str, gateway: &str) {
        let bits = subnet.split_once('/').unwrap().1;
        sh(&format!(
            "ip link add eth0 netns {} type veth peer name to-{name} netns {}",
            self.full(name),
            self.full("r")
        ));
        self.inside("r", &format!("ip link set to-{name} up"));
        self.inside(
            name,
            &format!(
                "ip addr add {address}/{bits} dev eth0 && ip link set eth0 up && ip route add default via {gateway}"
            ),
        );
    }

    /// A pod as the ptp plugin makes it.
    fn pod(&self, spot: Spot) {
        let (node, pod, gateway) = (spot.name, format!("{}-pod", spot.name), spot.gateway);
        self.space(&pod);
        sh(&format!(
            "ip link add eth0 netns {} type veth peer name vethpod netns {}",
            self.full(&pod),
            self.full(node)
        ));
        self.inside(
            &pod,
            &format!(
                "ip addr add {}/32 dev eth0 && ip link set eth0 mtu 1450 up && \
                 ip route add {gateway} dev eth0 scope link && ip route add default via {gateway}",
                spot.pod
            ),
        );
        self.inside(
            node,
            &format!(
                "ip addr add {gateway}/32 dev vethpod && ip link set vethpod mtu 1450 up && ip route add {}/32 dev vethpod",
                spot.pod
            ),
        );
    }

    /// Tell all netguards which nodes there are.
    pub fn list(&self, spots: &[Spot]) {
        let nodes: Vec<Value> = spots
            .iter()
            .map(|spot| json!({ "name": spot.name, "addresses": [spot.address], "podCIDRs": [spot.range] }))
            .collect();
        let draft = self.directory.path().join("nodes.draft");
        fs::write(&draft, Value::from(nodes).to_string()).unwrap();
        fs::rename(draft, self.directory.path().join("nodes.json")).unwrap();
    }

    /// Start netguard on a node.
    pub fn netguard(&mut self, spot: Spot) {
        let log = fs::File::options().create(true).append(true).open(self.log_path(spot)).unwrap();
        let child = self
            .command(spot.name, env!("CARGO_BIN_EXE_hz-netguard"))
            .args(["run", "--node", spot.name, "--cluster-cidr", "10.244.0.0/16", "--look-every", "1"])
            .arg("--nodes-from")
            .arg(self.directory.path().join("nodes.json"))
            .arg("--cni-dir")
            .arg(self.cni_dir(spot))
            .stderr(log)
            .spawn()
            .unwrap();
        self.children.push((spot.name.into(), child));
    }

    /// Start netguard on all nodes and wait until each is ready.
    pub fn netguards(&mut self) {
        for spot in [A, B, C] {
            self.netguard(spot);
        }
        for spot in [A, B, C] {
            self.ready(spot);
        }
    }

    pub fn ready(&self, spot: Spot) {
        eventually(&format!("netguard of {} is ready", spot.name), || {
            self.health(spot).is_some_and(|health| health["ready"] == true)
        });
    }

    pub fn health(&self, spot: Spot) -> Option<Value> {
        let answer = self.helper(spot.name, "get", &["127.0.0.1:16480", "/healthz"]).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    /// End netguard of a node without a word, as the kernel's memory killer would.
    pub fn kill(&mut self, spot: Spot) {
        let at = self.children.iter().position(|(name, _)| name == spot.name).unwrap();
        let (_, mut child) = self.children.remove(at);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Serve in a namespace: each visitor is told its own address.
    pub fn serve(&mut self, name: &str) {
        let child = self.helper_command(name, "serve", &[PORT]).spawn().unwrap();
        self.children.push((format!("serve-{name}"), child));
        eventually(&format!("{name} serves"), || {
            let target = format!("127.0.0.1:{PORT}");
            self.helper(name, "visit", &[&target]).is_ok()
        });
    }

    /// Visit from a namespace; the answer is the address the server saw.
    pub fn visit(&self, from: &str, to: &str) -> Result<String, String> {
        self.helper(from, "visit", &[&format!("{to}:{PORT}")])
    }

    /// Run a helper of the test program in a namespace.
    pub fn helper(&self, name: &str, role: &str, arguments: &[&str]) -> Result<String, String> {
        let output = self.helper_command(name, role, arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said =
            text.split_once("<<<").and_then(|(_, rest)| rest.split_once(">>>")).map(|(said, _)| said.to_string());
        said.ok_or_else(|| format!("{text}{}", String::from_utf8_lossy(&output.stderr)))
    }

    pub fn helper_command(&self, name: &str, role: &str, arguments: &[&str]) -> Command {
        let mut command = self.command(name, std::env::current_exe().unwrap().to_str().unwrap());
        command
            .args(["--ignored", "--exact", "helper", "--nocapture"])
            .env("HZ_ROLE", role)
            .env("HZ_ARGS", arguments.join(" "))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn command(&self, name: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.full(name), program]);
        command
    }

    /// Run a shell line in a namespace.
    pub fn inside(&self, name: &str, line: &str) -> String {
        sh(&format!("ip netns exec {} sh -ec '{line}'", self.full(name)))
    }

    pub fn cni(&self, spot: Spot) -> Value {
        serde_json::from_str(&fs::read_to_string(self.cni_dir(spot).join("10-hz.conflist")).unwrap()).unwrap()
    }

    pub fn cni_dir(&self, spot: Spot) -> PathBuf {
        self.directory.path().join(format!("cni-{}", spot.name))
    }

    pub fn log(&self, spot: Spot) -> String {
        fs::read_to_string(self.log_path(spot)).unwrap_or_default()
    }

    fn log_path(&self, spot: Spot) -> PathBuf {
        self.directory.path().join(format!("{}.log", spot.name))
    }

    pub fn full(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if thread::panicking() {
            for spot in [A, B, C] {
                eprintln!("--- netguard of {}:\n{}", spot.name, self.log(spot));
                let look = format!(
                    "ip netns exec {} sh -c 'ip route; ip rule; ip -d link show hz-vxlan; nft list ruleset'",
                    self.full(spot.name)
                );
                let output = Command::new("sh").args(["-c", &look]).output().unwrap();
                eprintln!("{}", String::from_utf8_lossy(&output.stdout));
            }
        }
        for (_, child) in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        for name in ["r", "o", "a", "b", "c", "a-pod", "b-pod", "c-pod"] {
            let _ = Command::new("ip").args(["netns", "del", &self.full(name)]).output();
        }
    }
}

/// Run a shell line and give what it printed.
pub fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-ec", line]).output().unwrap();
    assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Wait until something holds, at most ten seconds.
pub fn eventually(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "in vain: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}
