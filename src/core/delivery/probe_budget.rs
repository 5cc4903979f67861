//! How long the ends of invocations wait for probes of an endpoint that hangs.
//!
//! A probe has the time that the function takes for nothing; what it goes on for after the function is billed. Each
//! invocation in an outage earns a little of that time, which is spent when it suffices for a whole probe: cut short,
//! it would say nothing of an endpoint that is far away. So the mean that an outage adds is bounded however rarely the
//! function is called, where a pause between probes alone, which is over by the next call, bounds nothing.

use std::time::Duration;

/// What each invocation earns. It is the mean that a long outage adds, and a probe that takes longest has its turn with
/// every tenth invocation.
const EARNED_PER_INVOCATION: Duration = Duration::from_millis(40);
/// What there is when an outage begins, so that the first probe has its time.
const INITIAL_SAVINGS: Duration = Duration::from_millis(100);

/// What was earned and not yet spent.
#[derive(Clone, Copy, Debug)]
pub struct ProbeBudget {
    saved: Duration,
}

impl Default for ProbeBudget {
    fn default() -> Self {
        Self { saved: INITIAL_SAVINGS }
    }
}

impl ProbeBudget {
    /// An invocation begins. `probe` is what the longest probe may take by now, `None` where there are none to be made.
    pub fn invocation_begins(&mut self, probe: Option<Duration>) {
        *self = match probe {
            // More than one probe needs is not hoarded, or several in a row would cost what many invocations have saved.
            Some(probe) => Self { saved: (self.saved + EARNED_PER_INVOCATION).min(probe) },
            None => Self::default(),
        };
    }

    /// Says whether the end of an invocation may wait so long. If so, that is spent.
    pub fn try_spend(&mut self, wait: Duration) -> bool {
        let left = self.saved.checked_sub(wait);
        self.saved = left.unwrap_or(self.saved);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::breaker::{Breaker, RetryPolicy};

    /// What each of the invocations of a function adds that takes `length` and is called every `apart`, while the
    /// endpoint hangs.
    fn added(invocations: u32, length: Duration, apart: Duration) -> Vec<Duration> {
        let retry = RetryPolicy {
            initial_backoff: Duration::from_secs(5),
            max_backoff: Duration::from_secs(30),
            max_elapsed_time: Duration::from_mins(5),
        };
        let (mut breaker, mut budget) = (Breaker::default(), ProbeBudget::default());
        breaker.record_failure(retry, None, Duration::ZERO, 0.5);
        breaker.trip();
        let one = |invocation| {
            let wall = apart * invocation;
            budget.invocation_begins(breaker.probe_budget());
            if !breaker.is_ready(wall) {
                return Duration::ZERO;
            }
            let wait = breaker.probe_budget().expect("it is open").saturating_sub(length);
            let waits = budget.try_spend(wait);
            if waits {
                breaker.extend_probe_budget();
            }
            breaker.record_failure(retry, None, wall, 0.5);
            if waits { wait } else { Duration::ZERO }
        };
        (1..=invocations).map(one).collect()
    }

    #[test]
    fn an_outage_adds_little_however_often_a_function_is_called() {
        for apart in [100, 1_000, 10_000, 20_000, 60_000, 3_600_000].map(Duration::from_millis) {
            for length in [0, 10, 50, 90].map(Duration::from_millis) {
                let added = added(1_000, length, apart);
                for twenty in added.windows(20) {
                    // The saved time of two of them may meet, if the window begins with one.
                    let mean = twenty.iter().sum::<Duration>() / 20;
                    assert!(mean <= Duration::from_millis(60), "{mean:?} of {length:?} every {apart:?}");
                }
                let mean = added.iter().take(20).sum::<Duration>() / 20;
                assert!(mean <= Duration::from_millis(45), "{mean:?} of {length:?} every {apart:?}");
            }
        }
    }

    #[test]
    fn the_longest_probe_has_its_time_with_every_tenth_invocation() {
        let added = added(100, Duration::ZERO, Duration::from_mins(1));
        let longest = Duration::from_millis(400);
        let at: Vec<_> = (0..added.len()).filter(|at| added[*at] == longest).collect();
        assert!(at.len() >= 9, "{at:?}");
        assert!(at.windows(2).all(|two| two[1] - two[0] == 10), "{at:?}");
    }

    #[test]
    fn what_is_not_needed_is_not_hoarded_and_a_new_outage_begins_as_the_first() {
        let mut budget = ProbeBudget::default();
        let probe = Duration::from_millis(200);
        for _ in 0..100 {
            budget.invocation_begins(Some(probe));
        }
        assert!(budget.try_spend(probe));
        assert!(!budget.try_spend(Duration::from_millis(1)));
        assert!(budget.try_spend(Duration::ZERO), "no wait is always within");
        budget.invocation_begins(None);
        assert!(budget.try_spend(INITIAL_SAVINGS));
    }
}
