//! The connections to one backend: whether they may be closed without notice.

use std::time::Duration;

use super::event::RequestId;

/// The longest time without an answer after which a connection is still trusted: load balancers drop idle ones, and a
/// freeze hides it.
const IDLE_LIMIT: Duration = Duration::from_secs(20);
/// The same at SHUTDOWN, where no later request could make up for it.
const IDLE_LIMIT_AT_SHUTDOWN: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConnectionState {
    /// It may have been closed without notice.
    is_stale: bool,
    last_answer: Option<Duration>,
    /// The request that opens it.
    warming: Option<RequestId>,
}

impl ConnectionState {
    /// Returns true if a new connection is to be made, which is as good as one that record_answer.
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

    /// Notes an answer over it.
    pub(super) fn record_answer(&mut self, at: Duration) {
        self.last_answer = Some(at);
    }

    /// Has the next request open a new one.
    pub(super) fn mark_stale(&mut self) {
        self.is_stale = true;
    }

    pub(super) fn is_warming(&self) -> bool {
        self.warming.is_some()
    }

    /// Notes the request that opens it.
    pub(super) fn start_warming(&mut self, request: RequestId) {
        self.warming = Some(request);
    }

    /// Returns true if it was this request that opened it, and is not any more.
    pub(super) fn take_warmed(&mut self, request: RequestId) -> bool {
        self.warming.take_if(|warming| *warming == request).is_some()
    }

    /// Takes the request that opens it, to be aborted.
    pub(super) fn take_warming(&mut self) -> Option<RequestId> {
        self.warming.take()
    }
}
