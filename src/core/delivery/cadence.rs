//! When telemetry is sent: at the end of an invocation, or during a later one.
//!
//! Sending at the end of every invocation is billed but fresh. Where invocations follow each other quickly, most of them
//! send nothing and are not held at all: what they leave is sent once an interval, by one that is held until it has sent
//! it. Times are those of [`crate::elapsed`], so that neither a freeze nor a wall clock that is set back delays anything
//! for longer than the interval.

use std::collections::VecDeque;
use std::time::Duration;

/// The interval of sending in fast cadence and on managed instances.
const FAST_INTERVAL: Duration = Duration::from_secs(20);
/// The longest average gap between invocations in fast cadence: the next is due before the interval is over.
const FAST_APART: Duration = FAST_INTERVAL;
/// So many invocations are looked at.
const LOOK_BACK: usize = 10;
/// Fewer say nothing of what is to come.
const FEW: usize = 5;
/// The jitter shortens an interval by up to this share of it.
const JITTER_SHARE: f64 = 0.25;

/// What people have chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// At the end of every invocation.
    End,
    /// At the end while invocations are rare, once an interval while they are frequent.
    Adaptive,
    /// Once an interval.
    Periodic(Duration),
}

/// When telemetry is sent during and after one invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendPlan {
    /// `/next` waits for the end of the function and a flush.
    pub held: bool,
    /// When pending telemetry is sent during the invocation.
    pub during: DuringInvocation,
}

/// When pending telemetry is sent during an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DuringInvocation {
    /// As it comes.
    AtOnce,
    /// After `first`, if the function runs so long, and again after every `interval`.
    Every {
        /// From now on; zero where it is due.
        first: Duration,
        /// From one to the next.
        interval: Duration,
    },
}

impl SendPlan {
    /// As it comes, and the rest at the end.
    pub const AT_END: Self = Self { held: true, during: DuringInvocation::AtOnce };
}

/// The strategy and what it has seen.
#[derive(Clone, Debug)]
pub struct Cadence {
    strategy: Strategy,
    invoked_at: VecDeque<Duration>,
    /// When pending telemetry is next due.
    due_at: Duration,
}

impl Cadence {
    /// A cadence that has seen nothing yet.
    pub fn new(strategy: Strategy) -> Self {
        Self { strategy, invoked_at: VecDeque::with_capacity(LOOK_BACK), due_at: Duration::ZERO }
    }

    /// Plans the invocation that begins now, `elapsed` into the environment's life. `jitter`, from 0 to 1, keeps a fleet
    /// from sending in step. An `urgent` invocation flushes although its time has not come.
    pub fn on_invoke(&mut self, elapsed: Duration, jitter: f64, urgent: bool) -> SendPlan {
        if self.invoked_at.len() == LOOK_BACK {
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
        // Where it is due, a function shorter than a request must not cut it off time and again.
        SendPlan { held: first.is_zero(), during: DuringInvocation::Every { first, interval } }
    }

    fn is_fast(&self) -> bool {
        let mut apart = self.invoked_at.iter().zip(self.invoked_at.iter().skip(1));
        // After a long silence the burst before it says nothing any more.
        let steady = apart.all(|(earlier, later)| later.saturating_sub(*earlier) <= 3 * FAST_APART);
        let (Some(first), Some(last)) = (self.invoked_at.front(), self.invoked_at.back()) else {
            return false;
        };
        let gaps = u32::try_from(self.invoked_at.len() - 1).unwrap_or(u32::MAX);
        steady && self.invoked_at.len() >= FEW && last.saturating_sub(*first) <= FAST_APART * gaps
    }
}

/// When telemetry is sent where no invocations are announced and nothing is ever frozen.
pub fn unattended(strategy: Strategy) -> DuringInvocation {
    match strategy {
        // There is no end to wait for, and a request for every line would be one too many.
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

    /// The plans of invocations that begin at these seconds.
    fn plans(strategy: Strategy, at: impl IntoIterator<Item = u64>) -> Vec<SendPlan> {
        let mut cadence = Cadence::new(strategy);
        at.into_iter().map(|at| cadence.on_invoke(seconds(at), 0.0, false)).collect()
    }

    fn during(first: u64) -> SendPlan {
        let during = DuringInvocation::Every { first: seconds(first), interval: FAST_INTERVAL };
        SendPlan { held: first == 0, during }
    }

    #[test]
    fn the_plain_strategy_always_sends_at_the_end() {
        assert!(plans(Strategy::End, 0..100).iter().all(|plan| *plan == SendPlan::AT_END));
    }

    #[test]
    fn periodic_sends_beside_the_first_invocation_after_each_interval() {
        let plans = plans(Strategy::Periodic(FAST_INTERVAL), [0, 1, 19, 20, 100, 101]);
        assert_eq!(plans, [0, 19, 1, 0, 0, 19].map(during));
    }

    #[test]
    fn adaptive_turns_to_sending_beside_once_invocations_follow_each_other_quickly() {
        let plans = plans(Strategy::Adaptive, 0..7);
        assert_eq!(plans[..4], [SendPlan::AT_END; 4]);
        assert_eq!(plans[4..], [0, 19, 18].map(during));
    }

    #[test]
    fn adaptive_turns_back_after_a_silence_and_stays_with_the_end_where_invocations_are_rare() {
        let after_a_silence = plans(Strategy::Adaptive, (0..20).chain([1000, 1001]));
        assert_eq!(after_a_silence[20..], [SendPlan::AT_END; 2]);
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
    fn an_urgent_invocation_is_held_and_puts_the_next_off() {
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
    fn a_wall_clock_set_back_delays_nothing() {
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
