//! The only clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::core::elapsed::Now;

/// The monotonic time, which everything here is timed by. It is the runtime's, which a test can pause.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A reading of both clocks.
pub fn reading() -> Now {
    Now { monotonic: now(), wall: since_epoch() }
}

/// The wall time in nanoseconds since the epoch, as OTLP stamps records.
pub fn epoch_nanos() -> u64 {
    u64::try_from(since_epoch().as_nanos()).unwrap_or(u64::MAX)
}

/// The instant of a deadline that the platform gives in milliseconds since the epoch: a past one is now, and none at all
/// or one further than `most` away, as a wall clock that is off makes it, is `most` from now.
pub fn instant_of(epoch_ms: Option<u64>, most: Duration) -> Instant {
    let left =
        epoch_ms.map_or(most, |epoch_ms| Duration::from_millis(epoch_ms).saturating_sub(since_epoch()));
    now() + left.min(most)
}

/// Waits until `instant`; for ever, where there is none.
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
    #[cfg(debug_assertions)]
    let wall = skewed(wall);
    wall + ahead
}

/// Has the wall clock of a test build go wrong by the seconds that a test writes into a file.
#[cfg(debug_assertions)]
pub fn skew_by(file: &str) {
    let _ = SKEW.set(file.into());
}

#[cfg(debug_assertions)]
static SKEW: std::sync::OnceLock<std::path::PathBuf> = std::sync::OnceLock::new();

#[cfg(debug_assertions)]
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

    /// Lets the wall clock of this thread go on while the monotonic one stands still, as a freeze does.
    pub(crate) fn freeze(duration: Duration) {
        FROZEN.set(FROZEN.get() + duration);
    }

    /// How far the wall clock is ahead of the real one: by freezes, and by as much as paused time has moved on.
    pub(super) fn ahead() -> Duration {
        #[expect(clippy::disallowed_methods, reason = "how far the two have come apart")]
        let moved_on = now().saturating_duration_since(Instant::now());
        FROZEN.get() + moved_on
    }

    #[test]
    fn a_deadline_is_never_further_away_than_the_platform_allows() {
        let most = Duration::from_secs(2);
        assert!(instant_of(Some(0), most) <= now());
        for far in [Some(u64::MAX), None] {
            assert!(instant_of(far, most) <= now() + most);
            assert!(instant_of(far, most) > now());
        }
    }
}
