//! The model of a fleet, and the result of simulating it.

use std::time::Duration;

use fastrand::Rng;
use rotel_core::delivery::cadence::Strategy;

use super::ages::Ages;
use super::arrivals::Pattern;
use super::backend::{Arrived, Backend};
use super::environment::Environment;
use super::prices;

/// The fleet, its function and the path to its backend.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Model {
    pub(crate) environments: u32,
    /// The period in which invocations arrive.
    pub(crate) span: Duration,
    /// The mean duration of the function.
    pub(crate) function: Duration,
    pub(crate) memory_mb: u32,
    /// The round trip to the endpoint over an open connection.
    pub(crate) round_trip: Duration,
    /// The delay of the platform's runtimeDone: the minimum buffering of the Telemetry API.
    pub(crate) word: Duration,
    /// The time the extension itself needs at the end.
    pub(crate) own: Duration,
    /// The data an SDK sends per invocation, in bytes on the wire. Batching is assumed not to improve compression,
    /// although it does.
    pub(crate) sdk: Arrived,
    /// The same for the function's logs and the platform's events.
    pub(crate) platform: Arrived,
    pub(crate) seed: u64,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            environments: 1_000,
            span: Duration::from_mins(20),
            function: Duration::from_millis(100),
            memory_mb: 128,
            round_trip: Duration::from_millis(20),
            word: Duration::from_millis(25),
            own: Duration::from_millis(1),
            // Ten spans, and ten lines with the platform's counters, as the collector saw them of `bench`'s invocations.
            sdk: Arrived { requests: 1, bytes: 650 },
            platform: Arrived { requests: 2, bytes: 1_550 },
            seed: 1,
        }
    }
}

/// The load on each environment of a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) pattern: Pattern,
    pub(crate) mean_gap: Duration,
}

/// The result of a simulation.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) invocations: u64,
    pub(super) billed: Duration,
    pub(super) ages: Ages,
    pub(super) backend: Backend,
}

/// The reported figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Summary {
    pub(super) requests_per_second: f64,
    pub(super) peak_requests: u64,
    pub(super) megabytes_per_second: f64,
    pub(super) peak_megabytes: f64,
    pub(super) median_age: Duration,
    pub(super) p95_age: Duration,
    /// The mean billed time per invocation, in milliseconds.
    pub(super) billed: f64,
    pub(super) dollars_per_million: f64,
}

impl Model {
    /// Simulates all environments.
    pub(super) fn run(&self, strategy: Strategy, load: Load) -> Outcome {
        let mut outcome = Outcome::default();
        // Each environment has its own, so that a strategy meets the very same invocations as the next.
        let mut seeds = Rng::with_seed(self.seed);
        for _ in 0..self.environments {
            let rng = Rng::with_seed(seeds.u64(..));
            Environment::new(self, strategy, &mut outcome, rng).live(load);
        }
        outcome
    }

    /// The reported figures of an outcome.
    pub(super) fn summary(&self, outcome: &Outcome) -> Summary {
        let (total, peak) = (outcome.backend.total(), outcome.backend.peak());
        let seconds = self.span.as_secs_f64();
        let mean = outcome.billed.as_secs_f64() / number(outcome.invocations.max(1));
        Summary {
            requests_per_second: number(total.requests) / seconds,
            peak_requests: peak.requests,
            megabytes_per_second: megabytes(total.bytes) / seconds,
            peak_megabytes: megabytes(peak.bytes),
            median_age: outcome.ages.percentile(50),
            p95_age: outcome.ages.percentile(95),
            billed: mean * 1_000.0,
            dollars_per_million: prices::of_a_million(Duration::from_secs_f64(mean), self.memory_mb),
        }
    }
}

impl Outcome {
    /// Adds an invocation that ended `added` after its function.
    pub(super) fn invoked(&mut self, function: Duration, added: Duration) {
        self.invocations += 1;
        self.billed += prices::billed(function, added);
    }
}

