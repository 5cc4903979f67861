//! The calls of a round for one service and region: plans them, and leaves making them to the caller.
//!
//! The first round requests all secrets at once. A later round makes one call, and another only if that call returned a value
//! for each requested secret: a throttling service gets no extra calls. Failed secrets go to the end of the queue, so that one
//! denied secret never blocks the others.

use std::collections::VecDeque;

use super::Outcomes;
use super::refusal::Refusal;
use rotel_core::config::secret_ref::{self, BATCH_LIMIT};
use rotel_core::secret::Secret;

/// The missing secrets of one service and region, and the calls that fetch them.
pub(super) struct Plan {
    arns: Vec<String>,
    /// The next one to request is at the front.
    missing: VecDeque<MissingSecret>,
    round: Round,
    /// True after a batch was refused: one of its secrets may be the cause, or batch calls are not allowed.
    one_by_one: bool,
}

struct MissingSecret {
    arn: String,
    /// The error to report, if any yet.
    refusal: Option<Refusal>,
}

impl MissingSecret {
    fn may_succeed(&self) -> bool {
        self.refusal.as_ref().is_none_or(Refusal::may_succeed)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Round {
    NotStarted,
    First,
    Later {
        /// The number of secrets at the front of the queue that this round has not requested yet.
        not_requested: usize,
    },
}

impl Plan {
    pub(super) fn new(arns: Vec<String>) -> Self {
        let mut plan = Self { arns, missing: VecDeque::new(), round: Round::NotStarted, one_by_one: false };
        plan.forget();
        plan
    }

    /// Marks all secrets as missing and forgets their errors.
    pub(super) fn forget(&mut self) {
        let missing = |arn: &String| MissingSecret { arn: arn.clone(), refusal: None };
        self.missing = self.arns.iter().map(missing).collect();
    }

    /// Returns true before the first round.
    pub(super) fn is_new(&self) -> bool {
        self.round == Round::NotStarted
    }

    /// Returns true if no further call can fetch a secret.
    pub(super) fn is_settled(&self) -> bool {
        self.missing.iter().all(|missing| !missing.may_succeed())
    }

    /// Records why no call can be made.
    pub(super) fn refuse_all(&mut self, refusal: &Refusal) {
        for missing in self.missing.iter_mut().filter(|missing| missing.may_succeed()) {
            missing.refusal = Some(refusal.clone());
        }
    }

    /// Starts a round; returns the first calls, for concurrent execution.
    pub(super) fn begin_round(&mut self) -> Vec<Vec<String>> {
        if self.is_new() {
            self.round = Round::First;
            let arns = self.missing.iter().map(|missing| missing.arn.clone());
            let (alone, together): (Vec<_>, Vec<_>) = arns.partition(|arn| has_version(arn));
            let batches = together.chunks(BATCH_LIMIT).map(<[String]>::to_vec);
            return batches.chain(alone.into_iter().map(|arn| vec![arn])).collect();
        }
        self.round = Round::Later { not_requested: self.missing.len() };
        self.next_call().into_iter().collect()
    }

    /// Handles the result of a call; returns the values in its response, and the calls to make next.
    pub(super) fn on_call_end(
        &mut self,
        arns: Vec<String>,
        result: Result<Outcomes, Refusal>,
    ) -> (Vec<(String, Secret)>, Vec<Vec<String>>) {
        match result {
            Ok(outcomes) => self.on_response(&arns, outcomes),
            Err(refusal) if arns.len() > 1 && refusal.may_be_caused_by_one() => {
                self.one_by_one = true;
                if self.round == Round::First {
                    return (Vec::new(), arns.into_iter().map(|arn| vec![arn]).collect());
                }
                for missing in self.missing_of(&arns) {
                    missing.refusal.get_or_insert_with(|| refusal.for_one_of_batch());
                }
                (Vec::new(), Vec::new())
            }
            Err(refusal) => {
                for missing in self.missing_of(&arns) {
                    // An earlier error, for example throttling, says more than a timeout.
                    if missing.refusal.is_none() || !refusal.is_timeout() {
                        missing.refusal = Some(refusal.clone());
                    }
                }
                (Vec::new(), Vec::new())
            }
        }
    }

    fn on_response(
        &mut self,
        arns: &[String],
        outcomes: Outcomes,
    ) -> (Vec<(String, Secret)>, Vec<Vec<String>>) {
        // The default for secrets that the response omits.
        for missing in self.missing_of(arns) {
            missing.refusal = Some(Refusal::not_in_response());
        }
        let mut values = Vec::new();
        for (arn, outcome) in outcomes {
            let Some(index) = self.missing.iter().position(|missing| missing.arn == arn) else { continue };
            match outcome {
                Ok(value) => {
                    self.missing.remove(index);
                    values.push((arn, value));
                }
                Err(refusal) => {
                    if let Some(missing) = self.missing.get_mut(index) {
                        missing.refusal = Some(refusal);
                    }
                }
            }
        }
        let next = if values.len() == arns.len() { self.next_call() } else { None };
        (values, next.into_iter().collect())
    }

    fn missing_of(&mut self, arns: &[String]) -> impl Iterator<Item = &mut MissingSecret> {
        self.missing.iter_mut().filter(|missing| arns.contains(&missing.arn))
    }

    /// Returns the next call of a later round. Its secrets go to the end of the queue now, not after the response: a call
    /// may hang or be cancelled.
    fn next_call(&mut self) -> Option<Vec<String>> {
        let Round::Later { not_requested } = &mut self.round else { return None };
        let limit = if self.one_by_one { 1 } else { BATCH_LIMIT };
        let mut arns: Vec<String> = Vec::new();
        while *not_requested > 0 && arns.len() < limit {
            let ends_batch = |next: &MissingSecret| has_version(&next.arn) && next.may_succeed();
            if !arns.is_empty() && self.missing.front().is_some_and(ends_batch) {
                break;
            }
            *not_requested -= 1;
            let Some(missing) = self.missing.pop_front() else { break };
            if missing.may_succeed() {
                arns.push(missing.arn.clone());
            }
            self.missing.push_back(missing);
            if arns.last().is_some_and(|arn| has_version(arn)) {
                break;
            }
        }
        (!arns.is_empty()).then_some(arns)
    }

    /// Returns the missing secrets, each with the error to report, or `default` if it has none yet.
    pub(super) fn missing<'a>(
        &'a self,
        default: &'a Refusal,
    ) -> impl Iterator<Item = (&'a str, &'a Refusal)> {
        self.missing
            .iter()
            .map(move |missing| (missing.arn.as_str(), missing.refusal.as_ref().unwrap_or(default)))
    }
}

/// Returns true if a secret must be requested alone: a batch returns current values only.
fn has_version(arn: &str) -> bool {
    secret_ref::split_secret_id(arn).0 != arn
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENIED: &str = "AccessDeniedException";

    fn arns(range: std::ops::Range<usize>) -> Vec<String> {
        range.map(|number| format!("arn-{number:02}")).collect()
    }

    /// Returns a plan whose first round was throttled.
    fn throttled(count: usize) -> Plan {
        let mut plan = Plan::new(arns(0..count));
        for call in plan.begin_round() {
            end_call(&mut plan, call, Err("ThrottlingException"));
        }
        plan
    }

    /// Ends a call; returns the next calls.
    fn end_call(plan: &mut Plan, call: Vec<String>, result: Result<(), &str>) -> Vec<Vec<String>> {
        let outcome = |arn: &String| (arn.clone(), Ok(Secret::new("hunter2")));
        let result = match result {
            Ok(()) => Ok(call.iter().map(outcome).collect()),
            Err(code) => Err(Refusal::from_code(code)),
        };
        plan.on_call_end(call, result).1
    }

    /// Runs a round in which every call with a denied ARN is denied and all others succeed; returns its calls.
    fn run_round(plan: &mut Plan, denied: &[&str]) -> Vec<Vec<String>> {
        let mut calls_made = Vec::new();
        let mut calls = plan.begin_round();
        while let Some(call) = calls.pop() {
            let is_denied = call.iter().any(|arn| denied.contains(&arn.as_str()));
            calls.extend(end_call(plan, call.clone(), if is_denied { Err(DENIED) } else { Ok(()) }));
            calls_made.push(call);
        }
        calls_made
    }

    fn missing_arns(plan: &Plan) -> Vec<String> {
        plan.missing(&Refusal::not_in_response()).map(|(arn, _)| arn.to_owned()).collect()
    }

    #[test]
    fn first_round_requests_all_at_once() {
        let mut plan = Plan::new(arns(0..25));
        assert_eq!(plan.begin_round(), [arns(0..10), arns(10..20), arns(20..25)]);
    }

    #[test]
    fn versions_are_requested_alone() {
        let version =
            "arn:aws:secretsmanager:us-east-1:123456789012:secret:a-AbCdEf::AWSPREVIOUS:".to_owned();
        let all = ["a".to_owned(), version.clone(), "b".to_owned(), "c".to_owned()];
        let mut plan = Plan::new(all.to_vec());
        let first = plan.begin_round();
        assert_eq!(first, [vec!["a".to_owned(), "b".to_owned(), "c".to_owned()], vec![version.clone()]]);
        for call in first {
            end_call(&mut plan, call, Err("ThrottlingException"));
        }
        assert_eq!(
            run_round(&mut plan, &[]),
            [vec!["a".to_owned()], vec![version], vec!["b".to_owned(), "c".to_owned()]]
        );
        assert!(missing_arns(&plan).is_empty());
    }

    #[test]
    fn later_round_stops_at_first_failure() {
        let mut plan = throttled(25);
        assert_eq!(plan.begin_round(), [arns(0..10)]);
        assert!(end_call(&mut plan, arns(0..10), Err("ThrottlingException")).is_empty());
        // The remaining secrets are requested next, and the failed ones last.
        assert_eq!(
            run_round(&mut plan, &[]),
            [arns(10..20), [arns(20..25), arns(0..5)].concat(), arns(5..10)]
        );
        assert!(missing_arns(&plan).is_empty() && plan.is_settled() && plan.begin_round().is_empty());
    }

    #[test]
    fn refused_batch_is_split_in_later_rounds() {
        let mut plan = throttled(3);
        assert_eq!(run_round(&mut plan, &["arn-01"]), [arns(0..3)]);
        assert_eq!(run_round(&mut plan, &["arn-01"]), [arns(0..1), arns(1..2)]);
        assert_eq!(run_round(&mut plan, &["arn-01"]), [arns(2..3), arns(1..2)]);
        assert_eq!(missing_arns(&plan), ["arn-01"]);
        assert_eq!(run_round(&mut plan, &[]), [arns(1..2)]);
        plan.forget();
        assert_eq!(run_round(&mut plan, &[]), [arns(0..1), arns(1..2), arns(2..3)]);
    }

    #[test]
    fn secrets_of_unanswered_call_are_requeued() {
        let mut plan = throttled(11);
        assert_eq!(plan.begin_round(), [arns(0..10)]);
        assert_eq!(plan.begin_round(), [[arns(10..11), arns(0..9)].concat()]);
    }

    #[test]
    fn malformed_arn_is_not_requested_again() {
        let mut plan = Plan::new(arns(0..2));
        plan.begin_round();
        assert_eq!(end_call(&mut plan, arns(0..2), Err("ValidationException")), [arns(0..1), arns(1..2)]);
        end_call(&mut plan, arns(0..1), Err("ValidationException"));
        end_call(&mut plan, arns(1..2), Err(DENIED));
        assert_eq!(plan.begin_round(), [arns(1..2)]);
        plan.forget();
        assert_eq!(plan.begin_round(), [arns(0..1)]);
    }

    #[test]
    fn timeout_does_not_replace_earlier_error() {
        let mut plan = throttled(1);
        let call = plan.begin_round().remove(0);
        plan.on_call_end(call, Err(Refusal::timeout()));
        assert_eq!(
            plan.missing(&Refusal::not_in_response()).next().unwrap().1,
            &Refusal::from_code("ThrottlingException")
        );
    }
}
