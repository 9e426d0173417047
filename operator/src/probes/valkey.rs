//! Valkey: `PING`, being the master, its replicas (`INFO replication`), and `SENTINEL FAILOVER`.

use redis::RedisError;

use super::wire::connect;
use super::{Cache, Silent};

pub async fn ping(target: &Cache) -> Result<(), Silent> {
    let mut connection = connect(target).await?;
    let pong: String = redis::cmd("PING").query_async(&mut connection).await.map_err(|error| silent(&error))?;
    if pong != "PONG" {
        return Err(Silent::Refused(format!("PING was answered by {pong:?}")));
    }
    let role: Vec<redis::Value> =
        redis::cmd("ROLE").query_async(&mut connection).await.map_err(|error| silent(&error))?;
    match role.first().map(redis::from_redis_value_ref::<String>) {
        Some(Ok(role)) if role == "master" => Ok(()),
        Some(Ok(role)) => Err(Silent::Refused(format!("the server behind the Service is a {role}, not the master"))),
        _ => Err(Silent::Refused("the server does not say what it is".to_owned())),
    }
}

/// A replica counts when the master calls it online and heard of it in the last seconds.
pub async fn replicas(target: &Cache) -> Result<Vec<String>, Silent> {
    let mut connection = connect(target).await?;
    let said: String = redis::cmd("INFO")
        .arg("replication")
        .query_async(&mut connection)
        .await
        .map_err(|error| silent(&error).during("ask for the replicas"))?;
    Ok(said.lines().filter_map(online).collect())
}

/// A line such as `slave0:ip=records-1.pods,port=6379,state=online,offset=42,lag=0`.
fn online(line: &str) -> Option<String> {
    let (number, rest) = line.trim().strip_prefix("slave")?.split_once(':')?;
    number.parse::<u32>().ok()?;
    let field = |name: &str| {
        rest.split(',').find_map(|part| part.split_once('=').filter(|(key, _)| *key == name)).map(|(_, value)| value)
    };
    let heard = field("lag")?.parse::<u32>().is_ok_and(|lag| lag <= 5);
    (field("state") == Some("online") && heard).then(|| field("ip").map(str::to_owned))?
}

/// The name that our sentinels know every master by.
const MASTER: &str = "hz";

/// A failover that is over but not yet seen by all must not be followed by a second one: the sentinel is asked first
/// whether the master is still the same.
pub async fn fail_over(target: &Cache, from: &str) -> Result<(), Silent> {
    let mut connection = connect(target).await?;
    let known: Vec<String> = redis::cmd("SENTINEL")
        .arg("GET-MASTER-ADDR-BY-NAME")
        .arg(MASTER)
        .query_async(&mut connection)
        .await
        .map_err(|error| silent(&error).during("ask a sentinel for the master"))?;
    if known.first().and_then(|host| host.split('.').next()) != Some(from) {
        return Ok(());
    }
    redis::cmd("SENTINEL")
        .arg("FAILOVER")
        .arg(MASTER)
        .query_async::<()>(&mut connection)
        .await
        .map_err(|error| silent(&error).during("have a sentinel choose another master"))
}

pub(super) fn silent(error: &RedisError) -> Silent {
    if error.is_io_error() || error.is_timeout() || error.is_connection_refusal() || error.is_connection_dropped() {
        return Silent::Unreachable(error.to_string());
    }
    match error.kind() {
        redis::ErrorKind::AuthenticationFailed => Silent::NotProvisioned(error.to_string()),
        _ => Silent::Refused(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::online;

    #[test]
    fn a_replica_that_is_loading_or_silent_does_not_count() {
        let line =
            |state: &str, lag: &str| format!("slave0:ip=c-1.c-pods.x,port=6379,state={state},offset=42,lag={lag}\r");
        assert_eq!(online(&line("online", "1")).as_deref(), Some("c-1.c-pods.x"));
        assert_eq!(online(&line("send_bulk", "0")), None);
        assert_eq!(online(&line("online", "60")), None);
        assert_eq!(online("slave_read_only:1"), None);
        assert_eq!(online("role:master"), None);
    }
}
