//! A site for tests: eight hosts that do not exist, a bundle with one of each kind.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use hz_bundle::{Bundle, Digest};

use super::render::Versions;
use super::server::Server;
use super::site::{Parts, Site};
use crate::cluster::Cluster;
use crate::host::fake::Fake;
use crate::printer::{Output, Printer};
use crate::progress::{Plan, Progress};

/// Three control planes and five workers.
pub fn cluster() -> Cluster {
    let hosts: String = (1..=3)
        .map(|n| format!("  - {{ name: cp-{n}, address: 10.77.0.1{n}, role: ControlPlane }}\n"))
        .chain((1..=5).map(|n| format!("  - {{ name: worker-{n}, address: 10.77.0.2{n}, role: Worker }}\n")))
        .collect();
    let text = format!(
        "apiVersion: hz.hospital/v1alpha1\nkind: Cluster\nmetadata: {{ name: st-anna }}\nspec:\n  ssh: {{ identityFile: /k }}\n  bundle: /b.tar\n  hosts:\n{hosts}"
    );
    serde_yaml::from_str(&text).unwrap()
}

fn component(name: &str, kind: &str, path: Option<&str>) -> serde_json::Value {
    let digest = |what: &str| Digest::of(format!("{name} {what}").as_bytes()).as_str().to_owned();
    let blob = |what: &str| serde_json::json!({ "digest": digest(what), "size": 10, "mediaType": "x" });
    let files: Vec<serde_json::Value> = path
        .iter()
        .map(|path| {
            let sum = Digest::of(name.as_bytes());
            serde_json::json!({ "path": path, "mode": "0755", "size": 5, "sha256": sum.hex(), "blob": digest("file") })
        })
        .collect();
    serde_json::json!({
        "name": name, "version": "1", "license": "Apache-2.0", "kind": kind, "roles": ["control-plane", "worker"],
        "ref": (kind == "image").then(|| format!("hz.hospital/{name}:v1")),
        "manifest": digest("manifest"), "blobs": [blob("manifest"), blob("file")], "files": files,
    })
}

fn bundle() -> Bundle {
    let mut components = vec![
        component("kubelet", "binary", Some("usr/local/bin/kubelet")),
        component("haproxy", "deb", Some("debs/haproxy_2.6_amd64.deb")),
        component("kube-apiserver", "image", None),
        component("pause", "image", None),
        component("orthanc", "image", None),
    ];
    for chart in ["hz-netguard", "hz-storage", "hz-gateway", "hz-metrics", "hz-crds", "hz-operator"] {
        components.push(component(&format!("chart-{chart}"), "chart", Some(&format!("charts/{chart}-0.1.0.tgz"))));
    }
    let total = components.len() * 20;
    let manifest = serde_json::json!({
        "schemaVersion": 1, "version": "0.1.0", "architecture": "amd64",
        "createdFrom": Digest::of(b"").as_str(), "components": components, "totalSize": total,
    });
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("hz-bundle.json"), manifest.to_string()).unwrap();
    Bundle::open(dir.path()).unwrap()
}

/// The site. Nothing is known of its hosts.
pub fn site() -> Site {
    let cluster = cluster();
    let server = |host: &crate::cluster::Host| {
        (host.name.clone(), Arc::new(Server::new(host.clone(), Arc::new(Fake::new(&host.name)))))
    };
    let servers: BTreeMap<_, _> = cluster.spec.hosts.iter().map(server).collect();
    let (printer, _) = Printer::captured(Output::Json);
    Site::new(Parts {
        id: "one".into(),
        bundle: bundle(),
        versions: Versions {
            kubernetes: "v1.36.3".into(),
            etcd: "3.6.8-0".into(),
            coredns: "v1.14.2".into(),
            pause: "hz.hospital/pause:3.10.2".into(),
            repository: "hz.hospital".into(),
        },
        servers,
        state: PathBuf::from("/nonexistent"),
        program: (Arc::new(Vec::new()), "0123456789ab".into()),
        progress: Progress::start(&printer, Plan::default()),
        cluster,
    })
}
