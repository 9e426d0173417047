//! Users and what they may do, as SQL that may be run any number of times.

use kube::core::ResourceExt;

use super::scram::verifier;
use super::sql::{identifier, literal};
use super::users::{Access, Grant, User, user_slot};
use super::{Inputs, PostgresInstance, Provision, SUPERUSER_KEY, Statement, system_secret};
use crate::shared::digest;
use crate::{Slot, Unfit};

/// All users of ours are in it, and by nothing else are they known: it gives no right.
const GROUP: &str = "hz_users";

/// Users of ours with their object ids, for loops over them.
const OURS: &str = "SELECT m.oid AS id, m.rolname AS name FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member \
                    JOIN pg_roles g ON g.oid = a.roleid WHERE g.rolname = 'hz_users'";

/// What to run so that users are as the spec says: nothing if there never was one. A user whose Secret cannot be used
/// keeps the password it has.
pub fn grants(instance: &PostgresInstance, inputs: &Inputs) -> Result<Option<Provision>, Unfit> {
    let (name, users) = (instance.name_any(), &instance.spec.users);
    let before = instance.status.as_ref().and_then(|status| status.granted.as_ref());
    if users.is_empty() && before.is_none() {
        return Ok(None);
    }
    let secret = inputs.passwords.get(&Slot::new(system_secret(&name), SUPERUSER_KEY))?;
    let mut statements = vec![on_server(
        Some(format!("SELECT 1 FROM pg_roles WHERE rolname = '{GROUP}'")),
        format!("CREATE ROLE {GROUP} NOLOGIN"),
        "create the group of users".into(),
    )];
    for user in users {
        let password = match user_slot(&name, user) {
            Some(slot) => inputs.passwords.get(&slot)?,
            None => match inputs.users.get(&user.name) {
                Some(Ok(password)) => password,
                _ => continue,
            },
        };
        statements.extend(user_statements(user, &verifier(secret, &user.name, password)));
    }
    statements.push(on_server(None, on_databases(users), "let users into their databases and others out".into()));
    for database in &instance.spec.databases {
        statements.push(Statement {
            database: database.name.clone(),
            unless: None,
            sql: in_database(&database.name, users),
            what: format!("grant users what they may do in database {}", database.name),
        });
    }
    let parts = statements.iter().flat_map(|statement| [statement.database.as_bytes(), statement.sql.as_bytes()]);
    let fingerprint = digest(std::iter::once(secret.as_bytes()).chain(parts))[..32].to_owned();
    Ok(Some(Provision { statements, fingerprint }))
}

fn on_server(unless: Option<String>, sql: String, what: String) -> Statement {
    Statement { database: "postgres".into(), unless, sql, what }
}

fn user_statements(user: &User, kept: &str) -> [Statement; 2] {
    let (name, quoted, text) = (&user.name, identifier(&user.name), literal(&user.name));
    let limit = user.connection_limit.unwrap_or(-1);
    let made = format!(
        "DO $hz$ BEGIN \
         IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {text}) THEN \
         CREATE ROLE {quoted}; GRANT {GROUP} TO {quoted}; \
         ELSIF NOT EXISTS (SELECT FROM ({OURS}) AS ours WHERE name = {text}) THEN \
         RAISE EXCEPTION 'role {name} exists and was not made for spec.users: choose another name, or drop it'; \
         END IF; END $hz$; \
         ALTER ROLE {quoted} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS \
         CONNECTION LIMIT {limit}"
    );
    [
        on_server(None, made, format!("create user {name}")),
        on_server(
            Some(format!("SELECT 1 FROM pg_authid WHERE rolname = {text} AND rolpassword = {}", literal(kept))),
            format!("ALTER ROLE {quoted} PASSWORD {}", literal(kept)),
            format!("set the password of user {name}"),
        ),
    ]
}

/// In one transaction, so that nobody who keeps a right misses it for a moment: everything is taken back, then given.
fn on_databases(users: &[User]) -> String {
    let names: Vec<String> = users.iter().map(|user| literal(&user.name)).collect();
    let kept = if names.is_empty() { "''".to_owned() } else { names.join(", ") };
    let mut sql = format!(
        "DO $hz$ DECLARE who record; thing text; BEGIN \
         FOR who IN {OURS} LOOP \
         FOR thing IN SELECT datname FROM pg_database WHERE NOT datistemplate LOOP \
         EXECUTE format('REVOKE ALL ON DATABASE %I FROM %I', thing, who.name); \
         EXECUTE format('ALTER ROLE %I IN DATABASE %I RESET ROLE', who.name, thing); END LOOP; \
         FOR thing IN SELECT g.rolname FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid \
         WHERE a.member = who.id AND g.rolname <> '{GROUP}' LOOP \
         EXECUTE format('REVOKE %I FROM %I', thing, who.name); END LOOP; \
         IF who.name NOT IN ({kept}) THEN \
         EXECUTE format('ALTER ROLE %I NOLOGIN', who.name); \
         PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = who.name; END IF; \
         END LOOP; END $hz$;"
    );
    for user in users {
        for grant in &user.grants {
            let (who, database) = (identifier(&user.name), identifier(&grant.database));
            let mut given = format!("GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {who};");
            if grant.access == Access::Owner {
                // What it makes belongs to the owner, as if the owner had made it.
                given += &format!(
                    " GRANT {database} TO {who}; ALTER ROLE {who} IN DATABASE {database} SET ROLE {database};"
                );
            }
            sql += &where_there(&user.name, &given);
        }
    }
    sql
}

