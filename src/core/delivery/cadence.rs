//! The timing of exports: at the end of an invocation, or during a later one.
//!
//! Sending at the end of every invocation is fresh, but billed. If invocations follow each other quickly, most of them send
//! nothing and are not held: once per interval, one invocation is held until it has sent what the others left. Times are
//! those of [`crate::elapsed`], so neither a freeze nor a wall clock that is set back delays anything for longer than the
//! interval.

use std::collections::VecDeque;
use std::time::Duration;

/// The export interval when invocations are frequent, and on managed instances.
const FAST_INTERVAL: Duration = Duration::from_secs(20);
/// Invocations are frequent if their average gap is at most this: the next one comes before the interval ends.
const MAX_FAST_GAP: Duration = FAST_INTERVAL;
/// The number of invocations considered.
const MAX_INVOCATIONS: usize = 10;
/// Fewer invocations do not show a trend.
const MIN_INVOCATIONS: usize = 5;
/// The jitter shortens an interval by up to this share.
const JITTER_SHARE: f64 = 0.25;

/// The configured flush strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// At the end of every invocation.
    End,
    /// At the end while invocations are rare, once per interval while they are frequent.
    Adaptive,
    /// Once per interval.
    Periodic(Duration),
}

/// The plan for sending during and after one invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendPlan {
    /// `/next` waits for the end of the function and a flush.
    pub held: bool,
    /// The timing of sending during the invocation.
    pub during: DuringInvocation,
}

/// The timing of sending during an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DuringInvocation {
    /// At once.
    AtOnce,
    /// After `first`, if the function runs that long, and then after every `interval`.
    Every {
        /// The time from now; zero if sending is due.
        first: Duration,
        /// The time between two releases.
        interval: Duration,
    },
}

impl SendPlan {
    /// At once during the invocation, and the rest at its end.
    pub const AT_END: Self = Self { held: true, during: DuringInvocation::AtOnce };
}

/// The strategy and its recent invocations.
#[derive(Clone, Debug)]
pub struct Cadence {
    strategy: Strategy,
    invoked_at: VecDeque<Duration>,
    /// The time at which pending telemetry is due.
    due_at: Duration,
}

impl Cadence {
    pub fn new(strategy: Strategy) -> Self {
        Self { strategy, invoked_at: VecDeque::with_capacity(MAX_INVOCATIONS), due_at: Duration::ZERO }
    }

    /// Plans the invocation that begins now, `elapsed` into the environment's life. `jitter`, from 0 to 1, keeps a fleet from
    /// sending in step. An `urgent` invocation flushes even if it is not due.
    pub fn on_invoke(&mut self, elapsed: Duration, jitter: f64, urgent: bool) -> SendPlan {
        if self.invoked_at.len() == MAX_INVOCATIONS {
            self.invoked_at.pop_front();
        }
        self.invoked_at.push_back(elapsed);
        let interval = match self.strategy {
            Strategy::End => return SendPlan::AT_END,
            Strategy::Adaptive if !self.is_fast() => return SendPlan::AT_END,
            Strategy::Adaptive => FAST_INTERVAL,
            Strategy::Periodic(interval) => interval,
        };
        let interval = interval.mul_f64(1.0 - jitter.clamp(0.0, 1.0) * JITTER_SHARE);
        let first = if urgent { Duration::ZERO } else { self.due_at.saturating_sub(elapsed).min(interval) };
        if first.is_zero() {
            self.due_at = elapsed + interval;
        }
        // Held when due, or functions shorter than a request would cut it off every time.
        SendPlan { held: first.is_zero(), during: DuringInvocation::Every { first, interval } }
    }

    fn is_fast(&self) -> bool {
        let mut pairs = self.invoked_at.iter().zip(self.invoked_at.iter().skip(1));
        // After a long gap, the burst before it says nothing about the future.
        let steady = pairs.all(|(earlier, later)| later.saturating_sub(*earlier) <= 3 * MAX_FAST_GAP);
        let (Some(first), Some(last)) = (self.invoked_at.front(), self.invoked_at.back()) else {
            return false;
        };
        let gaps = u32::try_from(self.invoked_at.len() - 1).unwrap_or(u32::MAX);
        steady
            && self.invoked_at.len() >= MIN_INVOCATIONS
            && last.saturating_sub(*first) <= MAX_FAST_GAP * gaps
    }
}

