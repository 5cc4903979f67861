//! The window of time in which requests to a backend may start.

use std::time::Duration;

use super::buffer::{Barrier, Released};
use super::timers::{Timer, TimerTable};
use crate::delivery::cadence::DuringInvocation;

#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) kind: WindowKind,
    pub(super) released: Released,
    /// The time between two releases.
    pub(super) interval: Option<Duration>,
    pub(super) began_at: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WindowKind {
    /// An invocation that ends with a flush.
    Held,
    /// An invocation whose end freezes the environment at once.
    Unheld,
    /// No freezes, or no events that announce them.
    Continuous,
}

impl Window {
    /// Opens a window and sets the timer of its first release. Without an interval, `at_once` is released.
    pub(super) fn open(
        kind: WindowKind,
        during: DuringInvocation,
        at_once: Released,
        timers: &mut TimerTable,
        at: Duration,
    ) -> Self {
        timers.stop(Timer::Release);
        timers.stop(Timer::LongRun);
        let (released, interval) = match during {
            DuringInvocation::AtOnce => (at_once, None),
            DuringInvocation::Every { first, interval } => {
                timers.set(Timer::Release, at + first);
                (Released::NOTHING, Some(interval))
            }
        };
        Self { kind, released, interval, began_at: at }
    }

    /// Releases everything before `barrier` if a release is due.
    pub(super) fn release_if_due(&mut self, barrier: Barrier, timers: &mut TimerTable, at: Duration) {
        if let Some(interval) = self.interval
            && timers.take_due(Timer::Release, at)
        {
            self.released = Released { sdk: barrier, platform: barrier };
            timers.set(Timer::Release, at + interval);
        }
    }
}
