//! When telemetry leaves: at the end of an invocation, or beside a later one.
//!
//! Sending at the end of every invocation is billed but fresh. Where invocations follow each other quickly, what they
//! leave can wait for one of the next, beside which it goes, once for many of them; only that one waits at its end for
//! what it has not got through by then. Decides by wall time, because the monotonic clock may stand still between
//! invocations.

use std::collections::VecDeque;
use std::time::Duration;

/// In fast cadence and on managed instances, telemetry leaves so often.
const FAST_INTERVAL: Duration = Duration::from_secs(20);
/// On average so far apart at most, invocations are in fast cadence: the next is due before the interval is over.
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
    /// At the end while invocations are rare, beside them while they are frequent.
    Adaptive,
    /// Beside invocations, so often at most.
    Periodic(Duration),
}

/// When telemetry leaves during and after one invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whether `/next` waits for a flush once the function is done.
    pub flush_at_end: bool,
    /// When what waits leaves beside the function.
    pub beside: Beside,
}

/// When what waits leaves beside the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
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

impl Plan {
    /// As it comes, and the rest at the end.
    pub const AT_END: Self = Self { flush_at_end: true, beside: Beside::AtOnce };
}

/// The strategy and what it has seen.
#[derive(Clone, Debug)]
pub struct Cadence {
    strategy: Strategy,
    invoked_at: VecDeque<Duration>,
    /// When what waits is next due beside a function.
    due_at: Duration,
}

impl Cadence {
    /// A cadence that has seen nothing yet.
    pub fn new(strategy: Strategy) -> Self {
        Self { strategy, invoked_at: VecDeque::with_capacity(LOOK_BACK), due_at: Duration::ZERO }
    }

    /// Plans the invocation that begins now. `wall` is the time since the epoch; `jitter`, from 0 to 1, keeps a fleet
    /// from beating in step.
    pub fn on_invoke(&mut self, wall: Duration, jitter: f64) -> Plan {
        if self.invoked_at.len() == LOOK_BACK {
            self.invoked_at.pop_front();
        }
        self.invoked_at.push_back(wall);
        let interval = match self.strategy {
            Strategy::End => return Plan::AT_END,
            Strategy::Adaptive if !self.is_fast() => return Plan::AT_END,
            Strategy::Adaptive => FAST_INTERVAL,
            Strategy::Periodic(interval) => interval,
        };
        let interval = interval.mul_f64(1.0 - jitter.clamp(0.0, 1.0) * JITTER_SHARE);
        // A clock that was set back must not put the next time off for long.
        let first = self.due_at.saturating_sub(wall).min(interval);
        if first.is_zero() {
            self.due_at = wall + interval;
        }
        // Where it is due, a function shorter than a request must not cut it off time and again.
        Plan { flush_at_end: first.is_zero(), beside: Beside::Every { first, interval } }
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

/// When what comes leaves where nobody tells of invocations and nothing is ever frozen.
pub fn unattended(strategy: Strategy) -> Beside {
    match strategy {
        // There is no end to wait for, and a request for every line would be one too many.
        Strategy::End => Beside::Every { first: Duration::ZERO, interval: Duration::from_secs(1) },
        Strategy::Adaptive => Beside::Every { first: Duration::ZERO, interval: FAST_INTERVAL },
        Strategy::Periodic(interval) => Beside::Every { first: Duration::ZERO, interval },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// The plans of invocations that begin at these seconds.
    fn plans(strategy: Strategy, at: impl IntoIterator<Item = u64>) -> Vec<Plan> {
        let mut cadence = Cadence::new(strategy);
        at.into_iter().map(|at| cadence.on_invoke(seconds(1_000_000 + at), 0.0)).collect()
    }

    fn beside(first: u64) -> Plan {
        let beside = Beside::Every { first: seconds(first), interval: FAST_INTERVAL };
        Plan { flush_at_end: first == 0, beside }
    }

    #[test]
    fn the_plain_strategy_always_sends_at_the_end() {
        assert!(plans(Strategy::End, 0..100).iter().all(|plan| *plan == Plan::AT_END));
    }

    #[test]
    fn periodic_sends_beside_the_first_invocation_after_each_interval() {
        let plans = plans(Strategy::Periodic(FAST_INTERVAL), [0, 1, 19, 20, 100, 101]);
        assert_eq!(plans, [0, 19, 1, 0, 0, 19].map(beside));
    }

    #[test]
    fn adaptive_turns_to_sending_beside_once_invocations_follow_each_other_quickly() {
        let plans = plans(Strategy::Adaptive, 0..7);
        assert_eq!(plans[..4], [Plan::AT_END; 4]);
        assert_eq!(plans[4..], [0, 19, 18].map(beside));
    }

    #[test]
    fn adaptive_turns_back_after_a_silence_and_stays_with_the_end_where_invocations_are_rare() {
        let after_a_silence = plans(Strategy::Adaptive, (0..20).chain([1000, 1001]));
        assert_eq!(after_a_silence[20..], [Plan::AT_END; 2]);
        let rare = plans(Strategy::Adaptive, (0..20).map(|nth| nth * 25));
        assert!(rare.iter().all(|plan| *plan == Plan::AT_END));
    }

    #[test]
    fn jitter_shortens_an_interval_by_up_to_a_quarter() {
        let mut cadence = Cadence::new(Strategy::Periodic(FAST_INTERVAL));
        cadence.on_invoke(seconds(100), 1.0);
        let Beside::Every { first, .. } = cadence.on_invoke(seconds(101), 0.0).beside else {
            panic!("periodic")
        };
        assert_eq!(first, seconds(14));
    }

    #[test]
    fn a_clock_set_back_puts_nothing_off_for_longer_than_the_interval() {
        let mut cadence = Cadence::new(Strategy::Periodic(FAST_INTERVAL));
        cadence.on_invoke(seconds(1_000_000), 0.0);
        assert_eq!(cadence.on_invoke(seconds(1000), 0.0), beside(20));
    }
}
