//! The time that the ends of invocations may wait for probes of a backend that hangs.
//!
//! A probe is free while the function runs. Its time after the handler returns is billed. Each invocation in an outage earns
//! a little of that time. It is spent only when it covers a whole probe, because a probe cut short says nothing about a
//! distant backend. So the average that an outage adds is bounded, however rarely the function is called. A pause between
//! probes bounds nothing: it is over by the next call.

use std::time::Duration;

/// The time that each invocation earns. It is also the average that a long outage adds, and lets the longest probe run in
/// every tenth invocation.
const EARNED_PER_INVOCATION: Duration = Duration::from_millis(40);
/// The savings when an outage begins, enough for the first probe.
const INITIAL_SAVINGS: Duration = Duration::from_millis(100);

/// The time earned and not yet spent.
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
    /// Earns time for an invocation that begins. `probe` is the current maximum time of a probe; `None` if none is needed.
    pub fn invocation_begins(&mut self, probe: Option<Duration>) {
        *self = match probe {
            // Capped at one probe, or several in a row would cost the savings of many invocations.
            Some(probe) => Self { saved: (self.saved + EARNED_PER_INVOCATION).min(probe) },
            None => Self::default(),
        };
    }

    /// Returns true if the end of an invocation may wait this long, and spends the time.
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

    /// The time added to each invocation of a function that runs for `length` and is called every `apart`, while the
    /// backend hangs.
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
    fn outage_adds_little_at_any_call_rate() {
        for apart in [100, 1_000, 10_000, 20_000, 60_000, 3_600_000].map(Duration::from_millis) {
            for length in [0, 10, 50, 90].map(Duration::from_millis) {
                let added = added(1_000, length, apart);
                for twenty in added.windows(20) {
                    // A window that begins with a long probe may hold two of them.
                    let mean = twenty.iter().sum::<Duration>() / 20;
                    assert!(mean <= Duration::from_millis(60), "{mean:?} of {length:?} every {apart:?}");
                }
                let mean = added.iter().take(20).sum::<Duration>() / 20;
                assert!(mean <= Duration::from_millis(45), "{mean:?} of {length:?} every {apart:?}");
            }
        }
    }

    #[test]
    fn longest_probe_runs_every_tenth_invocation() {
        let added = added(100, Duration::ZERO, Duration::from_mins(1));
        let longest = Duration::from_millis(400);
        let at: Vec<_> = (0..added.len()).filter(|at| added[*at] == longest).collect();
        assert!(at.len() >= 9, "{at:?}");
        assert!(at.windows(2).all(|two| two[1] - two[0] == 10), "{at:?}");
    }

    #[test]
    fn savings_are_capped_and_reset_between_outages() {
        let mut budget = ProbeBudget::default();
        let probe = Duration::from_millis(200);
        for _ in 0..100 {
            budget.invocation_begins(Some(probe));
        }
        assert!(budget.try_spend(probe));
        assert!(!budget.try_spend(Duration::from_millis(1)));
        assert!(budget.try_spend(Duration::ZERO), "no wait is always allowed");
        budget.invocation_begins(None);
        assert!(budget.try_spend(INITIAL_SAVINGS));
    }
}
