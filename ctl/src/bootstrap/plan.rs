//! The graph of a cluster: which steps there are, and what each waits for. Pure.

use std::sync::Arc;

use super::graph::{Step, Work};
use super::site::Site;
use super::steps::hospital::{Apply, Ready, Wanted};
use super::steps::images::{Images, Wave};
use super::steps::{configure, copy, install, join, mark, release, start, verify};
use crate::cluster::{Cluster, Role};

/// What paths must have room for: path, bytes, what for.
pub fn room(cluster: &Cluster, site: &Site, role: Role) -> Vec<(String, u64, &'static str)> {
    let manifest = site.bundle.manifest();
    let of_role = install::bundle_role(role);
    let images: u64 = manifest.images_for(of_role).map(hz_bundle::Entry::size).sum();
    let programs: u64 = install::targets(manifest, role).len() as u64 * (80 << 20);
    let mut room = vec![
        // As they came, unpacked to about three times that, and room for containers.
        ("/var/lib/containerd".to_owned(), images * 4 + (1 << 30), "images"),
        ("/usr/local/bin".to_owned(), programs, "programs"),
        ("/var/lib/kubelet".to_owned(), 1 << 30, "pods"),
    ];
    match role {
        Role::ControlPlane => {
            room.push(("/var/lib/etcd".to_owned(), 2 << 30, "etcd"));
            room.push(("/var/lib/hzctl".to_owned(), manifest.total_size + (256 << 20), "the bundle"));
        }
        Role::Worker => room.push((cluster.spec.storage.path.display().to_string(), 2 << 30, "volumes")),
    }
    room
}

/// Puts steps together.
struct Builder(Vec<Step>);

impl Builder {
    fn add(&mut self, id: String, phase: &'static str, title: &'static str, work: Arc<dyn Work>) -> &mut Step {
        let (needs, after) = (Vec::new(), Vec::new());
        self.0.push(Step { id, phase, title, host: None, needs, after, essential: true, work });
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    /// A step on a host. What fails on a worker costs the worker, not the cluster.
    fn on(&mut self, host: &str, role: Role, kind: &str, phase: &'static str, title: &'static str, work: Arc<dyn Work>) -> &mut Step {
        let step = self.add(format!("{kind}/{host}"), phase, title, work);
        step.host = Some(host.to_owned());
        step.essential = role == Role::ControlPlane;
        step
    }
}

impl Step {
    fn needs<S: Into<String>>(&mut self, ids: impl IntoIterator<Item = S>) -> &mut Self {
        self.needs.extend(ids.into_iter().map(Into::into));
        self
    }