/// The timing of sending if no event announces invocations and nothing is ever frozen.
pub fn continuous(strategy: Strategy) -> DuringInvocation {
    match strategy {
        // There is no end to wait for, and one request per line would be too many.
        Strategy::End => DuringInvocation::Every { first: Duration::ZERO, interval: Duration::from_secs(1) },
        Strategy::Adaptive => DuringInvocation::Every { first: Duration::ZERO, interval: FAST_INTERVAL },
        Strategy::Periodic(interval) => DuringInvocation::Every { first: Duration::ZERO, interval },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elapsed::{Elapsed, Now};

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Returns the plans of invocations that begin at these seconds.
    fn plans(strategy: Strategy, at: impl IntoIterator<Item = u64>) -> Vec<SendPlan> {
        let mut cadence = Cadence::new(strategy);
        at.into_iter().map(|at| cadence.on_invoke(seconds(at), 0.0, false)).collect()
    }

    fn during(first: u64) -> SendPlan {
        let during = DuringInvocation::Every { first: seconds(first), interval: FAST_INTERVAL };
        SendPlan { held: first == 0, during }
    }

    #[test]
    fn end_strategy_always_sends_at_the_end() {
        assert!(plans(Strategy::End, 0..100).iter().all(|plan| *plan == SendPlan::AT_END));
    }

    #[test]
    fn periodic_sends_in_the_first_invocation_of_each_interval() {
        let plans = plans(Strategy::Periodic(FAST_INTERVAL), [0, 1, 19, 20, 100, 101]);
        assert_eq!(plans, [0, 19, 1, 0, 0, 19].map(during));
    }

    #[test]
    fn adaptive_sends_by_interval_once_invocations_are_frequent() {
        let plans = plans(Strategy::Adaptive, 0..7);
        assert_eq!(plans[..4], [SendPlan::AT_END; 4]);
        assert_eq!(plans[4..], [0, 19, 18].map(during));
    }

    #[test]
    fn adaptive_sends_at_the_end_while_invocations_are_rare() {
        let after_a_gap = plans(Strategy::Adaptive, (0..20).chain([1000, 1001]));
        assert_eq!(after_a_gap[20..], [SendPlan::AT_END; 2]);
        let rare = plans(Strategy::Adaptive, (0..20).map(|nth| nth * 25));
        assert!(rare.iter().all(|plan| *plan == SendPlan::AT_END));
    }

    #[test]
    fn jitter_shortens_an_interval_by_up_to_a_quarter() {
        let mut cadence = Cadence::new(Strategy::Periodic(FAST_INTERVAL));
        cadence.on_invoke(seconds(100), 1.0, false);
        let DuringInvocation::Every { first, .. } = cadence.on_invoke(seconds(101), 0.0, false).during else {
            panic!("periodic")
        };
        assert_eq!(first, seconds(14));
    }

    #[test]
    fn urgent_invocation_is_held_and_restarts_the_interval() {
        for strategy in [Strategy::Periodic(FAST_INTERVAL), Strategy::Adaptive] {
            let mut cadence = Cadence::new(strategy);
            for at in 0..6 {
                cadence.on_invoke(seconds(at), 0.0, false);
            }
            assert!(!cadence.on_invoke(seconds(7), 0.0, false).held);
            assert_eq!(cadence.on_invoke(seconds(8), 0.0, true), during(0));
            assert_eq!(cadence.on_invoke(seconds(9), 0.0, false), during(19));
        }
        let mut end = Cadence::new(Strategy::End);
        assert_eq!(end.on_invoke(seconds(1), 0.0, true), SendPlan::AT_END);
    }

    #[test]
    fn wall_clock_set_back_delays_nothing() {
        #[expect(clippy::disallowed_methods, reason = "an origin; the clock is not read again")]
        let monotonic = std::time::Instant::now();
        let (mut now, mut elapsed) = (Now { monotonic, wall: seconds(1_000_000) }, Elapsed::new());
        let mut cadence = Cadence::new(Strategy::Periodic(seconds(5)));
        assert!(cadence.on_invoke(elapsed.advance_to(now), 0.0, false).held);
        now.wall = seconds(996_400);
        for second in 1..=5 {
            now.monotonic += seconds(1);
            now.wall += seconds(1);
            assert_eq!(
                cadence.on_invoke(elapsed.advance_to(now), 0.0, false).held,
                second == 5,
                "{second} s"
            );
        }
    }
}
