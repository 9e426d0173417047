//! PostgreSQL, asked about its log, its last transaction, and whether what was restored is whole.

use std::time::Duration;

use hz_crds::Timestamp;
use hz_crds::backup::Archiver;
use tokio_postgres::Client;

use super::postgres::{connect, silent, within};
use super::{Silent, Sql};

const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A segment is sixteen mebibytes; a store that does not take it within this time will not soon.
const ARCHIVED_WITHIN: Duration = Duration::from_secs(30);
/// Reading a whole database takes as long as it takes; a drill has a deadline of its own. This is for a server that
/// has gone quiet.
const READ_WITHIN: Duration = Duration::from_secs(3600);

const LOG: &str = "SELECT extract(epoch FROM last_archived_time)::bigint, \
    CASE WHEN last_failed_time > coalesce(last_archived_time, '-infinity') THEN last_failed_wal END, \
    (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready') FROM pg_stat_archiver";
/// A transaction that changes nothing. Recovery to a moment ends at the first transaction after it, and fails if there is
/// none: a database where nobody has written since could not be restored to a moment of a minute ago.
const MARK: &str = "SELECT pg_logical_emit_message(true, 'hz-operator', 'restore')";
/// Ends the present segment and names it; where nothing was written, it names the one before.
const SWITCH: &str = "SELECT pg_walfile_name(pg_switch_wal())";
const ARCHIVED: &str = "SELECT coalesce(last_archived_wal >= $1, false) FROM pg_stat_archiver";
const LAST_COMMIT: &str = "SELECT (extract(epoch FROM timestamp) * 1000)::bigint FROM pg_last_committed_xact()";
const REPLAYED: &str = "SELECT (extract(epoch FROM pg_last_xact_replay_timestamp()) * 1000)::bigint";
/// Tables of the database, quoted, that hold rows of their own.
const TABLES: &str = "SELECT format('%I.%I', nspname, relname) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace \
    WHERE relkind IN ('r', 'm') AND relpersistence = 'p' AND nspname NOT IN ('pg_catalog', 'information_schema') \
    AND nspname NOT LIKE 'pg\\_%' ORDER BY 1";

pub async fn archiver(target: &Sql) -> Result<Archiver, Silent> {
    let ask = async {
        let client = connect(target, "hz-operator backups").await?;
        let row = client.query_one(LOG, &[]).await.map_err(|error| silent(&error))?;
        let last: Option<i64> = row.get(0);
        Ok(Archiver {
            last: last.and_then(|second| Timestamp::from_second(second).ok()),
            failed: row.get(1),
            waiting: row.get(2),
        })
    };
    within(ANSWER_WITHIN, ask).await
}

pub async fn archive_now(target: &Sql) -> Result<(), Silent> {
    let ask = async {
        let client = connect(target, "hz-operator backups").await?;
        client.query_one(MARK, &[]).await.map_err(|error| silent(&error))?;
        let row = client.query_one(SWITCH, &[]).await.map_err(|error| silent(&error))?;
        let segment: String = row.get(0);
        loop {
            let row = client.query_one(ARCHIVED, &[&segment]).await.map_err(|error| silent(&error))?;
            if row.get::<_, bool>(0) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    within(ARCHIVED_WITHIN, ask).await.map_err(|silent| silent.during("archive the log"))
}

pub async fn last_commit(target: &Sql) -> Result<Option<Timestamp>, Silent> {
    moment(target, LAST_COMMIT).await
}

pub async fn replayed(target: &Sql) -> Result<Option<Timestamp>, Silent> {
    moment(target, REPLAYED).await
}

async fn moment(target: &Sql, question: &str) -> Result<Option<Timestamp>, Silent> {
    let ask = async {
        let client = connect(target, "hz-operator backups").await?;
        let row = client.query_one(question, &[]).await.map_err(|error| silent(&error))?;
        let at: Option<i64> = row.get(0);
        Ok(at.and_then(|millisecond| Timestamp::from_millisecond(millisecond).ok()))
    };
    within(ANSWER_WITHIN, ask).await
}

pub async fn answer(target: &Sql, question: &str) -> Result<Option<String>, Silent> {
    let ask = async {
        let client = read_only(target).await?;
        let rows = client.simple_query(question).await.map_err(|error| silent(&error))?;
        Ok(rows.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        }))
    };
    within(READ_WITHIN, ask).await
}

pub async fn read_all(target: &Sql) -> Result<(u64, u64), Silent> {
    let ask = async {
        let client = read_only(target).await?;
        let tables = client.query(TABLES, &[]).await.map_err(|error| silent(&error))?;
        let (mut count, mut rows) = (0, 0);
        for table in tables {
            let table: String = table.get(0);
            // Every row as text: nothing in it is left unread, nor what is stored beside it.
            let question = format!("SELECT count(*) FROM {table} AS t WHERE length(t::text) > 0");
            let row = client
                .query_one(&question, &[])
                .await
                .map_err(|error| silent(&error).during(&format!("read {table}")))?;
            let found: i64 = row.get(0);
            count += 1;
            rows += u64::try_from(found).unwrap_or_default();
        }
        Ok((count, rows))
    };
    within(READ_WITHIN, ask).await
}

/// A session that cannot write.
async fn read_only(target: &Sql) -> Result<Client, Silent> {
    let client = connect(target, "hz-operator drill").await?;
    client.batch_execute("BEGIN READ ONLY").await.map_err(|error| silent(&error))?;
    Ok(client)
}
