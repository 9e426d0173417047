//! The graph of a cluster: which steps there are, and what each waits for. Pure.

use std::sync::Arc;
use std::time::Duration;

use super::graph::{Step, Work};
use super::site::Site;
use super::steps::control_plane::{Certificates, Etcd, Joining, Rest};
use super::steps::hospital::{Apply, Ready, Wanted};
use super::steps::images::{Images, Wave};
use super::steps::{configure, copy, dns, install, join, mark, network, release, start, verify};
use crate::cluster::{Cluster, NetworkProvider, Role};
use crate::progress::{CLUSTER, Planned};

/// The release that makes the pod network.
const NETGUARD: &str = "hz-netguard";

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

/// What will be told of, before anything is known of the hosts: every step with a guess of its time.
pub fn outline(cluster: &Cluster, manifests: bool) -> Vec<Planned> {
    let mut all = Vec::new();
    let mut add = |host: &str, phase: &str, step: &str, seconds: u64| {
        all.push(Planned::new(host, phase, step, Duration::from_secs(seconds)));
    };
    for host in cluster.control_planes().chain(cluster.workers()) {
        let name = host.name.as_str();
        add(name, "connect", "look at the host", 2);
        add(name, "prepare", "mark the host", 1);
        add(name, "prepare", "install programs", 15);
        add(name, "prepare", "start services", 4);
        add(name, "images", "import node images", 8);
        add(name, "images", "import other images", 20);
        add(name, "verify", "node ready", 5);
    }
    for (at, host) in cluster.control_planes().enumerate() {
        let name = host.name.as_str();
        let title = if at == 0 { "receive the bundle" } else { "copy the bundle" };
        add(name, "bundle", title, 25);
        if at == 0 {
            add(name, "control plane", "start the cluster", 15);
        }
        if at > 0 {
            add(name, "control plane", "make certificates", 2);
            add(name, "control plane", "join etcd", 8);
        }
        add(name, "control plane", "join as control plane", if at == 0 { 0 } else { 8 });
    }
    for host in cluster.workers() {
        add(&host.name, "workers", "join as worker", 5);
    }
    add(CLUSTER, "preflight", "check everything", 2);
    if cluster.spec.hosts.len() > 1 {
        add(CLUSTER, "add-ons", "spread cluster DNS", 1);
    }
    for one in release::all(cluster) {
        add(CLUSTER, "add-ons", title_of(one.name), 4);
    }
    if cluster.spec.network.provider == NetworkProvider::Netguard {
        add(CLUSTER, "verify", "prove the pod network", 10);
    }
    add(CLUSTER, "verify", "add-ons ready", 15);
    if manifests {
        add(CLUSTER, "hospital", "apply manifests", 3);
        add(CLUSTER, "hospital", "hospital ready", 60);
        add(CLUSTER, "verify", "services answer", 2);
    }
    all
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
    fn on(
        &mut self,
        host: &str,
        role: Role,
        kind: &str,
        phase: &'static str,
        title: &'static str,
        work: Arc<dyn Work>,
    ) -> &mut Step {
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
    end_steps(&mut all, site, &planes, &workers, wanted);
    // An add-on that the bundle lacks is no step, and nothing can wait for it.
    let there: Vec<String> = all.0.iter().map(|step| step.id.clone()).collect();
    for step in &mut all.0 {
        step.needs.retain(|id| !id.starts_with("release/") || there.contains(id));
    }
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
    let rest =
        all.on(name, role, "more-images", "images", "import other images", Arc::new(Images(server, Wave::Second)));
    rest.needs([format!("images/{name}")]);
    if name == first {
        // What the API server needs goes first; nothing waits for the rest on this host.
        rest.needs(["init"]);
    } else {
        // Hosts may share processors or a wire with the one that everybody waits for.
        rest.after([format!("images/{first}")]);
    }
}

fn join_steps(all: &mut Builder, site: &Site, planes: &[String], workers: &[String]) {
    let first = &planes[0];
    let init = all.on(
        first,
        Role::ControlPlane,
        "init",
        "control plane",
        "start the cluster",
        Arc::new(start::Init(site.server(first))),
    );
    init.id = "init".into();
    init.needs([format!("images/{first}")]);
    // After a loss the first is a control plane like the others, and joins as a whole.
    let work = Arc::new(join::Member(site.server(first)));
    all.on(first, Role::ControlPlane, "join", "control plane", "join as control plane", work).needs(["init"]);
    let mut before = format!("join/{first}");
    for name in planes.iter().skip(1) {
        let joining = Joining::new(site.server(name));
        let (phase, plane) = ("control plane", Role::ControlPlane);
        all.on(name, plane, "certificates", phase, "make certificates", Arc::new(Certificates(joining.clone())))
            .needs([format!("images/{name}"), "init".into()]);
        all.on(name, plane, "etcd", phase, "join etcd", Arc::new(Etcd(joining.clone())))
            .needs([format!("certificates/{name}"), before]);
        all.on(name, plane, "join", phase, "join as control plane", Arc::new(Rest(joining)))
            .needs([format!("etcd/{name}")]);
        before = format!("etcd/{name}");
    }
    for name in workers {
        let work = Arc::new(join::Member(site.server(name)));
        all.on(name, Role::Worker, "join", "workers", "join as worker", work)
            .needs([format!("images/{name}"), "init".into()]);
    }
}

fn add_on_steps(all: &mut Builder, site: &Site, planes: &[String], workers: &[String]) {
    if site.cluster.spec.hosts.len() > 1 {
        let spread = Arc::new(dns::Spread);
        all.add("dns".into(), "add-ons", "spread cluster DNS", spread).needs(["init".to_owned()]);
    }
    // A chart that the bundle lacks was told by the preflight, and waived.
    let there = |one: &release::Release| release::chart_file(site.bundle.manifest(), one.name).is_some();
    for one in release::all(&site.cluster).into_iter().filter(there) {
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

fn end_steps(all: &mut Builder, site: &Site, planes: &[String], workers: &[String], wanted: &[Wanted]) {
    let releases: Vec<String> =
        all.0.iter().filter(|step| step.id.starts_with("release/")).map(|step| step.id.clone()).collect();
    if site.cluster.spec.network.provider == NetworkProvider::None {
        // No node gets ready before the site has brought its own network; the next run goes on from there.
        return;
    }
    let on = |kind: &str, hosts: &[String]| hosts.iter().map(|host| format!("{kind}/{host}")).collect::<Vec<_>>();
    for name in planes.iter().chain(workers) {
        let server = site.server(name);
        let role = server.spec.role;
        // Nodes get ready when the pod network is there.
        all.on(name, role, "ready", "verify", "node ready", Arc::new(verify::NodeReady(server)))
            .needs([format!("join/{name}")])
            .after(releases.iter().filter(|id| id.ends_with(NETGUARD)).cloned());
    }
    let dns: Vec<String> = all.0.iter().filter(|step| step.id == "dns").map(|step| step.id.clone()).collect();
    if let Some(pods) = release::all(&site.cluster).into_iter().find(|one| one.name == NETGUARD)
        && releases.iter().any(|id| id.ends_with(NETGUARD))
    {
        let proof = network::Proof(Arc::new(release::AddOn(pods)));
        let step = all.add("verify/network".into(), "verify", "prove the pod network", Arc::new(proof));
        step.needs(on("ready", planes)).after(on("ready", workers)).after(dns.clone());
        // One worker that is not reached leaves a cluster that runs; whose doing it is, is seen by the proof.
        step.essential = false;
    }
    let add_ons = verify::settled("add-ons", "`kubectl get pods -A` shows what does not start", verify::add_ons);
    all.add("verify/add-ons".into(), "verify", "add-ons ready", add_ons)
        .needs(on("ready", planes))
        .after(on("ready", workers))
        .needs(releases.clone())
        .needs(dns);
    if wanted.is_empty() {
        return;
    }
    let operator = releases
        .iter()
        .filter(|id| ["release/hz-operator", "release/hz-crds"].contains(&id.as_str()))
        .cloned()
        .collect::<Vec<_>>();
    all.add("hospital/apply".into(), "hospital", "apply manifests", Arc::new(Apply(wanted.to_vec())))
        .needs(["init".to_owned()])
        .needs(operator);
    all.add("hospital/ready".into(), "hospital", "hospital ready", Arc::new(Ready(wanted.to_vec())))
        .needs(["hospital/apply".to_owned()])
        .needs(releases)
        .after(on("ready", workers));
    let gateway = verify::settled(
        "services behind the gateway",
        "see that TCP is let through from here to the workers",
        verify::gateway,
    );
    all.add("verify/gateway".into(), "verify", "services answer", gateway).needs(["hospital/ready", "verify/add-ons"]);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::super::graph::{End, Outcome, Plan, flaws};
    use super::super::testing;
    use super::*;

    fn wanted() -> Vec<Wanted> {
        vec![Wanted { file: "h.yaml".into(), object: json!({ "kind": "Hospital", "metadata": { "name": "h" } }) }]
    }

    #[test]
    fn every_step_is_reached_and_waits_only_for_steps_that_exist() {
        assert_eq!(flaws(&steps(&testing::site(), &wanted())), Vec::<String>::new());
        assert_eq!(flaws(&steps(&testing::site(), &[])), Vec::<String>::new());
    }

    #[test]
    fn the_outline_names_the_very_steps_that_run() {
        let site = testing::site();
        let name = |host: &Option<String>| host.clone().unwrap_or_else(|| CLUSTER.to_owned());
        let real: BTreeSet<_> = steps(&site, &wanted())
            .iter()
            .map(|step| (name(&step.host), step.phase.to_owned(), step.title.to_owned()))
            .collect();
        let told: BTreeSet<_> = outline(&site.cluster, true)
            .into_iter()
            .filter(|planned| planned.phase != "connect" && planned.phase != "preflight")
            .map(|planned| (planned.host, planned.phase, planned.step))
            .collect();
        assert_eq!(told, real);
    }

    #[test]
    fn control_planes_join_one_after_the_other_and_workers_do_not_wait_for_them() {
        let all = steps(&testing::site(), &[]);
        let needs = |id: &str| all.iter().find(|step| step.id == id).unwrap().needs.clone();
        assert!(needs("etcd/cp-3").contains(&"etcd/cp-2".to_owned()));
        assert!(!needs("join/worker-1").iter().any(|need| need.starts_with("join/")));
    }

    #[test]
    fn a_worker_is_no_condition_for_the_cluster_and_a_control_plane_is() {
        let all = steps(&testing::site(), &[]);
        let essential = |id: &str| all.iter().find(|step| step.id == id).unwrap().essential;
        assert!(!essential("install/worker-1") && essential("install/cp-2") && essential("init"));
    }

    #[tokio::test]
    async fn on_bare_hosts_everything_is_to_be_done() {
        let site = testing::site();
        for step in steps(&site, &wanted()) {
            let plan = step.work.probe(&site).await.unwrap();
            assert_ne!(plan, Plan::Nothing, "{} has nothing to do", step.id);
        }
    }

    struct Failing;

    impl Work for Failing {
        fn probe<'a>(
            &'a self,
            _: &'a Site,
        ) -> futures::future::BoxFuture<'a, Result<Plan, super::super::fault::Fault>> {
            Box::pin(async { Err(super::super::fault::Fault::permanent("failed", "on purpose")) })
        }

        fn act<'a>(&'a self, _: &'a Site) -> futures::future::BoxFuture<'a, Result<(), super::super::fault::Fault>> {
            Box::pin(async { Ok(()) })
        }
    }

    struct Fine;

    impl Work for Fine {
        fn probe<'a>(
            &'a self,
            _: &'a Site,
        ) -> futures::future::BoxFuture<'a, Result<Plan, super::super::fault::Fault>> {
            Box::pin(async { Ok(Plan::Nothing) })
        }

        fn act<'a>(&'a self, _: &'a Site) -> futures::future::BoxFuture<'a, Result<(), super::super::fault::Fault>> {
            Box::pin(async { Ok(()) })
        }
    }

    async fn run_with_failing(failing: &str) -> Outcome {
        let site = testing::site();
        let mut all = steps(&site, &[]);
        for step in &mut all {
            step.work = if step.id == failing { Arc::new(Failing) } else { Arc::new(Fine) };
        }
        super::super::graph::run(&site, all, std::time::Instant::now()).await
    }

    #[tokio::test]
    async fn a_worker_that_fails_takes_only_itself_out() {
        let outcome = run_with_failing("install/worker-2").await;
        assert!(matches!(outcome.ends["install/worker-2"], End::Failed(_)));
        assert!(matches!(outcome.ends["join/worker-2"], End::Blocked(_)));
        assert_eq!(outcome.ends["join/worker-3"], End::Unchanged);
        assert_eq!(outcome.ends["verify/add-ons"], End::Unchanged);
    }

    #[tokio::test]
    async fn a_control_plane_that_fails_ends_the_run() {
        let outcome = run_with_failing("etcd/cp-2").await;
        assert!(matches!(outcome.ends["etcd/cp-2"], End::Failed(_)));
        assert!(matches!(outcome.ends["etcd/cp-3"], End::Blocked(_)));
    }
}
