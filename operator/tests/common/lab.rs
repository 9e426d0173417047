//! One test's turn on the shared server: a clean slate, an operator, and hands to play kubelet with.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures::future::BoxFuture;
use hz_crds::Timestamp;
use hz_crds::backup::Archiver;
use hz_crds::cache::Live;
use hz_crds::postgres::Statement;
use hz_crds::postgres::change::{Cluster, Step};
use hz_crds::postgres::room::Room;
use hz_operator::engine::apply::api;
use hz_operator::engine::kinds::{KINDS, named};
use hz_operator::engine::metrics::Metrics;
use hz_operator::probes::{Cache, Front, Probes, Rest, Silent, Sql, Store};
use hz_operator::{Settings, lead};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::MutexGuard;
use tokio::task::JoinHandle;

use super::faults::{Death, Plug};
use super::server::{ADMIN, OPERATOR, Server};

static SERVER: OnceLock<Server> = OnceLock::new();
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Kinds of ours, as the API names them.
pub const OURS: [(&str, &str); 10] = [
    ("MedicalService", "medicalservices"),
    ("CacheInstance", "cacheinstances"),
    ("ObjectStore", "objectstores"),
    ("PostgresInstance", "postgresinstances"),
    ("Hospital", "hospitals"),
    ("DataOperation", "dataoperations"),
    ("BackupPlan", "backupplans"),
    ("Backup", "backups"),
    ("Restore", "restores"),
    ("RestoreDrill", "restoredrills"),
];

/// A turn on the server. Tests run one after another: the operator looks at the whole cluster.
pub struct Lab {
    pub admin: Client,
    _turn: MutexGuard<'static, ()>,
}

/// Where a `kind` of ours lives.
pub fn resource(kind: &str) -> ApiResource {
    if let Some((kind, plural)) = OURS.iter().find(|(known, _)| *known == kind) {
        let gvk = kube::core::GroupVersionKind::gvk("hz.hospital", "v1alpha1", kind);
        return ApiResource::from_gvk_with_plural(&gvk, plural);
    }
    KINDS[named(kind)].resource()
}

impl Lab {
    /// Waits for its turn and sweeps what others left.
    pub async fn new() -> Self {
        let turn = TURN.lock().await;
        let fresh = SERVER.get().is_none();
        if fresh {
            // A runtime cannot start another; the server waits for itself on one of its own.
            let server = std::thread::spawn(Server::start).join().expect("the server starts");
            assert!(SERVER.set(server).is_ok(), "one server only");
        }
        let lab = Self { admin: Client::try_from(server().config(ADMIN)).expect("a client"), _turn: turn };
        if fresh {
            lab.furnish().await;
        }
        lab.sweep().await;
        lab
    }

