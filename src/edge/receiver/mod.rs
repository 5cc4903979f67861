//! OTLP in: what the SDK within the function sends.
//!
//! Both protocols are served on every port, since the wrong one of the two is the most frequent mistake there is. Both do
//! the same: take the limit and the compression off a request, hand it on as protobuf bytes, and answer as soon as it has
//! been taken. Neither looks into it, and neither waits for the backend: the function would wait with them.
//!
//! Promises that all requests together take no more than the body budget, whatever comes, and that what is refused is
//! logged, once for each kind.

use std::convert::Infallible;
use std::sync::Arc;

use ::http::{Request, Response};
use bytes::Bytes;
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use self::answer::Answer;
use self::refusals::{Kind, Refusals};
use crate::core::body_budget::BodyBudget;
use crate::core::otlp::Malformed;
use crate::core::signal::{PerSignal, Signal};
use crate::edge::http::serve as serve_connections;

mod answer;
mod compression;
mod grpc;
mod http;
mod refusals;
#[cfg(test)]
mod tests;

/// Where requests go.
pub trait Intake: Clone + Send + Sync + 'static {
    /// Takes an export request, protobuf and without compression, or refuses it at once. What is taken is answered for:
    /// the sender forgets it. Returns how many items it held.
    fn accept(&self, signal: Signal, body: Bytes) -> impl Future<Output = Result<usize, Refusal>> + Send;
}

/// Why a request is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not what it should be, and will not be the next time: the sender is to give it up.
    #[error("not an OTLP request: {0}")]
    Malformed(#[from] Malformed),
    /// There is no room for it now: the sender is to try again.
    #[error("the buffer is full, retry in a second; if this goes on, increase ROTEL_BUFFER_MAX_BYTES")]
    Busy,
    /// There is never room for it.
    #[error(
        "the request does not fit into the buffer, which has room for {limit} bytes; send smaller batches, or increase \
         ROTEL_BUFFER_MAX_BYTES"
    )]
    LargerThanBuffer {
        /// The most bytes of a request.
        limit: usize,
    },
    /// Sent on, it would be several times what it is.
    #[error("the request would grow to several times its size, because {0}; send smaller batches")]
    Amplified(&'static str),
}

/// What is served and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// How each signal is.
    pub endpoints: PerSignal<Endpoint>,
    /// The most bytes of a gRPC message, after decompression.
    pub grpc_message_limit: usize,
    /// The most bytes of an HTTP body, before decompression and after.
    pub http_body_limit: usize,
}

/// How a signal is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether it is.
    pub enabled: bool,
    /// Where, over HTTP. OTLP/gRPC allows no choice.
    pub http_path: String,
}

/// Every signal, on the paths and within the limits that the OpenTelemetry Collector has by default.
impl Default for Served {
    fn default() -> Self {
        let endpoint = |signal| Endpoint { enabled: true, http_path: format!("/v1/{signal}") };
        Self {
            endpoints: PerSignal::from_fn(endpoint),
            grpc_message_limit: 4 << 20,
            http_body_limit: 20 << 20,
        }
    }
}

/// The state that all requests share.
struct Receiver<I> {
    served: Served,
    intake: I,
    budget: BodyBudget,
    /// Requests are decompressed, converted and checked one at a time, since that may take several times what they hold.
    turn: Mutex<()>,
    refusals: Refusals,
}

/// Serves OTLP/gRPC and OTLP/HTTP on all the listeners for as long as the future is polled. All bodies together are held to
/// the budget.
pub async fn serve<I: Intake>(
    listeners: Vec<TcpListener>,
    served: Served,
    budget: BodyBudget,
    intake: I,
) -> Infallible {
    let (turn, refusals) = (Mutex::new(()), Refusals::default());
    let receiver = Arc::new(Receiver { served, intake, budget, turn, refusals });
    serve_connections(listeners, move |request, port| answer(request, port, Arc::clone(&receiver))).await
}

async fn answer<I: Intake>(
    request: Request<Incoming>,
    port: u16,
    receiver: Arc<Receiver<I>>,
) -> Response<Answer> {
    if grpc::is_meant(request.headers()) {
        grpc::answer(request, port, &receiver).await
    } else {
        http::answer(request, port, &receiver).await
    }
}

impl<I: Intake> Receiver<I> {
    async fn accept(&self, signal: Signal, body: Bytes, arrival: Arrival<'_>) -> Result<(), Refusal> {
        if self.intake.accept(signal, body).await? == 0 && !arrival.is_empty {
            let Arrival { port, path, .. } = arrival;
            self.refusals.note(Kind::NoItems, port, || {
                format!("a request to {path} held no {signal}; check the exporter's endpoint for each signal")
            });
        }
        Ok(())
    }
}

/// The place that a request came to. Clients test a connection with an empty one.
struct Arrival<'a> {
    port: u16,
    path: &'a str,
    is_empty: bool,
}

impl Refusal {
    fn kind(&self) -> Kind {
        match self {
            Self::Malformed(_) => Kind::Malformed,
            Self::Busy => Kind::Busy,
            Self::LargerThanBuffer { .. } => Kind::TooLarge,
            Self::Amplified(_) => Kind::Amplified,
        }
    }
}

/// What to say of a signal that is not served.
fn disabled(signal: Signal) -> String {
    let variable = signal.as_str().to_ascii_uppercase();
    format!("{signal} are not received here, because ROTEL_OTLP_RECEIVER_{variable}_DISABLED is set")
}
