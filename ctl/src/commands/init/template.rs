//! The commented cluster.yaml.

use super::hosts::Host;
use crate::cluster::Role;

/// What the person chose.
pub struct Choices<'a> {
    /// Name of the cluster.
    pub name: &'a str,
    /// User to log in as.
    pub user: &'a str,
    /// Private key.
    pub identity_file: &'a str,
    /// Offline bundle.
    pub bundle: &'a str,
    /// The hosts.
    pub hosts: &'a [Host],
}

/// The file.
pub fn render(choices: &Choices<'_>) -> String {
    let Choices { name, user, identity_file, bundle, hosts } = choices;
    let width = hosts.iter().map(|host| quote(&host.name).len()).max().unwrap_or_default();
    let hosts: String = hosts
        .iter()
        .map(|host| {
            let role = match host.role {
                Role::ControlPlane => "ControlPlane",
                Role::Worker => "Worker",
            };
            let name = format!("{},", quote(&host.name));
            format!(
                "  - {{ name: {name:<0$} address: {1:<16} role: {role} }}\n",
                width + 1,
                format!("{},", host.address)
            )
        })
        .collect();
    TEMPLATE
        .replace("@NAME@", &quote(name))
        .replace("@USER@", &quote(user))
        .replace("@IDENTITY@", &quote(identity_file))
        .replace("@BUNDLE@", &quote(bundle))
        .replace("@HOSTS@", &hosts)
}

/// Plain where YAML reads it as the same text, quoted elsewhere: a name such as `123` or `no:` must stay text.
fn quote(text: &str) -> String {
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '+' | '@');
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '_'))
        || text.starts_with("~/")
        || text.starts_with("../");
    let word =
        matches!(text.to_lowercase().as_str(), "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n");
    if begins && !word && text.strip_prefix('~').unwrap_or(text).chars().all(letters) {
        return text.to_owned();
    }
    // JSON's escapes are YAML's.
    serde_json::to_string(text).unwrap_or_default()
}

const TEMPLATE: &str = "\
# A hospital cloud on servers of its own.
#   hzctl validate    finds mistakes in this file
#   hzctl check --pre looks at the hosts and changes nothing
#   hzctl bootstrap   brings the platform up; run it again after any failure
# With `hzctl schema > cluster-schema.json` beside this file, editors explain each field:
# yaml-language-server: $schema=cluster-schema.json
apiVersion: hz.hospital/v1alpha1
kind: Cluster
metadata:
  name: @NAME@
spec:
  # How the hosts are reached. Paths are relative to this file; `~/` is your home.
  ssh:
    # root, or a user who may use sudo without a password.
    user: @USER@
    port: 22
    # The private key, readable by you alone (chmod 600). Only its path stands here.
    identityFile: @IDENTITY@
    # The hosts' own keys. Strict refuses a host that is not in the file; AcceptNew takes its key at first sight.
    knownHostsFile: ~/.ssh/known_hosts
    hostKeys: Strict

  # 3, 5 or 7 control planes, and workers: at least eight hosts in all.
  # A test site may have fewer with `minimumHosts: 4` beside `hosts`.
  # A host may have labels (`labels: { rack: a }`) and its own way in (`ssh: { port: 2222 }`).
  hosts:
@HOSTS@
  # The offline bundle that everything is installed from (`hzctl bundle build`, `hzctl bundle verify`).
  bundle: @BUNDLE@

  # Addresses inside the cluster. They must not be in use in the hospital's own network.
  network:
    provider: Netguard # or None, to bring another network yourself
    podCIDR: 10.244.0.0/16 # each host takes a /24 of it
    serviceCIDR: 10.96.0.0/16
    mtu: 0 # 0 has it measured

  # Where volumes live on each host: best a disk of its own.
  storage:
    path: /var/lib/hzctl/volumes

  # The door through which users reach the services, on every worker.
  gateway:
    httpPort: 80

  # Objects to apply once the platform runs: hospitals, databases, services.
  manifests: []

  # Checks that may fail, by their id. Each one waived is a risk taken knowingly.
  preflight:
    waive: []
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Cluster;
    use crate::commands::init::hosts;

    fn render_for(list: &str, name: &str) -> String {
        let hosts = hosts::read(list).unwrap();
        render(&Choices {
            name,
            user: "root",
            identity_file: "~/.ssh/id_ed25519",
            bundle: "my bundle.tar",
            hosts: &hosts,
        })
    }

    #[test]
    fn what_init_writes_is_a_valid_cluster_with_all_that_was_chosen() {
        let yaml = render_for("10.0.0.11-18", "st-anna");
        let cluster = Cluster::parse("cluster.yaml", &yaml).unwrap();
        assert_eq!(cluster.metadata.name, "st-anna");
        assert_eq!(cluster.spec.bundle.to_str(), Some("my bundle.tar"));
        assert_eq!(cluster.workers().count(), 5);
    }

    #[test]
    fn names_that_yaml_would_take_for_something_else_are_quoted() {
        for name in ["123", "no", "1e3", "true"] {
            let cluster = Cluster::parse("cluster.yaml", &render_for("10.0.0.11-18", name)).unwrap();
            assert_eq!(cluster.metadata.name, name);
        }
    }
}
