//! The time that a request takes to be answered, and whether one that starts now can be expected to be answered in time.
//!
//! A request that is cut off may have been stored all the same, and is sent again: so none is started where its answer
//! cannot be waited for. Until an answer was measured nothing is known, and the first requests are tried.

use std::time::Duration;

/// In an invocation that is not held, a request is started only once the function has run for so long: Lambda freezes the
/// environment at its end without a word, and a function that has run for long is unlikely to end within a round trip.
const MIN_LONG_RUN: Duration = Duration::from_secs(1);
/// The same as a multiple of the round trip.
const LONG_RUN_TRIPS: u32 = 8;
/// The round trip that is assumed where none was measured.
const ASSUMED_ROUND_TRIP: Duration = Duration::from_millis(250);
/// Each request that was cut off all the same doubles that time, to this multiple.
const MAX_CAUTION: u32 = 64;

/// The measured round trip.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoundTrip {
    measured: Option<Duration>,
    /// The last that was measured, whatever came since.
    last: Duration,
    caution: u32,
}

impl Default for RoundTrip {
    fn default() -> Self {
        Self { measured: None, last: Duration::ZERO, caution: 1 }
    }
}

impl RoundTrip {
    /// The time that an answer is expected to take; `None` where nothing is known.
    pub(super) fn expected(self) -> Option<Duration> {
        self.measured
    }

    /// The time that the last answer took, though requests were cut off since; zero where there was none.
    pub(super) fn last(self) -> Duration {
        self.last
    }

    /// Takes a measured time. A slower answer counts at once, a faster one by a quarter.
    pub(super) fn record_answer(&mut self, took: Duration) {
        self.last = took;
        self.measured = Some(match self.measured {
            Some(measured) if took < measured => (measured * 3 + took) / 4,
            _ => took,
        });
        self.caution = (self.caution / 2).max(1);
    }

    /// Takes that a request was cut off after this time without an answer.
    pub(super) fn record_cut_off(&mut self, after: Duration) {
        if self.measured.is_some_and(|measured| after >= measured) {
            self.measured = None;
        }
    }

    /// Takes that the freeze at the end of an invocation that was not held cut a request off.
    pub(super) fn record_freeze(&mut self) {
        self.caution = (self.caution * 2).min(MAX_CAUTION);
    }

    /// The time that an unheld invocation must have run before a request is started.
    pub(super) fn min_unheld_run(self) -> Duration {
        let trips = self.measured.unwrap_or(ASSUMED_ROUND_TRIP) * LONG_RUN_TRIPS;
        trips.max(MIN_LONG_RUN) * self.caution
    }

    /// The time that a held invocation must have run before a request is started. Its end waits for the answer for
    /// `flush_timeout`, and a function that has run so long can be expected to run as long again.
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
    fn slower_answers_count_at_once_and_faster_ones_slowly() {
        let mut round_trip = RoundTrip::default();
        let mut expected = |took| {
            round_trip.record_answer(millis(took));
            round_trip.expected()
        };
        assert_eq!([100, 500, 100, 100].map(&mut expected), [100, 500, 400, 325].map(millis).map(Some));
    }

    #[test]
    fn cut_off_beyond_the_expected_forgets_it() {
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
