//! Cables and a switch. The switch is a bridge in a network namespace of its own, so that neither the machine's
//! firewall (Docker's forward policy drops bridged packets on many machines) nor its forwarding touches the lab:
//! hosts see each other and the machine's one address, and have no way out.

use anyhow::{Context, Result};

use super::topology::{Host, MACHINE};
use crate::run::{cmd, output};

/// Namespace with the switch.
const SWITCH: &str = "hzlab";
/// The machine's interface on the lab network.
const UPLINK: &str = "hzlab";

fn ip(args: &str) -> Result<()> {
    output(&mut cmd("ip", args.split_whitespace())).map(drop)
}

/// Make the switch and the machine's own cable to it.
pub fn build() -> Result<()> {
    ip(&format!("netns add {SWITCH}")).context("failed to make a network namespace; the lab needs root")?;
    ip(&format!("-n {SWITCH} link add {UPLINK} type bridge stp_state 0 forward_delay 0"))?;
    ip(&format!("-n {SWITCH} link set {UPLINK} up"))?;
    // No filter rules live in there; skip the detour of every packet through an empty rule set.
    let quiet = "for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ -e $f ] && echo 0 > $f; done; true";
    output(&mut cmd("ip", ["netns", "exec", SWITCH, "sh", "-c", quiet]))?;
    ip(&format!("link add {UPLINK} type veth peer name uplink netns {SWITCH}"))?;
    ip(&format!("-n {SWITCH} link set uplink master {UPLINK} up"))?;
    ip(&format!("addr add {MACHINE} dev {UPLINK}"))?;
    ip(&format!("link set {UPLINK} up"))
}

/// Take it all away; what is gone already is fine.
pub fn remove() {
    // Deleting the machine's end at once, too: a namespace dies only when the last process in it does.
    let _ = ip(&format!("link del {UPLINK}"));
    let _ = ip(&format!("netns del {SWITCH}"));
}

/// Lay the cable of a host that has just started, `pid` being its first process.
pub fn plug(host: &Host, pid: u32) -> Result<()> {
    let cable = host.cable();
    // The cable of an earlier boot may not have gone with its namespace yet.
    let _ = ip(&format!("-n {SWITCH} link del {cable}"));
    ip(&format!("-n {SWITCH} link add {cable} type veth peer name eth0 netns {pid}"))?;
    ip(&format!("-n {SWITCH} link set {cable} master {SWITCH} up"))?;
    let inside = format!("ip addr add {}/24 dev eth0 && ip link set eth0 up && ip link set lo up", host.address);
    output(&mut cmd("nsenter", ["-t", &pid.to_string(), "-n", "sh", "-c", &inside])).map(drop)
}

/// Pull the cable, or put it back: the host lives on and hears nobody.
pub fn cable(host: &Host, connected: bool) -> Result<()> {
    let state = if connected { "up" } else { "down" };
    ip(&format!("-n {SWITCH} link set {} {state}", host.cable()))
}
