//! The time elapsed in the life of an execution environment, freezes included.
//!
//! Platform: the monotonic clock may stand still during a freeze, while the wall clock goes on. The wall clock
//! alone is not enough: it may be set back or forward. [`Elapsed`] takes freezes from the wall clock and
//! everything else from the monotonic one, so a pause measured with it always ends.

use std::time::{Duration, Instant};

/// A reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock.
    pub monotonic: Instant,
    /// The wall clock, as time since the epoch.
    pub wall: Duration,
}

/// Readings of both clocks, combined into one duration that only grows.
///
/// Between two readings it advances by as much as the clock that advanced further. A wall clock that was set
/// back counts for nothing. One that was set forward looks like a freeze and counts as one.
#[derive(Clone, Debug, Default)]
pub struct Elapsed {
    last: Option<Now>,
    total: Duration,
}

impl Elapsed {
    /// Starts at zero; the first reading is the origin.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a reading and returns the time from the first reading to this one.
    pub fn advance_to(&mut self, now: Now) -> Duration {
        let last = *self.last.get_or_insert(now);
        let monotonic = now.monotonic.saturating_duration_since(last.monotonic);
        let wall = now.wall.saturating_sub(last.wall);
        self.total = self.total.saturating_add(monotonic.max(wall));
        self.last = Some(Now { monotonic: now.monotonic.max(last.monotonic), wall: now.wall });
        self.total
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn origin() -> Now {
        #[expect(clippy::disallowed_methods, reason = "an origin; the clock is not read again")]
        let monotonic = Instant::now();
        Now { monotonic, wall: 500_000 * HOUR }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn freeze_is_taken_from_the_wall_clock() {
        let (mut elapsed, now) = (Elapsed::new(), origin());
        assert_eq!(elapsed.advance_to(now), Duration::ZERO);
        let thawed = Now { monotonic: now.monotonic + seconds(1), wall: now.wall + seconds(61) };
        assert_eq!(elapsed.advance_to(thawed), seconds(61));
        assert_eq!(elapsed.advance_to(thawed), seconds(61), "the same reading again");
    }

    #[test]
    fn wall_clock_set_back_delays_nothing() {
        let (mut elapsed, now) = (Elapsed::new(), origin());
        elapsed.advance_to(now);
        let mut later = Now { monotonic: now.monotonic + seconds(1), wall: now.wall.saturating_sub(HOUR) };
        assert_eq!(elapsed.advance_to(later), seconds(1));
        later.wall += seconds(10);
        assert_eq!(elapsed.advance_to(later), seconds(11), "a later freeze still counts");
    }

    #[test]
    fn earlier_monotonic_reading_counts_for_nothing() {
        let (mut elapsed, now) = (Elapsed::new(), origin());
        let later = Now { monotonic: now.monotonic + seconds(5), wall: now.wall };
        elapsed.advance_to(later);
        assert_eq!(elapsed.advance_to(now), Duration::ZERO);
        assert_eq!(elapsed.advance_to(later), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn follows_the_faster_clock_and_never_goes_back(
            steps in prop::collection::vec((0..100_000_u64, -1_000_000_i64..1_000_000), 0..100)
        ) {
            let (mut elapsed, origin) = (Elapsed::new(), origin());
            let mut now = origin;
            let mut total = elapsed.advance_to(now);
            let mut forward = Duration::ZERO;
            for (monotonic, wall) in steps {
                let before = total;
                let monotonic = Duration::from_millis(monotonic);
                let step = Duration::from_millis(wall.unsigned_abs());
                now.monotonic += monotonic;
                now.wall = if wall < 0 { now.wall.saturating_sub(step) } else { now.wall + step };
                forward += if wall < 0 { Duration::ZERO } else { step };
                total = elapsed.advance_to(now);
                prop_assert!(total.saturating_sub(before) >= monotonic);
            }
            let alone = now.monotonic - origin.monotonic;
            prop_assert!(total >= alone && total <= alone + forward);
        }
    }
}
