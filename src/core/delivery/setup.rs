//! When a backend is set up, and when again.
//!
//! Promises: one setup at a time; what fails is tried again after pauses that grow with the attempts, a minute at most;
//! after a backend has refused the key, the secret is fetched again once a minute at most. What a setup does, and what
//! comes of it, is left to others.

use std::time::Duration;

use crate::elapsed::Now;

/// The pause after the first failure; it doubles with each.
const INITIAL_PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_mins(1);
/// FlushHistogram wait so long for the first setup, and for the one after a restore. Later ones are waited for as long where the
/// probe budget allows it, or a function that is shorter than a call to AWS would never see the end of one.
const INITIAL_WAIT: Duration = Duration::from_millis(500);
/// A secret is fetched again so often at most.
const REFRESH_INTERVAL: Duration = Duration::from_mins(1);

/// The setup of one backend.
#[derive(Debug)]
pub(super) struct SetupState {
    running: Option<RunningSetup>,
    /// Failures in a row.
    failures: u32,
    /// The backend refused the key that came from a secret.
    key_refused: bool,
    /// When the secret was last fetched because of that.
    refreshed_at: Option<Duration>,
    /// The time, from the start of a setup, that the end of an invocation waits for it.
    wait: Duration,
}

impl Default for SetupState {
    fn default() -> Self {
        Self { running: None, failures: 0, key_refused: false, refreshed_at: None, wait: INITIAL_WAIT }
    }
}

/// A setup under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunningSetup {
    pub(super) started: Now,
    pub(super) started_at: Duration,
    /// Requests wait for it, because what they would be sent with is old.
    pub(super) blocks: bool,
    pub(super) refreshes: bool,
}

impl SetupState {
    pub(super) fn running(&self) -> Option<RunningSetup> {
        self.running
    }

    /// Returns true if requests wait for the setup.
    pub(super) fn blocks(&self) -> bool {
        self.running.is_some_and(|running| running.blocks)
    }

    /// The time, from the start of a setup, that the end of an invocation waits for it.
    pub(super) fn wait(&self) -> Duration {
        self.wait
    }

    /// Takes that a setup was waited for in vain: the next may take longer.
    pub(super) fn extend_wait(&mut self, most: Duration) {
        self.wait = (self.wait * 2).min(most.max(INITIAL_WAIT));
    }

    /// Returns true if the last setup must be tried again.
    pub(super) fn has_failed(&self) -> bool {
        self.failures > 0
    }

    pub(super) fn is_key_refused(&self) -> bool {
        self.key_refused
    }

    /// Takes that a setup starts.
    pub(super) fn start(&mut self, blocks: bool, now: Now, at: Duration) {
        let refreshes = self.key_refused;
        if refreshes {
            self.refreshed_at = Some(at);
        }
        self.running =
            Some(RunningSetup { started: now, started_at: at, blocks: blocks || refreshes, refreshes });
    }

    /// Takes that the one under way ended without a result, by a freeze.
    pub(super) fn abandon(&mut self) {
        self.running = None;
    }

    /// Takes a result. Returns the pause before the next attempt, where there is to be one. `jitter`, from 0 to 1, takes
    /// up to half of it away, so that a fleet does not ask in step.
    pub(super) fn finish(&mut self, is_complete: bool, jitter: f64) -> Option<Duration> {
        if self.running.take().is_some_and(|running| running.refreshes) {
            self.key_refused = false;
        }
        if is_complete {
            self.failures = 0;
            return None;
        }
        let doublings = self.failures.min(16);
        self.failures += 1;
        let pause = INITIAL_PAUSE.saturating_mul(1 << doublings).min(MAX_PAUSE);
        Some(pause.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0))
    }

    /// Takes that the backend refused the key. Returns when the secret may be fetched again.
    pub(super) fn on_key_refused(&mut self, at: Duration) -> Duration {
        self.key_refused = true;
        self.refreshed_at.map_or(at, |refreshed_at| (refreshed_at + REFRESH_INTERVAL).max(at))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn now() -> Now {
        #[expect(clippy::disallowed_methods, reason = "an origin; the clock is not read again")]
        let monotonic = Instant::now();
        Now { monotonic, wall: Duration::ZERO }
    }

    #[test]
    fn pauses_grow_to_a_minute_and_begin_anew() {
        let mut setup = SetupState::default();
        let mut pause = |is_complete| {
            setup.start(false, now(), Duration::ZERO);
            setup.finish(is_complete, 0.0)
        };
        let pauses: Vec<_> = (0..10).filter_map(|_| pause(false)).map(|pause| pause.as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(pause(true), None);
        assert_eq!(pause(false), Some(INITIAL_PAUSE));
    }

    #[test]
    fn refused_keys_are_fetched_once_a_minute() {
        let mut setup = SetupState::default();
        let at = Duration::from_secs(7);
        assert_eq!(setup.on_key_refused(at), at);
        setup.start(false, now(), at);
        assert!(setup.blocks());
        setup.finish(true, 0.0);
        assert!(!setup.is_key_refused());
        let soon = at + Duration::from_secs(1);
        assert_eq!(setup.on_key_refused(soon), at + REFRESH_INTERVAL);
        assert_eq!(setup.on_key_refused(at + 2 * REFRESH_INTERVAL), at + 2 * REFRESH_INTERVAL);
    }
}
