//! Which invocation a record belongs to that does not say so itself.
//!
//! A plain line carries no request id, and the streams of the Telemetry API come in no promised order, so arrival tells
//! nothing. What tells is time. Where one invocation follows another, a record belongs to the last one that had started
//! when it was made: an environment runs after `runtimeDone` only because of the invocation before. While the start of
//! the running invocation has not been delivered yet, that of its INVOKE stands in for it. Where several run at once, a
//! record belongs to the only one that was running, and among several nothing is guessed. Before the first start
//! nothing is, either: what was made then, and before the runtime had initialised, is the init phase's.

use std::collections::VecDeque;
use std::time::Duration;

/// How many invocations are remembered where one follows another: the platform delivers within a few seconds of an event.
const REMEMBERED: usize = 16;
/// The same where several run at once: so many of them, and more that have ended.
const REMEMBERED_AT_ONCE: usize = 128;
/// How much later than `platform.start`, and than the function, INVOKE may reach us, in nanoseconds.
pub(crate) const INVOKE_LATENESS: u64 = 50_000_000;
const MILLISECOND: Duration = Duration::from_millis(1);

/// The invocations of an environment, in time.
#[derive(Debug)]
pub struct Timeline {
    invocations: VecDeque<Interval>,
    concurrent: bool,
    /// When the init phase was over, in nanoseconds since the epoch, as far as it is known.
    init_end: Option<u64>,
}

/// Nanoseconds since the epoch.
#[derive(Debug)]
struct Interval {
    request_id: String,
    start: u64,
    /// `start` is a guess from INVOKE.
    guessed: bool,
    end: Option<u64>,
}

impl Timeline {
    /// An empty timeline; `concurrent` where invocations run side by side, as on managed instances.
    pub fn new(concurrent: bool) -> Self {
        Self { invocations: VecDeque::new(), concurrent, init_end: None }
    }

    /// `platform.initRuntimeDone`: the runtime has initialised.
    pub fn initialised(&mut self, time: Option<u64>) {
        let Some(time) = time else { return };
        self.init_ends_by(time);
        for interval in self.invocations.iter_mut().filter(|interval| interval.guessed) {
            // An init that comes within an invocation, because the one before it failed, is part of that.
            if time <= interval.start + INVOKE_LATENESS {
                interval.start = interval.start.max(time);
            }
        }
    }

    /// INVOKE told of an invocation, at `time` by our clock.
    pub fn invoked(&mut self, request_id: &str, time: u64) {
        // Platform: a failed asynchronous invocation is repeated under its request id.
        if self.last(request_id).is_none_or(|last| last.end.is_some_and(|end| end < time)) {
            let after = self.invocations.back().map(|last| last.end.unwrap_or(last.start) + 1);
            let after = after.or(self.init_end).unwrap_or(0);
            self.remember(request_id, time.saturating_sub(INVOKE_LATENESS).max(after), true);
        }
    }

    /// `platform.start` of an invocation.
    pub fn started(&mut self, request_id: &str, time: Option<u64>) {
        let Some(time) = time else { return };
        self.init_ends_by(time.saturating_sub(1));
        match self.last(request_id) {
            Some(interval) if interval.guessed => {
                interval.start = time;
                interval.guessed = false;
            }
            // Lambda repeats a failed asynchronous invocation under the same id; anything else is a second delivery.
            Some(interval) if interval.end.is_none_or(|end| time <= end) => {}
            _ => self.remember(request_id, time, false),
        }
    }

    /// `platform.runtimeDone` of an invocation.
    pub fn ended(&mut self, request_id: &str, time: Option<u64>) {
        if let Some(interval) = self.last(request_id) {
            interval.end = interval.end.or(time);
        }
    }

    /// `platform.report` of an invocation, with the time that it took.
    ///
    /// Platform: where several run at once there is no `platform.runtimeDone`, and the report is later than the end.
    pub fn reported(&mut self, request_id: &str, took: Option<Duration>, time: Option<u64>) {
        if self.concurrent
            && let Some(interval) = self.last(request_id)
        {
            // Times are told in whole milliseconds, the length in parts of one.
            let took = took.and_then(|took| u64::try_from((took + MILLISECOND).as_nanos()).ok());
            let end = took.map(|took| interval.start.saturating_add(took));
            interval.end = interval.end.or(end).or(time);
        }
    }

