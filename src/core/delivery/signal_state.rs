//! The state of one signal's way to the backend.

use std::time::Duration;

use super::breaker::{Breaker, RetryPolicy};
use super::buffer::Batch;
use super::event::RequestId;
use crate::elapsed::Now;
use crate::otlp::Limits;

/// A request that was too large is not cut any further than to so many bytes: no backend takes less, so that its size is
/// not what is wrong with it.
const MIN_SPLIT_BYTES: usize = 16 * 1024;
/// A probe carries so much at most, so that it is soon through.
const MAX_PROBE_BYTES: usize = 64 * 1024;
/// By so much the wall clock has to get ahead of the monotonic one for a freeze. The network time protocol sets it
/// right by less.
const MIN_FREEZE: Duration = Duration::from_secs(1);

/// The state of one signal's way to the backend.
#[derive(Debug)]
pub(super) struct SignalState {
    /// Set by the user.
    configured: Limits,
    /// What the backend takes, as far as it is known.
    limits: Limits,
    /// Cutting has not helped so far: the backend says "too large" to anything.
    splitting_is_futile: bool,
    pub(super) breaker: Breaker,
    pub(super) in_flight: Option<InFlight>,
    /// Until then, what comes during the function waits for more of its like.
    pub(super) coalesces_until: Option<Duration>,
}

/// A request under way.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) request: RequestId,
    /// `None` in a probe that carries nothing.
    pub(super) batch: Option<Batch>,
    pub(super) started: Now,
    /// The same on the scale of [`crate::elapsed::Elapsed`].
    pub(super) started_at: Duration,
    /// Started by the flush that is going on, so that its failure is the flush's.
    pub(super) by_flush: bool,
    /// Started in an invocation that is not held.
    pub(super) unheld: bool,
    pub(super) retry: RetryPolicy,
    /// A probe with telemetry is given so long at least, where it is known how long an answer takes.
    pub(super) earliest_probe_end: Option<Duration>,
}

impl InFlight {
    /// Returns true if the environment was frozen since the start: then no answer will come, and the timeout, measured by
    /// the monotonic clock, is as far away as before.
    pub(super) fn was_frozen(&self, now: Now, at: Duration) -> bool {
        was_frozen(self.started, self.started_at, now, at)
    }

    /// The time since its start, without freezes.
    pub(super) fn had(&self, now: Now) -> Duration {
        now.monotonic.saturating_duration_since(self.started.monotonic)
    }
}

/// Returns true if the environment was frozen since a moment.
pub(super) fn was_frozen(since: Now, since_at: Duration, now: Now, at: Duration) -> bool {
    let ran = now.monotonic.saturating_duration_since(since.monotonic);
    at.saturating_sub(since_at).saturating_sub(ran) > MIN_FREEZE
}

impl SignalState {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            configured: limits,
            limits,
            splitting_is_futile: false,
            breaker: Breaker::default(),
            in_flight: None,
            coalesces_until: None,
        }
    }

    /// How large a request may be.
    pub(super) fn limits(&self) -> Limits {
        let Limits { items, bytes } = self.limits;
        Limits { items, bytes: if self.breaker.is_open() { bytes.min(MAX_PROBE_BYTES) } else { bytes } }
    }

    /// Until when what comes during the function still waits for more of its like.
    pub(super) fn coalescing_until(&self, now: Duration) -> Option<Duration> {
        self.coalesces_until.filter(|until| now < *until)
    }

    /// When a probe that is under way has had its time. `least` is what any of them is given.
    pub(super) fn probe_ends_at(&self, least: Duration) -> Option<Duration> {
        Some(self.in_flight.as_ref()?.started_at + self.breaker.probe_budget()?.max(least))
    }

    /// Takes that the backend found a batch too large; returns whether smaller ones are worth trying.
    pub(super) fn shrink_limits(&mut self, batch: &Batch) -> bool {
        if self.splitting_is_futile || batch.items < 2 {
            return false;
        }
        if batch.bytes <= MIN_SPLIT_BYTES {
            self.splitting_is_futile = true;
            self.limits = self.configured;
            return false;
        }
        self.limits.bytes = batch.bytes / 2;
        true
    }

    /// Takes an answer. Returns whether it ends an outage.
    pub(super) fn answered(&mut self, accepted: bool) -> bool {
        if accepted {
            self.splitting_is_futile = false;
        }
        self.breaker.record_answer()
    }
}