fn megabytes(bytes: u64) -> f64 {
    number(bytes) / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "nothing here comes near 2^52")]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Strategy = Strategy::Periodic(Duration::from_secs(20));

    fn small() -> Model {
        Model { environments: 1, span: Duration::from_secs(100), ..Model::default() }
    }

    fn every(seconds: u64) -> Load {
        Load { pattern: Pattern::InStep, mean_gap: Duration::from_secs(seconds) }
    }

    #[test]
    fn end_adds_a_round_trip_per_invocation() {
        let model = small();
        let outcome = model.run(Strategy::End, every(1));
        assert_eq!(outcome.invocations, 100);
        // 25 + 1 + 20 ms, whatever fraction of a millisecond the function ends with.
        assert_eq!(outcome.billed, Duration::from_millis(46) * 100);
        assert_eq!(outcome.backend.total(), Arrived { requests: 300, bytes: 220_000 });
        let summary = model.summary(&outcome);
        // Half a round trip after the extension has begun to send.
        assert_eq!(
            (summary.median_age, summary.p95_age),
            (Duration::from_millis(36), Duration::from_millis(36))
        );
        assert!((summary.requests_per_second - 3.0).abs() < 1e-9);
        assert!((summary.billed - 46.0).abs() < 1e-9);
    }

    #[test]
    fn periodic_pays_one_round_trip_per_interval() {
        let model = small();
        let outcome = model.run(PERIOD, every(1));
        let total = outcome.backend.total();
        assert_eq!(total.bytes, 220_000);
        // Five to seven periods of 15 to 20 s, each beside an invocation and at its end, and the last at the shutdown.
        assert!((30..=50).contains(&total.requests), "{total:?}");
        // The time that holding an invocation adds: the notice, the work and a round trip.
        let billed = |rounds| Duration::from_millis(46) * rounds;
        assert!((billed(5)..=billed(7)).contains(&outcome.billed), "{:?}", outcome.billed);
        assert!(model.summary(&outcome).median_age > Duration::from_secs(5));
    }

    #[test]
    fn adaptive_is_end_or_periodic_by_rate() {
        let model = small();
        let billed = |strategy, load| model.run(strategy, load).billed;
        assert_eq!(billed(Strategy::Adaptive, every(30)), billed(Strategy::End, every(30)));
        let busy = billed(Strategy::Adaptive, every(1));
        // Four invocations say nothing of a cadence yet; then one in 15 to 20 is held.
        assert!((Duration::from_millis(46) * 9..=Duration::from_millis(46) * 11).contains(&busy), "{busy:?}");
    }

    #[test]
    fn every_load_and_strategy_delivers_once() {
        let model = Model { environments: 20, span: Duration::from_mins(10), ..Model::default() };
        for strategy in [Strategy::End, Strategy::Adaptive, PERIOD] {
            for pattern in [Pattern::Poisson, Pattern::Bursts, Pattern::InStep] {
                for seconds in [1, 10, 60] {
                    let load = Load { pattern, mean_gap: Duration::from_secs(seconds) };
                    let outcome = model.run(strategy, load);
                    let bytes = outcome.backend.total().bytes;
                    assert_eq!(bytes, outcome.invocations * 2_200, "{strategy:?} {load:?}");
                }
            }
        }
    }

    #[test]
    fn remaining_data_is_sent_at_shutdown() {
        let model = Model { span: Duration::from_hours(1), ..small() };
        // More rarely than an environment lives without: each invocation has one of its own.
        let outcome = model.run(PERIOD, every(1_000));
        assert_eq!((outcome.invocations, outcome.backend.total().bytes), (4, 8_800));
    }

    #[test]
    fn fleet_is_the_sum_of_its_environments() {
        let load = Load { pattern: Pattern::Poisson, mean_gap: Duration::from_secs(1) };
        let fleet = Model { environments: 50, ..small() };
        let summary = |model: &Model| model.summary(&model.run(Strategy::Adaptive, load));
        assert_eq!(summary(&fleet), summary(&fleet));
        assert_ne!(summary(&fleet), summary(&Model { seed: 2, ..fleet.clone() }));
        let (one, many) = (summary(&small()).megabytes_per_second, summary(&fleet).megabytes_per_second);
        assert!(many > 40.0 * one && many < 60.0 * one, "{one} {many}");
    }
}
