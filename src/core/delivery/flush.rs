//! A flush of one sender.

use std::time::Duration;

use super::breaker::Breaker;
use super::buffer::Barrier;
use super::timers::{Timer, TimerTable};
use crate::lambda::lifecycle::FlushReason;
use crate::signal::{PerSignal, Signal};

/// At SHUTDOWN what fails is tried again after so long, and then after twice that, and so on.
const SHUTDOWN_BACKOFF: Duration = Duration::from_millis(100);

/// A flush that is going on. All times are of [`crate::elapsed::Elapsed`].
#[derive(Debug)]
pub(super) struct Flush {
    pub(super) reason: FlushReason,
    /// It covers what came before.
    pub(super) barrier: Barrier,
    pub(super) deadline: Duration,
    started_at: Duration,
    signals: PerSignal<OfSignal>,
}

/// When to try again what has failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Again {
    /// By the backoff.
    pub(super) at: Duration,
    /// The wait that the backend asked for.
    pub(super) after: Option<Duration>,
    /// The time from its start for which the flush retries.
    pub(super) within: Duration,
}

#[derive(Clone, Copy, Debug)]
struct OfSignal {
    left: bool,
    progressed: bool,
    shutdown_backoff: Duration,
}

impl Flush {
    pub(super) fn new(reason: FlushReason, barrier: Barrier, deadline: Duration, now: Duration) -> Self {
        let untried = OfSignal { left: false, progressed: false, shutdown_backoff: SHUTDOWN_BACKOFF };
        Self { reason, barrier, deadline, started_at: now, signals: PerSignal::from_fn(|_| untried) }
    }

    pub(super) fn is_last(&self) -> bool {
        self.reason == FlushReason::Shutdown
    }

    /// Returns true if an attempt may be made now: the breaker is closed, and a wait that the backend asked for is over.
    pub(super) fn is_due(
        &mut self,
        signal: Signal,
        breaker: &Breaker,
        timers: &mut TimerTable,
        now: Duration,
    ) -> bool {
        if self.signals.of(signal).left || timers.get(Timer::Retry(signal)).is_some() {
            return false;
        }
        // There is no later flush to leave anything to.
        if self.is_last() {
            return true;
        }
        if breaker.is_open() {
            return false;
        }
        let Some(wait) = breaker.asked_to_wait(now) else { return true };
        if now + wait < self.deadline {
            timers.set(Timer::Retry(signal), now + wait);
        } else {
            self.leave(signal);
        }
        false
    }

    /// Leaves the rest of a signal to a later flush.
    pub(super) fn leave(&mut self, signal: Signal) {
        self.signals.of_mut(signal).left = true;
    }

    /// Takes a failure of an attempt of this flush; returns whether there will be another.
    pub(super) fn retries(
        &mut self,
        signal: Signal,
        again: Again,
        timers: &mut TimerTable,
        now: Duration,
    ) -> bool {
        let is_last = self.is_last();
        let Again { at, after, within } = again;
        let of_signal = self.signals.of_mut(signal);
        let again_at = if is_last {
            // A wish beyond the end would be the end of what is kept.
            let wished = after.and_then(|after| now.checked_add(after)).filter(|at| *at < self.deadline);
            let backoff = now + of_signal.shutdown_backoff;
            of_signal.shutdown_backoff *= 2;
            wished.map_or(backoff, |wished| wished.max(backoff))
        } else {
            at
        };
        let given_up_at = self.started_at.checked_add(within).unwrap_or(self.deadline).min(self.deadline);
        of_signal.left = again_at >= given_up_at;
        if !of_signal.left {
            timers.set(Timer::Retry(signal), again_at);
        }
        !of_signal.left
    }

    /// Takes that the backend took something of the signal.
    pub(super) fn progressed(&mut self, signal: Signal) {
        self.signals.of_mut(signal).progressed = true;
    }

    pub(super) fn has_progressed(&self, signal: Signal) -> bool {
        self.signals.of(signal).progressed
    }

    /// The time since its start.
    pub(super) fn took(&self, now: Duration) -> Duration {
        now.saturating_sub(self.started_at)
    }
}
