//! The telemetry of one invocation in ClickStack's tables, counted over ClickHouse's HTTP interface.

use std::time::Duration;

use reqwest::Client;
use reqwest::redirect::Policy;
use rotel_core::echo;
use rotel_core::secret::Secret;
use url::Url;

use crate::lambda::innermost;

/// Telemetry leaves at the end of an invocation, and ClickStack's collector writes batches every few seconds.
/// ClickHouse Cloud may need half a minute to wake up.
const MAX_WAIT: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_secs(1);
/// Two numbers, or a message.
const MAX_ANSWER_BYTES: usize = 16 * 1024;
/// The maximum part of a message that is shown.
const MAX_MESSAGE_BYTES: usize = 300;
const COUNTS: &str = "SELECT \
    (SELECT count() FROM {database:Identifier}.otel_logs WHERE LogAttributes['faas.invocation_id'] = {id:String} AND Timestamp > now() - INTERVAL 1 HOUR), \
    (SELECT count() FROM {database:Identifier}.otel_traces WHERE SpanAttributes['faas.invocation_id'] = {id:String} AND Timestamp > now() - INTERVAL 1 HOUR) \
    FORMAT TabSeparated";

/// A ClickHouse server, and the database of ClickStack's tables.
pub(crate) struct ClickHouse<'a> {
    pub(crate) url: &'a Url,
    pub(crate) database: &'a str,
    pub(crate) user: &'a str,
    pub(crate) password: &'a Secret,
}

/// The log records and spans that have the request id of an invocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) logs: u64,
    pub(crate) spans: u64,
}

impl Arrived {
    pub(crate) fn is_any(self) -> bool {
        self.logs + self.spans > 0
    }
}

/// A query that failed.
#[derive(Debug, thiserror::Error)]
#[error("--clickhouse: {url}: {cause}")]
pub(crate) struct QueryError {
    url: String,
    cause: String,
}

impl ClickHouse<'_> {
    /// Counts what has arrived, until two counts in a row are the same and something has.
    pub(crate) async fn wait_for(&self, request_id: &str) -> Result<Arrived, QueryError> {
        // A redirect would take the password to another host.
        let client = Client::builder().redirect(Policy::none()).build();
        let client = client.map_err(|error| self.failed(&innermost(&error)))?;
        let mut last = None;
        let counting = async {
            loop {
                let arrived = self.count(&client, request_id).await?;
                let before = last.replace(arrived);
                if arrived.is_any() && before == Some(arrived) {
                    return Ok(());
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        if let Ok(counted) = tokio::time::timeout(MAX_WAIT, counting).await {
            counted?;
        }
        last.ok_or_else(|| self.failed("no answer within a minute"))
    }

    async fn count(&self, client: &Client, request_id: &str) -> Result<Arrived, QueryError> {
        let mut url = self.url.clone();
        url.query_pairs_mut()
            .append_pair("param_id", request_id)
            .append_pair("param_database", self.database);
        let request = client.post(url).header("X-ClickHouse-User", self.user).body(COUNTS);
        let request = request.header("X-ClickHouse-Key", self.password.expose());
        let failed = |error: reqwest::Error| self.failed(&innermost(&error.without_url()));
        let mut answer = request.send().await.map_err(failed)?;
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(failed)? {
            body.extend(part);
            if body.len() > MAX_ANSWER_BYTES {
                break;
            }
        }
        let (status, text) = (answer.status(), String::from_utf8_lossy(&body));
        let counts: Vec<_> = text.trim().split('\t').filter_map(|count| count.parse().ok()).collect();
        match counts.as_slice() {
            [logs, spans] if status.is_success() => Ok(Arrived { logs: *logs, spans: *spans }),
            _ => Err(self.failed(&format!(
                "HTTP {}: {}",
                status.as_u16(),
                echo::untrusted(text.trim(), MAX_MESSAGE_BYTES)
            ))),
        }
    }

    fn failed(&self, cause: &str) -> QueryError {
        QueryError { url: self.url.origin().ascii_serialization(), cause: cause.to_owned() }
    }
}