    /// What `hzctl` installs: definitions, the operator's rights, servers.
    async fn furnish(&self) {
        for crd in hz_crds::crd::all() {
            self.apply(&serde_json::to_value(&crd).unwrap()).await;
        }
        self.apply(&route_definition()).await;
        self.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "hz-system"}})).await;
        for object in super::charts::operator_rights() {
            self.apply(&object).await;
        }
        for number in 1..=5 {
            self.apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("worker-{number}")}}))
                .await;
        }
        let crds: Api<CustomResourceDefinition> = Api::all(self.admin.clone());
        eventually("definitions are served", || async {
            let list = crds.list(&ListParams::default()).await.unwrap();
            let served = |crd: &CustomResourceDefinition| {
                let conditions = crd.status.iter().flat_map(|status| status.conditions.iter().flatten());
                conditions.into_iter().any(|c| c.type_ == "Established" && c.status == "True")
            };
            (list.items.len() >= OURS.len() && list.items.iter().all(served)).then_some(())
        })
        .await;
    }

    /// Removes every object of ours; without controllers nothing goes by itself.
    async fn sweep(&self) {
        for (kind, _) in OURS {
            let all: Api<DynamicObject> = Api::all_with(self.admin.clone(), &resource(kind));
            for object in all.list(&ListParams::default()).await.unwrap() {
                self.delete(kind, object.namespace().as_deref(), &object.name_any()).await;
            }
        }
        for kind in KINDS.iter().filter(|kind| kind.kind != "Namespace") {
            let all: Api<DynamicObject> = Api::all_with(self.admin.clone(), &kind.resource());
            for object in all.list(&ListParams::default()).await.unwrap() {
                let namespace = object.namespace();
                if namespace.as_deref().is_some_and(|namespace| namespace.starts_with("hospital-")) {
                    self.delete(kind.kind, namespace.as_deref(), &object.name_any()).await;
                }
            }
        }
        self.sweep_namespaces().await;
    }

    /// Namespaces go when their controller has emptied them; play it.
    async fn sweep_namespaces(&self) {
        let namespaces = self.of("Namespace", None);
        for namespace in namespaces.list(&ListParams::default()).await.unwrap() {
            let name = namespace.name_any();
            if !name.starts_with("hospital-") {
                continue;
            }
            self.delete("Namespace", None, &name).await;
            let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "spec": {"finalizers": []}});
            let request = http::Request::put(format!("/api/v1/namespaces/{name}/finalize"))
                .header("content-type", "application/json")
                .body(serde_json::to_vec(&body).unwrap())
                .unwrap();
            self.admin.request::<Value>(request).await.unwrap();
        }
    }

    /// Deletes one object, at once.
    pub async fn delete(&self, kind: &str, namespace: Option<&str>, name: &str) {
        let params = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::background() };
        match self.of(kind, namespace).delete(name, &params).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => panic!("{kind} {name}: {error}"),
        }
    }

    /// The API of a kind, as administrator.
    pub fn of(&self, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace {
            Some(namespace) => Api::namespaced_with(self.admin.clone(), namespace, &resource(kind)),
            None => Api::all_with(self.admin.clone(), &resource(kind)),
        }
    }

    /// Applies a manifest as a user would.
    pub async fn apply(&self, manifest: &Value) -> Value {
        self.try_apply(manifest).await.unwrap_or_else(|error| panic!("{manifest}: {error}"))
    }

    /// The same, for manifests that the server may refuse.
    pub async fn try_apply(&self, manifest: &Value) -> Result<Value, kube::Error> {
        let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (kind, name) = (text("/kind"), text("/metadata/name"));
        let gvk = kube::core::GroupVersionKind::try_from(
            &serde_json::from_value::<kube::core::TypeMeta>(manifest.clone()).unwrap(),
        )
        .unwrap();
        let plural = OURS.iter().find(|(known, _)| *known == kind).map(|(_, plural)| (*plural).to_owned());
        let plural = plural.unwrap_or_else(|| plural_of(kind));
        let resource = ApiResource::from_gvk_with_plural(&gvk, &plural);
        let api: Api<DynamicObject> = match text("/metadata/namespace") {
            "" => Api::all_with(self.admin.clone(), &resource),
            namespace => Api::namespaced_with(self.admin.clone(), namespace, &resource),
        };
        let params = PatchParams::apply("kubectl").force();
        api.patch(name, &params, &Patch::Apply(manifest)).await.map(|object| serde_json::to_value(object).unwrap())
    }

    /// An object as it is, or nothing.
    pub async fn get(&self, kind: &str, namespace: Option<&str>, name: &str) -> Option<Value> {
        self.of(kind, namespace).get_opt(name).await.unwrap().map(|object| serde_json::to_value(object).unwrap())
    }

    /// Everything of the kinds the operator writes in one namespace: kind, name, object.
    pub async fn everything(&self, namespace: &str) -> Vec<(String, String, Value)> {
        let mut found = Vec::new();
        for kind in KINDS.iter().filter(|kind| kind.namespaced && kind.written) {
            let list = api(&self.admin, named(kind.kind), Some(namespace)).list(&ListParams::default()).await.unwrap();
            for object in list {
                let name = object.name_any();
                // The server's own: every namespace has it.
                if name != "kube-root-ca.crt" && name != "default" {
                    let mut object = serde_json::to_value(object).unwrap();
                    // Items of a list do not repeat what they are.
                    object["apiVersion"] = json!(kind.api_version());
                    object["kind"] = json!(kind.kind);
                    found.push((kind.kind.to_owned(), name, object));
                }
            }
        }
        found
    }

    /// Writes a status as the controller or kubelet in charge would.
    pub async fn play(&self, kind: &str, namespace: &str, name: &str, status: Value) {
        let patch = Patch::Merge(json!({"status": status}));
        self.of(kind, Some(namespace)).patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Makes the pods of a StatefulSet from its template, ready and with roles; the first leads.
    pub async fn play_pods(&self, namespace: &str, name: &str, leading: &str) {
        let set = eventually("the StatefulSet stands", || self.get("StatefulSet", Some(namespace), name)).await;
        for number in 0..set["spec"]["replicas"].as_i64().unwrap() {
            let pod = format!("{name}-{number}");
            let mut template = set["spec"]["template"].clone();
            template["metadata"]["name"] = json!(pod);
            template["metadata"]["namespace"] = json!(namespace);
            template["metadata"]["labels"]["hz.hospital/role"] = json!(if number == 0 { leading } else { "replica" });
            template["spec"]["nodeName"] = json!(format!("worker-{}", number + 1));
            // The claims would be bound by controllers that are not here.
            let claims: Vec<Value> = set["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten()
                .map(|claim| json!({"name": claim["metadata"]["name"], "persistentVolumeClaim": {"claimName": format!("{}-{pod}", claim["metadata"]["name"].as_str().unwrap())}}))
                .collect();
            if !claims.is_empty() {
                let mut volumes = template["spec"]["volumes"].as_array().cloned().unwrap_or_default();
                volumes.extend(claims);
                template["spec"]["volumes"] = json!(volumes);
            }
            template["apiVersion"] = json!("v1");
            template["kind"] = json!("Pod");
            let object: DynamicObject = serde_json::from_value(template).unwrap();
            self.of("Pod", Some(namespace)).create(&PostParams::default(), &object).await.unwrap();
            let mut status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
            if leading == "master" {
                status["podIP"] = json!(format!("10.1.0.{}", number + 1)); // each server of a cache is asked by itself
            }
            self.play("Pod", namespace, &pod, status).await;
        }
    }

    /// Rolls a Deployment out.
    pub async fn play_rollout(&self, namespace: &str, name: &str) {
        let deployment = eventually("the Deployment stands", || self.get("Deployment", Some(namespace), name)).await;
        let (replicas, generation) = (&deployment["spec"]["replicas"], &deployment["metadata"]["generation"]);
        let status = json!({"observedGeneration": generation, "replicas": replicas, "updatedReplicas": replicas,
                            "readyReplicas": replicas, "availableReplicas": replicas});
        self.play("Deployment", namespace, name, status).await;
        if let Some(route) = self.get("HTTPRoute", Some(namespace), name).await {
            let parent = json!({"parentRef": {"name": "hospital"}, "controllerName": "hz", "conditions": [
                {"type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
                 "observedGeneration": route["metadata"]["generation"], "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
            self.play("HTTPRoute", namespace, name, json!({"parents": [parent]})).await;
        }
    }

    /// Waits until `Ready` has this status, and returns the whole object.
    pub async fn until_ready(&self, kind: &str, namespace: Option<&str>, name: &str, status: &str) -> Value {
        self.until(kind, namespace, name, |object| {
            let ready = ready(object);
            ready["status"] == status && object["status"]["observedGeneration"] == object["metadata"]["generation"]
        })
        .await
    }

    /// Waits until an object is as `holds` wants it.
    pub async fn until(
        &self,
        kind: &str,
        namespace: Option<&str>,
        name: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Value {
        let last = Mutex::new(Value::Null);
        let what = format!("{kind} {name}");
        let found = tokio::time::timeout(Duration::from_secs(120), async {
            loop {
                if let Some(object) = self.get(kind, namespace, name).await {
                    if holds(&object) {
                        return object;
                    }
                    *last.lock().unwrap() = object;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        found.unwrap_or_else(|_| panic!("{what} did not get there: {:#}", last.lock().unwrap()["status"]))
    }

    /// An operator with the chart's rights, in the place of one that leads.
    pub fn operator(&self) -> Running {
        self.operator_that_dies(None)
    }

    /// The same, that dies at a write.
    pub fn operator_that_dies(&self, death: Option<Death>) -> Running {
        let plug = Plug::new(death);
        let metrics = Arc::new(Metrics::default());
        let probes = Arc::new(Fake::default());
        let client = plug.client(server().config(OPERATOR), &metrics);
        let settings = Settings { ask_again: Duration::from_secs(2), ..Settings::default() };
        let work = lead(client, Arc::clone(&metrics), settings, Arc::clone(&probes) as Arc<dyn Probes>);
        let cut = plug.clone();
        let task = tokio::spawn(async move {
            tokio::select! {
                () = work => panic!("the operator ended by itself"),
                () = cut.pulled() => {} // dropped with everything it held, as a killed process is
            }
        });
        Running { metrics, probes, task }
    }
}

/// The shared server.
pub fn server() -> &'static Server {
    SERVER.get().expect("a lab stands")
}

/// The `Ready` condition of an object.
pub fn ready(object: &Value) -> Value {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == "Ready").unwrap_or(Value::Null)
}

/// An operator at work; stops when dropped.
pub struct Running {
    pub metrics: Arc<Metrics>,
    pub probes: Arc<Fake>,
    task: JoinHandle<()>,
}

impl Running {
    /// It died, as it was told to.
    pub async fn died(&mut self) -> bool {
        tokio::time::timeout(Duration::from_secs(10), &mut self.task).await.is_ok()
    }

    /// Stops it and waits until it is gone.
    pub async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    /// Waits until it has asked the API server nothing for a while.
    pub async fn at_rest(&self) {
        let mut before = (u64::MAX, tokio::time::Instant::now());
        eventually("the operator is at rest", || {
            let calls = self.metrics.calls();
            if calls != before.0 {
                before = (calls, tokio::time::Instant::now());
            }
            let rested = before.1.elapsed() > Duration::from_millis(1500);
            async move { rested.then_some(()) }
        })
        .await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Databases and caches that answer, unless told otherwise.
#[derive(Default)]
pub struct Fake {
    pub asked: AtomicUsize,
    pub provisioned: AtomicUsize,
    pub silent: Mutex<Option<Silent>>,
    /// What the copies agree on, as Patroni keeps it.
    pub agreed: Mutex<Value>,
    /// What servers of caches were given last.
    pub brought: Mutex<Option<Live>>,
    /// Room on every copy's volume; half of it is free if nobody says otherwise.
    pub room: Mutex<Option<Room>>,
    /// What Patroni says of the copies.
    pub cluster: Mutex<Cluster>,
    /// What the primary says of its log.
    pub archiver: Mutex<Archiver>,
    /// The certificate that every copy shows, DER; nobody can look while there is none.
    pub shown: Mutex<Option<Vec<u8>>>,
    /// How often copies were told to read their files again.
    pub reloaded: AtomicUsize,
    /// Owners of databases do not get in until databases are made anew; the superuser does.
    pub locked_out: AtomicBool,
    /// What was said on consoles of poolers.
    pub consoles: Mutex<Vec<String>>,
}

impl Fake {
    fn answer<T>(&self, good: T) -> Result<T, Silent> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.silent.lock().unwrap().clone().map_or(Ok(good), Err)
    }
}

impl Probes for Fake {
    fn select_one<'a>(&'a self, who: &'a Sql) -> BoxFuture<'a, Result<Vec<String>, Silent>> {
        Box::pin(async {
            if who.user == who.database && who.user != "postgres" && self.locked_out.load(Ordering::SeqCst) {
                return Err(Silent::NotProvisioned("password authentication failed".into()));
            }
            Fake::answer(self, vec!["records-1".to_owned()])
        })
    }

    fn provision<'a>(&'a self, _: &'a Sql, _: &'a [Statement]) -> BoxFuture<'a, Result<(), Silent>> {
        self.provisioned.fetch_add(1, Ordering::SeqCst);
        self.locked_out.store(false, Ordering::SeqCst);
        Box::pin(async { Fake::answer(self, ()) })
    }

    fn archiver<'a>(&'a self, _: &'a Sql) -> BoxFuture<'a, Result<Archiver, Silent>> {
        Box::pin(async { Fake::answer(self, self.archiver.lock().unwrap().clone()) })
    }

    fn archive_now<'a>(&'a self, _: &'a Sql) -> BoxFuture<'a, Result<(), Silent>> {
        Box::pin(async { self.answer(()) })
    }

    fn last_commit<'a>(&'a self, _: &'a Sql) -> BoxFuture<'a, Result<Option<Timestamp>, Silent>> {
        Box::pin(async { Fake::answer(self, None) })
    }

    fn replayed<'a>(&'a self, _: &'a Sql) -> BoxFuture<'a, Result<Option<Timestamp>, Silent>> {
        Box::pin(async { Fake::answer(self, None) })
    }

    fn answer<'a>(&'a self, _: &'a Sql, _: &'a str) -> BoxFuture<'a, Result<Option<String>, Silent>> {
        Box::pin(async { Fake::answer(self, Some("3".to_owned())) })
    }

    fn read_all<'a>(&'a self, _: &'a Sql) -> BoxFuture<'a, Result<(u64, u64), Silent>> {
        Box::pin(async { Fake::answer(self, (1, 3)) })
    }

    fn agreed<'a>(&'a self, _: &'a Rest) -> BoxFuture<'a, Result<(Value, Cluster), Silent>> {
        Box::pin(async {
            let there = self.agreed.lock().unwrap().clone();
            let cluster = self.cluster.lock().unwrap().clone();
            Fake::answer(self, (there, cluster))
        })
    }

    fn take<'a>(&'a self, _: &'a Rest, step: &'a Step) -> BoxFuture<'a, Result<(), Silent>> {
        if let Step::Agree(wanted) = step {
            *self.agreed.lock().unwrap() = wanted.clone();
        }
        Box::pin(async { Fake::answer(self, ()) })
    }

    fn shown<'a>(&'a self, _: &'a Front) -> BoxFuture<'a, Result<Vec<u8>, Silent>> {
        Box::pin(async {
            let shown = self.shown.lock().unwrap().clone();
            shown.ok_or_else(|| Silent::Unreachable("connection refused".into()))
        })
    }

    fn reload<'a>(&'a self, _: &'a Rest) -> BoxFuture<'a, Result<(), Silent>> {
        self.reloaded.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(()) })
    }

    fn console<'a>(&'a self, who: &'a Sql, command: &'a str) -> BoxFuture<'a, Result<Vec<Vec<String>>, Silent>> {
        self.consoles.lock().unwrap().push(format!("{}: {command}", who.database));
        Box::pin(async { Fake::answer(self, vec![vec!["paused".to_owned(), "no".to_owned()]]) })
    }

    fn ping<'a>(&'a self, _: &'a Cache) -> BoxFuture<'a, Result<(), Silent>> {
        Box::pin(async { Fake::answer(self, ()) })
    }

    fn bring<'a>(&'a self, _: &'a Cache, wanted: &'a Live) -> BoxFuture<'a, Result<Vec<String>, Silent>> {
        Box::pin(async {
            let answer = Fake::answer(self, Vec::new());
            if answer.is_ok() {
                *self.brought.lock().unwrap() = Some(wanted.clone());
            }
            answer
        })
    }

    fn room(&self, _: std::net::IpAddr) -> BoxFuture<'_, Result<Room, Silent>> {
        let room = self.room.lock().unwrap().unwrap_or(Room { size: 20 << 30, free: 10 << 30 });
        Box::pin(async move { Ok(room) })
    }

    fn replicas<'a>(&'a self, _: &'a Cache) -> BoxFuture<'a, Result<Vec<String>, Silent>> {
        Box::pin(async { Fake::answer(self, Vec::new()) })
    }

    fn fail_over<'a>(&'a self, _: &'a Cache, _: &'a str) -> BoxFuture<'a, Result<(), Silent>> {
        Box::pin(async { Fake::answer(self, ()) })
    }

    fn keeps<'a>(
        &'a self,
        _: &'a hz_crds::backup::conf::Access,
        _: Option<std::net::IpAddr>,
    ) -> BoxFuture<'a, Result<(hz_crds::backup::Kept, String), Silent>> {
        Box::pin(async {
            Fake::answer(self, (hz_crds::backup::Kept::NotEnforced, "an object could be deleted".to_owned()))
        })
    }

    fn buckets<'a>(&'a self, _: &'a Store, _: &'a [String]) -> BoxFuture<'a, Result<(), Silent>> {
        Box::pin(async { self.answer(()) })
    }
}

