//! A flush of one sender.

use std::time::Duration;

use super::breaker::Breaker;
use super::buffer::Barrier;
use super::timers::{Timer, TimerTable};
use crate::lambda::lifecycle::FlushReason;
use crate::signal::{PerSignal, Signal};

/// The first backoff at SHUTDOWN. It doubles with each failure.
const SHUTDOWN_BACKOFF: Duration = Duration::from_millis(100);

/// A running flush. All times are those of [`crate::elapsed::Elapsed`].
#[derive(Debug)]
pub(super) struct Flush {
    pub(super) reason: FlushReason,
    /// The flush covers everything that arrived before.
    pub(super) barrier: Barrier,
    pub(super) deadline: Duration,
    started_at: Duration,
    signals: PerSignal<SignalFlush>,
}

/// The next attempt after a failure.
#[derive(Clone, Copy, Debug)]
pub(super) struct NextAttempt {
    /// Its time according to the backoff.
    pub(super) at: Duration,
    /// The wait that the backend requested.
    pub(super) after: Option<Duration>,
    /// The time, from the start of the flush, for which it retries.
    pub(super) within: Duration,
}

#[derive(Clone, Copy, Debug)]
struct SignalFlush {
    given_up: bool,
    progressed: bool,
    shutdown_backoff: Duration,
}

impl Flush {
    pub(super) fn new(reason: FlushReason, barrier: Barrier, deadline: Duration, now: Duration) -> Self {
        let untried = SignalFlush { given_up: false, progressed: false, shutdown_backoff: SHUTDOWN_BACKOFF };
        Self { reason, barrier, deadline, started_at: now, signals: PerSignal::from_fn(|_| untried) }
    }

    pub(super) fn is_last(&self) -> bool {
        self.reason == FlushReason::Shutdown
    }

    /// Returns true if an attempt may start now: the breaker is closed, and a wait that the backend requested is over. If that
    /// wait ends before the deadline, sets the retry timer, else gives the signal up. At SHUTDOWN the breaker is ignored.
    pub(super) fn may_attempt_or_schedule(
        &mut self,
        signal: Signal,
        breaker: &Breaker,
        timers: &mut TimerTable,
        now: Duration,
    ) -> bool {
        if self.signals.of(signal).given_up || timers.get(Timer::Retry(signal)).is_some() {
            return false;
        }
        // No later flush could send it.
        if self.is_last() {
            return true;
        }
        if breaker.is_open() {
            return false;
        }
        let Some(wait) = breaker.remaining_wait(now) else { return true };
        if now + wait < self.deadline {
            timers.set(Timer::Retry(signal), now + wait);
        } else {
            self.give_up(signal);
        }
        false
    }

    /// Leaves the rest of the signal to a later flush.
    pub(super) fn give_up(&mut self, signal: Signal) {
        self.signals.of_mut(signal).given_up = true;
    }

    /// Schedules a retry after a failed attempt of this flush. Returns false if there is no time for one.
    pub(super) fn schedule_retry(
        &mut self,
        signal: Signal,
        next: NextAttempt,
        timers: &mut TimerTable,
        now: Duration,
    ) -> bool {
        let is_last = self.is_last();
        let NextAttempt { at, after, within } = next;
        let signal_flush = self.signals.of_mut(signal);
        let retry_at = if is_last {
            // A wait beyond the end of the process would lose everything that is held, so it is ignored.
            let requested = after.and_then(|after| now.checked_add(after)).filter(|at| *at < self.deadline);
            let backoff = now + signal_flush.shutdown_backoff;
            signal_flush.shutdown_backoff *= 2;
            requested.map_or(backoff, |requested| requested.max(backoff))
        } else {
            at
        };
        let given_up_at = self.started_at.checked_add(within).unwrap_or(self.deadline).min(self.deadline);
        signal_flush.given_up = retry_at >= given_up_at;
        if !signal_flush.given_up {
            timers.set(Timer::Retry(signal), retry_at);
        }
        !signal_flush.given_up
    }

    /// Records that the backend accepted a batch of the signal.
    pub(super) fn record_progress(&mut self, signal: Signal) {
        self.signals.of_mut(signal).progressed = true;
    }

    pub(super) fn has_progressed(&self, signal: Signal) -> bool {
        self.signals.of(signal).progressed
    }

    /// The time since the start.
    pub(super) fn duration(&self, now: Duration) -> Duration {
        now.saturating_sub(self.started_at)
    }
}
