//! The OTLP receiver for the function's SDK.
//!
//! Both protocols are served on every port, because using the wrong one is the most common mistake. Both do the
//! same: they enforce the limit, decompress the request, pass it on as protobuf, and respond as soon as it has
//! been accepted. Neither waits for the backend: the function would wait with them.
//!
//! Promises that all requests together never exceed the body budget, and that refused requests are logged, a
//! few lines per reason.

use std::convert::Infallible;
use std::sync::Arc;

use ::http::{Request, Response};
use bytes::Bytes;
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use self::refusals::{RefusalKind, Refusals};
use crate::edge::body::WholeBody;
use crate::edge::http::serve as serve_connections;
use rotel_core::body_budget::BodyBudget;
use rotel_core::otlp::MalformedRequest;
use rotel_core::signal::{PerSignal, Signal};

mod compression;
mod grpc;
mod http;
mod refusals;
#[cfg(test)]
mod tests;

/// The destination of requests.
pub trait OtlpIntake: Clone + Send + Sync + 'static {
    /// Accepts an uncompressed protobuf export request, or refuses it at once. Accepting it is final: the
    /// sender forgets it. Returns the number of items in it.
    fn accept(
        &self,
        signal: Signal,
        body: Bytes,
    ) -> impl Future<Output = Result<usize, RequestRefusal>> + Send;
}

/// The reason that a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestRefusal {
    /// The request is invalid: the sender must not retry.
    #[error("not an OTLP request: {0}")]
    Malformed(#[from] MalformedRequest),
    /// There is no room at the moment: the sender should retry.
    #[error("the buffer is full; retry in a second; if this persists, increase ROTEL_BUFFER_MAX_BYTES")]
    Busy,
    /// The request can never fit.
    #[error(
        "the request does not fit into the buffer, which has room for {limit} bytes; send smaller batches, or increase \
        ROTEL_BUFFER_MAX_BYTES"
    )]
    LargerThanBuffer {
        /// The maximum size of a request, in bytes.
        limit: usize,
    },
    /// The export would be several times the size of the request.
    #[error("the request would grow to several times its size, because {0}; send smaller batches")]
    Amplified(&'static str),
}

/// The options of the receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverOptions {
    /// The endpoint of each signal.
    pub endpoints: PerSignal<SignalEndpoint>,
    /// The maximum size of a decompressed gRPC message, in bytes.
    pub grpc_message_limit: usize,
    /// The maximum size of an HTTP body, in bytes, both compressed and decompressed.
    pub http_body_limit: usize,
}

/// The endpoint of a signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalEndpoint {
    /// The signal is served.
    pub enabled: bool,
    /// The path in OTLP/HTTP. In OTLP/gRPC it is fixed.
    pub http_path: String,
}

/// Serves every signal, on the default paths and with the default limits of the OpenTelemetry Collector.
impl Default for ReceiverOptions {
    fn default() -> Self {
        let endpoint = |signal| SignalEndpoint { enabled: true, http_path: format!("/v1/{signal}") };
        Self {
            endpoints: PerSignal::from_fn(endpoint),
            grpc_message_limit: 4 << 20,
            http_body_limit: 20 << 20,
        }
    }
}

/// The state that all requests share.
struct ReceiverState<I> {
    options: ReceiverOptions,
    intake: I,
    budget: BodyBudget,
    /// Serializes decompression, conversion and validation, which may take several times the memory of a
    /// request.
    conversion: Mutex<()>,
    refusals: Refusals,
}

/// Serves OTLP/gRPC and OTLP/HTTP on all listeners for as long as the future is polled. All bodies share the
/// budget.
pub async fn serve<I: OtlpIntake>(
    listeners: Vec<TcpListener>,
    options: ReceiverOptions,
    budget: BodyBudget,
    intake: I,
) -> Infallible {
    let (conversion, refusals) = (Mutex::new(()), Refusals::default());
    let receiver = Arc::new(ReceiverState { options, intake, budget, conversion, refusals });
    serve_connections(listeners, move |request, port| answer(request, port, Arc::clone(&receiver))).await
}

async fn answer<I: OtlpIntake>(
    request: Request<Incoming>,
    port: u16,
    receiver: Arc<ReceiverState<I>>,
) -> Response<WholeBody> {
    if grpc::claims_grpc(request.headers()) {
        grpc::answer(request, port, &receiver).await
    } else {
        http::answer(request, port, &receiver).await
    }
}

impl<I: OtlpIntake> ReceiverState<I> {
    async fn accept(
        &self,
        signal: Signal,
        body: Bytes,
        target: RequestTarget<'_>,
    ) -> Result<(), RequestRefusal> {
        if self.intake.accept(signal, body).await? == 0 && !target.is_empty {
            let RequestTarget { port, path, .. } = target;
            self.refusals.record(RefusalKind::NoItems, port, || {
                format!(
                    "a request to {path} contained no {signal}; check the exporter's endpoint for each signal"
                )
            });
        }
        Ok(())
    }
}

/// The port and path of a request. Clients test a connection with an empty request.
struct RequestTarget<'a> {
    port: u16,
    path: &'a str,
    is_empty: bool,
}

impl RequestRefusal {
    fn kind(&self) -> RefusalKind {
        match self {
            Self::Malformed(_) => RefusalKind::Malformed,
            Self::Busy => RefusalKind::Busy,
            Self::LargerThanBuffer { .. } => RefusalKind::TooLarge,
            Self::Amplified(_) => RefusalKind::Amplified,
        }
    }
}

/// The message for a signal that is not served.
fn disabled(signal: Signal) -> String {
    let variable = signal.as_str().to_ascii_uppercase();
    format!("{signal} are not accepted: ROTEL_OTLP_RECEIVER_{variable}_DISABLED is set")
}
