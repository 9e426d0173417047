//! Everything that is checked before the first change. Deciding is pure: facts in, findings out.

pub mod cluster;
pub mod host;
pub mod ports;
pub mod probe;
pub mod report;

#[cfg(test)]
mod tests;

use serde::Serialize;

/// A check, by the id that documentation, waivers and support use. Ids never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Check {
    /// Such as `HZ-PF-CLOCK`.
    pub id: &'static str,
    /// What it makes sure of.
    pub ensures: &'static str,
}

macro_rules! checks {
    ($($name:ident $id:literal $ensures:literal;)*) => {
        $(#[doc = $ensures] pub const $name: Check = Check { id: $id, ensures: $ensures };)*
        /// All checks, in the order of the manual.
        pub const ALL: &[Check] = &[$($name),*];
    };
}

checks! {
    SSH "HZ-PF-SSH" "Every host is reached over SSH with the key and user of cluster.yaml.";
    HOST_KEY "HZ-PF-HOSTKEY" "Every host shows the host key that is known.";
    SUDO "HZ-PF-SUDO" "Commands run as root without a password being asked.";
    ARCH "HZ-PF-ARCH" "The host's architecture is the bundle's.";
    OS "HZ-PF-OS" "The host runs systemd and has the programs that are called.";
    KERNEL "HZ-PF-KERNEL" "The kernel is 5.10 or newer.";
    FEATURE "HZ-PF-FEATURE" "nftables, vxlan, bridge, veth and overlay work: each is tried.";
    CLOCK "HZ-PF-CLOCK" "The clocks of all hosts agree within 2 seconds.";
    CPU "HZ-PF-CPU" "A control plane has 2 processors, a worker 1.";
    MEMORY "HZ-PF-MEMORY" "A host has 1.9 GB of memory.";
    DISK "HZ-PF-DISK" "There is room for programs, images, etcd and volumes.";
    INODES "HZ-PF-INODES" "There are 100,000 free inodes where images and volumes go.";
    FSYNC "HZ-PF-FSYNC" "A write of etcd is durable within 100 ms in 99 of 100 cases.";
    SWAP "HZ-PF-SWAP" "Swap is off.";
    PORT_BUSY "HZ-PF-PORT-BUSY" "Nobody else listens on the ports that are needed.";
    PORT_CLOSED "HZ-PF-PORT-CLOSED" "Every host reaches every other on the ports that are needed: each is tried.";
    MTU "HZ-PF-MTU" "All hosts send packets of the same size.";
    ADDRESS "HZ-PF-ADDRESS" "The address in cluster.yaml is the host's own, and of one host only.";
    MACHINE_ID "HZ-PF-MACHINE-ID" "No two hosts have the same machine id.";
    HOSTNAME "HZ-PF-HOSTNAME" "No two hosts have the same host name.";
    CIDR "HZ-PF-CIDR" "Pod and service ranges do not cover addresses of the hosts, and are wide enough.";
    LEFTOVERS "HZ-PF-LEFTOVERS" "Nothing of another cluster is on the host.";
    BUNDLE "HZ-PF-BUNDLE" "The bundle is whole, and has all that is needed.";
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Must be mended or waived.
    Error,
    /// Told, and gone on.
    Warning,
    /// An error that cluster.yaml or the command line waives.
    Waived,
}

/// Something a check found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Id of the check.
    pub id: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// Host, or hosts, or none for the cluster.
    pub host: String,
    /// What was found, with numbers.
    pub found: String,
    /// What to do about it.
    pub fix: String,
}

impl Finding {
    /// Something that must be mended.
    pub fn error(check: Check, host: &str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        let severity = Severity::Error;
        Finding { id: check.id, severity, host: host.into(), found: found.into(), fix: fix.into() }
    }

    /// Something to know.
    pub fn warning(check: Check, host: &str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Finding { severity: Severity::Warning, ..Finding::error(check, host, found, fix) }
    }
}

/// Turn errors that are waived into what is only told. Ids are compared without regard to case.
pub fn waive(findings: &mut [Finding], waived: &[String]) {
    for finding in findings.iter_mut().filter(|finding| finding.severity == Severity::Error) {
        if waived.iter().any(|id| id.eq_ignore_ascii_case(finding.id)) {
            finding.severity = Severity::Waived;
        }
    }
}

/// Ids that are waived and that no check has, for a message: a typing error must not look like a waiver.
pub fn unknown_ids(waived: &[String]) -> Vec<&String> {
    waived.iter().filter(|id| !ALL.iter().any(|check| check.id.eq_ignore_ascii_case(id))).collect()
}

/// Whether something must be mended before we may go on.
pub fn blocks(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.severity == Severity::Error)
}
