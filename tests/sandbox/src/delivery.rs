//! Posts batches of records to an extension's listener, retrying until it accepts them.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::Value;

use crate::board::Board;
use crate::clock;
use crate::faults::{self, Fault, Faults};
use crate::journal::{Delivery, Journal};
use crate::subscription::Subscription;
use crate::telemetry::{Queue, Record};
use crate::web::Client;

const FIRST_BACKOFF: Duration = Duration::from_millis(20);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

/// The delivery to one listener.
#[derive(Clone, Debug)]
pub(crate) struct Courier {
    pub(crate) extension: String,
    client: Client,
    /// The two URLs of the listener. `sandbox.localdomain` is the environment's own address. It reaches a listener bound to the
    /// wildcard address, but not one bound to 127.0.0.1: both count as listening, as in Lambda.
    urls: [String; 2],
    host: String,
    journal: Board<Journal>,
}

impl Courier {
    pub(crate) fn new(
        extension: String,
        ip: Ipv4Addr,
        subscription: &Subscription,
        journal: Board<Journal>,
    ) -> Self {
        let Subscription { host, port, path, .. } = subscription;
        Self {
            extension,
            client: Client::new(),
            urls: [ip, Ipv4Addr::LOCALHOST].map(|ip| format!("http://{ip}:{port}{path}")),
            host: format!("{host}:{port}"),
            journal,
        }
    }

    /// Delivers the queue's records until the subscription ends.
    pub(crate) async fn run(self, queue: Arc<Queue>, faults: Faults) {
        let mut held = Vec::new();
        while let Some(batch) = queue.next_batch().await {
            let batch = batch.into_iter().map(|Record { value, .. }| Arc::unwrap_or_clone(value)).collect();
            let faults = faults.all();
            for fault in &faults {
                if let Fault::DelayPosts(delay) = fault {
                    tokio::time::sleep(*delay).await;
                }
            }
            for records in faults::disturb(&faults, &mut held, batch) {
                for post in posts(&records, queue.max_bytes()) {
                    self.deliver(&queue, faults::replace(&faults, post)).await;
                }
            }
        }
    }

    async fn deliver(&self, queue: &Queue, post: Post) {
        let Post { body, records, runtime_done } = post;
        let body = Bytes::from(body);
        let mut backoff = FIRST_BACKOFF;
        for attempt in 0.. {
            if !queue.awake().await {
                return;
            }
            let status = self.attempt(body.clone(), attempt, records, runtime_done.clone()).await;
            if status.is_some_and(|status| (200..300).contains(&status)) {
                return;
            }
            tokio::time::sleep(backoff).await;
            backoff = LONGEST_BACKOFF.min(backoff * 2);
        }
    }

    /// Makes one POST, whatever its result.
    pub(crate) async fn attempt(
        &self,
        body: Bytes,
        attempt: u32,
        records: usize,
        runtime_done: Vec<String>,
    ) -> Option<u16> {
        let delivery = Delivery {
            at: clock::now(),
            ended: None,
            extension: self.extension.clone(),
            attempt,
            status: None,
            records,
            bytes: body.len(),
            runtime_done,
        };
        let at = self.journal.write(|journal| {
            journal.deliveries.push(delivery);
            journal.deliveries.len() - 1
        });
        let status = self.post(body).await.map(|status| status.as_u16());
        self.journal.write(|journal| {
            if let Some(delivery) = journal.deliveries.get_mut(at) {
                delivery.ended = Some(clock::now());
                delivery.status = status;
            }
        });
        status
    }

    async fn post(&self, body: Bytes) -> Option<StatusCode> {
        let headers = [("content-type", "application/json"), ("host", self.host.as_str())];
        for url in &self.urls {
            match self.client.send(Method::POST, url, &headers, body.clone()).await {
                Ok(answer) => return Some(answer.status()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(_) => return None,
            }
        }
        None
    }
}

/// The content of one POST.
#[derive(Clone, Debug, Default)]
pub(crate) struct Post {
    pub(crate) body: Vec<u8>,
    /// The number of records, counting each part of a cut record.
    records: usize,
    runtime_done: Vec<String>,
}

impl Post {
    fn add(&mut self, record: &[u8]) {
        self.body.push(if self.records == 0 { b'[' } else { b',' });
        self.body.extend_from_slice(record);
        self.records += 1;
    }