    /// The request id of a record made at `time`.
    pub fn at(&self, time: u64) -> Option<&str> {
        let mut started = self.invocations.iter().filter(|interval| interval.start <= time);
        let found = if self.concurrent {
            let mut running = started.filter(|interval| interval.end.is_none_or(|end| time <= end));
            running.next().filter(|_| running.next().is_none())
        } else {
            let first = started.next();
            first.map(|first| {
                started.fold(first, |last, next| if next.start >= last.start { next } else { last })
            })
        };
        found.map(|interval| interval.request_id.as_str())
    }

    /// Whether the invocation of this request id is remembered.
    pub fn knows(&self, request_id: &str) -> bool {
        self.invocations.iter().any(|interval| interval.request_id == request_id)
    }

    /// Whether a record made at `time` is of the init phase.
    pub fn is_init(&self, time: u64) -> bool {
        // Times are told in whole milliseconds: the end of init has that of the last line before it.
        self.init_end.is_none_or(|end| time <= end) && self.invocations.iter().all(|first| time < first.start)
    }

    fn init_ends_by(&mut self, time: u64) {
        self.init_end = Some(self.init_end.map_or(time, |end| end.min(time)));
    }

    fn last(&mut self, request_id: &str) -> Option<&mut Interval> {
        self.invocations.iter_mut().rev().find(|interval| interval.request_id == request_id)
    }

