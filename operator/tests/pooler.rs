//! Users, passwords and the pooler, with a real PostgreSQL and, where it is installed, a real PgBouncer.

#![allow(clippy::unwrap_used)] // a test that cannot go on should say where

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hz_crds::postgres::pooler::{CONSOLE, CONSOLE_USER, POOLER_USER};
use hz_crds::postgres::{Inputs, PostgresInstance, Provision, desired, grants, provision, slots, tls};
use hz_crds::{Certificates, Platform, Timestamp};
use hz_operator::engine::certificates::keep_or_issue;
use hz_operator::probes::{OverTcp, Probes, Silent, Sql};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tokio_postgres::NoTls;

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// PostgreSQL and PgBouncer refuse to run as root; Debian's package made this user.
const USER: &str = "postgres";
/// A PgBouncer of this version or later, if the one of the system is older.
const PGBOUNCER: &str = "HZ_PGBOUNCER";

fn free_port() -> u16 {
    TcpListener::bind((HOME, 0)).unwrap().local_addr().unwrap().port()
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).chain(["/usr/sbin".into()]).collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        places.extend(versions.filter_map(|version| Some(version.ok()?.path().join("bin"))));
    }
    places.into_iter().map(|place| place.join(name)).find(|path| path.exists())
}

/// PgBouncer knows prepared statements in transactions since 1.21.
fn pgbouncer() -> Option<PathBuf> {
    let program = std::env::var_os(PGBOUNCER).map(PathBuf::from).or_else(|| find("pgbouncer"))?;
    let said = Command::new(&program).arg("--version").output().ok()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let minor: u32 = said.split_whitespace().nth(1)?.split('.').nth(1)?.parse().ok()?;
    (minor >= 21).then_some(program)
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn as_user(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--"]).arg(program);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

struct Server {
    dir: tempfile::TempDir,
    port: u16,
    running: Option<Running>,
}

impl Server {
    /// Nothing without root, as there is no other user to run it as.
    fn start() -> Option<Self> {
        let root = std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
        let initdb = find("initdb");
        if !root {
            println!("no PostgreSQL without root; nothing was tested");
            return None;
        }
        let initdb = initdb.expect("PostgreSQL is not installed: run scripts/install-build-deps.sh");
        let dir = tempfile::tempdir().unwrap();
        std::fs::File::create(dir.path().join("password")).unwrap().write_all(b"secret1").unwrap();
        assert!(Command::new("chown").args(["-R", USER]).arg(dir.path()).status().unwrap().success());
        let made = as_user(&initdb)
            .args(["-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--no-sync", "--pwfile"])
            .arg(dir.path().join("password"))
            .arg("-D")
            .arg(dir.path().join("data"))
            .status()
            .unwrap();
        assert!(made.success());
        let mut server = Self { dir, port: free_port(), running: None };
        server.run();
        Some(server)
    }

    fn run(&mut self) {
        let mut command = as_user(&find("postgres").unwrap());
        command.arg("-D").arg(self.dir.path().join("data"));
        command.args(["-p", &self.port.to_string(), "-h", "127.0.0.1", "-c", "max_connections=60", "-k", "", "-F"]);
        self.running = Some(Running(command.spawn().unwrap()));
    }

    /// `INT` stops it in good order, `QUIT` at once.
    fn stop(&mut self, how: &str) {
        let mut running = self.running.take().unwrap();
        assert!(Command::new("kill").args([format!("-{how}"), running.0.id().to_string()]).status().unwrap().success());
        running.0.wait().unwrap();
    }

    fn sql(&self, database: &str, user: &str, password: &str) -> Sql {
        let (database, user, password) = (database.into(), user.into(), password.into());
        Sql { address: HOME, port: self.port, database, user, password, tls: None }
    }

    fn admin(&self) -> Sql {
        self.sql("postgres", "postgres", "secret1")
    }

    async fn ready(&self) {
        until("PostgreSQL answers", || async { OverTcp.select_one(&self.admin()).await.is_ok() }).await;
    }
}

async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    for _ in 0..150 {
        if holds().await {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("never: {what}");
}

fn instance(spec: &Value) -> PostgresInstance {
    let manifest = json!({"apiVersion": "hz.hospital/v1alpha1", "kind": "PostgresInstance",
        "metadata": {"name": "records", "namespace": "x", "uid": "1"}, "spec": spec});
    serde_json::from_value(manifest).unwrap()
}

/// The superuser's password is what the server was made with; the rest say where they are kept.
fn inputs(instance: &PostgresInstance, generation: &str) -> Inputs {
    let password = |slot: &hz_crds::Slot| match slot.key {
        "superuser-password" => "secret1".to_owned(),
        key => format!("{}-{key}-{generation}", slot.secret),
    };
    let passwords = slots(instance).into_iter().map(|slot| (slot.clone(), password(&slot))).collect();
    let slot = tls::certificate(instance, &Platform::eight_nodes());
    let pair = keep_or_issue(&slot, None, Timestamp::now()).unwrap();
    Inputs { passwords, certificates: Certificates::default().with(&slot, pair), ..Inputs::default() }
}

async fn write(server: &Server, wanted: Provision) {
    OverTcp.provision(&server.admin(), &wanted.statements).await.unwrap();
}

async fn all(server: &Server, instance: &PostgresInstance, inputs: &Inputs) {
    write(server, provision(instance, inputs).unwrap()).await;
    if let Some(wanted) = grants(instance, inputs).unwrap() {
        write(server, wanted).await;
    }
}

/// Patroni makes it before a server takes its first write.
async fn rewinder(server: &Server) {
    ask(&server.admin(), "CREATE ROLE rewinder LOGIN").await.unwrap();
}

async fn ask(who: &Sql, sql: &str) -> Result<Vec<Vec<String>>, Silent> {
    OverTcp.console(who, sql).await
}

fn with_users(users: Value) -> PostgresInstance {
    instance(
        &json!({"storage": {"size": "1Gi"}, "databases": [{"name": "findings"}, {"name": "billing"}], "users": users}),
    )
}

#[tokio::test]
async fn users_may_what_they_are_granted_and_lose_what_they_are_granted_no_more() {
    let Some(server) = Server::start() else { return };
    server.ready().await;
    rewinder(&server).await;
    let first = with_users(json!([
        {"name": "reader", "grants": [{"database": "findings"}]},
        {"name": "clerk", "grants": [{"database": "findings", "access": "ReadWrite", "schemas": ["public"]}]},
        {"name": "builder", "connectionLimit": 3, "grants": [{"database": "findings", "access": "Owner"}]}]));
    let secrets = inputs(&first, "0");
    write(&server, provision(&first, &secrets).unwrap()).await;
    let owner = server.sql("findings", "findings", "records-findings-password-0");
    ask(&owner, "CREATE SCHEMA inner_room; CREATE TABLE before (n int); INSERT INTO before VALUES (1)").await.unwrap();
    for _ in 0..2 {
        all(&server, &first, &secrets).await;
    }
    let user = |name: &str| server.sql("findings", name, &format!("records-user-{name}-password-0"));
    let (reader, clerk, builder) = (user("reader"), user("clerk"), user("builder"));

    // What is there, and what comes later, in schemas that come later too.
    ask(&owner, "CREATE TABLE later (n serial)").await.unwrap();
    ask(&owner, "CREATE SCHEMA annex; CREATE TABLE annex.t (n int); CREATE TABLE inner_room.t (n int)").await.unwrap();
    for table in ["before", "later", "annex.t", "inner_room.t"] {
        ask(&reader, &format!("SELECT * FROM {table}")).await.unwrap();
    }
    for refused in ["INSERT INTO before VALUES (2)", "DELETE FROM later", "CREATE TABLE mine (n int)", "CREATE ROLE x"]
    {
        let Err(Silent::Refused(why)) = ask(&reader, refused).await else { panic!("{refused} was let through") };
        assert!(why.contains("42501"), "{why}");
    }
    ask(&clerk, "INSERT INTO before VALUES (2); INSERT INTO later DEFAULT VALUES; DELETE FROM before").await.unwrap();
    assert!(ask(&clerk, "SELECT * FROM inner_room.t").await.is_err(), "only in the schema that is named");
    assert!(ask(&clerk, "DROP TABLE before").await.is_err());
    ask(&builder, "CREATE TABLE built (n int)").await.unwrap();
    ask(&reader, "SELECT * FROM built").await.unwrap();
    let owns = ask(&owner, "SELECT tableowner FROM pg_tables WHERE tablename = 'built'").await.unwrap();
    assert_eq!(owns, [["findings"]], "what it makes belongs to the owner");
    assert!(ask(&server.sql("billing", "reader", &reader.password), "SELECT 1").await.is_err(), "another database");

    // By hand is not by the spec.
    ask(&owner, "GRANT INSERT ON before TO reader").await.unwrap();
    let less = with_users(json!([
        {"name": "reader", "grants": [{"database": "findings", "access": "ReadOnly", "schemas": ["annex"]}]},
        {"name": "builder", "grants": [{"database": "billing", "access": "ReadOnly"}]}]));
    all(&server, &less, &inputs(&less, "0")).await;
    assert!(ask(&reader, "INSERT INTO before VALUES (3)").await.is_err());
    assert!(ask(&reader, "SELECT * FROM before").await.is_err());
    ask(&owner, "CREATE TABLE newest (n int); CREATE TABLE annex.newest (n int)").await.unwrap();
    assert!(ask(&reader, "SELECT * FROM newest").await.is_err(), "what comes later is not granted any more");
    ask(&reader, "SELECT * FROM annex.newest").await.unwrap();
    assert!(ask(&clerk, "SELECT 1").await.is_err(), "it was left out and gets in no more");
    assert!(ask(&builder, "SELECT 1").await.is_err(), "it may into another database only");
    ask(&server.sql("billing", "builder", &builder.password), "SELECT 1").await.unwrap();
    assert_eq!(ask(&owner, "SELECT count(*) FROM built").await.unwrap(), [["0"]], "nothing is dropped");
    let roles = ask(&server.admin(), "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'clerk'").await.unwrap();
    assert_eq!(roles, [["f"]]);

    // It comes back with what it had.
    all(&server, &first, &secrets).await;
    ask(&clerk, "SELECT * FROM before").await.unwrap();
}

#[tokio::test]
async fn a_schema_that_is_not_there_and_a_role_of_somebody_else_are_said_so() {
    let Some(server) = Server::start() else { return };
    server.ready().await;
    rewinder(&server).await;
    ask(&server.admin(), "CREATE ROLE handmade LOGIN").await.unwrap();
    let said = async |users: Value| {
        let instance = with_users(users);
        let secrets = inputs(&instance, "0");
        write(&server, provision(&instance, &secrets).unwrap()).await;
        let wanted = grants(&instance, &secrets).unwrap().unwrap();
        OverTcp.provision(&server.admin(), &wanted.statements).await.unwrap_err().to_string()
    };
    let why = said(json!([{"name": "reader", "grants": [{"database": "findings", "schemas": ["attic"]}]}])).await;
    assert!(why.contains("schema attic, which database findings does not have yet"), "{why}");
    let why = said(json!([{"name": "handmade"}])).await;
    assert!(why.contains("role handmade exists and was not made for spec.users"), "{why}");
}

#[tokio::test]
async fn a_password_that_stays_is_not_written_anew() {
    let Some(server) = Server::start() else { return };
    server.ready().await;
    rewinder(&server).await;
    let instance = with_users(json!([{"name": "reader", "grants": [{"database": "findings"}]}]));
    let kept = async || {
        let sql = "SELECT rolname, rolpassword FROM pg_authid WHERE rolname IN ('findings', 'reader') ORDER BY 1";
        ask(&server.admin(), sql).await.unwrap()
    };
    all(&server, &instance, &inputs(&instance, "0")).await;
    let before = kept().await;
    all(&server, &instance, &inputs(&instance, "0")).await;
    assert_eq!(kept().await, before, "keys that a pooler holds for its clients would be of no use any more");

    let owner = |generation: u8| server.sql("findings", "findings", &format!("records-findings-password-{generation}"));
    let (client, connection) = connect(&owner(0)).await;
    all(&server, &instance, &inputs(&instance, "1")).await;
    client.simple_query("SELECT 1").await.expect("a connection that is there stays");
    assert!(matches!(OverTcp.select_one(&owner(0)).await, Err(Silent::NotProvisioned(_))));
    assert_eq!(OverTcp.select_one(&owner(1)).await, Ok(vec![]));
    connection.abort();
}

async fn connect(who: &Sql) -> (tokio_postgres::Client, tokio::task::JoinHandle<()>) {
    try_connect(who).await.unwrap()
}

async fn try_connect(
    who: &Sql,
) -> Result<(tokio_postgres::Client, tokio::task::JoinHandle<()>), tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config.hostaddr(who.address).port(who.port).dbname(&who.database).user(&who.user).password(&who.password);
    let (client, connection) = config.connect(NoTls).await?;
    Ok((client, tokio::spawn(async move { drop(connection.await) })))
}

/// A pod of the pooler: the holder and PgBouncer with the settings of the plan, on ports of this test.
struct Pod {
    port: u16,
    console: Sql,
    _running: [Running; 2],
    _dir: tempfile::TempDir,
}

fn pod(server: &Server, instance: &PostgresInstance, secrets: &Inputs) -> Option<Pod> {
    let Some(program) = pgbouncer() else {
        println!("no PgBouncer of 1.21 or later (name one in {PGBOUNCER}); nothing was tested");
        return None;
    };
    // In clear text: what is tried here are settings, and clients that keep their connections.
    let plan = desired(&tls::introducing(instance), secrets, &Platform::eight_nodes()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (port, held) = (free_port(), free_port());
    let settings = plan.find("ConfigMap", "records-pooler").unwrap().data["data"]["pgbouncer.ini"].clone();
    let settings = settings.as_str().unwrap().replace("listen_addr = *", "listen_addr = 127.0.0.1");
    let settings = settings.replace("listen_port = 5432", &format!("listen_port = {port}"));
    let settings = settings.replace("port=6432", &format!("port={held}"));
    let settings = settings.replace("/etc/hz/pooler", &dir.path().display().to_string());
    std::fs::write(dir.path().join("pgbouncer.ini"), settings).unwrap();
    let secret = |key: &str| format!("records-pooler-{key}-0");
    let users = format!(
        "\"{POOLER_USER}\" \"{}\"\n\"{CONSOLE_USER}\" \"{}\"\n",
        secret("password"),
        secret("console-password")
    );
    std::fs::write(dir.path().join("users.txt"), users).unwrap();
    assert!(Command::new("chown").args(["-R", USER]).arg(dir.path()).status().unwrap().success());
    let log = || std::fs::File::create(std::env::temp_dir().join(format!("hz-pgbouncer-{port}.log"))).unwrap();
    let bouncer = as_user(&program)
        .arg(dir.path().join("pgbouncer.ini"))
        .stderr(if std::env::var_os("HZ_LOGS").is_some() { Stdio::from(log()) } else { Stdio::null() })
        .spawn()
        .unwrap();
    let holder = Command::new(env!("CARGO_BIN_EXE_hz-operator"))
        .args([
            "hold",
            "--writes",
            "--listen",
            &format!("127.0.0.1:{held}"),
            "--to",
            &format!("127.0.0.1:{}", server.port),
        ])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let console = Sql {
        address: HOME,
        port,
        database: CONSOLE.into(),
        user: CONSOLE_USER.into(),
        password: secret("console-password"),
        tls: None,
    };
    Some(Pod { port, console, _running: [Running(bouncer), Running(holder)], _dir: dir })
}

struct Crowd {
    stop: Arc<AtomicUsize>,
    rows: Arc<AtomicUsize>,
    clients: Vec<tokio::task::JoinHandle<Result<(), String>>>,
}

/// Clients that each write a row now and then, over the one connection that each has.
async fn crowd(who: &Sql, many: usize) -> Crowd {
    let (stop, rows) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut clients = Vec::new();
    for number in 0..many {
        let (client, connection) = connect(who).await;
        let (stop, rows) = (Arc::clone(&stop), Arc::clone(&rows));
        clients.push(tokio::spawn(async move {
            let mut ended = Ok(());
            while stop.load(Ordering::SeqCst) == 0 && ended.is_ok() {
                // With a prepared statement, as drivers do.
                let done = client.execute("INSERT INTO marks VALUES ($1)", &[&i32::try_from(number).unwrap()]).await;
                ended = done.map(drop).map_err(|error| error.to_string());
                rows.fetch_add(usize::from(ended.is_ok()), Ordering::SeqCst);
                sleep(Duration::from_millis(100 + (number as u64 * 37) % 200)).await;
            }
            drop(client);
            connection.abort();
            ended
        }));
    }
    Crowd { stop, rows, clients }
}

impl Crowd {
    /// How many kept their connection, how many rows were acknowledged, and why others lost theirs.
    async fn end(self) -> (usize, usize, Vec<String>) {
        self.stop.store(1, Ordering::SeqCst);
        let (mut kept, mut lost) = (0, Vec::new());
        for client in self.clients {
            match client.await.unwrap() {
                Ok(()) => kept += 1,
                Err(why) => lost.push(why),
            }
        }
        (kept, self.rows.load(Ordering::SeqCst), lost)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_clients_share_ten_connections_and_outlive_a_switchover_and_a_crash() {
    let Some(mut server) = Server::start() else { return };
    server.ready().await;
    rewinder(&server).await;
    let instance = instance(
        &json!({"storage": {"size": "1Gi"}, "databases": [{"name": "findings"}], "pooler": {"defaultPoolSize": 10}}),
    );
    let secrets = inputs(&instance, "0");
    all(&server, &instance, &secrets).await;
    let Some(pod) = pod(&server, &instance, &secrets) else { return };
    let direct = server.sql("findings", "findings", "records-findings-password-0");
    let through = Sql { port: pod.port, ..direct.clone() };
    ask(&direct, "CREATE TABLE marks (n int)").await.unwrap();
    until("the pooler passes clients on", || async { ask(&through, "SELECT 1").await.is_ok() }).await;
    // Who has no business there.
    for (database, user, password) in [
        ("postgres", "postgres", "secret1"),
        (CONSOLE, "findings", "records-findings-password-0"),
        ("findings", "findings", "wrong"),
    ] {
        let stranger =
            Sql { database: database.into(), user: user.into(), password: password.into(), ..through.clone() };
        assert!(ask(&stranger, "SHOW STATE").await.is_err(), "{user} got into {database}");
    }

    // A switchover that the operator leads: those at work end, those that come wait.
    let many = 200;
    let crowd_ = crowd(&through, many).await;
    sleep(Duration::from_secs(2)).await;
    let used = ask(&server.admin(), "SELECT count(*) FROM pg_stat_activity WHERE usename = 'findings'").await.unwrap();
    assert!(used[0][0].parse::<u32>().unwrap() <= 10, "{used:?}");
    ask(&pod.console, "PAUSE").await.unwrap();
    let paused = ask(&pod.console, "SHOW STATE").await.unwrap();
    assert!(paused.contains(&vec!["paused".to_owned(), "yes".to_owned()]), "{paused:?}");
    server.stop("INT");
    sleep(Duration::from_secs(2)).await;
    server.run();
    server.ready().await;
    ask(&pod.console, "RESUME").await.unwrap();
    let again = ask(&pod.console, "RESUME").await.unwrap_err().to_string();
    assert!(again.contains("not paused"), "{again}");
    sleep(Duration::from_secs(2)).await;
    let (kept, rows, lost) = crowd_.end().await;
    assert_eq!(kept, many, "{lost:?}");
    let there = async || ask(&direct, "SELECT count(*) FROM marks").await.unwrap()[0][0].parse::<usize>().unwrap();
    assert_eq!(there().await, rows);

    // A crash, of which nobody told the pooler: those whose transaction ran lose it, and nobody else anything.
    let crowd_ = crowd(&through, many).await;
    sleep(Duration::from_secs(2)).await;
    server.stop("QUIT");
    sleep(Duration::from_secs(3)).await;
    server.run();
    server.ready().await;
    sleep(Duration::from_secs(3)).await;
    let before = crowd_.rows.load(Ordering::SeqCst);
    sleep(Duration::from_secs(1)).await;
    assert!(crowd_.rows.load(Ordering::SeqCst) > before, "it goes on by itself");
    let (kept, acknowledged, lost) = crowd_.end().await;
    println!("a crash: {kept} of {many} kept their connection");
    assert!(kept >= many - 10, "only {kept} kept their connection: {lost:?}");
    assert!(there().await >= rows + acknowledged, "an acknowledged row is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_works_through_the_pooler_at_once_and_a_long_transaction_holds_no_pause_up() {
    let Some(server) = Server::start() else { return };
    server.ready().await;
    rewinder(&server).await;
    let instance = instance(&json!({"storage": {"size": "1Gi"}, "databases": [{"name": "findings"}], "pooler": {}}));
    let secrets = inputs(&instance, "0");
    all(&server, &instance, &secrets).await;
    let Some(pod) = pod(&server, &instance, &secrets) else { return };
    let who = |generation: u8| Sql {
        port: pod.port,
        ..server.sql("findings", "findings", &format!("records-findings-password-{generation}"))
    };
    until("the pooler passes clients on", || async { ask(&who(0), "SELECT 1").await.is_ok() }).await;
    let (old, connection) = connect(&who(0)).await;
    old.simple_query("SELECT 1").await.unwrap();
    // The pooler's own password stays.
    let mut next = inputs(&instance, "0");
    let slot = hz_crds::Slot::new("records-findings", "password");
    next.passwords = next.passwords.with(slot, "records-findings-password-1");
    all(&server, &instance, &next).await;
    old.simple_query("SELECT 1").await.expect("a connection that is there stays");
    assert!(ask(&who(0), "SELECT 1").await.is_err(), "the old password opens nothing");
    assert_eq!(ask(&who(1), "SELECT 1").await.unwrap(), [["1"]]);
    connection.abort();

    // PAUSE gives up after its time; whoever waits goes on after RESUME.
    let (long, connection) = connect(&who(1)).await;
    long.simple_query("BEGIN; SELECT 1").await.unwrap();
    let begun = Instant::now();
    assert!(ask(&pod.console, "PAUSE").await.is_err());
    assert!(begun.elapsed() < Duration::from_secs(7));
    let state = ask(&pod.console, "SHOW STATE").await.unwrap();
    println!("after a PAUSE that was given up: {state:?}");
    let _ = ask(&pod.console, "RESUME").await;
    assert_eq!(ask(&who(1), "SELECT 1").await.unwrap(), [["1"]]);
    long.simple_query("COMMIT").await.expect("the long transaction was left alone");
    connection.abort();
}
