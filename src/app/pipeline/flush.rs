//! A flush that is going on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::core::delivery::breaker::Breaker;
use crate::core::delivery::buffer::Barrier;
use crate::core::lifecycle::FlushReason;
use crate::core::signal::{PerSignal, Signal};
use crate::edge::clock;

/// At SHUTDOWN what fails is tried again after so long, and then after twice that, and so on.
const SHUTDOWN_BACKOFF: Duration = Duration::from_millis(100);

/// A flush that is going on.
#[derive(Debug)]
pub(super) struct Flush {
    pub(super) reason: FlushReason,
    /// It covers what came before.
    pub(super) barrier: Barrier,
    started_at: Instant,
    deadline: Instant,
    signals: PerSignal<OfSignal>,
    done: Arc<oneshot::Sender<()>>,
}

/// When to try again what has failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Again {
    /// By the backoff.
    pub(super) at: Instant,
    /// How long the backend asked to wait.
    pub(super) after: Option<Duration>,
    /// How long after its start the flush goes on trying.
    pub(super) within: Duration,
}

#[derive(Clone, Copy, Debug)]
struct OfSignal {
    failed: bool,
    again_at: Option<Instant>,
    progressed: bool,
    shutdown_backoff: Duration,
}

impl Flush {
    pub(super) fn new(
        reason: FlushReason,
        deadline: Instant,
        barrier: Barrier,
        done: Arc<oneshot::Sender<()>>,
    ) -> Self {
        let untried =
            OfSignal { failed: false, again_at: None, progressed: false, shutdown_backoff: SHUTDOWN_BACKOFF };
        let signals = PerSignal::from_fn(|_| untried);
        Self { reason, barrier, started_at: clock::now(), deadline, signals, done }
    }

    /// Whether an attempt may be made now. Looks at what stood between the signal and the endpoint when the flush
    /// began, too: with an open breaker nothing is tried, and with a wait that the backend asked for only after it.
    pub(super) fn is_due(&mut self, signal: Signal, breaker: &Breaker, now: Instant, wall: Duration) -> bool {
        let of_signal = self.signals.of_mut(signal);
        if of_signal.failed || of_signal.again_at.is_some() {
            return false;
        }
        // There is no later flush to leave anything to.
        if self.reason == FlushReason::Shutdown {
            return true;
        }
        if breaker.is_open() {
            return false;
        }
        let Some(wait) = breaker.asked_to_wait(wall) else { return true };
        let until = now + wait;
        if until < self.deadline {
            of_signal.again_at = Some(until);
        } else {
            of_signal.failed = true;
        }
        false
    }

    /// Takes a failure of an attempt of this flush; says whether there will be another.
    pub(super) fn retries(&mut self, signal: Signal, again: Again, now: Instant) -> bool {
        let Again { at, after, within } = again;
        let of_signal = self.signals.of_mut(signal);
        let again_at = if self.reason == FlushReason::Shutdown {
            // A wish beyond the end would be the end of what waits.
            let wished = after.and_then(|after| now.checked_add(after)).filter(|at| *at < self.deadline);
            let backoff = now + of_signal.shutdown_backoff;
            of_signal.shutdown_backoff *= 2;
            wished.map_or(backoff, |wished| wished.max(backoff))
        } else {
            at
        };
        let given_up_at = self.started_at.checked_add(within).unwrap_or(self.deadline).min(self.deadline);
        of_signal.failed = again_at >= given_up_at;
        of_signal.again_at = (!of_signal.failed).then_some(again_at);
        !of_signal.failed
    }

    /// Takes that the backend took something of the signal.
    pub(super) fn progressed(&mut self, signal: Signal) {
        self.signals.of_mut(signal).progressed = true;
    }

    pub(super) fn has_progressed(&self, signal: Signal) -> bool {
        self.signals.of(signal).progressed
    }

    /// When something is to be tried again.
    pub(super) fn again_at(&self) -> Option<Instant> {
        Signal::ALL.into_iter().filter_map(|signal| self.signals.of(signal).again_at).min()
    }

    /// Takes the passing of time.
    pub(super) fn wake(&mut self, now: Instant) {
        for signal in Signal::ALL {
            self.signals.of_mut(signal).again_at.take_if(|at| *at <= now);
        }
    }

    /// How long it has taken so far.
    pub(super) fn took(&self) -> Duration {
        clock::now().saturating_duration_since(self.started_at)
    }

    /// Tells that it is over, if this was the last outlet for which it went on.
    pub(super) fn finish(self) {
        if let Some(done) = Arc::into_inner(self.done) {
            // The driver may have stopped waiting.
            let _ = done.send(());
        }
    }
}
