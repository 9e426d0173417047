//! `hzctl db connect`: Open a psql shell on a database, or run SQL from -c or standard input.

use std::collections::BTreeMap;

use hz_crds::postgres::{PostgresInstance, database_secret};
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use kube::{Client, ResourceExt};

use crate::cluster::nearest::nearest;
use crate::commands::data::exec::{self, Feed, Job, at_a_terminal};
use crate::commands::data::{DATABASE, pods};
use crate::commands::reach::{Place, Reach, find, refused};
use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

/// Reads the password from standard input, so that no list of processes shows it, and leaves the rest to psql.
const PIPED: &str = r#"IFS= read -r PGPASSWORD || exit 2; export PGPASSWORD PGAPPNAME=hzctl; exec psql "$@""#;
/// The same in a terminal, which must not show the password. The sign (`exec::HIDDEN`) says that it will not. psql
/// keeps no history: statements hold what patients are called.
const TYPED: &str = r#"stty -echo || exit 2; printf '\006'; IFS= read -r PGPASSWORD; stty echo; export PGPASSWORD PGAPPNAME=hzctl PSQL_HISTORY=/dev/null; exec psql "$@""#;

/// Arguments of `hzctl db connect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the database server
    name: String,
    /// The database; default: the only one there is
    #[arg(long, value_name = "DATABASE")]
    database: Option<String>,
    /// On a copy that only reads; what it shows may be a moment old
    #[arg(long)]
    read_only: bool,
    /// Run this and end
    #[arg(short, long, value_name = "SQL")]
    command: Option<String>,
    #[command(flatten)]
    reach: Reach,
}

/// Run it.
pub async fn run(args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let client = args.reach.client().await?;
    let server: PostgresInstance = find(&client, args.reach.namespace.as_deref(), &args.name, DATABASE.nouns).await?;
    let place = Place::of(&server);
    let database = choose(&server, args.database.as_deref())?;
    let (owner, pods) =
        tokio::try_join!(credentials(&client, &place, &database), pods::of(&client, &DATABASE, &place))?;
    let pod = match args.read_only {
        true => pods::replica(&DATABASE, &place.name, &pods)?,
        false => pods::leader(&DATABASE, &place.name, &pods)?,
    };
    let shell = args.command.is_none() && at_a_terminal();
    let job = Job {
        pod: Place { name: pod.name.clone(), namespace: place.namespace.clone() },
        container: DATABASE.container,
        program: "psql",
        command: command(&owner, shell, args.command.as_deref()),
        secret: Some(&owner.password),
    };
    if shell {
        let role = pod.role.as_deref().unwrap_or("copy");
        printer.say(format!("database {} on {} ({role}), as its owner {}", owner.database, pod.name, owner.user));
        return exec::terminal(&client, &job, printer).await;
    }
    let feed = if args.command.is_some() { Feed::Nothing } else { Feed::StandardInput };
    exec::piped(&client, &job, feed, printer).await
}

/// The database that is meant.
fn choose(server: &PostgresInstance, asked: Option<&str>) -> Result<String, Failure> {
    let name = server.name_any();
    let names: Vec<&str> = server.spec.databases.iter().map(|database| database.name.as_str()).collect();
    let list = names.join(", ");
    match (asked, names.as_slice()) {
        (_, []) => Err(Failure::input(format!("{name} has no databases"))
            .hint("name one under spec.databases of the PostgresInstance; it and its owner are made then")),
        (None, [only]) => Ok((*only).to_owned()),
        (None, several) => Err(Failure::input(format!("{name} has {} databases: {list}", several.len()))
            .hint(format!("name one with --database, such as --database {}", several[0]))),
        (Some(asked), names) if names.contains(&asked) => Ok(asked.to_owned()),
        (Some(asked), names) => {
            let failure = Failure::input(format!("{name} has no database `{asked}`"));
            Err(match nearest(asked, names.iter().copied()) {
                Some(near) => failure.hint(format!("did you mean `{near}`? databases: {list}")),
                None => failure.hint(format!("databases: {list}")),
            })
        }
    }
}

/// The owner of a database. Never the superuser: a slip of the hand then ends at this one database.
#[derive(Clone, PartialEq, Eq)]
struct Owner {
    database: String,
    user: String,
    password: String,
    port: String,
}

async fn credentials(client: &Client, place: &Place, database: &str) -> Result<Owner, Failure> {
    let name = database_secret(&place.name, database);
    let act = format!("failed to read the credentials of database {database} (Secret {name})");
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &place.namespace);
    let secret = secrets.get_opt(&name).await.map_err(|error| refused(act.clone(), &error))?;
    let secret = secret.ok_or_else(|| {
        Failure::input(act.clone())
            .because("there is none yet")
            .hint(format!("`kubectl describe pgi {} -n {}` tells what is missing", place.name, place.namespace))
    })?;
    let data = secret.data.unwrap_or_default();
    let text = data.into_iter().map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned())).collect();
    owner(text).map_err(|missing| Failure::fault(act).because(missing))
}

