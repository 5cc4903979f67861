//! Telemetry as it travels through us: encoded.
//!
//! Protobuf messages merge by concatenation, so a request to the backend is chunks laid end to end, and the memory that
//! a chunk holds is its bytes and little more. What is in a chunk has been validated ([`crate::otlp::validate`])
//! or was encoded here: a chunk never spoils the batch it goes into.

use std::sync::Arc;

use bytes::Bytes;

use crate::otlp;
use crate::signal::Signal;
use crate::trace_context::TraceContext;

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
    /// The request id of the invocation that all of it belongs to, where that is known and none of it names a trace of
    /// its own; of spans made here, the invocation that they stand for.
    pub invocation: Option<Arc<str>>,
}

impl Chunk {
    /// The most bytes that it may come to: log records which name no trace yet may still have one named in them.
    pub fn size(&self) -> usize {
        let stamps = if self.awaits_a_span().is_some() { self.items * otlp::STAMP_MOST } else { 0 };
        self.bytes.len() + stamps
    }

    /// The invocation whose span its log records are to name.
    pub fn awaits_a_span(&self) -> Option<&str> {
        self.invocation.as_deref().filter(|_| self.signal == Signal::Logs)
    }

    /// Names a span in its log records, for good. Never makes it larger than [`Self::size`]; gives the bytes by which
    /// it is smaller now.
    pub fn stamp(&mut self, context: &TraceContext) -> usize {
        let most = self.size();
        self.bytes = otlp::stamp(&self.bytes, context);
        self.invocation = None;
        most - self.size()
    }
}

/// Who made a piece of telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The OpenTelemetry SDK of the function, through the OTLP receiver.
    Sdk,
    /// The Telemetry API: what the function and the extensions wrote.
    Platform,
}
