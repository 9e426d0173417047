//! The questions, put to a real PostgreSQL and a real Valkey or Redis, where they are installed.

#![allow(clippy::unwrap_used)] // a test that cannot go on should say where

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hz_crds::postgres::Statement;
use hz_crds::postgres::tls::{certificate, parameters};
use hz_crds::{KeyPair, Platform, Timestamp};
use hz_operator::engine::certificates::{der, keep_or_issue};
use hz_operator::probes::{Cache, Front, OverTcp, Probes, Silent, Sql, Trust};

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// PostgreSQL refuses to run as root; Debian's package made this user.
const USER: &str = "postgres";

fn free_port() -> u16 {
    TcpListener::bind((HOME, 0)).unwrap().local_addr().unwrap().port()
}

/// A cache in the clear, as nobody in particular.
fn cache_at(port: u16, password: &str) -> Cache {
    Cache { address: HOME, port, user: None, password: password.into(), trust: None }
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
    start_postgres(password, |_| Vec::new())
}

/// With settings that `prepare` makes for its folder.
fn start_postgres(password: &str, prepare: impl FnOnce(&Path) -> Vec<String>) -> Option<Server> {
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
    let settings = prepare(dir.path());
    let port = free_port();
    let child = as_user(&postgres)
        .args(settings.iter().flat_map(|setting| ["-c", setting]))
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

/// The files of a pod, as the kubelet lays them: root's, and readable for the group of who runs PostgreSQL.
fn lay(dir: &Path, pair: &KeyPair) {
    std::fs::create_dir_all(dir.join("tls")).unwrap();
    for (name, pem) in [("ca.crt", &pair.ca_crt), ("tls.crt", &pair.tls_crt), ("tls.key", &pair.tls_key)] {
        let path = dir.join("tls").join(name);
        std::fs::write(&path, pem).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o440);
        std::fs::set_permissions(&path, mode).unwrap();
        assert!(Command::new("chown").arg(format!("root:{USER}")).arg(&path).status().unwrap().success());
    }
}

