//! The questions, put to a real PostgreSQL and a real Valkey or Redis, where they are installed.

#![allow(clippy::unwrap_used)] // a test that cannot go on should say where

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hz_crds::postgres::Statement;
use hz_operator::probes::{Cache, OverTcp, Probes, Silent, Sql};

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// PostgreSQL refuses to run as root; Debian's package made this user.
const USER: &str = "postgres";

fn free_port() -> u16 {
    TcpListener::bind((HOME, 0)).unwrap().local_addr().unwrap().port()
}

/// A program somewhere on this machine.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        places.extend(versions.filter_map(|version| Some(version.ok()?.path().join("bin"))));
    }
    places.into_iter().map(|place| place.join(name)).find(|path| path.exists())
}

/// A server that is stopped, by its id, when the test ends.
struct Server {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn as_user(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--"]).arg(program);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn postgres(password: &str) -> Option<Server> {
    let (initdb, postgres) = (find("initdb")?, find("postgres")?);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::File::create(dir.path().join("password")).unwrap().write_all(password.as_bytes()).unwrap();
    let owned = Command::new("chown").args(["-R", USER]).arg(dir.path()).status().is_ok_and(|status| status.success());
    if !owned {
        return None; // no such user, or not root: nothing to test with
    }
    let made = as_user(&initdb)
        .args(["-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--no-sync", "--pwfile"])
        .arg(dir.path().join("password"))
        .arg("-D")
        .arg(&data)
        .status()
        .unwrap();
    assert!(made.success());
    let port = free_port();
    let child = as_user(&postgres)
        .arg("-D")
        .arg(&data)
        .args(["-p", &port.to_string(), "-h", "127.0.0.1", "-c", "fsync=off", "-k", "", "-F"])
        .spawn()
        .unwrap();
    Some(Server { child, port, _dir: dir })
}

fn statement(database: &str, unless: Option<&str>, sql: &str, what: &str) -> Statement {
    Statement { database: database.into(), unless: unless.map(str::to_owned), sql: sql.into(), what: what.into() }
}

/// Without root there is no other user to run PostgreSQL as. With it, what the build installs must be there.
fn unless_root(what: &str) {
    let root = std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    assert!(!root, "{what} is not installed: run scripts/install-build-deps.sh");
    println!("no {what} without root; nothing was tested");
}

#[tokio::test]
async fn a_real_postgresql_answers_is_provisioned_twice_and_tells_strangers_apart() {
    let Some(server) = postgres("secret1") else {
        return unless_root("PostgreSQL");
    };
    let target = |database: &str, user: &str, password: &str| Sql {
        address: HOME,
        port: server.port,
        database: database.into(),
        user: user.into(),
        password: password.into(),
        tls: None,
    };
    let admin = target("postgres", "postgres", "secret1");
    let mut answer = OverTcp.select_one(&admin).await;
    for _ in 0..100 {
        if answer.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        answer = OverTcp.select_one(&admin).await;
    }
    assert_eq!(answer, Ok(vec![]), "nobody confirms writes of a single server");

    let owner = target("findings", "findings", "secret2");
    assert!(matches!(OverTcp.select_one(&owner).await, Err(Silent::NotProvisioned(_))));
    // The statements of the real plan, for a database and an extension.
    let spec = serde_json::json!({"apiVersion": "hz.hospital/v1alpha1", "kind": "PostgresInstance", "metadata": {"name": "records", "namespace": "x"},
        "spec": {"storage": {"size": "1Gi"}, "databases": [{"name": "findings", "extensions": ["pg_trgm"]}]}});
    let instance: hz_crds::postgres::PostgresInstance = serde_json::from_value(spec).unwrap();
    let passwords = |owner: &str| {
        hz_crds::postgres::slots(&instance)
            .into_iter()
            .map(|slot| {
                let password = if slot.secret == "records-findings" { owner } else { "secret1" };
                (slot, password.to_owned())
            })
            .collect()
    };
    let inputs = hz_crds::postgres::Inputs { passwords: passwords("secret2"), ..Default::default() };
    let wanted = hz_crds::postgres::provision(&instance, &inputs).unwrap();
    // Patroni makes it before a server takes its first write.
    let patronis = statement("postgres", None, "CREATE ROLE rewinder LOGIN PASSWORD 'secret4'", "make Patroni's role");
    OverTcp.provision(&admin, &[patronis]).await.unwrap();
    for _ in 0..2 {
        OverTcp.provision(&admin, &wanted.statements).await.unwrap();
    }
    assert_eq!(OverTcp.select_one(&owner).await, Ok(vec![]));
    let rewinder = target("postgres", "rewinder", "secret4");
    assert_eq!(OverTcp.select_one(&rewinder).await, Ok(vec![]), "or Patroni could never rewind a copy");
    assert!(
        matches!(
            OverTcp.select_one(&target("postgres", "findings", "secret2")).await,
            Err(Silent::Refused(_) | Silent::NotProvisioned(_))
        ),
        "a tenant has no business in there"
    );

    // A new password closes the door to the old one.
    let inputs = hz_crds::postgres::Inputs { passwords: passwords("secret3"), ..Default::default() };
    let turned = hz_crds::postgres::provision(&instance, &inputs).unwrap();
    assert_ne!(turned.fingerprint, wanted.fingerprint);
    OverTcp.provision(&admin, &turned.statements).await.unwrap();
    assert!(matches!(OverTcp.select_one(&owner).await, Err(Silent::NotProvisioned(_))));

    let wrong = statement("postgres", None, "ALTER ROLE nobody PASSWORD 'hush'", "set the password of role nobody");
    let Err(silent) = OverTcp.provision(&admin, &[wrong]).await else { panic!("there is no such role") };
    let text = silent.to_string();
    assert!(text.contains("failed to set the password of role nobody") && !text.contains("hush"), "{text}");
    let skipped = statement("postgres", Some("SELECT 1"), "this is no SQL", "nothing");
    OverTcp.provision(&admin, &[skipped]).await.unwrap();
}

#[tokio::test]
async fn nobody_there_is_said_so_and_soon() {
    let started = std::time::Instant::now();
    let x = || "x".to_owned();
    let nobody = Sql { address: HOME, port: free_port(), database: x(), user: x(), password: x(), tls: None };
    assert!(matches!(OverTcp.select_one(&nobody).await, Err(Silent::Unreachable(_))));
    let no_cache = Cache { address: HOME, port: free_port(), password: "x".into() };
    assert!(matches!(OverTcp.ping(&no_cache).await, Err(Silent::Unreachable(_))));
    // One that takes the call and never speaks is as good as nobody.
    let mute = TcpListener::bind((HOME, 0)).unwrap();
    let port = mute.local_addr().unwrap().port();
    let mute = Sql { port, ..nobody };
    assert!(matches!(OverTcp.select_one(&mute).await, Err(Silent::Unreachable(_))));
    let mute = Cache { address: HOME, port, password: "x".into() };
    assert!(matches!(OverTcp.ping(&mute).await, Err(Silent::Unreachable(_))));
    assert!(started.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn a_real_cache_answers_its_master_and_nobody_else() {
    let Some(program) = find("valkey-server").or_else(|| find("redis-server")) else {
        return unless_root("Valkey or Redis");
    };
    let start = |extra: &[&str]| {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let mut command = Command::new(&program);
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--requirepass", "hush", "--save", ""]);
        command.arg("--dir").arg(dir.path()).args(extra).stdout(Stdio::null());
        Server { child: command.spawn().unwrap(), port, _dir: dir }
    };
    let master = start(&[]);
    let target =
        |server: &Server, password: &str| Cache { address: HOME, port: server.port, password: password.into() };
    let mut answer = OverTcp.ping(&target(&master, "hush")).await;
    for _ in 0..50 {
        if answer.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        answer = OverTcp.ping(&target(&master, "hush")).await;
    }
    assert_eq!(answer, Ok(()));
    assert!(matches!(OverTcp.ping(&target(&master, "wrong")).await, Err(Silent::NotProvisioned(_))));
    let replica = start(&["--replicaof", &format!("127.0.0.1 {}", master.port), "--masterauth", "hush"]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let Err(Silent::Refused(why)) = OverTcp.ping(&target(&replica, "hush")).await else {
        panic!("a replica takes no writes")
    };
    assert!(why.contains("not the master"), "{why}");
}
