//! Valkey: users, passwords and settings of a server that runs.

use std::collections::BTreeMap;

use hz_crds::cache::Live;
use redis::aio::MultiplexedConnection;

use super::valkey::silent;
use super::wire::connect;
use super::{Cache, Silent};

/// Brings a server to what is wanted. What is there already is not touched, and costs two questions.
pub async fn bring(target: &Cache, wanted: &Live) -> Result<Vec<String>, Silent> {
    let mut connection = connect(target).await?;
    let mut done = Vec::new();
    if users(&mut connection, wanted).await? {
        done.push("users".to_owned());
    }
    done.extend(settings(&mut connection, &wanted.settings).await?);
    Ok(done)
}

/// A server that knows the mark knows all that stands for: it is set last, and by nobody else.
async fn users(connection: &mut MultiplexedConnection, wanted: &Live) -> Result<bool, Silent> {
    let mut ask = redis::cmd("ACL");
    let known: Vec<String> =
        ask.arg("USERS").query_async(connection).await.map_err(|error| silent(&error).during("ask for the users"))?;
    let mark = wanted.acl.mark();
    if known.contains(&mark) {
        return Ok(false);
    }
    for (name, rules) in &wanted.acl.users {
        // All rules of a user change at once, and nobody who is connected is thrown out.
        let mut set = redis::cmd("ACL");
        set.arg("SETUSER").arg(name).arg("reset").arg(rules);
        set.query_async::<()>(connection)
            .await
            .map_err(|error| silent(&error).during(&format!("set the rules of user {name}")))?;
    }
    let gone: Vec<&String> =
        known.iter().filter(|name| !wanted.acl.users.iter().any(|(kept, _)| kept == *name)).collect();
    if !gone.is_empty() {
        let mut remove = redis::cmd("ACL");
        remove.arg("DELUSER").arg(gone);
        remove.query_async::<()>(connection).await.map_err(|error| silent(&error).during("remove users"))?;
    }
    let mut set = redis::cmd("ACL");
    set.arg("SETUSER").arg(&mark).arg(&["reset", "off", "resetchannels", "-@all"]);
    set.query_async::<()>(connection).await.map_err(|error| silent(&error).during("mark the users as set"))?;
    Ok(true)
}

async fn settings(
    connection: &mut MultiplexedConnection,
    wanted: &BTreeMap<String, String>,
) -> Result<Vec<String>, Silent> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut ask = redis::cmd("CONFIG");
    ask.arg("GET").arg(wanted.keys().collect::<Vec<_>>());
    let there: BTreeMap<String, String> =
        ask.query_async(connection).await.map_err(|error| silent(&error).during("ask for the settings"))?;
    let mut changed = Vec::new();
    for (name, value) in wanted.iter().filter(|(name, value)| there.get(*name) != Some(*value)) {
        // One by one, so that an error names the one it is about.
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg(name).arg(value);
        set.query_async::<()>(connection)
            .await
            .map_err(|error| silent(&error).during(&format!("set {name} to `{value}`")))?;
        changed.push(name.clone());
    }
    Ok(changed)
}
