//! One environment's life in virtual time: its invocations, the data waiting in it, and the times at which it is sent.

use std::time::Duration;

use fastrand::Rng;
use rotel_core::delivery::cadence::{Cadence, DuringInvocation, SendPlan, Strategy};

use super::arrivals::Arrivals;
use super::backend::Arrived;
use super::model::{Load, Model, Outcome};

/// The maximum deviation of a function's duration from its mean, in either direction, as a fraction.
const SPREAD: f64 = 0.2;
/// Platform: an idle environment ends after some minutes. AWS does not document how many; here it is 5 to 7.
const IDLE_LEAST: Duration = Duration::from_mins(5);
const IDLE_DIFFERS_BY: Duration = Duration::from_mins(2);

/// An environment that may end and start again.
pub(super) struct Environment<'a> {
    model: &'a Model,
    strategy: Strategy,
    cadence: Cadence,
    /// The end times of the functions whose data is still here.
    waiting: Vec<Duration>,
    outcome: &'a mut Outcome,
    rng: Rng,
}

impl<'a> Environment<'a> {
    pub(super) fn new(model: &'a Model, strategy: Strategy, outcome: &'a mut Outcome, rng: Rng) -> Self {
        Self { model, strategy, cadence: Cadence::new(strategy), waiting: Vec::new(), outcome, rng }
    }

    /// Runs the invocations within the model's span of time; ends some minutes after the last one.
    pub(super) fn live(mut self, load: Load) {
        let mut arrivals = Arrivals::new(load.pattern, load.mean_gap, &mut self.rng);
        let mut free_at = Duration::ZERO;
        let mut ends_at = Duration::MAX;
        loop {
            let asked = arrivals.next(&mut self.rng);
            if asked >= self.model.span {
                break;
            }
            // An environment does one thing at a time.
            let start = asked.max(free_at);
            if start > ends_at {
                self.end(ends_at);
            }
            free_at = self.invoke(start);
            ends_at = free_at + IDLE_LEAST + IDLE_DIFFERS_BY.mul_f64(self.rng.f64());
        }
        self.end(ends_at);
    }

    /// Runs an invocation; returns the time at which the extension is done as well.
    fn invoke(&mut self, start: Duration) -> Duration {
        let SendPlan { held, during } = self.cadence.on_invoke(start, self.rng.f64(), false);
        let function = self.model.function.mul_f64(1.0 + SPREAD * (2.0 * self.rng.f64() - 1.0));
        let end = start + function;
        match during {
            DuringInvocation::AtOnce => {
                // The rest of a period in which telemetry was sent during invocations.
                self.send_all(start);
                self.arrive(end, self.model.sdk);
            }
            DuringInvocation::Every { first, interval } => {
                let mut at = start + first;
                while at < end {
                    self.send_all(at);
                    at += interval;
                }
            }
        }
        self.waiting.push(end);
        let mut added = Duration::ZERO;
        // One that is not held has called `/next` before its function ends.
        if held {
            added = self.model.word + self.model.own;
            match during {
                // The SDK's part has left during the invocation.
                DuringInvocation::AtOnce => self.send_rest(end + added),
                DuringInvocation::Every { .. } => self.send_all(end + added),
            }
            added += self.model.round_trip;
        }
        self.outcome.invoked(function, added);
        end + added
    }

    /// SHUTDOWN: sends everything that is left.
    fn end(&mut self, at: Duration) {
        self.send_all(at);
        self.cadence = Cadence::new(self.strategy);
    }

    /// Sends everything that waits, one request per signal.
    fn send_all(&mut self, at: Duration) {
        let invocations = self.waiting.len() as u64;
        if invocations == 0 {
            return;
        }
        let Model { sdk, platform, .. } = self.model;
        let requests = sdk.requests + platform.requests;
        self.arrive(at, Arrived { requests, bytes: invocations * (sdk.bytes + platform.bytes) });
        self.age(at);
    }

    /// Sends the platform's report of the invocation; the rest has already been sent.
    fn send_rest(&mut self, at: Duration) {
        self.arrive(at, self.model.platform);
        self.age(at);
    }

    fn age(&mut self, at: Duration) {
        let arrived = at + self.model.round_trip / 2;
        for end in self.waiting.drain(..) {
            self.outcome.ages.add(arrived.saturating_sub(end));
        }
    }

    fn arrive(&mut self, at: Duration, arrived: Arrived) {
        self.outcome.backend.take(at + self.model.round_trip / 2, arrived);
    }
}
