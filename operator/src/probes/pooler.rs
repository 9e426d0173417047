//! PgBouncer: its console, which looks like a database and knows the simple protocol only.

use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;

use super::postgres::{connect, silent, within};
use super::{Silent, Sql};

/// `PAUSE` answers when the transactions that were under way have ended.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

pub async fn console(target: &Sql, command: &str) -> Result<Vec<Vec<String>>, Silent> {
    let ask = async {
        let client = connect(target, "hz-operator").await?;
        let answer = client.simple_query(command).await.map_err(|error| silent(&error))?;
        let rows = answer.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).unwrap_or_default().to_owned()).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    };
    within(ANSWER_WITHIN, ask).await
}
