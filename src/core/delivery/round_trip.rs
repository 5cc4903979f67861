//! The round trip of requests, used to predict if an answer will come in time.
//!
//! A request that is cut off may have been stored, and is sent again. So none is started if there is no time for its answer.
//! Before the first measurement nothing is known, and the first requests are sent.

use std::time::Duration;

/// In an unheld invocation, a request starts only after the function has run for this long. Lambda freezes the environment
/// at its end without notice, and a function that has run for long is unlikely to end within one round trip.
const MIN_LONG_RUN: Duration = Duration::from_secs(1);
/// The same time as a multiple of the round trip.
const LONG_RUN_TRIPS: u32 = 8;
/// The round trip assumed before the first measurement.
const ASSUMED_ROUND_TRIP: Duration = Duration::from_millis(250);
/// Each request that was still cut off doubles that time, up to this multiple.
const MAX_CAUTION: u32 = 64;

/// The slack that a probe with telemetry gets in addition to twice the expected round trip.
const PROBE_SLACK: Duration = Duration::from_millis(20);

/// The measured round trip.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoundTrip {
    measured: Option<Duration>,
    /// The last measurement, even if requests were cut off since.
    last: Duration,
    caution: u32,
}

impl Default for RoundTrip {
    fn default() -> Self {
        Self { measured: None, last: Duration::ZERO, caution: 1 }
    }
}

impl RoundTrip {
    /// The expected time of an answer; `None` if unknown.
    pub(super) fn expected(self) -> Option<Duration> {
        self.measured
    }

    /// The time of the last answer, even if requests were cut off since; zero if there was none.
    pub(super) fn last(self) -> Duration {
        self.last
    }

    /// Records a measured time. A slower answer counts fully, a faster one by a quarter.
    pub(super) fn record_answer(&mut self, took: Duration) {
        self.last = took;
        self.measured = Some(match self.measured {
            Some(measured) if took < measured => (measured * 3 + took) / 4,
            _ => took,
        });
        self.caution = (self.caution / 2).max(1);
    }

    /// Records that a request was cut off after this time without an answer.
    pub(super) fn record_cut_off(&mut self, after: Duration) {
        if self.measured.is_some_and(|measured| after >= measured) {
            self.measured = None;
        }
    }

    /// Records that the freeze after an unheld invocation cut a request off.
    pub(super) fn record_freeze(&mut self) {
        self.caution = (self.caution * 2).min(MAX_CAUTION);
    }

    /// The minimum time of a probe with telemetry; `None` if nothing is known. Short, so that a backend that hangs on telemetry
    /// costs little more than one that answers.
    pub(super) fn min_loaded_probe_time(self) -> Option<Duration> {
        self.measured.map(|measured| 2 * measured + PROBE_SLACK)
    }

    /// The time that an unheld invocation must run before a request starts.
    pub(super) fn min_unheld_run(self) -> Duration {
        let trips = self.measured.unwrap_or(ASSUMED_ROUND_TRIP) * LONG_RUN_TRIPS;
        trips.max(MIN_LONG_RUN) * self.caution
    }

    /// The time that a held invocation must run before a request starts. Its end waits for the answer for up to
    /// `flush_timeout`. A function that has run for some time can be expected to run as long again.
    pub(super) fn min_held_run(self, flush_timeout: Duration) -> Duration {
        self.measured.unwrap_or_default().saturating_sub(flush_timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn slower_answers_count_fully_and_faster_ones_partly() {
        let mut round_trip = RoundTrip::default();
        let mut expected = |took| {
            round_trip.record_answer(millis(took));
            round_trip.expected()
        };
        assert_eq!([100, 500, 100, 100].map(&mut expected), [100, 500, 400, 325].map(millis).map(Some));
    }

    #[test]
    fn cut_off_after_the_expected_time_resets_it() {
        let mut round_trip = RoundTrip::default();
        round_trip.record_answer(millis(100));
        round_trip.record_cut_off(millis(99));
        assert_eq!(round_trip.expected(), Some(millis(100)));
        round_trip.record_cut_off(millis(100));
        assert_eq!(round_trip.expected(), None);
    }

    #[test]
    fn freezes_raise_the_long_run_and_answers_lower_it() {
        let mut round_trip = RoundTrip::default();
        assert_eq!(round_trip.min_unheld_run(), millis(2_000));
        round_trip.record_answer(millis(50));
        assert_eq!(round_trip.min_unheld_run(), millis(1_000));
        for _ in 0..20 {
            round_trip.record_freeze();
        }
        assert_eq!(round_trip.min_unheld_run(), Duration::from_secs(64));
        for _ in 0..20 {
            round_trip.record_answer(millis(50));
        }
        assert_eq!(round_trip.min_unheld_run(), millis(1_000));
    }

    #[test]
    fn held_requests_start_once_their_answer_fits() {
        let mut round_trip = RoundTrip::default();
        assert_eq!(round_trip.min_held_run(millis(1_000)), Duration::ZERO);
        round_trip.record_answer(millis(1_500));
        assert_eq!(round_trip.min_held_run(millis(1_000)), millis(500));
        assert_eq!(round_trip.min_held_run(millis(2_000)), Duration::ZERO);
    }
}
