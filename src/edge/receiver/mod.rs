//! OTLP in: what the SDK within the function sends.
//!
//! Both protocols do the same: take the limit and the compression off a request, hand it on as protobuf bytes, and
//! answer as soon as it has been taken. Neither looks into it, and neither waits for the backend: the function would wait
//! with them.

use bytes::Bytes;

use crate::core::otlp::Malformed;
use crate::core::signal::{PerSignal, Signal};

mod compression;
pub mod grpc;
pub mod http;
#[cfg(test)]
mod tests;

/// Where requests go.
pub trait Intake: Clone + Send + Sync + 'static {
    /// Takes an export request, protobuf and without compression, or refuses it at once. What is taken is answered for:
    /// the sender forgets it.
    fn accept(&self, signal: Signal, body: Bytes) -> Result<(), Refusal>;
}

/// Why a request is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not what it should be, and will not be the next time: the sender is to give it up.
    #[error("not an OTLP request: {0}")]
    Malformed(#[from] Malformed),
    /// There is no room for it now: the sender is to try again.
    #[error("the queue is full, try again in a second")]
    Busy,
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

/// What to say of a signal that is not served.
fn disabled(signal: Signal) -> String {
    let variable = signal.as_str().to_ascii_uppercase();
    format!("{signal} are not received here, because ROTEL_OTLP_RECEIVER_{variable}_DISABLED is set")
}
