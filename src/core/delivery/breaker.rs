//! What stands between a signal and an endpoint that fails: the wait before the next attempt, and the circuit breaker.
//!
//! A failed attempt is followed by a pause that doubles from one to the next. Once the endpoint has failed a whole flush,
//! the breaker is open: nothing is sent after the function any more, and beside it only a probe, when the pause is over.
//! Pauses are on the scale of [`crate::elapsed::Elapsed`], which includes freezes and never goes back, so that none lies
//! further ahead than its own maximum.

use std::time::Duration;

/// What a probe is given from its start, where the function does not run longer anyway.
const INITIAL_PROBE_BUDGET: Duration = Duration::from_millis(100);
/// The same after several had too little of it: an endpoint can be far away.
const MAX_PROBE_BUDGET: Duration = Duration::from_millis(400);
/// The pause grows to this at most, whatever is set: recovery must be noticed.
const MAX_PAUSE: Duration = Duration::from_mins(1);
/// The longest wait that a backend is granted by its own retry_after.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(10);

/// When a request is tried again. All of it is cut by the flush's budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The wait before the second attempt.
    pub initial_backoff: Duration,
    /// The longest wait between two attempts.
    pub max_backoff: Duration,
    /// How long a flush goes on trying.
    pub max_elapsed_time: Duration,
}

/// The breaker of one signal.
#[derive(Clone, Copy, Debug)]
pub struct Breaker {
    /// The pause after the next failure.
    pause: Option<Duration>,
    /// Failed since the last answer: when to try again.
    resume_at: Option<Duration>,
    /// Until then the backend asked to be left alone.
    retry_after_until: Option<Duration>,
    open: bool,
    probe_budget: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            pause: None,
            resume_at: None,
            retry_after_until: None,
            open: false,
            probe_budget: INITIAL_PROBE_BUDGET,
        }
    }
}

impl Breaker {
    /// Whether the endpoint has failed its budget, so that nothing is sent to it after the function.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// When to try again; `None` where the last attempt was answered.
    pub fn resume_at(&self) -> Option<Duration> {
        self.resume_at
    }

    /// Whether the pause is over, or there is none.
    pub fn is_ready(&self, now: Duration) -> bool {
        self.resume_at.is_none_or(|resume_at| now >= resume_at)
    }

    /// How long the backend wants to be left alone yet.
    pub fn remaining_wait(&self, now: Duration) -> Option<Duration> {
        self.retry_after_until.and_then(|until| until.checked_sub(now)).filter(|wait| !wait.is_zero())
    }

    /// What an attempt beside the function may go on for after its start, should the function end and
    /// [`crate::delivery::probe_budget`] allow it; `None` while the breaker is closed, when the flush waits for it as for its
    /// own.
    pub fn probe_budget(&self) -> Option<Duration> {
        self.open.then_some(self.probe_budget)
    }

    /// Takes a failed attempt. `retry_after` is how long the backend asked to wait, and `jitter`, from 0 to 1, keeps a fleet
    /// from beating in step: it takes up to half of the pause away.
    pub fn record_failure(
        &mut self,
        retry: RetryPolicy,
        retry_after: Option<Duration>,
        now: Duration,
        jitter: f64,
    ) {
        let most = retry.max_backoff.min(MAX_PAUSE);
        let pause = self.pause.unwrap_or(retry.initial_backoff).min(most);
        self.pause = Some((pause * 2).min(most));
        let jittered = pause.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0);
        self.retry_after_until = retry_after.map(|retry_after| now + retry_after.min(MAX_RETRY_AFTER));
        self.resume_at = Some((now + jittered).max(self.retry_after_until.unwrap_or_default()));
    }

    /// Takes that the endpoint has failed its budget.
    pub fn trip(&mut self) {
        self.open = true;
    }

    /// Takes that a probe had its time and no answer: the next may take longer.
    pub fn extend_probe_budget(&mut self) {
        self.probe_budget = (self.probe_budget * 2).min(MAX_PROBE_BUDGET);
    }

    /// Takes an answer: all is well. Says whether it was not before.
    pub fn record_answer(&mut self) -> bool {
        let recovered = self.open;
        *self = Self::default();
        recovered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: RetryPolicy = RetryPolicy {
        initial_backoff: Duration::from_secs(5),
        max_backoff: Duration::from_secs(30),
        max_elapsed_time: Duration::from_mins(5),
    };
    const WALL: Duration = Duration::from_hours(1);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_an_answer() {
        let mut breaker = Breaker::default();
        let pause = |breaker: &mut Breaker| {
            breaker.record_failure(RETRY, None, WALL, 0.0);
            breaker.resume_at().expect("it failed").saturating_sub(WALL)
        };
        let pauses: Vec<_> = (0..5).map(|_| pause(&mut breaker)).collect();
        assert_eq!(pauses, [5, 10, 20, 30, 30].map(seconds));
        assert!(!breaker.record_answer(), "it was never open");
        assert_eq!(pause(&mut breaker), seconds(5));
    }

    #[test]
    fn no_pause_is_longer_than_a_minute_but_by_the_backends_own_wish() {
        let patient = RetryPolicy { initial_backoff: seconds(600), max_backoff: seconds(6000), ..RETRY };
        let mut breaker = Breaker::default();
        breaker.record_failure(patient, None, WALL, 0.0);
        assert_eq!(breaker.resume_at(), Some(WALL + seconds(60)));
        breaker.record_failure(RETRY, Some(seconds(120)), WALL, 1.0);
        assert_eq!(breaker.resume_at(), Some(WALL + seconds(120)));
        assert_eq!(breaker.remaining_wait(WALL + seconds(100)), Some(seconds(20)));
        assert_eq!(breaker.remaining_wait(WALL + seconds(120)), None);
        breaker.record_failure(RETRY, Some(Duration::MAX), WALL, 1.0);
        assert_eq!(breaker.resume_at(), Some(WALL + seconds(600)));
    }

    #[test]
    fn jitter_takes_up_to_half_of_a_pause() {
        let mut breaker = Breaker::default();
        breaker.record_failure(RETRY, None, WALL, 1.0);
        assert_eq!(breaker.resume_at(), Some(WALL + Duration::from_millis(2500)));
        assert!(!breaker.is_ready(WALL + seconds(2)));
        assert!(breaker.is_ready(WALL + seconds(3)));
    }

    #[test]
    fn probes_that_hang_are_given_longer_to_a_limit_and_an_answer_closes_the_breaker() {
        let mut breaker = Breaker::default();
        assert_eq!(breaker.probe_budget(), None, "a closed breaker makes no probes");
        breaker.trip();
        let budgets: Vec<_> = (0..4)
            .map(|_| {
                let budget = breaker.probe_budget().expect("it is open");
                breaker.extend_probe_budget();
                budget.as_millis()
            })
            .collect();
        assert_eq!(budgets, [100, 200, 400, 400]);
        assert!(breaker.record_answer());
        assert!(!breaker.is_open() && breaker.is_ready(Duration::ZERO));
    }
}
