//! What tells of a database server in numbers: PostgreSQL's exporter and the room on each copy's volume, both by one
//! container beside PostgreSQL, on one port.

use kube::core::ResourceExt;
use serde_json::{Value, json};

use super::patroni::{FOLDER, PORT as POSTGRES, VOLUME};
use super::sql::{identifier, literal};
use super::{Inputs, PostgresInstance, Statement, system_secret};
use crate::quantity::Amount;
use crate::{Platform, Slot, Unfit, network, pod};

/// Port of the numbers.
pub const PORT: u16 = 9187;
/// The user that reads them: no superuser, and nothing of the tenants' data.
pub const USER: &str = "hz_metrics";
/// Key of its password in the `<instance>-system` Secret.
pub const KEY: &str = "metrics-password";
/// Label of namespaces whose pods may read the numbers.
pub const MONITORING: &str = "hz.hospital/monitoring";
/// What serves the numbers; it must outlive whatever happens to the exporter, since a container that ends takes its pod
/// out of the Service.
pub const SERVE: &str = include_str!("metrics.py");
/// Name of [`SERVE`] in the pod.
pub const FILE: &str = "metrics.py";

/// The slot of the user's password.
pub fn slot(instance: &str) -> Slot {
    Slot::new(system_secret(instance), KEY)
}

/// The door in the wall: whoever watches the whole cluster, from namespaces with the label.
pub fn door() -> Value {
    let watchers = json!({ "namespaceSelector": { "matchLabels": { MONITORING: "true" } } });
    network::from(vec![watchers], network::tcp([PORT]))
}

/// The user, as SQL that may be run any number of times.
pub fn statements(instance: &PostgresInstance, inputs: &Inputs) -> Result<Vec<Statement>, Unfit> {
    let password = inputs.passwords.get(&slot(&instance.name_any()))?;
    let (user, text) = (identifier(USER), literal(USER));
    let statement = |unless: Option<String>, sql: String, what: &str| Statement {
        database: "postgres".into(),
        unless,
        sql,
        what: what.into(),
    };
    Ok(vec![
        statement(
            Some(format!("SELECT 1 FROM pg_roles WHERE rolname = {text}")),
            format!("CREATE ROLE {user} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION CONNECTION LIMIT 5"),
            "create the role that reads numbers",
        ),
        statement(
            None,
            format!("ALTER ROLE {user} PASSWORD {}", literal(password)),
            "set the password of the role that reads numbers",
        ),
        statement(
            Some(format!(
                "SELECT 1 WHERE pg_has_role({text}, 'pg_monitor', 'MEMBER') \
                 AND has_database_privilege({text}, 'postgres', 'CONNECT')"
            )),
            format!("GRANT pg_monitor TO {user}; GRANT CONNECT ON DATABASE postgres TO {user}"),
            "let it read numbers",
        ),
    ])
}

/// The container. Its volume is the data's, to see how much room there is; it cannot write there.
pub fn container(instance: &str, platform: &Platform) -> Value {
    json!({
        "name": "metrics",
        "image": platform.images.postgres,
        "imagePullPolicy": pod::PULL,
        "command": ["python3", format!("{FOLDER}/{FILE}")],
        "env": [
            pod::variable("HZ_PORT", PORT.to_string()),
            pod::variable("HZ_VOLUME", VOLUME),
            // Inside the pod, so nothing of it is on the network.
            pod::variable("DATA_SOURCE_URI", format!("127.0.0.1:{POSTGRES}/postgres?sslmode=disable")),
            pod::variable("DATA_SOURCE_USER", USER),
            pod::from_secret("DATA_SOURCE_PASS", &system_secret(instance), KEY),
        ],
        "ports": [{ "name": "metrics", "containerPort": PORT, "protocol": "TCP" }],
        "resources": pod::resources(&Amount::from("10m"), &Amount::from("48Mi"), &Amount::from("192Mi")),
        "securityContext": pod::locked(),
        "volumeMounts": [
            { "name": "configuration", "mountPath": FOLDER, "readOnly": true },
            { "name": "data", "mountPath": VOLUME, "readOnly": true },
            { "name": "tmp", "mountPath": "/tmp" },
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{fixture, passwords};

    #[test]
    fn the_user_reads_numbers_and_is_no_superuser() {
        let records: PostgresInstance = fixture("postgres", "records");
        let inputs = Inputs { passwords: passwords(super::super::slots(&records)), ..Inputs::default() };
        let all = statements(&records, &inputs).unwrap();
        assert!(all.iter().all(|statement| !statement.what.contains("password-")), "{all:?}");
        let sql: Vec<&str> = all.iter().map(|statement| statement.sql.as_str()).collect();
        assert!(sql[0].contains("NOSUPERUSER") && sql[2].contains("GRANT pg_monitor TO \"hz_metrics\""), "{sql:?}");
    }

    #[test]
    fn only_what_watches_the_cluster_may_read() {
        assert_eq!(
            door(),
            json!({
                "from": [{ "namespaceSelector": { "matchLabels": { "hz.hospital/monitoring": "true" } } }],
                "ports": [{ "protocol": "TCP", "port": 9187 }],
            })
        );
    }
}
