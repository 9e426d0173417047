//! Databases and owners, as SQL that may be run any number of times.

use kube::core::ResourceExt;

use super::{
    Database, Inputs, PostgresInstance, REWIND, SUPERUSER_KEY, exporter, owner_slot, pooler, scram, system_secret,
};
use crate::shared::digest;
use crate::{Slot, Unfit};

/// A statement, and where and when to run it.
#[derive(Clone, PartialEq, Eq)]
pub struct Statement {
    /// Database to be connected to.
    pub database: String,
    /// Skip the statement when this query gives a row.
    pub unless: Option<String>,
    /// The statement; it may hold what a server keeps of a password, so it belongs into no log. [`Statement::what`] does.
    pub sql: String,
    /// What it does, for logs and conditions.
    pub what: String,
}

impl std::fmt::Debug for Statement {
    /// Says what the statement does and not how, for that may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in {}", self.what, self.database)
    }
}

/// Everything that makes databases and owners what the spec says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provision {
    /// To be run in this order, each in a transaction of its own (some cannot share one), as the superuser on the
    /// primary, with a timeout: in mode `Strict` they wait until a second copy confirms.
    pub statements: Vec<Statement>,
    /// Stands for all of it. The same as `status.provisioned`: nothing needs to be run.
    pub fingerprint: String,
}

/// What to run so that databases and owners are as the spec says. Nothing is ever dropped.
pub fn provision(instance: &PostgresInstance, inputs: &Inputs) -> Result<Provision, Unfit> {
    let name = instance.name_any();
    let secret = inputs.passwords.get(&Slot::new(system_secret(&name), SUPERUSER_KEY))?;
    let mut statements = vec![Statement {
        database: "postgres".into(),
        unless: None,
        sql: "REVOKE CONNECT, TEMPORARY ON DATABASE postgres, template1 FROM PUBLIC".into(),
        what: "keep tenants out of the databases postgres and template1".into(),
    }];
    // Patroni looks there before it rewinds a copy; without it a copy that fell behind would copy everything anew.
    statements.push(Statement {
        database: "postgres".into(),
        unless: Some(format!("SELECT 1 WHERE has_database_privilege('{REWIND}', 'postgres', 'CONNECT')")),
        sql: format!("GRANT CONNECT ON DATABASE postgres TO {}", identifier(REWIND)),
        what: "let Patroni rewind".into(),
    });
    statements.extend(exporter::statements(instance, inputs)?);
    for database in &instance.spec.databases {
        let password = inputs.passwords.get(&owner_slot(&name, database))?;
        statements.extend(database_statements(database, &scram::verifier(secret, &database.name, password)));
    }
    statements.extend(pooler::statements(instance, inputs)?);
    // The superuser's password goes in first, so that the fingerprint in the status gives nothing away about the rest.
    let parts = statements.iter().flat_map(|statement| [statement.database.as_bytes(), statement.sql.as_bytes()]);
    let fingerprint = digest(std::iter::once(secret.as_bytes()).chain(parts))[..32].to_owned();
    Ok(Provision { statements, fingerprint })
}

fn database_statements(database: &Database, kept: &str) -> Vec<Statement> {
    let name = &database.name;
    let (quoted, text, kept) = (identifier(name), literal(name), literal(kept));
    let on_server = |unless: Option<String>, sql: String, what: String| Statement {
        database: "postgres".into(),
        unless,
        sql,
        what,
    };
    let mut statements = vec![
        on_server(
            Some(format!("SELECT 1 FROM pg_roles WHERE rolname = {text}")),
            format!("CREATE ROLE {quoted} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION"),
            format!("create role {name}"),
        ),
        on_server(
            Some(format!("SELECT 1 FROM pg_authid WHERE rolname = {text} AND rolpassword = {kept}")),
            format!("ALTER ROLE {quoted} PASSWORD {kept}"),
            format!("set the password of role {name}"),
        ),
        on_server(
            Some(format!("SELECT 1 FROM pg_database WHERE datname = {text}")),
            format!("CREATE DATABASE {quoted} OWNER {quoted} TEMPLATE template0 ENCODING 'UTF8'"),
            format!("create database {name}"),
        ),
        on_server(
            None,
            format!("REVOKE CONNECT, TEMPORARY ON DATABASE {quoted} FROM PUBLIC"),
            format!("keep others out of database {name}"),
        ),
    ];
    statements.extend(database.extensions.iter().map(|extension| Statement {
        database: name.clone(),
        unless: None,
        sql: format!("CREATE EXTENSION IF NOT EXISTS {}", identifier(extension.word())),
        what: format!("create extension {}", extension.word()),
    }));
    statements
}

/// A name, quoted.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text, quoted. With `standard_conforming_strings`, which is on, only quotes need doubling.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
