//! An API server that knows a few databases and does what is asked of them within moments. Plain HTTP, one thread a
//! connection, watches that break off often: more than that a client must not need.

#![allow(dead_code)]

mod backups;
mod objects;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{err, hzctl, out};

/// How long an operation stays at a step.
const STEP: Duration = Duration::from_millis(300);
/// Kinds whose objects are made, changed and watched, by the names of their lists.
const LIVE: [&str; 4] = ["dataoperations", "backups", "restores", "restoredrills"];
/// How long a watch lasts: shorter than an operation, so that clients have to begin anew.
const WATCH: Duration = Duration::from_millis(500);

pub struct Server {
    address: String,
    world: Arc<World>,
}

/// hzctl, and a server that it talks to.
pub fn talking_to(server: &Server, directory: &Path) -> Command {
    let mut command = hzctl(directory);
    command.env("KUBECONFIG", server.kubeconfig(directory));
    command
}

/// Run a command to its end.
pub fn ask(server: &Server, directory: &Path, arguments: &[&str]) -> Output {
    talking_to(server, directory).args(arguments).output().unwrap()
}

/// What it printed, as JSON.
pub fn json_of(output: &Output) -> Value {
    serde_json::from_str(&out(output)).unwrap_or_else(|error| panic!("{error}: {}{}", out(output), err(output)))
}