    fn close(mut self) -> Self {
        self.body.push(b']');
        self
    }
}

/// Returns the POSTs for these records.
///
/// Platform: a record larger than `maxBytes` is cut in the middle of its JSON. The POST is closed anyway, and the next one
/// repeats the envelope in front of the record's value.
fn posts(records: &[Value], max_bytes: usize) -> Vec<Post> {
    let mut posts = Vec::new();
    let mut post = Post::default();
    for record in records {
        let (envelope, value) = written(record);
        let mut parts = value.as_bytes().chunks(max_bytes).peekable();
        while let Some(part) = parts.next() {
            post.add(&[envelope.as_bytes(), part, if envelope.is_empty() { b"" } else { b"}" }].concat());
            if parts.peek().is_some() {
                posts.push(std::mem::take(&mut post).close());
            }
        }
        post.runtime_done.extend(runtime_done(record));
    }
    posts.push(post.close());
    posts
}

/// A record as the platform writes it: the envelope, then the value, which may be cut. The record's closing brace follows the
/// value.
fn written(record: &Value) -> (String, String) {
    let Some((record, value)) = record.as_object().and_then(|fields| Some((fields, fields.get("record")?)))
    else {
        return (String::new(), record.to_string());
    };
    let is_first = |key: &str| ["time", "type"].contains(&key);
    let (first, others): (Vec<_>, Vec<_>) = record.iter().partition(|(key, _)| is_first(key));
    let mut envelope = "{".to_owned();
    for (key, value) in first.into_iter().chain(others).filter(|(key, _)| *key != "record") {
        envelope.extend([&Value::from(key.as_str()).to_string(), ":", &value.to_string(), ","]);
    }
    (envelope + "\"record\":", value.to_string())
}

/// The request id, if the record reports the end of an invocation.
fn runtime_done(record: &Value) -> Option<String> {
    let ends = record.get("type").is_some_and(|kind| kind == "platform.runtimeDone");
    record.pointer("/record/requestId").filter(|_| ends).and_then(Value::as_str).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bodies(posts: &[Post]) -> Vec<String> {
        posts.iter().map(|post| String::from_utf8(post.body.clone()).unwrap()).collect()
    }

    #[test]
    fn records_are_written_as_the_platform_does() {
        let done = json!({"type": "platform.runtimeDone", "record": {"requestId": "a"}, "time": "T"});
        let posts = posts(&[done, json!(null), json!({"type": "function"})], 1_000);
        assert_eq!(
            bodies(&posts),
            [
                r#"[{"time":"T","type":"platform.runtimeDone","record":{"requestId":"a"}},null,{"type":"function"}]"#
            ]
        );
        assert_eq!((posts[0].records, posts[0].runtime_done.as_slice()), (3, &["a".to_owned()][..]));
    }

    #[test]
    fn large_record_is_cut() {
        let line = |text: &str| json!({"time": "T", "type": "function", "record": text});
        let done = json!({"time": "T", "type": "platform.runtimeDone", "record": {"requestId": "a"}});
        let posts = posts(&[line("a"), line("one\"two\"three"), done], 8);
        assert_eq!(
            bodies(&posts)[..4],
            [
                r#"[{"time":"T","type":"function","record":"a"},{"time":"T","type":"function","record":"one\"tw}]"#,
                r#"[{"time":"T","type":"function","record":o\"three}]"#,
                r#"[{"time":"T","type":"function","record":"},{"time":"T","type":"platform.runtimeDone","record":{"reques}]"#,
                r#"[{"time":"T","type":"platform.runtimeDone","record":tId":"a"}]"#,
            ]
        );
        assert_eq!(posts.iter().map(|post| post.runtime_done.len()).collect::<Vec<_>>(), [0, 0, 0, 0, 1]);
    }
}