/// Tries until there is an answer, for at most two minutes.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    tokio::time::timeout(Duration::from_secs(120), async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("never: {what}"))
}

/// The manifests of the example hospital, the ones in the repository.
pub fn example() -> Vec<Value> {
    use serde::Deserialize as _;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/eight-node-cluster/hospital.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    serde_yaml::Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap()).collect()
}

/// Namespace of the example.
pub const HOSPITAL: &str = "hospital-st-anna";

impl Lab {
    /// Applies the example and plays everything until all of it is Ready.
    pub async fn open_example(&self) {
        self.order_example().await;
        self.play_example().await;
    }

    /// Applies the example, as a user would: the namespace must stand before what goes into it.
    pub async fn order_example(&self) {
        let manifests = example();
        self.apply(&manifests[0]).await;
        eventually("the namespace stands", || self.get("Namespace", None, HOSPITAL)).await;
        for manifest in &manifests[1..] {
            self.apply(manifest).await;
        }
    }

    /// Plays kubelets and controllers until the example is Ready.
    pub async fn play_example(&self) {
        self.play_pods(HOSPITAL, "records", "primary").await;
        self.play_pods(HOSPITAL, "sessions", "master").await;
        self.play_rollout(HOSPITAL, "imaging").await;
        self.play_rollout(HOSPITAL, "appointments").await;
        self.example_is_ready().await;
    }

    /// All of the example is Ready.
    pub async fn example_is_ready(&self) {
        self.until_ready("Hospital", None, "st-anna", "True").await;
        self.until_ready("PostgresInstance", Some(HOSPITAL), "records", "True").await;
        self.until_ready("CacheInstance", Some(HOSPITAL), "sessions", "True").await;
        self.until_ready("MedicalService", Some(HOSPITAL), "imaging", "True").await;
        self.until_ready("MedicalService", Some(HOSPITAL), "appointments", "True").await;
    }
}

fn plural_of(kind: &str) -> String {
    let lower = kind.to_lowercase();
    match lower.as_str() {
        "networkpolicy" => "networkpolicies".to_owned(),
        _ => format!("{lower}s"),
    }
}

/// As much of the Gateway API as the operator touches.
fn route_definition() -> Value {
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "httproutes.gateway.networking.k8s.io", "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"}},
        "spec": {
            "group": "gateway.networking.k8s.io", "scope": "Namespaced",
            "names": {"kind": "HTTPRoute", "plural": "httproutes", "singular": "httproute"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                          "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": open, "status": open}}}}],
        },
    })
}