#[derive(Default)]
struct World {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    version: u64,
    /// By the name of the list, and its own.
    objects: BTreeMap<(String, String), Value>,
    made: Vec<Value>,
    watches: usize,
    held: bool,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let world = Arc::new(World::default());
        backups::furnish(&world);
        let shared = world.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let world = shared.clone();
                // A client that goes away in the middle ends its thread only.
                thread::spawn(move || drop(world.serve(stream)));
            }
        });
        Server { address, world }
    }

    /// A kubeconfig that leads here.
    pub fn kubeconfig(&self, directory: &Path) -> PathBuf {
        let path = directory.join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\nclusters: [{{name: a, cluster: {{server: 'http://{}'}}}}]\nusers: [{{name: a, user: {{}}}}]\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\ncurrent-context: a\n",
            self.address
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Objects as they were asked for.
    pub fn made(&self) -> Vec<Value> {
        self.world.lock().made.clone()
    }

    /// Watches so far.
    pub fn watches(&self) -> usize {
        self.world.lock().watches
    }

    /// An object as it stands.
    pub fn object(&self, kind: &str, name: &str) -> Value {
        self.world.lock().objects[&(kind.to_owned(), name.to_owned())].clone()
    }

    /// From now on operations stay at their first step until they are cancelled.
    pub fn hold(&self) {
        self.world.lock().held = true;
    }

    /// Wait until somebody watches.
    pub fn until_watched(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.watches() == 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl State {
    fn of(&self, kind: &str) -> Vec<Value> {
        self.objects.iter().filter(|((own, _), _)| own == kind).map(|(_, object)| object.clone()).collect()
    }

    fn at(&self, kind: &str, name: &str) -> &Value {
        &self.objects[&(kind.to_owned(), name.to_owned())]
    }
}

struct Request {
    method: String,
    path: Vec<String>,
    query: BTreeMap<String, String>,
    body: Value,
}

impl World {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn serve(self: &Arc<Self>, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut out = stream;
        while let Some(request) = read(&mut reader)? {
            self.answer(&request, &mut out)?;
        }
        Ok(())
    }

    fn answer(self: &Arc<Self>, request: &Request, out: &mut TcpStream) -> std::io::Result<()> {
        let last = request.path.last().map(String::as_str).unwrap_or_default();
        let namespace = request.path.iter().position(|part| part == "namespaces").map(|at| &request.path[at + 1]);
        let here = |objects: Vec<Value>| -> Vec<Value> {
            let fits =
                |object: &Value| namespace.is_none_or(|namespace| object["metadata"]["namespace"] == **namespace);
            objects.into_iter().filter(fits).collect()
        };
        match (request.method.as_str(), last) {
            ("GET", "postgresinstances") => self.list(out, here(objects::databases())),
            ("GET", "cacheinstances") => self.list(out, here(objects::caches())),
            ("GET", "backupplans") => self.list(out, here(backups::plans())),
            ("GET", kind) if LIVE.contains(&kind) && request.query.contains_key("watch") => {
                self.watch(kind, request, out)
            }
            ("GET", kind) if LIVE.contains(&kind) => {
                let all = self.lock().of(kind);
                let name = request.query.get("fieldSelector").and_then(|fields| fields.strip_prefix("metadata.name="));
                let named = |object: &Value| name.is_none_or(|name| object["metadata"]["name"] == *name);
                self.list(out, here(all).into_iter().filter(named).collect())
            }
            ("GET", "pods") => self.list(out, here(objects::pods(request.query.get("labelSelector")))),
            ("GET", "log") => {
                let container = &request.query["container"];
                let log = format!("{} of {container}\nends", request.path[request.path.len() - 2]);
                send(out, 200, "text/plain", log.as_bytes())
            }
            ("POST", kind) if LIVE.contains(&kind) => self.create(kind, request, out),
            ("PATCH", name) => self.patch(&request.path[request.path.len() - 2], name, request, out),
            _ => send_json(out, 404, &refusal(404, "404 page not found", &[])),
        }
    }

    fn list(&self, out: &mut TcpStream, items: Vec<Value>) -> std::io::Result<()> {
        let version = self.lock().version.to_string();
        let list =
            json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": version }, "items": items });
        send_json(out, 200, &list)
    }

    fn create(self: &Arc<Self>, kind: &str, request: &Request, out: &mut TcpStream) -> std::io::Result<()> {
        let mut object = request.body.clone();
        let even = object["spec"]["instances"].as_i64().is_some_and(|instances| instances % 2 == 0);
        if even && object["spec"]["target"]["kind"] == "CacheInstance" {
            let rule = "Invalid value: an even number of cache servers cannot outvote a lost half: take 1, 3, 5 or 7";
            let message = format!("DataOperation.hz.hospital \"x\" is invalid: spec: {rule}");
            return send_json(out, 422, &refusal(422, &message, &[rule]));
        }
        object["metadata"]["creationTimestamp"] = json!("2026-03-01T08:00:00Z");
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        self.lock().made.push(object.clone());
        let object = self.put(kind, &name, |old| *old = object);
        self.begin(kind, name);
        send_json(out, 201, &object)
    }

    fn patch(self: &Arc<Self>, kind: &str, name: &str, request: &Request, out: &mut TcpStream) -> std::io::Result<()> {
        let object = self.put(kind, name, |object| match kind {
            "restoredrills" => object["metadata"]["annotations"] = request.body["metadata"]["annotations"].clone(),
            _ => object["spec"]["cancel"] = request.body["spec"]["cancel"].clone(),
        });
        if kind == "restoredrills" {
            self.begin(kind, name.to_owned());
        }
        send_json(out, 200, &object)
    }

    fn begin(self: &Arc<Self>, kind: &str, name: String) {
        let (world, kind) = (self.clone(), kind.to_owned());
        thread::spawn(move || match kind.as_str() {
            "dataoperations" => world.work(&name),
            _ => backups::work(&world, &kind, &name),
        });
    }

    fn put(&self, kind: &str, name: &str, change: impl FnOnce(&mut Value)) -> Value {
        let mut state = self.lock();
        state.version += 1;
        let version = state.version.to_string();
        let object = state.objects.entry((kind.to_owned(), name.to_owned())).or_default();
        change(object);
        object["metadata"]["resourceVersion"] = json!(version);
        let object = object.clone();
        self.changed.notify_all();
        object
    }

    /// The operator's part.
    fn work(&self, name: &str) {
        let status = |status: Value| drop(self.put("dataoperations", name, |object| object["status"] = status));
        for copy in 0..3 {
            let message = format!("copy {copy} starts anew");
            status(json!({ "phase": "Running", "progress": format!("{copy}/3"), "message": message }));
            thread::sleep(STEP);
            let mut state = self.lock();
            while state.held && state.at("dataoperations", name)["spec"]["cancel"] != true {
                state = self.changed.wait(state).unwrap();
            }
            if state.at("dataoperations", name)["spec"]["cancel"] == true {
                drop(state);
                return status(json!({ "phase": "Cancelled", "message": "stopped by a person" }));
            }
        }
        let action = self.lock().at("dataoperations", name)["spec"]["action"].clone();
        status(match action.as_str() {
            Some("Expand") => json!({ "phase": "Failed", "message": "not done after 1800 seconds", "conditions": [{
                "type": "Ready", "status": "False", "reason": "DeadlineExceeded", "message": "",
                "lastTransitionTime": "2026-03-01T08:30:00Z",
            }] }),
            Some("Rebuild") => json!({ "phase": "Failed", "message": "copy 9 does not start" }),
            _ => json!({
                "phase": "Succeeded", "progress": "3/3", "message": "every copy started anew",
                "startTime": "2026-03-01T08:00:01Z", "completionTime": "2026-03-01T08:00:43Z",
            }),
        });
    }

    fn watch(&self, kind: &str, request: &Request, out: &mut TcpStream) -> std::io::Result<()> {
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        let name = request.query["fieldSelector"].trim_start_matches("metadata.name=").to_owned();
        let mut seen: u64 = request.query["resourceVersion"].parse().unwrap_or(0);
        let end = Instant::now() + WATCH;
        self.lock().watches += 1;
        while Instant::now() < end {
            let state = self.lock();
            let object = state.objects.get(&(kind.to_owned(), name.clone())).cloned();
            let version =
                object.as_ref().and_then(|object| object["metadata"]["resourceVersion"].as_str()?.parse().ok());
            if let (Some(object), Some(version)) = (object, version)
                && version > seen
            {
                drop(state);
                seen = version;
                let line = format!("{}\n", json!({ "type": "MODIFIED", "object": object }));
                write!(out, "{:x}\r\n{line}\r\n", line.len())?;
                continue;
            }
            drop(self.changed.wait_timeout(state, Duration::from_millis(50)).unwrap());
        }
        out.write_all(b"0\r\n\r\n")
    }
}

fn read(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let method = words.next().unwrap_or_default().to_owned();
    let (path, query) = words.next().unwrap_or_default().split_once('?').map_or((line.as_str(), ""), |parts| parts);
    let path =
        if query.is_empty() { line.split_whitespace().nth(1).unwrap_or_default().trim_end_matches('?') } else { path };
    let path = path.trim_matches('/').split('/').map(str::to_owned).collect();
    let decoded = |text: &str| text.replace("%3D", "=").replace("%2C", ",").replace("%2F", "/");
    let query = query.split('&').filter_map(|pair| pair.split_once('='));
    let query = query.map(|(key, value)| (key.to_owned(), decoded(value))).collect();
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        match header.trim().split_once(':') {
            None => break,
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().unwrap_or(0)
            }
            Some(_) => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Ok(Some(Request { method, path, query, body }))
}

fn send_json(out: &mut TcpStream, code: u16, value: &Value) -> std::io::Result<()> {
    send(out, code, "application/json", value.to_string().as_bytes())
}

fn send(out: &mut TcpStream, code: u16, kind: &str, body: &[u8]) -> std::io::Result<()> {
    write!(out, "HTTP/1.1 {code} It\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len())?;
    out.write_all(body)
}

fn refusal(code: u16, message: &str, causes: &[&str]) -> Value {
    let causes: Vec<Value> = causes.iter().map(|message| json!({ "message": message, "field": "spec" })).collect();
    json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code,
        "details": { "causes": causes },
    })
}
