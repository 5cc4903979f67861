//! Posts batches of records to an extension's listener, again and again until it takes them.

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

/// The way to one listener.
#[derive(Clone, Debug)]
pub(crate) struct Courier {
    pub(crate) extension: String,
    client: Client,
    /// `sandbox.localdomain` is the environment's own address. A listener bound to the wildcard address is reached
    /// there, one bound to 127.0.0.1 is not: both count as listening, as they do in Lambda.
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

    /// Delivers what the queue has, until the subscription ends.
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
            for post in faults::disturb(&faults, &mut held, batch) {
                self.deliver(&queue, post).await;
            }
        }
    }

    async fn deliver(&self, queue: &Queue, records: Vec<Value>) {
        let runtime_done: Vec<String> = records.iter().filter_map(runtime_done).collect();
        let count = records.len();
        let body = Bytes::from(Value::Array(records).to_string());
        let mut backoff = FIRST_BACKOFF;
        for attempt in 0.. {
            if !queue.awake().await {
                return;
            }
            let status = self.attempt(body.clone(), attempt, count, runtime_done.clone()).await;
            if status.is_some_and(|status| (200..300).contains(&status)) {
                return;
            }
            tokio::time::sleep(backoff).await;
            backoff = LONGEST_BACKOFF.min(backoff * 2);
        }
    }

    /// One POST, whatever comes of it.
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

/// The request id, if the record is the end of an invocation.
fn runtime_done(record: &Value) -> Option<String> {
    let ends = record.get("type").is_some_and(|kind| kind == "platform.runtimeDone");
    record.pointer("/record/requestId").filter(|_| ends).and_then(Value::as_str).map(str::to_owned)
}