fn owner(mut secret: BTreeMap<String, String>) -> Result<Owner, String> {
    let mut take = |key: &str| {
        let value = secret.remove(key).filter(|value| !value.is_empty() && !value.contains('\n'));
        value.ok_or_else(|| format!("it has no {key}"))
    };
    Ok(Owner { database: take("dbname")?, user: take("user")?, password: take("password")?, port: take("port")? })
}

/// What is started in the pod. Everything but the password may be seen there.
fn command(owner: &Owner, shell: bool, sql: Option<&str>) -> Vec<String> {
    let script = if shell { TYPED } else { PIPED };
    // The pod's own server by its loopback address; a password that is wrong is told and not asked for.
    let mut words = vec!["sh", "-c", script, "psql", "-h", "127.0.0.1", "-p", &owner.port];
    words.extend(["-U", &owner.user, "-d", &owner.database, "-w"]);
    if !shell {
        words.extend(["-X", "-v", "ON_ERROR_STOP=1"]);
        words.extend(sql.map_or(["-f", "-"], |sql| ["-c", sql]));
    }
    words.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn server(databases: &[&str]) -> PostgresInstance {
        let databases: Vec<_> = databases.iter().map(|name| json!({ "name": name })).collect();
        serde_json::from_value(json!({
            "apiVersion": "hz.hospital/v1alpha1",
            "kind": "PostgresInstance",
            "metadata": { "name": "records" },
            "spec": { "storage": { "size": "20Gi" }, "databases": databases },
        }))
        .unwrap()
    }

    fn secret() -> BTreeMap<String, String> {
        [("dbname", "findings"), ("user", "findings"), ("password", "s3cret"), ("port", "5432"), ("host", "records")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn the_only_database_needs_no_name() {
        assert_eq!(choose(&server(&["findings"]), None).unwrap(), "findings");
        assert_eq!(choose(&server(&["findings", "orders"]), Some("orders")).unwrap(), "orders");
    }

    #[test]
    fn several_databases_are_listed_and_a_wrong_name_is_answered_with_the_nearest() {
        let several = choose(&server(&["findings", "orders"]), None).unwrap_err();
        assert_eq!(several.message, "records has 2 databases: findings, orders");
        assert_eq!(several.hint.as_deref(), Some("name one with --database, such as --database findings"));
        let wrong = choose(&server(&["findings", "orders"]), Some("order")).unwrap_err();
        assert_eq!(wrong.message, "records has no database `order`");
        assert_eq!(wrong.hint.as_deref(), Some("did you mean `orders`? databases: findings, orders"));
        assert_eq!(choose(&server(&[]), None).unwrap_err().message, "records has no databases");
    }

    #[test]
    fn psql_runs_as_the_owner_and_the_password_is_no_argument() {
        let owner = owner(secret()).unwrap();
        for words in
            [command(&owner, true, None), command(&owner, false, None), command(&owner, false, Some("TABLE x"))]
        {
            assert!(words.iter().all(|word| !word.contains("s3cret")), "{words:?}");
            assert!(words.join(" ").contains("-h 127.0.0.1 -p 5432 -U findings -d findings -w"), "{words:?}");
        }
        let one = command(&owner, false, Some("SELECT 'it''s'; -- \"$@\""));
        assert_eq!(one[one.len() - 2..], ["-c", "SELECT 'it''s'; -- \"$@\""]);
        assert!(one.contains(&"ON_ERROR_STOP=1".to_owned()) && one.contains(&"-X".to_owned()));
        assert!(command(&owner, false, None).ends_with(&["-f".to_owned(), "-".to_owned()]));
        assert!(!command(&owner, true, None).contains(&"-X".to_owned()));
    }

    #[test]
    fn the_shell_says_by_a_sign_that_the_password_will_not_be_seen() {
        assert_eq!(exec::HIDDEN, 0o006);
        assert!(TYPED.find("stty -echo").unwrap() < TYPED.find(r"printf '\006'").unwrap());
        assert!(TYPED.find(r"printf '\006'").unwrap() < TYPED.find("read -r PGPASSWORD").unwrap());
    }

    #[test]
    fn credentials_with_a_gap_are_told_by_its_name() {
        let mut secret = secret();
        secret.remove("port");
        assert_eq!(owner(secret).err().as_deref(), Some("it has no port"));
    }
}
