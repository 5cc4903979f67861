//! The sending state of one signal.

use std::time::Duration;

use super::breaker::{Breaker, RetryPolicy};
use super::buffer::Batch;
use super::event::RequestId;
use crate::elapsed::Now;
use crate::otlp::Limits;

/// A batch of at most this size is not split further. Every backend accepts that many bytes, so something else must be wrong.
const MIN_SPLIT_BYTES: usize = 16 * 1024;
/// The maximum size of a probe, so that it is quick.
const MAX_PROBE_BYTES: usize = 64 * 1024;
/// The wall clock must gain more than this on the monotonic clock to count as a freeze. NTP corrects it by less.
const MIN_FREEZE: Duration = Duration::from_secs(1);

/// The sending state of one signal.
#[derive(Debug)]
pub(super) struct SignalState {
    /// The limits set by the user.
    configured: Limits,
    /// The limits that the backend accepts, as far as known.
    limits: Limits,
    /// Splitting has not helped so far: the backend answers "too large" to any size.
    splitting_is_futile: bool,
    pub(super) breaker: Breaker,
    pub(super) in_flight: Option<InFlight>,
    /// Until then, new telemetry waits to be sent together.
    pub(super) coalesces_until: Option<Duration>,
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) request: RequestId,
    /// `None` in an empty probe.
    pub(super) batch: Option<Batch>,
    pub(super) started: Now,
    /// The start in the time of [`crate::elapsed::Elapsed`].
    pub(super) started_at: Duration,
    /// Started by the running flush, so its failure counts as the flush's.
    pub(super) by_flush: bool,
    /// Started in an unheld invocation.
    pub(super) unheld: bool,
    pub(super) retry: RetryPolicy,
    /// A probe with telemetry is not cut off before this time; `None` if the round trip is unknown.
    pub(super) earliest_probe_end: Option<Duration>,
}

impl InFlight {
    /// Returns true if the environment was frozen since the start. Then no answer will come, and the request timeout, measured
    /// by the monotonic clock, has not moved.
    pub(super) fn was_frozen(&self, now: Now, at: Duration) -> bool {
        was_frozen(self.started, self.started_at, now, at)
    }

    /// The time since the start, without freezes.
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

    /// The size limits of the next request.
    pub(super) fn limits(&self) -> Limits {
        let Limits { items, bytes } = self.limits;
        Limits { items, bytes: if self.breaker.is_open() { bytes.min(MAX_PROBE_BYTES) } else { bytes } }
    }

    /// The end of the pause in which new telemetry waits to be sent together; `None` if it is over.
    pub(super) fn coalescing_until(&self, now: Duration) -> Option<Duration> {
        self.coalesces_until.filter(|until| now < *until)
    }

    /// The time at which the running probe is cut off. `least` is the minimum time of any probe.
    pub(super) fn probe_ends_at(&self, least: Duration) -> Option<Duration> {
        Some(self.in_flight.as_ref()?.started_at + self.breaker.probe_budget()?.max(least))
    }

    /// Lowers the limits after the backend found a batch too large. Returns true if smaller batches are worth a try.
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

    /// Records an answer. Returns true if it ends an outage.
    pub(super) fn answered(&mut self, accepted: bool) -> bool {
        if accepted {
            self.splitting_is_futile = false;
        }
        self.breaker.record_answer()
    }
}
