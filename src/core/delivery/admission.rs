//! The admission of requests during an invocation: what a signal may send now.
//!
//! It decides from the window, the breaker, the buffer and the round trip, and changes nothing. The sender sets the timer and
//! sends the request. Flushes are admitted by [`super::flush`].

use std::time::Duration;

use super::buffer::{Buffer, Released};
use super::round_trip::RoundTrip;
use super::signal_state::SignalState;
use super::timers::Timer;
use super::window::{Window, WindowKind};
use crate::signal::Signal;

/// The facts that decide about the requests of one signal. Times are those of [`crate::elapsed::Elapsed`].
pub(super) struct Facts<'a> {
    pub(super) signal: Signal,
    pub(super) window: Window,
    pub(super) state: &'a SignalState,
    pub(super) buffer: &'a Buffer,
    pub(super) round_trip: RoundTrip,
    pub(super) flush_timeout: Duration,
    pub(super) at: Duration,
}

/// The decision.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Admission {
    /// The request that may be sent now, if any.
    pub(super) request: Option<Admitted>,
    /// The timer to set, with its expiry, if a request has to wait.
    pub(super) timer: Option<(Timer, Duration)>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Admitted {
    /// A batch of the released chunks.
    Batch(Released),
    /// A probe without telemetry.
    EmptyProbe,
}

impl Facts<'_> {
    /// Decides which request may be sent now.
    pub(super) fn admit(&self) -> Admission {
        let Self { signal, window, state, buffer, at, .. } = *self;
        if !state.breaker.is_ready(at) {
            return Admission::default();
        }
        let Some(least) = self.min_run() else { return Admission::default() };
        let coalesces_until = state.coalescing_until(at);
        let released = if coalesces_until.is_some() { Released::NOTHING } else { window.released };
        let may_start_at = window.began_at + least;
        if at < may_start_at {
            let would_send = buffer.would_take_early(signal, state.limits(), released);
            return Admission { request: None, timer: would_send.then_some((Timer::LongRun, may_start_at)) };
        }
        let request =
            if self.is_empty_probe_due(released) { Admitted::EmptyProbe } else { Admitted::Batch(released) };
        let timer = coalesces_until
            .filter(|_| buffer.has_released(signal, window.released))
            .map(|until| (Timer::Coalesced(signal), until));
        Admission { request: Some(request), timer }
    }

    /// The time that the invocation must run before a request starts; `None` if none may start.
    fn min_run(&self) -> Option<Duration> {
        match (self.window.kind, self.window.interval) {
            // A probe measures the current round trip.
            (WindowKind::Held, _) if self.state.breaker.is_open() => Some(Duration::ZERO),
            (WindowKind::Held, _) => Some(self.round_trip.min_held_run(self.flush_timeout)),
            (WindowKind::Unheld, Some(_)) if self.buffer.next_was_interrupted(self.signal) => None,
            // A nearly full buffer is sent at once, because a duplicate batch is better than a lost one.
            (WindowKind::Unheld, Some(_)) if !self.buffer.is_nearly_full() => {
                Some(self.round_trip.min_unheld_run())
            }
            // No event announces the end, so there is nothing to wait for.
            (WindowKind::Unheld | WindowKind::Continuous, _) => Some(Duration::ZERO),
        }
    }

    /// Returns true if an empty probe must go first: the next batch was cut off and may have arrived, or the last answers took
    /// too long.
    fn is_empty_probe_due(&self, released: Released) -> bool {
        let is_due = match self.round_trip.expected() {
            Some(expected) => self.state.breaker.is_open() && expected > self.flush_timeout,
            None => self.buffer.next_was_interrupted(self.signal),
        };
        is_due
            && self.window.kind != WindowKind::Continuous
            && self.buffer.would_take_early(self.signal, self.state.limits(), released)
    }
}