    fn remember(&mut self, request_id: &str, start: u64, guessed: bool) {
        let most = if self.concurrent { REMEMBERED_AT_ONCE } else { REMEMBERED };
        if self.invocations.len() == most {
            // One that is forgotten while it runs would leave its records to another that then seems to run alone.
            let has_ended = |interval: &Interval| !self.concurrent || interval.end.is_some();
            let oldest = self.invocations.iter().position(has_ended);
            self.invocations.remove(oldest.unwrap_or(0));
        }
        self.invocations.push_back(Interval { request_id: request_id.to_owned(), start, guessed, end: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_record_belongs_to_the_last_invocation_that_had_started_however_late_it_comes() {
        let mut timeline = Timeline::new(false);
        timeline.started("a", Some(100));
        timeline.ended("a", Some(200));
        timeline.started("b", Some(300));
        assert_eq!(timeline.at(99), None);
        assert_eq!(timeline.at(100), Some("a"));
        assert_eq!(timeline.at(201), Some("a"), "a line stamped behind runtimeDone");
        assert_eq!(timeline.at(300), Some("b"));
    }

    #[test]
    fn a_lost_runtime_done_costs_later_invocations_nothing() {
        let mut timeline = Timeline::new(false);
        timeline.started("a", Some(100));
        timeline.started("b", Some(300));
        timeline.ended("b", Some(400));
        assert_eq!(timeline.at(350), Some("b"));
    }

    #[test]
    fn before_its_start_is_delivered_an_invocation_is_known_by_invoke() {
        let mut timeline = Timeline::new(false);
        timeline.started("a", Some(100 * MS));
        timeline.ended("a", Some(200 * MS));
        timeline.invoked("b", 210 * MS);
        assert_eq!(timeline.at(150 * MS), Some("a"));
        assert_eq!(timeline.at(205 * MS), Some("b"));
        timeline.started("b", Some(207 * MS));
        assert_eq!(timeline.at(206 * MS), Some("a"));
        timeline.invoked("b", 215 * MS);
        assert_eq!(timeline.at(220 * MS), Some("b"));
    }

    #[test]
    fn among_several_at_once_nothing_is_guessed() {
        let mut timeline = Timeline::new(true);
        timeline.started("a", Some(100));
        timeline.started("b", Some(110));
        timeline.ended("a", Some(130));
        assert_eq!(timeline.at(105), Some("a"));
        assert_eq!(timeline.at(120), None);
        assert_eq!(timeline.at(140), Some("b"));
    }

    #[test]
    fn where_several_run_at_once_a_report_tells_of_the_end() {
        let mut timeline = Timeline::new(true);
        timeline.started("a", Some(100 * MS));
        timeline.started("b", Some(110 * MS));
        timeline.reported("a", Some(Duration::from_micros(30_500)), Some(150 * MS));
        assert_eq!([120, 131, 140].map(|time| timeline.at(time * MS)), [None, None, Some("b")]);
        timeline.reported("b", None, Some(160 * MS));
        timeline.reported("b", Some(Duration::from_secs(1)), Some(1_110 * MS));
        timeline.started("c", Some(170 * MS));
        assert_eq!(timeline.at(180 * MS), Some("c"));
    }

    #[test]
    fn an_invocation_that_runs_for_long_is_not_forgotten_for_short_ones() {
        let mut timeline = Timeline::new(true);
        timeline.started("long", Some(100));
        for number in 0..1_000 {
            timeline.started(&number.to_string(), Some(200 + number));
            timeline.reported(&number.to_string(), None, Some(200 + number));
        }
        assert_eq!(timeline.invocations.len(), REMEMBERED_AT_ONCE);
        assert_eq!(timeline.at(2_000), Some("long"));
        timeline.started("short", Some(2_000));
        assert_eq!(timeline.at(2_001), None);
    }

    #[test]
    fn an_invocation_repeated_under_its_id_runs_again() {
        let mut timeline = Timeline::new(false);
        for (request_id, start, end) in [("a", 100, 200), ("b", 300, 400), ("a", 500, 600)] {
            timeline.started(request_id, Some(start));
            timeline.started(request_id, Some(start));
            timeline.ended(request_id, Some(end));
        }
        assert_eq!([150, 350, 550].map(|time| timeline.at(time)), [Some("a"), Some("b"), Some("a")]);
    }

    #[test]
    fn a_repeated_invocation_is_known_by_its_invoke_too() {
        let mut timeline = Timeline::new(false);
        for (request_id, start) in [("a", 100 * MS), ("b", 300 * MS)] {
            timeline.started(request_id, Some(start));
            timeline.ended(request_id, Some(start + 50 * MS));
        }
        timeline.invoked("a", 500 * MS);
        assert_eq!([120, 320, 510].map(|time| timeline.at(time * MS)), [Some("a"), Some("b"), Some("a")]);
        timeline.started("a", Some(498 * MS));
        assert_eq!([497, 498].map(|time| timeline.at(time * MS)), [Some("b"), Some("a")]);
        timeline.ended("a", Some(550 * MS));
        timeline.started("c", Some(600 * MS));
        assert_eq!([560, 600].map(|time| timeline.at(time * MS)), [Some("a"), Some("c")]);
    }

    #[test]
    fn init_lasts_until_the_runtime_has_initialised_or_an_invocation_starts() {
        let mut told = Timeline::new(false);
        assert!(told.is_init(0));
        told.invoked("a", 120 * MS);
        assert!(!told.is_init(100 * MS), "who knows what was within 50 ms before INVOKE");
        told.initialised(Some(100 * MS));
        assert_eq!((told.is_init(99 * MS), told.at(99 * MS)), (true, None));
        assert_eq!((told.is_init(100 * MS), told.at(100 * MS)), (false, Some("a")));
        told.started("a", Some(110 * MS));
        assert_eq!(
            (told.is_init(105 * MS), told.at(105 * MS)),
            (false, None),
            "between the two nothing is guessed"
        );

        let mut alone = Timeline::new(false);
        alone.initialised(Some(100 * MS));
        assert_eq!([100, 101].map(|time| alone.is_init(time * MS)), [true, false]);

        let mut untold = Timeline::new(false);
        for number in 0..100 {
            untold.started(&number.to_string(), Some((100 + number) * MS));
        }
        assert!(untold.is_init(99 * MS));
        assert!(!untold.is_init(100 * MS));
    }

    #[test]
    fn an_init_within_an_invocation_is_part_of_it() {
        let mut timeline = Timeline::new(false);
        timeline.invoked("a", 100 * MS);
        timeline.initialised(Some(900 * MS));
        assert_eq!((timeline.is_init(500 * MS), timeline.at(500 * MS)), (false, Some("a")));
    }

    #[test]
    fn old_invocations_are_forgotten() {
        let mut timeline = Timeline::new(false);
        for number in 0..100 {
            timeline.started(&number.to_string(), Some(number * 10));
            timeline.ended(&number.to_string(), Some(number * 10 + 5));
        }
        assert_eq!(timeline.invocations.len(), REMEMBERED);
        assert_eq!(timeline.at(992), Some("99"));
        assert!(timeline.knows("99") && !timeline.knows("0"));
    }
}
