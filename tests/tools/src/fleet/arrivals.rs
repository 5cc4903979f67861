//! The times at which an environment is invoked.

use std::time::Duration;

use fastrand::Rng;

/// The pattern in which invocations follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// Independent, like requests of many users: gaps are exponential.
    Poisson,
    /// All environments at the same times, like a schedule.
    InStep,
    /// A burst of invocations, one after another, and then nothing for as many gaps.
    Bursts,
}

/// The number of invocations in a burst.
pub(super) const BURST: u32 = 20;

impl Pattern {
    /// Parses the name used in arguments.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "poisson" => Some(Self::Poisson),
            "in-step" => Some(Self::InStep),
            "bursts" => Some(Self::Bursts),
            _ => None,
        }
    }
}

/// The times at which one environment is invoked, without end; the first is its cold start.
#[derive(Debug)]
pub(super) struct Arrivals {
    pattern: Pattern,
    mean_gap: Duration,
    next: Duration,
    /// The number of invocations left in the burst.
    left: u32,
}

impl Arrivals {
    pub(super) fn new(pattern: Pattern, mean_gap: Duration, rng: &mut Rng) -> Self {
        let next = match pattern {
            Pattern::InStep => Duration::ZERO,
            Pattern::Poisson => exponential(mean_gap, rng),
            Pattern::Bursts => exponential(mean_gap * BURST, rng),
        };
        Self { pattern, mean_gap, next, left: BURST }
    }

    /// The next moment.
    pub(super) fn next(&mut self, rng: &mut Rng) -> Duration {
        let now = self.next;
        self.next += match self.pattern {
            Pattern::Poisson => exponential(self.mean_gap, rng),
            Pattern::InStep => self.mean_gap,
            Pattern::Bursts if self.left > 1 => {
                self.left -= 1;
                Duration::ZERO
            }
            Pattern::Bursts => {
                self.left = BURST;
                exponential(self.mean_gap * BURST, rng)
            }
        };
        now
    }
}

fn exponential(mean: Duration, rng: &mut Rng) -> Duration {
    // From 0, which it may be, up to 1, which it may not: the logarithm is finite.
    mean.mul_f64(-(1.0 - rng.f64()).ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAP: Duration = Duration::from_secs(2);

    fn moments(pattern: Pattern, count: usize) -> Vec<Duration> {
        let mut rng = Rng::with_seed(1);
        let mut arrivals = Arrivals::new(pattern, GAP, &mut rng);
        (0..count).map(|_| arrivals.next(&mut rng)).collect()
    }

    #[test]
    fn every_pattern_has_the_mean_gap_that_was_asked_for() {
        for pattern in [Pattern::Poisson, Pattern::InStep, Pattern::Bursts] {
            let last = moments(pattern, 100_000).last().copied().unwrap_or_default();
            let mean = last.as_secs_f64() / 100_000.0;
            assert!((mean - 2.0).abs() < 0.1, "{pattern:?}: {mean}");
        }
    }

    #[test]
    fn in_step_and_bursts_have_their_times() {
        assert_eq!(moments(Pattern::InStep, 3), [Duration::ZERO, GAP, 2 * GAP]);
        let moments = moments(Pattern::Bursts, 41);
        assert!(moments[..20].iter().all(|at| *at == moments[0]) && moments[20] > moments[0]);
        assert_eq!(moments[20], moments[39]);
    }
}