#[tokio::test]
async fn a_real_postgresql_is_believed_by_its_authority_and_shows_a_new_certificate_without_a_restart() {
    let instance = serde_json::json!({"apiVersion": "hz.hospital/v1alpha1", "kind": "PostgresInstance",
        "metadata": {"name": "records", "namespace": "x"}, "spec": {"storage": {"size": "1Gi"}}});
    let instance: hz_crds::postgres::PostgresInstance = serde_json::from_value(instance).unwrap();
    let slot = certificate(&instance, &Platform::default());
    let issue = || keep_or_issue(&slot, None, Timestamp::now()).unwrap();
    let (kept, stranger) = (issue(), issue());
    let mut folder = PathBuf::new();
    let server = start_postgres("secret1", |dir| {
        folder = dir.to_owned();
        lay(dir, &kept);
        // The settings of the plan, in other folders.
        let settings = parameters();
        let here = |(name, value): (&String, &serde_json::Value)| {
            let value = value.as_str().unwrap().replace("/etc/hz/tls", &dir.join("tls").display().to_string());
            format!("{name}={value}")
        };
        let hba = "hostssl all all all scram-sha-256\nhostnossl all all all reject\n";
        std::fs::write(dir.join("data/pg_hba.conf"), hba).unwrap();
        settings.as_object().unwrap().iter().map(here).collect()
    });
    let Some(server) = server else {
        return unless_root("PostgreSQL");
    };
    let trust = |authority: &str| Trust { host: "records.x.svc".into(), authority: authority.into(), required: true };
    let target = |tls: Option<Trust>| {
        let [database, user] = ["postgres"; 2].map(str::to_owned);
        Sql { address: HOME, port: server.port, database, user, password: "secret1".into(), tls }
    };
    let admin = target(Some(trust(&kept.ca_crt)));
    let mut answer = OverTcp.select_one(&admin).await;
    for _ in 0..100 {
        if answer.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        answer = OverTcp.select_one(&admin).await;
    }
    assert_eq!(answer, Ok(vec![]));

    let why = |answer: Result<Vec<String>, Silent>| answer.unwrap_err().to_string();
    let deceived = why(OverTcp.select_one(&target(Some(trust(&stranger.ca_crt)))).await);
    assert!(deceived.contains("invalid peer certificate"), "{deceived}");
    let elsewhere = Trust { host: "others.x.svc".into(), ..trust(&kept.ca_crt) };
    let elsewhere = why(OverTcp.select_one(&target(Some(elsewhere))).await);
    assert!(elsewhere.contains("not valid for name"), "{elsewhere}");
    let open = why(OverTcp.select_one(&target(None)).await);
    assert!(open.contains("no encryption"), "{open}");

    let front = |authority: &str| Front { address: HOME, port: server.port, trust: trust(authority) };
    assert_eq!(OverTcp.shown(&front(&kept.ca_crt)).await.ok(), der(&kept.tls_crt));
    assert!(matches!(OverTcp.shown(&front(&stranger.ca_crt)).await, Err(Silent::Refused(_))));

    // A new leaf of the same authority: PostgreSQL reads it when it is told to, and connections stay.
    let renewed = KeyPair { tls_crt: String::new(), ..kept.clone() };
    let renewed = hz_operator::engine::secrets::Contents {
        data: [("ca.crt", renewed.ca_crt), ("ca.key", renewed.ca_key)].map(|(key, pem)| (key.to_owned(), pem)).into(),
        ..Default::default()
    };
    let renewed = keep_or_issue(&slot, Some(&renewed), Timestamp::now()).unwrap();
    assert_eq!(renewed.ca_crt, kept.ca_crt);
    lay(&folder, &renewed);
    assert_eq!(OverTcp.shown(&front(&kept.ca_crt)).await.ok(), der(&kept.tls_crt), "not yet");
    let reload = statement("postgres", None, "SELECT pg_reload_conf()", "reload");
    OverTcp.provision(&admin, &[reload]).await.unwrap();
    for _ in 0..50 {
        if OverTcp.shown(&front(&kept.ca_crt)).await.ok() == der(&renewed.tls_crt) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it shows the old one still");
}

#[tokio::test]
async fn a_server_without_tls_is_spoken_to_only_where_that_is_allowed() {
    let Some(server) = postgres("secret1") else {
        return unless_root("PostgreSQL");
    };
    let instance = serde_json::json!({"apiVersion": "hz.hospital/v1alpha1", "kind": "PostgresInstance",
        "metadata": {"name": "records", "namespace": "x"}, "spec": {"storage": {"size": "1Gi"}}});
    let instance: hz_crds::postgres::PostgresInstance = serde_json::from_value(instance).unwrap();
    let pair = keep_or_issue(&certificate(&instance, &Platform::default()), None, Timestamp::now()).unwrap();
    let trust = |required| Trust { host: "records.x.svc".into(), authority: pair.ca_crt.clone(), required };
    let target = |required| {
        let [database, user] = ["postgres"; 2].map(str::to_owned);
        let tls = Some(trust(required));
        Sql { address: HOME, port: server.port, database, user, password: "secret1".into(), tls }
    };
    let mut answer = OverTcp.select_one(&target(false)).await;
    for _ in 0..100 {
        if answer.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        answer = OverTcp.select_one(&target(false)).await;
    }
    assert_eq!(answer, Ok(vec![]), "while copies from before there was TLS are being replaced");
    assert!(matches!(OverTcp.select_one(&target(true)).await, Err(Silent::Unreachable(_))));
    let front = Front { address: HOME, port: server.port, trust: trust(true) };
    assert_eq!(OverTcp.shown(&front).await, Err(Silent::Refused("it offers no TLS".into())));
}

#[tokio::test]
async fn nobody_there_is_said_so_and_soon() {
    let started = std::time::Instant::now();
    let x = || "x".to_owned();
    let nobody = Sql { address: HOME, port: free_port(), database: x(), user: x(), password: x(), tls: None };
    assert!(matches!(OverTcp.select_one(&nobody).await, Err(Silent::Unreachable(_))));
    let no_cache = cache_at(free_port(), "x");
    assert!(matches!(OverTcp.ping(&no_cache).await, Err(Silent::Unreachable(_))));
    // One that takes the call and never speaks is as good as nobody.
    let mute = TcpListener::bind((HOME, 0)).unwrap();
    let port = mute.local_addr().unwrap().port();
    let mute = Sql { port, ..nobody };
    assert!(matches!(OverTcp.select_one(&mute).await, Err(Silent::Unreachable(_))));
    let mute = cache_at(port, "x");
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
    let target = |server: &Server, password: &str| cache_at(server.port, password);
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

/// A cache with users, as the operator knows it.
fn ordered() -> hz_crds::cache::CacheInstance {
    serde_json::from_value(serde_json::json!({
        "apiVersion": "hz.hospital/v1alpha1", "kind": "CacheInstance", "metadata": {"name": "sessions", "namespace": "x"},
        "spec": {
            "memory": "32Mi",
            "users": [
                {"name": "booking", "keys": ["session:*"]},
                {"name": "report", "access": "ReadOnly"},
                {"name": "counter", "commands": ["incr", "@hash"]},
            ],
            "parameters": {"notify-keyspace-events": "KEA", "timeout": "300"},
        },
    }))
    .unwrap()
}

/// A server that knows no clear text, started as the operator's scripts start it.
fn encrypted(inputs: &hz_crds::cache::Inputs) -> Option<(Server, hz_crds::KeyPair)> {
    use hz_crds::certificates::{CA_CRT, TLS_CRT, TLS_KEY};
    let program = find("valkey-server").or_else(|| find("redis-server"))?;
    let slot = hz_crds::cache::certificate(&ordered(), &hz_crds::Platform::eight_nodes());
    let pair = hz_operator::engine::certificates::keep_or_issue(&slot, None, hz_crds::Timestamp::now()).unwrap();
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let at = |name: &str| dir.path().join(name);
    for (name, text) in [(CA_CRT, &pair.ca_crt), (TLS_CRT, &pair.tls_crt), (TLS_KEY, &pair.tls_key)] {
        std::fs::write(at(name), text).unwrap();
    }
    let wanted = hz_crds::cache::live(&ordered(), inputs).unwrap();
    std::fs::write(at("users.acl"), wanted.acl.file()).unwrap();
    let mut command = Command::new(&program);
    command.args(["--port", "0", "--tls-port", &port.to_string(), "--tls-auth-clients", "no", "--save", ""]);
    command.arg("--tls-cert-file").arg(at(TLS_CRT)).arg("--tls-key-file").arg(at(TLS_KEY));
    command.arg("--tls-ca-cert-file").arg(at(CA_CRT)).arg("--aclfile").arg(at("users.acl"));
    command.args(["--bind", "127.0.0.1"]).arg("--dir").arg(dir.path()).stdout(Stdio::null());
    Some((Server { child: command.spawn().unwrap(), port, _dir: dir }, pair))
}

/// A command in the words of `redis-cli`, as a user, over TLS; what the server says.
async fn say(target: &Cache, words: &[&str]) -> Result<String, String> {
    let mut connection = hz_operator::probes::connect(target).await.map_err(|silent| silent.to_string())?;
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    let said: redis::Value = command.query_async(&mut connection).await.map_err(|error| error.to_string())?;
    Ok(format!("{said:?}"))
}

#[tokio::test]
async fn a_real_cache_speaks_tls_alone_and_lets_users_do_what_they_may() {
    let cache = ordered();
    let inputs = hz_crds::cache::Inputs::made_up(&cache, &hz_crds::Platform::eight_nodes());
    let Some((server, pair)) = encrypted(&inputs) else {
        return unless_root("Valkey or Redis");
    };
    let as_user = |user: &str, password: &str, host: &str| Cache {
        user: Some(user.into()),
        trust: Some(Trust { host: host.into(), authority: pair.ca_crt.clone(), required: true }),
        ..cache_at(server.port, password)
    };
    let system = as_user("hz-system", "made-up-system", "sessions.x.svc");
    for _ in 0..50 {
        if OverTcp.ping(&system).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(OverTcp.ping(&system).await, Ok(()));

    // Clear text, another name and another authority are turned away.
    let clear = Cache { trust: None, ..system.clone() };
    assert!(matches!(OverTcp.ping(&clear).await, Err(Silent::Unreachable(_))), "{:?}", OverTcp.ping(&clear).await);
    let stranger = as_user("hz-system", "made-up-system", "other.x.svc");
    let Err(Silent::Unreachable(why)) = OverTcp.ping(&stranger).await else { panic!("that is no name of its own") };
    assert!(why.contains("certificate"), "{why}");
    let slot = hz_crds::cache::certificate(&cache, &hz_crds::Platform::eight_nodes());
    let others = hz_operator::engine::certificates::keep_or_issue(&slot, None, hz_crds::Timestamp::now()).unwrap();
    let fooled = Cache {
        trust: Some(Trust { host: "sessions.x.svc".into(), authority: others.ca_crt, required: true }),
        ..system.clone()
    };
    assert!(matches!(OverTcp.ping(&fooled).await, Err(Silent::Unreachable(_))));

    // It knew the users when it started, so there are only settings to bring.
    let wanted = hz_crds::cache::live(&cache, &inputs).unwrap();
    let brought = OverTcp.bring(&system, &wanted).await.unwrap();
    assert!(brought.contains(&"timeout".to_owned()) && !brought.contains(&"users".to_owned()), "{brought:?}");
    assert_eq!(OverTcp.bring(&system, &wanted).await.unwrap(), Vec::<String>::new(), "nothing is changed twice");

    let user = |name: &str| as_user(name, &format!("made-up-{name}"), "sessions");
    let may = async |name: &str, words: &[&str]| say(&user(name), words).await;
    let refused =
        |said: &Result<String, String>| said.as_ref().is_err_and(|why| why.to_lowercase().contains("permission"));
    assert!(may("default", &["SET", "x", "1"]).await.is_ok());
    assert!(may("default", &["INFO", "server"]).await.is_ok());
    for words in [
        &["FLUSHALL"][..],
        &["CONFIG", "GET", "*"],
        &["KEYS", "*"],
        &["ACL", "LIST"],
        &["SHUTDOWN"],
        &["CLIENT", "KILL", "ID", "1"],
    ] {
        let said = may("default", words).await;
        assert!(refused(&said), "{words:?}: {said:?}");
    }
    assert!(may("booking", &["SET", "session:1", "x"]).await.is_ok());
    assert!(refused(&may("booking", &["GET", "x"]).await));
    assert!(may("report", &["GET", "x"]).await.is_ok());
    assert!(refused(&may("report", &["SET", "x", "2"]).await));
    assert!(may("report", &["EVAL_RO", "return redis.call('GET', KEYS[1])", "1", "x"]).await.is_ok());
    assert!(may("counter", &["INCR", "n"]).await.is_ok() && may("counter", &["HSET", "h", "a", "1"]).await.is_ok());
    assert!(refused(&may("counter", &["GET", "n"]).await));
}

#[tokio::test]
async fn a_password_gives_way_to_a_new_one_under_a_client_that_goes_on_working() {
    use hz_crds::cache::credentials::Found;
    use hz_crds::cache::{Credentials, Inputs, live};
    let mut cache = ordered();
    let mut inputs = Inputs::made_up(&cache, &hz_crds::Platform::eight_nodes());
    let Some((server, pair)) = encrypted(&inputs) else {
        return unless_root("Valkey or Redis");
    };
    let trust = Trust { host: "sessions".into(), authority: pair.ca_crt.clone(), required: true };
    let as_user = |user: &str, password: &str| Cache {
        user: Some(user.into()),
        trust: Some(trust.clone()),
        ..cache_at(server.port, password)
    };
    let system = as_user("hz-system", "made-up-system");
    for _ in 0..50 {
        if OverTcp.ping(&system).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (old, new) = (as_user("booking", "made-up-booking"), as_user("booking", "new-booking"));
    let mut connected = hz_operator::probes::connect(&old).await.unwrap();
    let mut works = async || redis::cmd("INCR").arg("session:n").query_async::<u64>(&mut connected).await;
    works().await.unwrap();
    assert!(say(&new, &["PING"]).await.is_err());

    cache.spec.credentials_generation = 2;
    let next = |cache: &_, held: &Credentials, now| {
        let mut fresh = || "new-booking".to_owned();
        let found = Found { held: Some(held.clone()), before: [].into(), given: [].into(), fresh: &mut fresh };
        Credentials::next(cache, found, now)
    };
    let now = hz_crds::Timestamp::now();
    inputs.credentials = next(&cache, &inputs.credentials, now);
    OverTcp.bring(&system, &live(&cache, &inputs).unwrap()).await.unwrap();
    works().await.unwrap();
    assert!(say(&old, &["PING"]).await.is_ok() && say(&new, &["PING"]).await.is_ok(), "both are accepted");

    inputs.credentials.hand_out(now);
    let brought = OverTcp.bring(&system, &live(&cache, &inputs).unwrap()).await.unwrap();
    assert_eq!(brought, Vec::<String>::new(), "which of them is handed out is nothing to a server");
    let over = hz_crds::Timestamp::from_second(now.as_second() + 600).unwrap();
    inputs.credentials = next(&cache, &inputs.credentials, over);
    OverTcp.bring(&system, &live(&cache, &inputs).unwrap()).await.unwrap();
    assert!(say(&old, &["PING"]).await.is_err() && say(&new, &["PING"]).await.is_ok(), "only the new one is left");
    works().await.unwrap();

    // A user that is taken out is thrown out.
    cache.spec.users.retain(|user| user.name != "booking");
    OverTcp.bring(&system, &live(&cache, &inputs).unwrap()).await.unwrap();
    assert!(works().await.is_err() && say(&new, &["PING"]).await.is_err());
}
