//! An incoming request: its head, before the content is read, and its outcome.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime};

use http::HeaderMap;
use tokio::sync::Notify;

use super::Shared;
use super::behaviour::{Behaviour, Refusal};
use super::received::{Outcome, Protocol, Request};
use crate::otlp::{Payload, Signal};

/// A TCP connection to the collector.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: u64,
    pub(super) peer: SocketAddr,
    /// When notified, the connection closes at once.
    pub(super) cut: Notify,
}

/// The head of a request, with its behaviour.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) connection: Arc<Connection>,
    pub(super) signal: Signal,
    pub(super) protocol: Protocol,
    pub(super) at: Instant,
    pub(super) time: SystemTime,
    pub(super) headers: HeaderMap,
    pub(super) behaviour: Behaviour,
    /// The bytes of the body read so far.
    pub(super) wire_bytes: Arc<AtomicUsize>,
}

impl Arrival {
    /// Rejects the request.
    pub(super) fn refuse(&self, shared: &Shared, refusal: Refusal) -> Refusal {
        shared.keep(self.request(Outcome::Refused(refusal.status), None));
        refusal
    }

    /// Applies the behaviour to the content, and returns the number of items to report as rejected.
    pub(super) async fn settle(&self, shared: &Shared, payload: Payload) -> i64 {
        match &self.behaviour {
            Behaviour::Slow(wait) => tokio::time::sleep(*wait).await,
            Behaviour::Hang => {
                shared.keep(self.request(Outcome::Hung, Some(payload)));
                return std::future::pending().await;
            }
            Behaviour::PartialSuccess { rejected } => {
                shared.keep(self.request(Outcome::KeptInPart { rejected: *rejected }, Some(payload)));
                return *rejected;
            }
            Behaviour::CutAnswer => {
                shared.keep(self.request(Outcome::KeptUnanswered, Some(payload)));
                return self.cut().await;
            }
            Behaviour::Accept
            | Behaviour::Refuse(_)
            | Behaviour::Limit { .. }
            | Behaviour::CutRequest { .. } => {}
        }
        shared.keep(self.request(Outcome::Kept, Some(payload)));
        0
    }

    /// Closes the connection and keeps nothing.
    pub(super) async fn cut_unread<T>(&self, shared: &Shared) -> T {
        shared.keep(self.request(Outcome::Cut, None));
        self.cut().await
    }

    async fn cut<T>(&self) -> T {
        self.connection.cut.notify_one();
        std::future::pending().await
    }

    fn request(&self, outcome: Outcome, payload: Option<Payload>) -> Request {
        let encoding = match self.protocol {
            Protocol::Grpc => "grpc-encoding",
            Protocol::Http => "content-encoding",
        };
        let compression = self.headers.get(encoding).and_then(|value| value.to_str().ok());
        Request {
            signal: self.signal,
            protocol: self.protocol,
            at: self.at,
            time: self.time,
            headers: self.headers.clone(),
            compression: compression.filter(|name| *name != "identity").map(str::to_owned),
            wire_bytes: self.wire_bytes.load(Ordering::Relaxed),
            connection: self.connection.id,
            peer: self.connection.peer,
            outcome,
            payload,
        }
    }
}
