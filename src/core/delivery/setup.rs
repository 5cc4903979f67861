//! The timing of a backend's setup and its retries.
//!
//! Promises: one setup runs at a time. A failed one is retried after pauses that grow with each failure, up to a minute.
//! After the backend has refused the key, the secret is fetched again at most once a minute. Running the setup, and using
//! its result, is left to others.

use std::time::Duration;

use crate::elapsed::Now;

/// The pause after the first failure. It doubles with each.
const INITIAL_PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_mins(1);
/// The time that flushes wait for the first setup and for the one after a restore. They wait as long for later ones if the
/// probe budget allows it. Otherwise no setup would ever end in functions that are shorter than a call to AWS.
const INITIAL_WAIT: Duration = Duration::from_millis(500);
/// The minimum time between two fetches caused by a refused key.
const REFRESH_INTERVAL: Duration = Duration::from_mins(1);

/// The state of one backend's setup.
#[derive(Debug)]
pub(super) struct SetupState {
    running: Option<RunningSetup>,
    /// Failures in a row.
    failures: u32,
    /// The backend refused the key that came from a secret.
    key_refused: bool,
    /// The last time the secret was fetched for that reason.
    refreshed_at: Option<Duration>,
    /// The time, from the start of a setup, that the end of an invocation waits for it.
    wait: Duration,
}

impl Default for SetupState {
    fn default() -> Self {
        Self { running: None, failures: 0, key_refused: false, refreshed_at: None, wait: INITIAL_WAIT }
    }
}

/// A running setup.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunningSetup {
    pub(super) started: Now,
    pub(super) started_at: Duration,
    /// Requests wait for it, because their key and connections are outdated.
    pub(super) blocks: bool,
    pub(super) refreshes: bool,
}

impl SetupState {
    pub(super) fn running(&self) -> Option<RunningSetup> {
        self.running
    }

    /// Returns true if requests must wait for the running setup.
    pub(super) fn blocks(&self) -> bool {
        self.running.is_some_and(|running| running.blocks)
    }

    /// The time, from the start of a setup, that the end of an invocation waits for it.
    pub(super) fn wait(&self) -> Duration {
        self.wait
    }

    /// Doubles the wait for the next setup, because this one ran out of time.
    pub(super) fn extend_wait(&mut self, most: Duration) {
        self.wait = (self.wait * 2).min(most.max(INITIAL_WAIT));
    }

    /// Returns true if the last setup must be retried.
    pub(super) fn has_failed(&self) -> bool {
        self.failures > 0
    }

    pub(super) fn is_key_refused(&self) -> bool {
        self.key_refused
    }

    /// Records that a setup starts.
    pub(super) fn start(&mut self, blocks: bool, now: Now, at: Duration) {
        let refreshes = self.key_refused;
        if refreshes {
            self.refreshed_at = Some(at);
        }
        self.running =
            Some(RunningSetup { started: now, started_at: at, blocks: blocks || refreshes, refreshes });
    }

    /// Forgets the running setup, which ended without a result.
    pub(super) fn abandon(&mut self) {
        self.running = None;
    }

    /// Records a result. Returns the pause before the next attempt, if there must be one. `jitter`, from 0 to 1, shortens it by
    /// up to half, so that a fleet does not retry in step.
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

    /// Records that the backend refused the key. Returns the time at which the secret may be fetched again.
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
    fn pauses_grow_to_a_minute_and_reset() {
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
    fn refused_keys_are_fetched_at_most_once_a_minute() {
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