    fn after<S: Into<String>>(&mut self, ids: impl IntoIterator<Item = S>) -> &mut Self {
        self.after.extend(ids.into_iter().map(Into::into));
        self
    }
}

/// All steps.
pub fn steps(site: &Site, wanted: &[Wanted]) -> Vec<Step> {
    let mut all = Builder(Vec::new());
    let planes: Vec<String> = site.cluster.control_planes().map(|host| host.name.clone()).collect();
    let workers: Vec<String> = site.cluster.workers().map(|host| host.name.clone()).collect();
    let Some(first) = planes.first() else { return Vec::new() };
    for name in planes.iter().chain(&workers) {
        host_steps(&mut all, site, name, first);
    }
    let seed = Arc::new(copy::Seed(site.server(first)));
    all.on(first, Role::ControlPlane, "copy", "bundle", "receive the bundle", seed).needs([format!("mark/{first}")]);
    for name in planes.iter().skip(1) {
        let work = Arc::new(copy::Copy(site.server(name)));
        all.on(name, Role::ControlPlane, "copy", "bundle", "copy the bundle", work).needs([format!("mark/{name}")]);
    }
    join_steps(&mut all, site, &planes, &workers);
    add_on_steps(&mut all, site, &planes, &workers);
    end_steps(&mut all, &planes, &workers, wanted);
    all.0
}

fn host_steps(all: &mut Builder, site: &Site, name: &str, first: &str) {
    let server = site.server(name);
    let role = server.spec.role;
    all.on(name, role, "mark", "prepare", "mark the host", Arc::new(mark::Mark(server.clone())));
    all.on(name, role, "install", "prepare", "install programs", Arc::new(install::Programs(server.clone())))
        .needs([format!("mark/{name}")]);
    all.on(name, role, "configure", "prepare", "start services", Arc::new(configure::Services(server.clone())))
        .needs([format!("install/{name}")]);
    all.on(name, role, "images", "images", "import node images", Arc::new(Images(server.clone(), Wave::First)))
        .needs([format!("configure/{name}")]);
    let rest = all.on(name, role, "more-images", "images", "import other images", Arc::new(Images(server, Wave::Second)));
    rest.needs([format!("images/{name}")]);
    if name == first {
        // What the API server needs goes first; nothing waits for the rest on this host.
        rest.needs(["init"]);
    }
}

fn join_steps(all: &mut Builder, site: &Site, planes: &[String], workers: &[String]) {
    let first = &planes[0];
    let init = all.on(first, Role::ControlPlane, "init", "control plane", "start the cluster", Arc::new(start::Init(site.server(first))));
    init.id = "init".into();
    init.needs([format!("images/{first}")]);
    let mut before = "init".to_owned();
    for name in planes {
        // The first passes through here too: after a loss it is a control plane like the others.
        let work = Arc::new(join::Member(site.server(name)));
        let step = all.on(name, Role::ControlPlane, "join", "control plane", "join as control plane", work);
        step.needs([format!("images/{name}"), before]);
        before = format!("join/{name}");
    }
    for name in workers {
        let work = Arc::new(join::Member(site.server(name)));
        all.on(name, Role::Worker, "join", "workers", "join as worker", work)
            .needs([format!("images/{name}"), "init".into()]);
    }
}

fn add_on_steps(all: &mut Builder, site: &Site, planes: &[String], workers: &[String]) {
    for one in release::all(&site.cluster) {
        let name = one.name;
        let step = all.add(format!("release/{name}"), "add-ons", title_of(name), Arc::new(release::AddOn(one)));
        // Its pods must find their images: a node without them would wait longer and longer between tries.
        let images = |hosts: &[String]| hosts.iter().map(|host| format!("more-images/{host}")).collect::<Vec<_>>();
        step.needs(["init".to_owned(), format!("copy/{}", planes[0])]);
        match name {
            "hz-netguard" | "hz-crds" => step,
            "hz-operator" => step.needs(["release/hz-crds".to_owned()]).needs(images(planes)).after(images(workers)),
            _ => step.after(images(planes)).after(images(workers)),
        };
    }
}

fn title_of(release: &str) -> &'static str {
    match release {
        "hz-netguard" => "install the pod network",
        "hz-storage" => "install storage",
        "hz-gateway" => "install the gateway",
        "hz-metrics" => "install metrics",
        "hz-crds" => "install our kinds",
        _ => "install the operator",
    }
}

fn end_steps(all: &mut Builder, planes: &[String], workers: &[String], wanted: &[Wanted]) {
    let releases: Vec<String> = all.0.iter().filter(|step| step.id.starts_with("release/")).map(|step| step.id.clone()).collect();
    let joins = |hosts: &[String]| hosts.iter().map(|host| format!("join/{host}")).collect::<Vec<_>>();
    let nodes = verify::settled("nodes", "`hzctl status` tells which; `journalctl -u kubelet` on the node tells why", verify::nodes);
    all.add("verify/nodes".into(), "verify", "nodes ready", nodes).needs(joins(planes)).after(joins(workers)).needs(releases.clone());
    let add_ons = verify::settled("add-ons", "`kubectl get pods -A` shows what does not start", verify::add_ons);
    all.add("verify/add-ons".into(), "verify", "add-ons ready", add_ons).needs(["verify/nodes"]);
    if wanted.is_empty() {
        return;
    }
    all.add("hospital/apply".into(), "hospital", "apply manifests", Arc::new(Apply(wanted.to_vec())))
        .needs(["release/hz-operator", "release/hz-crds"]);
    all.add("hospital/ready".into(), "hospital", "hospital ready", Arc::new(Ready(wanted.to_vec())))
        .needs(["hospital/apply".to_owned()])
        .needs(releases)
        .after(joins(workers));
    let gateway = verify::settled("services behind the gateway", "see that TCP is let through from here to the workers", verify::gateway);
    all.add("verify/gateway".into(), "verify", "services answer", gateway).needs(["hospital/ready", "verify/add-ons"]);
}
