//! Which secrets of one service and region are asked for next: the calls of a round, without making them.
//!
//! The first round asks for everything at once. A later round makes one call, and another only while all that was asked for
//! is answered: a service that throttles is not called more often for it. What failed goes to the end of the line, so that
//! one denied secret never keeps the others from being fetched.

use std::collections::VecDeque;

use super::Answers;
use super::refusal::Refusal;
use rotel_core::config::secret_ref::BATCH_LIMIT;
use rotel_core::secret::Secret;

/// The secrets of one service and region that are still missing.
pub(super) struct Plan {
    arns: Vec<String>,
    /// The next to be asked for comes first.
    missing: VecDeque<Missing>,
    round: Round,
    /// A batch was refused as a whole for what may concern one of its secrets, or because batches are not allowed.
    one_by_one: bool,
}

struct Missing {
    arn: String,
    /// The answer to the last call for it.
    refusal: Option<Refusal>,
}

impl Missing {
    fn may_pass(&self) -> bool {
        self.refusal.as_ref().is_none_or(Refusal::may_pass)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Round {
    None,
    First,
    Later {
        /// The number at the front of the queue that this round has not asked for.
        unasked: usize,
    },
}

impl Plan {
    pub(super) fn new(arns: Vec<String>) -> Self {
        let mut plan = Self { arns, missing: VecDeque::new(), round: Round::None, one_by_one: false };
        plan.forget();
        plan
    }

    /// Has all secrets missing again.
    pub(super) fn forget(&mut self) {
        let missing = |arn: &String| Missing { arn: arn.clone(), refusal: None };
        self.missing = self.arns.iter().map(missing).collect();
    }

    /// Returns true before the first round.
    pub(super) fn is_new(&self) -> bool {
        self.round == Round::None
    }

    /// Returns true if no call could fetch more.
    pub(super) fn is_settled(&self) -> bool {
        self.missing.iter().all(|missing| !missing.may_pass())
    }

    /// Takes the reason why nothing can be asked for.
    pub(super) fn refuse_all(&mut self, refusal: &Refusal) {
        for missing in self.missing.iter_mut().filter(|missing| missing.may_pass()) {
            missing.refusal = Some(refusal.clone());
        }
    }

    /// Begins a round; returns the calls to make at once.
    pub(super) fn begin(&mut self) -> Vec<Vec<String>> {
        if self.is_new() {
            self.round = Round::First;
            let arns: Vec<String> = self.missing.iter().map(|missing| missing.arn.clone()).collect();
            return arns.chunks(BATCH_LIMIT).map(<[String]>::to_vec).collect();
        }
        self.round = Round::Later { unasked: self.missing.len() };
        self.next_call().into_iter().collect()
    }

    /// Takes the end of a call; returns the values in its answer, and the calls to make next.
    pub(super) fn on_end(
        &mut self,
        arns: Vec<String>,
        outcome: Result<Answers, Refusal>,
    ) -> (Vec<(String, Secret)>, Vec<Vec<String>>) {
        match outcome {
            Ok(answers) => self.on_answers(&arns, answers),
            Err(refusal) if arns.len() > 1 && refusal.may_concern_one() => {
                self.one_by_one = true;
                if self.round == Round::First {
                    return (Vec::new(), arns.into_iter().map(|arn| vec![arn]).collect());
                }
                for missing in self.missing_of(&arns) {
                    missing.refusal.get_or_insert_with(|| refusal.for_one_of_several());
                }
                (Vec::new(), Vec::new())
            }
            Err(refusal) => {
                for missing in self.missing_of(&arns) {
                    // That a service throttles says more than that the time was up.
                    if missing.refusal.is_none() || !refusal.is_timeout() {
                        missing.refusal = Some(refusal.clone());
                    }
                }
                (Vec::new(), Vec::new())
            }
        }
    }

    fn on_answers(&mut self, arns: &[String], answers: Answers) -> (Vec<(String, Secret)>, Vec<Vec<String>>) {
        // The service left these out of its answer.
        for missing in self.missing_of(arns) {
            missing.refusal = Some(Refusal::left_out());
        }
        let mut values = Vec::new();
        for (arn, answer) in answers {
            let Some(at) = self.missing.iter().position(|missing| missing.arn == arn) else { continue };
            match answer {
                Ok(value) => {
                    self.missing.remove(at);
                    values.push((arn, value));
                }
                Err(refusal) => {
                    if let Some(missing) = self.missing.get_mut(at) {
                        missing.refusal = Some(refusal);
                    }
                }
            }
        }
        let next = if values.len() == arns.len() { self.next_call() } else { None };
        (values, next.into_iter().collect())
    }

    fn missing_of(&mut self, arns: &[String]) -> impl Iterator<Item = &mut Missing> {
        self.missing.iter_mut().filter(|missing| arns.contains(&missing.arn))
    }

    /// The next call of a later round. What it asks for goes to the end of the line before it is answered: a call that
    /// hangs or is given up is an answer as well.
    fn next_call(&mut self) -> Option<Vec<String>> {
        let Round::Later { unasked } = &mut self.round else { return None };
        let limit = if self.one_by_one { 1 } else { BATCH_LIMIT };
        let mut arns = Vec::new();
        while *unasked > 0 && arns.len() < limit {
            *unasked -= 1;
            let Some(missing) = self.missing.pop_front() else { break };
            if missing.may_pass() {
                arns.push(missing.arn.clone());
            }
            self.missing.push_back(missing);
        }
        (!arns.is_empty()).then_some(arns)
    }

    /// The missing ones, each with the answer to the last call for it; `otherwise` if there was none.
    pub(super) fn missing<'a>(
        &'a self,
        otherwise: &'a Refusal,
    ) -> impl Iterator<Item = (&'a str, &'a Refusal)> {
        self.missing
            .iter()
            .map(move |missing| (missing.arn.as_str(), missing.refusal.as_ref().unwrap_or(otherwise)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENIED: &str = "AccessDeniedException";

    fn arns(range: std::ops::Range<usize>) -> Vec<String> {
        range.map(|number| format!("arn-{number:02}")).collect()
    }

    /// A plan whose first round was throttled.
    fn throttled(count: usize) -> Plan {
        let mut plan = Plan::new(arns(0..count));
        for call in plan.begin() {
            end(&mut plan, call, Err("ThrottlingException"));
        }
        plan
    }

    /// Ends a call; returns the next ones.
    fn end(plan: &mut Plan, call: Vec<String>, outcome: Result<(), &str>) -> Vec<Vec<String>> {
        let answer = |arn: &String| (arn.clone(), Ok(Secret::new("hunter2")));
        let outcome = match outcome {
            Ok(()) => Ok(call.iter().map(answer).collect()),
            Err(code) => Err(Refusal::of_code(code)),
        };
        plan.on_end(call, outcome).1
    }

    /// A round in which these are denied one by one and all others are answered; returns all that it asks for.
    fn round(plan: &mut Plan, denied: &[&str]) -> Vec<Vec<String>> {
        let mut asked = Vec::new();
        let mut calls = plan.begin();
        while let Some(call) = calls.pop() {
            let is_denied = call.iter().any(|arn| denied.contains(&arn.as_str()));
            calls.extend(end(plan, call.clone(), if is_denied { Err(DENIED) } else { Ok(()) }));
            asked.push(call);
        }
        asked
    }

    fn missing(plan: &Plan) -> Vec<String> {
        plan.missing(&Refusal::left_out()).map(|(arn, _)| arn.to_owned()).collect()
    }

    #[test]
    fn first_round_asks_for_all_at_once() {
        let mut plan = Plan::new(arns(0..25));
        assert_eq!(plan.begin(), [arns(0..10), arns(10..20), arns(20..25)]);
    }

    #[test]
    fn later_round_stops_at_the_first_failure() {
        let mut plan = throttled(25);
        assert_eq!(plan.begin(), [arns(0..10)]);
        assert!(end(&mut plan, arns(0..10), Err("ThrottlingException")).is_empty());
        // The next ones have their turn, and those that failed come last.
        assert_eq!(round(&mut plan, &[]), [arns(10..20), [arns(20..25), arns(0..5)].concat(), arns(5..10)]);
        assert!(missing(&plan).is_empty() && plan.is_settled() && plan.begin().is_empty());
    }

    #[test]
    fn refused_batch_is_asked_one_by_one_later() {
        let mut plan = throttled(3);
        assert_eq!(round(&mut plan, &["arn-01"]), [arns(0..3)]);
        assert_eq!(round(&mut plan, &["arn-01"]), [arns(0..1), arns(1..2)]);
        assert_eq!(round(&mut plan, &["arn-01"]), [arns(2..3), arns(1..2)]);
        assert_eq!(missing(&plan), ["arn-01"]);
        assert_eq!(round(&mut plan, &[]), [arns(1..2)]);
        plan.forget();
        assert_eq!(round(&mut plan, &[]), [arns(0..1), arns(1..2), arns(2..3)]);
    }

    #[test]
    fn unanswered_call_goes_to_the_end_of_the_line() {
        let mut plan = throttled(11);
        assert_eq!(plan.begin(), [arns(0..10)]);
        assert_eq!(plan.begin(), [[arns(10..11), arns(0..9)].concat()]);
    }

    #[test]
    fn malformed_arn_is_not_asked_for_again() {
        let mut plan = Plan::new(arns(0..2));
        plan.begin();
        assert_eq!(end(&mut plan, arns(0..2), Err("ValidationException")), [arns(0..1), arns(1..2)]);
        end(&mut plan, arns(0..1), Err("ValidationException"));
        end(&mut plan, arns(1..2), Err(DENIED));
        assert_eq!(plan.begin(), [arns(1..2)]);
        plan.forget();
        assert_eq!(plan.begin(), [arns(0..1)]);
    }

    #[test]
    fn timeout_does_not_hide_an_earlier_answer() {
        let mut plan = throttled(1);
        let call = plan.begin().remove(0);
        plan.on_end(call, Err(Refusal::timeout()));
        assert_eq!(
            plan.missing(&Refusal::left_out()).next().unwrap().1,
            &Refusal::of_code("ThrottlingException")
        );
    }
}
