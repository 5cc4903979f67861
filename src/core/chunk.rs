//! Encoded telemetry, the form in which it passes through the extension.
//!
//! Protobuf messages merge by concatenation, so a request to the backend is chunks laid end to end, and a chunk
//! takes little more memory than its bytes. A chunk has been validated ([`crate::otlp::validate`]) or was
//! encoded here, so it never spoils the batch it joins.

use std::sync::Arc;

use bytes::Bytes;

use crate::otlp;
use crate::signal::Signal;
use crate::trace_context::TraceContext;

/// One encoded OTLP export request, with the facts needed to handle it without decoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The signal, which selects the request message.
    pub signal: Signal,
    /// A whole `Export…ServiceRequest` in protobuf.
    pub bytes: Bytes,
    /// The number of log records, data points or spans.
    pub items: usize,
    /// The source of the telemetry.
    pub origin: Origin,
    /// The request id of the invocation that all items belong to, if it is known and no item has a trace id of
    /// its own. On spans created here, the invocation that they represent.
    pub invocation: Option<Arc<str>>,
}

impl Chunk {
    /// The largest size it can reach, in bytes. Log records without a trace id may still be stamped with one.
    pub fn size(&self) -> usize {
        let stamps = if self.pending_invocation().is_some() { self.items * otlp::MAX_STAMP_LEN } else { 0 };
        self.bytes.len() + stamps
    }

    /// The request id of the invocation whose span its log records still have to be stamped with.
    pub fn pending_invocation(&self) -> Option<&str> {
        self.invocation.as_deref().filter(|_| self.signal == Signal::Logs)
    }

    /// Stamps its log records with a span, once and for all. Never makes it larger than [`Self::size`]; returns
    /// the number of bytes by which `size` has shrunk.
    pub fn stamp(&mut self, context: &TraceContext) -> usize {
        let before = self.size();
        self.bytes = otlp::stamp(&self.bytes, context);
        self.invocation = None;
        before - self.size()
    }
}

/// The source of a piece of telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The function's OpenTelemetry SDK, received over OTLP.
    Sdk,
    /// The Telemetry API: logs of the function and the extensions, and platform events.
    Platform,
}
