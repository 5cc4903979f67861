//! The connections to one backend: tracks if they can still be trusted.

use std::time::Duration;

use super::event::RequestId;

/// A connection that has been silent for longer is not trusted: load balancers drop idle connections, and a freeze hides
/// the close.
const IDLE_LIMIT: Duration = Duration::from_secs(20);
/// The same limit at SHUTDOWN, where no later request could make up for a failure.
const IDLE_LIMIT_AT_SHUTDOWN: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConnectionState {
    /// The connection may have been closed unnoticed.
    is_stale: bool,
    last_answer: Option<Duration>,
    /// The request that opens the connection.
    warming: Option<RequestId>,
}

impl ConnectionState {
    /// Returns true if the next request needs a new connection. Clears the mark and records an
    /// answer, because a new connection counts as answered.
    pub(super) fn take_stale(&mut self, at: Duration) -> bool {
        if self.is_stale {
            self.last_answer = Some(at);
        }
        std::mem::take(&mut self.is_stale)
    }

    pub(super) fn is_idle(&self, at: Duration) -> bool {
        self.is_silent(at, IDLE_LIMIT)
    }

    pub(super) fn is_idle_at_shutdown(&self, at: Duration) -> bool {
        self.is_silent(at, IDLE_LIMIT_AT_SHUTDOWN)
    }

    fn is_silent(&self, at: Duration, limit: Duration) -> bool {
        self.last_answer.is_none_or(|last_answer| at.saturating_sub(last_answer) > limit)
    }

    pub(super) fn record_answer(&mut self, at: Duration) {
        self.last_answer = Some(at);
    }

    /// Makes the next request open a new connection.
    pub(super) fn mark_stale(&mut self) {
        self.is_stale = true;
    }

    pub(super) fn is_warming(&self) -> bool {
        self.warming.is_some()
    }

    pub(super) fn start_warming(&mut self, request: RequestId) {
        self.warming = Some(request);
    }

    /// Ends the warming. Returns true if this request was the one that did it.
    pub(super) fn take_warmed(&mut self, request: RequestId) -> bool {
        self.warming.take_if(|warming| *warming == request).is_some()
    }

    /// Takes the warming request, to abort it.
    pub(super) fn take_warming(&mut self) -> Option<RequestId> {
        self.warming.take()
    }
}
