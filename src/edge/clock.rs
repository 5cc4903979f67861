//! The only clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rotel_core::elapsed::Now;

/// The monotonic time. It is the runtime's clock, which a test can pause.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A reading of both clocks.
pub fn reading() -> Now {
    Now { monotonic: now(), wall: since_epoch() }
}

/// The wall time in nanoseconds since the epoch, as in OTLP timestamps.
pub fn epoch_nanos() -> u64 {
    u64::try_from(since_epoch().as_nanos()).unwrap_or(u64::MAX)
}

/// Converts a platform deadline in milliseconds since the epoch to an instant. A past deadline is now. A
/// missing deadline, or one further than `limit` away because the wall clock is wrong, is `limit` from now.
pub fn instant_of_deadline(epoch_ms: Option<u64>, limit: Duration) -> Instant {
    let left =
        epoch_ms.map_or(limit, |epoch_ms| Duration::from_millis(epoch_ms).saturating_sub(since_epoch()));
    now() + left.min(limit)
}

/// Waits until `instant`, or forever if there is none.
pub async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

/// The wall time since the epoch.
pub fn since_epoch() -> Duration {
    #[cfg(test)]
    let ahead = tests::ahead();
    #[cfg(not(test))]
    let ahead = Duration::ZERO;
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    #[cfg(feature = "failpoints")]
    let wall = skewed(wall);
    wall + ahead
}

/// Skews the wall clock by the seconds that a test writes to a file.
#[cfg(feature = "failpoints")]
pub fn skew_by(file: &str) {
    let _ = SKEW.set(file.into());
}

#[cfg(feature = "failpoints")]
static SKEW: std::sync::OnceLock<std::path::PathBuf> = std::sync::OnceLock::new();

#[cfg(feature = "failpoints")]
fn skewed(wall: Duration) -> Duration {
    let text = SKEW.get().and_then(|file| std::fs::read_to_string(file).ok());
    let seconds: i64 = text.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let skew = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { wall.saturating_sub(skew) } else { wall + skew }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static FROZEN: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    /// Advances this thread's wall clock while the monotonic clock stands still, as in a freeze.
    pub(crate) fn freeze(duration: Duration) {
        FROZEN.set(FROZEN.get() + duration);
    }

    /// The time by which the wall clock is ahead of the real one: freezes, and the progress of paused time.
    pub(super) fn ahead() -> Duration {
        #[expect(clippy::disallowed_methods, reason = "the difference between the two clocks")]
        let advanced = now().saturating_duration_since(Instant::now());
        FROZEN.get() + advanced
    }

    #[test]
    fn deadline_is_within_the_platform_limit() {
        let limit = Duration::from_secs(2);
        assert!(instant_of_deadline(Some(0), limit) <= now());
        for far in [Some(u64::MAX), None] {
            assert!(instant_of_deadline(far, limit) <= now() + limit);
            assert!(instant_of_deadline(far, limit) > now());
        }
    }
}
