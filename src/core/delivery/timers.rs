//! The timers of a sender, at most one of each kind.
//!
//! All are in the time of [`crate::elapsed::Elapsed`], which includes freezes and never goes back. So a timer expires after
//! the duration it was set to, whatever the clocks do.

use std::time::Duration;

use crate::signal::Signal;

/// The timers, named by the event that they announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// Retry the setup.
    Setup,
    /// A flush stops waiting for the setup.
    SetupWait,
    /// The next release of pending telemetry during the invocation.
    Release,
    /// The function has run long enough to expect an answer before its end.
    LongRun,
    /// The pause between two requests of the signal is over.
    Coalesced(Signal),
    /// The pause after a failure is over.
    Pause(Signal),
    /// Retry within a flush.
    Retry(Signal),
    /// The time of a probe is over.
    Probe(Signal),
}

/// The expiry of each [`Timer`], if it is set.
#[derive(Clone, Debug, Default)]
pub(super) struct TimerTable {
    at: [Option<Duration>; Timer::COUNT],
}

impl Timer {
    const COUNT: usize = 16;

    fn index(self) -> usize {
        match self {
            Self::Setup => 0,
            Self::SetupWait => 1,
            Self::Release => 2,
            Self::LongRun => 3,
            Self::Coalesced(signal) => 4 + signal as usize,
            Self::Pause(signal) => 7 + signal as usize,
            Self::Retry(signal) => 10 + signal as usize,
            Self::Probe(signal) => 13 + signal as usize,
        }
    }
}

impl TimerTable {
    pub(super) fn set(&mut self, timer: Timer, at: Duration) {
        *self.slot(timer) = Some(at);
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        *self.slot(timer) = None;
    }

    pub(super) fn get(&self, timer: Timer) -> Option<Duration> {
        self.at.get(timer.index()).copied().flatten()
    }

    /// Stops the timer if it is due. Returns true if it was.
    pub(super) fn take_due(&mut self, timer: Timer, now: Duration) -> bool {
        self.slot(timer).take_if(|at| *at <= now).is_some()
    }

    /// Stops all timers that are due.
    pub(super) fn clear_due(&mut self, now: Duration) {
        for slot in &mut self.at {
            slot.take_if(|at| *at <= now);
        }
    }

    pub(super) fn next(&self) -> Option<Duration> {
        self.at.iter().flatten().min().copied()
    }

    fn slot(&mut self, timer: Timer) -> &mut Option<Duration> {
        #[expect(clippy::indexing_slicing, reason = "the test below tries every timer")]
        &mut self.at[timer.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_timer_has_a_place_of_its_own() {
        let of_signal = [Timer::Coalesced, Timer::Pause, Timer::Retry, Timer::Probe];
        let of_signal = of_signal.into_iter().flat_map(|timer| Signal::ALL.map(timer));
        let timers: Vec<_> = [Timer::Setup, Timer::SetupWait, Timer::Release, Timer::LongRun]
            .into_iter()
            .chain(of_signal)
            .collect();
        assert_eq!(timers.len(), Timer::COUNT);
        let mut table = TimerTable::default();
        for (second, timer) in (1..).zip(&timers) {
            table.set(*timer, Duration::from_secs(second));
        }
        for (second, timer) in (1..).zip(timers) {
            let (just_before, due) = (Duration::from_secs(second - 1), Duration::from_secs(second));
            assert_eq!((table.get(timer), table.next()), (Some(due), Some(due)));
            assert!(!table.take_due(timer, just_before));
            assert!(table.take_due(timer, due));
        }
        assert_eq!(table.next(), None);
    }
}
