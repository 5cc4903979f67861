//! Which invocation a record belongs to that does not say so itself.
//!
//! A plain line carries no request id, and the streams of the Telemetry API come in no promised order, so arrival tells
//! nothing. What tells is time: a record belongs to the invocation between whose `platform.start` and
//! `platform.runtimeDone` it was made. While the start of the running invocation has not been delivered yet, INVOKE's id
//! stands in for it. Outside of all invocations, and where several overlap, nothing is guessed.

use std::collections::VecDeque;

/// How many invocations are remembered: the platform delivers within a few seconds of an event.
const REMEMBERED: usize = 16;

/// The invocations of an environment, in time.
#[derive(Debug, Default)]
pub struct Timeline {
    invocations: VecDeque<Interval>,
}

/// Nanoseconds since the epoch.
#[derive(Debug)]
struct Interval {
    request_id: String,
    start: Option<u64>,
    end: Option<u64>,
}

impl Timeline {
    /// INVOKE told of an invocation.
    pub fn invoked(&mut self, request_id: &str) {
        self.interval(request_id);
    }

    /// `platform.start` of an invocation.
    pub fn started(&mut self, request_id: &str, time: Option<u64>) {
        let interval = self.interval(request_id);
        // Lambda repeats a failed asynchronous invocation under the same id.
        if interval.end.is_some_and(|end| time.is_some_and(|time| time > end)) {
            interval.end = None;
        }
        interval.start = time.or(interval.start);
    }

    /// `platform.runtimeDone` of an invocation.
    pub fn ended(&mut self, request_id: &str, time: Option<u64>) {
        let interval = self.interval(request_id);
        interval.end = time.or(interval.start).or(Some(0));
    }

    /// The request id of a record made at `time`; `None` outside of invocations.
    pub fn at(&self, time: u64) -> Option<&str> {
        let holds = |interval: &&Interval| {
            interval.start.is_none_or(|start| start <= time) && interval.end.is_none_or(|end| time <= end)
        };
        let mut started = self.invocations.iter().filter(|interval| interval.start.is_some()).filter(holds);
        match (started.next(), started.next()) {
            (Some(only), None) => Some(&only.request_id),
            (Some(_), Some(_)) => None,
            (None, _) => {
                let running = self.invocations.back().filter(|last| last.start.is_none()).filter(holds);
                running.map(|last| last.request_id.as_str())
            }
        }
    }

    fn interval(&mut self, request_id: &str) -> &mut Interval {
        let known = self.invocations.iter().position(|interval| interval.request_id == request_id);
        let index = known.unwrap_or_else(|| {
            if self.invocations.len() == REMEMBERED {
                self.invocations.pop_front();
            }
            self.invocations.push_back(Interval {
                request_id: request_id.to_owned(),
                start: None,
                end: None,
            });
            self.invocations.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "the index was found or made on the line above")]
        &mut self.invocations[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_belongs_to_the_invocation_of_its_time_however_late_it_comes() {
        let mut timeline = Timeline::default();
        timeline.started("a", Some(100));
        timeline.ended("a", Some(200));
        timeline.started("b", Some(300));
        assert_eq!(timeline.at(99), None);
        assert_eq!(timeline.at(100), Some("a"));
        assert_eq!(timeline.at(200), Some("a"));
        assert_eq!(timeline.at(250), None);
        assert_eq!(timeline.at(300), Some("b"));
    }

    #[test]
    fn before_its_start_is_delivered_an_invocation_is_known_by_invoke() {
        let mut timeline = Timeline::default();
        timeline.started("a", Some(100));
        timeline.ended("a", Some(200));
        timeline.invoked("b");
        assert_eq!(timeline.at(150), Some("a"));
        assert_eq!(timeline.at(300), Some("b"));
        timeline.ended("b", Some(400));
        assert_eq!(timeline.at(401), None);
    }

    #[test]
    fn among_several_at_once_nothing_is_guessed() {
        let mut timeline = Timeline::default();
        timeline.started("a", Some(100));
        timeline.started("b", Some(110));
        assert_eq!(timeline.at(105), Some("a"));
        assert_eq!(timeline.at(120), None);
    }

    #[test]
    fn an_invocation_repeated_under_its_id_runs_again() {
        let mut timeline = Timeline::default();
        timeline.started("a", Some(100));
        timeline.ended("a", Some(200));
        timeline.started("a", Some(300));
        assert_eq!(timeline.at(350), Some("a"));
    }

    #[test]
    fn old_invocations_are_forgotten() {
        let mut timeline = Timeline::default();
        for number in 0..100 {
            timeline.started(&number.to_string(), Some(number * 10));
            timeline.ended(&number.to_string(), Some(number * 10 + 5));
        }
        assert_eq!(timeline.invocations.len(), REMEMBERED);
        assert_eq!(timeline.at(992), Some("99"));
    }
}
