//! Telemetry as it travels through us: encoded.
//!
//! Protobuf messages merge by concatenation, so a request to the backend is chunks laid end to end, and the memory that
//! a chunk holds is its bytes and little more. What is in a chunk has been validated ([`crate::core::otlp::validate`]) or was encoded
//! here: a chunk never spoils the batch it goes into.

use std::sync::Arc;

use bytes::Bytes;

use crate::core::signal::Signal;

/// The encoded bytes of one OTLP export request, with what must be known of them without decoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Which export request the bytes are.
    pub signal: Signal,
    /// A whole `Export…ServiceRequest`, protobuf.
    pub bytes: Bytes,
    /// Log records, data points or spans within.
    pub items: usize,
    /// Who made it.
    pub origin: Origin,
    /// The request id of the invocation that all of it belongs to, where that is known and none of it names a trace of its
    /// own; of spans made here, the invocation that they stand for.
    pub invocation: Option<Arc<str>>,
}

/// Who made a piece of telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The OpenTelemetry SDK of the function, through the OTLP receiver.
    Sdk,
    /// The Telemetry API: what the function and the extensions wrote.
    Platform,
}
