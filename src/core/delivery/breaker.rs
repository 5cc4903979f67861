//! The circuit breaker of one signal, with the backoff between attempts.
//!
//! After a failed attempt comes a pause, which doubles each time. Once the backend has failed a whole flush, the breaker is
//! open: nothing is sent after the handler returns, and when the pause is over, a probe is sent during an invocation.
//! Pauses are in the time of [`crate::elapsed::Elapsed`], which includes freezes and never goes back, so none is longer
//! than its own maximum.

use std::time::Duration;

/// The time of a probe from its start, if the function does not run longer anyway.
const INITIAL_PROBE_BUDGET: Duration = Duration::from_millis(100);
/// The same after several probes ran out of time: the backend may be far away.
const MAX_PROBE_BUDGET: Duration = Duration::from_millis(400);
/// The maximum pause, whatever the settings say: recovery must be noticed.
const MAX_PAUSE: Duration = Duration::from_mins(1);
/// The longest wait that a backend may request.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(10);

/// The backoff between retries. The budget of the flush limits all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The wait before the second attempt.
    pub initial_backoff: Duration,
    /// The longest wait between two attempts.
    pub max_backoff: Duration,
    /// The time for which a flush retries.
    pub max_elapsed_time: Duration,
}

/// The breaker of one signal.
#[derive(Clone, Copy, Debug)]
pub struct Breaker {
    /// The pause after the next failure; `None` before the first.
    pause: Option<Duration>,
    /// The time of the next attempt; `None` if the last one was answered.
    resume_at: Option<Duration>,
    /// The backend requested that no attempt come earlier.
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
    /// Returns true if the backend has failed a flush, so that only probes are sent.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// The time of the next attempt; `None` if the last one was answered.
    pub fn resume_at(&self) -> Option<Duration> {
        self.resume_at
    }

    /// Returns true if no pause is running.
    pub fn is_ready(&self, now: Duration) -> bool {
        self.resume_at.is_none_or(|resume_at| now >= resume_at)
    }

    /// The rest of the wait that the backend requested.
    pub fn remaining_wait(&self, now: Duration) -> Option<Duration> {
        self.retry_after_until.and_then(|until| until.checked_sub(now)).filter(|wait| !wait.is_zero())
    }

    /// The time of a probe from its start, if the function ends and [`crate::delivery::probe_budget`] allows the wait. `None`
    /// while the breaker is closed: a flush then waits for the attempt as for its own.
    pub fn probe_budget(&self) -> Option<Duration> {
        self.open.then_some(self.probe_budget)
    }

    /// Records a failed attempt. `retry_after` is the wait that the backend requested. `jitter`, from 0 to 1, shortens the
    /// pause by up to half, so that a fleet does not retry in step.
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

    /// Opens the breaker.
    pub fn trip(&mut self) {
        self.open = true;
    }

    /// Gives the next probe more time, because one ran out of time without an answer.
    pub fn extend_probe_budget(&mut self) {
        self.probe_budget = (self.probe_budget * 2).min(MAX_PROBE_BUDGET);
    }

    /// Records an answer and closes the breaker. Returns true if it was open.
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
    fn pauses_double_and_reset_after_an_answer() {
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
    fn pauses_end_in_a_minute_unless_the_backend_asks_for_more() {
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
    fn jitter_shortens_a_pause_by_up_to_half() {
        let mut breaker = Breaker::default();
        breaker.record_failure(RETRY, None, WALL, 1.0);
        assert_eq!(breaker.resume_at(), Some(WALL + Duration::from_millis(2500)));
        assert!(!breaker.is_ready(WALL + seconds(2)));
        assert!(breaker.is_ready(WALL + seconds(3)));
    }

    #[test]
    fn hanging_probes_get_more_time_up_to_a_limit() {
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