/// In one transaction too.
fn in_database(database: &str, users: &[User]) -> String {
    let mut sql = format!(
        "DO $hz$ DECLARE who record; thing record; BEGIN \
         FOR who IN {OURS} LOOP \
         FOR thing IN SELECT DISTINCT n.nspname, c.relname, c.relkind = 'S' AS counts FROM pg_class c \
         JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) a \
         WHERE a.grantee = who.id AND c.relowner <> who.id AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') LOOP \
         EXECUTE format('REVOKE ALL ON %s %I.%I FROM %I', CASE WHEN thing.counts THEN 'SEQUENCE' ELSE 'TABLE' END, \
         thing.nspname, thing.relname, who.name); END LOOP; \
         FOR thing IN SELECT DISTINCT n.nspname FROM pg_namespace n, aclexplode(n.nspacl) a \
         WHERE a.grantee = who.id AND n.nspowner <> who.id LOOP \
         EXECUTE format('REVOKE ALL ON SCHEMA %I FROM %I', thing.nspname, who.name); END LOOP; \
         FOR thing IN SELECT DISTINCT r.rolname, n.nspname, d.defaclobjtype AS kind FROM pg_default_acl d \
         JOIN pg_roles r ON r.oid = d.defaclrole LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace, \
         aclexplode(d.defaclacl) a WHERE a.grantee = who.id AND r.oid <> who.id AND d.defaclobjtype IN ('r', 'S', 'n') LOOP \
         EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I %s REVOKE ALL ON %s FROM %I', thing.rolname, \
         CASE WHEN thing.nspname IS NULL THEN '' ELSE format('IN SCHEMA %I', thing.nspname) END, \
         CASE thing.kind WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' ELSE 'SCHEMAS' END, who.name); END LOOP; \
         END LOOP; END $hz$;"
    );
    for user in users {
        for grant in user.grants.iter().filter(|grant| grant.database == database) {
            sql += &granted(&user.name, grant);
        }
    }
    sql
}

fn granted(user: &str, grant: &Grant) -> String {
    let (tables, sequences) = match grant.access {
        Access::ReadOnly => ("SELECT", "SELECT"),
        Access::ReadWrite => ("SELECT, INSERT, UPDATE, DELETE", "SELECT, USAGE"),
        // By its membership.
        Access::Owner => return String::new(),
    };
    let (who, owner) = (identifier(user), identifier(&grant.database));
    let default = format!("ALTER DEFAULT PRIVILEGES FOR ROLE {owner}");
    let mut given = String::new();
    let all = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'";
    let schemas = if grant.schemas.is_empty() {
        given += &format!(
            "{default} GRANT {tables} ON TABLES TO {who}; {default} GRANT {sequences} ON SEQUENCES TO {who}; \
             {default} GRANT USAGE ON SCHEMAS TO {who};"
        );
        all.to_owned()
    } else {
        for schema in &grant.schemas {
            let (quoted, text) = (identifier(schema), literal(schema));
            given += &format!(
                " IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = {text}) THEN RAISE EXCEPTION \
                 'user {user} is to be let into schema {schema}, which database {} does not have yet'; END IF; \
                 {default} IN SCHEMA {quoted} GRANT {tables} ON TABLES TO {who}; \
                 {default} IN SCHEMA {quoted} GRANT {sequences} ON SEQUENCES TO {who};",
                grant.database,
            );
        }
        let named: Vec<String> = grant.schemas.iter().map(|schema| literal(schema)).collect();
        format!("{all} AND nspname IN ({})", named.join(", "))
    };
    let sql = format!(
        "{given} FOR schema IN {schemas} LOOP \
         EXECUTE format('GRANT USAGE ON SCHEMA %I TO {who}', schema); \
         EXECUTE format('GRANT {tables} ON ALL TABLES IN SCHEMA %I TO {who}', schema); \
         EXECUTE format('GRANT {sequences} ON ALL SEQUENCES IN SCHEMA %I TO {who}', schema); END LOOP;"
    );
    where_there(user, &sql)
}

/// A user whose Secret could never be used is not there yet.
fn where_there(user: &str, given: &str) -> String {
    format!(
        " DO $hz$ DECLARE schema text; BEGIN IF EXISTS (SELECT FROM pg_roles WHERE rolname = {}) THEN {given} END IF; \
         END $hz$;",
        literal(user)
    )
}
