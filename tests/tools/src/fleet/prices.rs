//! The prices of Lambda.
//!
//! Source: <https://aws.amazon.com/lambda/pricing/>, us-east-1, x86, on demand, the first tier, without the free tier.

use std::time::Duration;

/// The price of a GB-second in dollars.
const GIBIBYTE_SECOND: f64 = 0.000_016_666_7;
/// The step in which duration is billed.
const STEP: Duration = Duration::from_millis(1);
const MIB_OF_GIB: f64 = 1_024.0;
/// The number of invocations that the printed dollars are for.
const MILLION: f64 = 1_000_000.0;

/// The additional billed duration of an invocation that takes `added` longer than its function.
pub(super) fn billed(function: Duration, added: Duration) -> Duration {
    steps(function + added).saturating_sub(steps(function))
}

/// The price in dollars of a million invocations, each billed for this duration.
pub(super) fn of_a_million(billed: Duration, memory_mb: u32) -> f64 {
    billed.as_secs_f64() * f64::from(memory_mb) / MIB_OF_GIB * GIBIBYTE_SECOND * MILLION
}

/// Rounds up to whole steps.
fn steps(duration: Duration) -> Duration {
    let steps = duration.as_nanos().div_ceil(STEP.as_nanos());
    STEP * u32::try_from(steps).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn billed_time_is_growth_of_rounded_duration() {
        let micros = Duration::from_micros;
        assert_eq!(billed(micros(10_000), Duration::ZERO), Duration::ZERO);
        assert_eq!(billed(micros(10_000), micros(1)), Duration::from_millis(1));
        assert_eq!(billed(micros(10_400), micros(500)), Duration::ZERO);
        assert_eq!(billed(micros(10_400), micros(21_000)), Duration::from_millis(21));
    }

    #[test]
    fn price_is_per_gigabyte_second() {
        assert!((of_a_million(Duration::from_secs(1), 1_024) - 16.666_7).abs() < 1e-9);
        assert!((of_a_million(Duration::from_millis(100), 128) - 16.666_7 / 80.0).abs() < 1e-9);
    }
}
