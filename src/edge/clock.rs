//! The only clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The monotonic time, which everything here is timed by.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// The wall time in nanoseconds since the epoch, as OTLP stamps records.
pub fn epoch_nanos() -> u64 {
    u64::try_from(since_epoch().as_nanos()).unwrap_or(u64::MAX)
}

/// The instant of a deadline that the platform gives in milliseconds since the epoch; a past one is now.
pub fn instant_of(epoch_ms: u64) -> Instant {
    let now = now();
    let left = Duration::from_millis(epoch_ms).saturating_sub(since_epoch());
    // A deadline beyond what an instant can hold is no deadline that anybody waits for.
    now.checked_add(left).unwrap_or(now + Duration::from_hours(24))
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_of_any_size_is_an_instant() {
        assert!(instant_of(0) <= now());
        assert!(instant_of(u64::MAX) > now());
    }
}
