//! Which invocation a record belongs to that does not say so itself.
//!
//! A plain line carries no request id, and the streams of the Telemetry API come in no promised order, so arrival tells
//! nothing. What tells is time. Where one invocation follows another, a record belongs to the last one that had started
//! when it was made: an environment runs after `runtimeDone` only because of the invocation before. While the start of
//! the running invocation has not been delivered yet, INVOKE stands in for it, or a moment shortly before, if the end of
//! the one before is known: it may be delivered one or two invocations late. Where several run at once, a
//! record belongs to the only one that was running, and among several nothing is guessed. Before the first start
//! nothing is, either: what was made then, and before the runtime had initialised, is the init phase's.

use std::collections::VecDeque;
use std::time::Duration;

/// The number of invocations remembered. One that is not held may be frozen after a millisecond, so that many may pass
/// until the platform delivers their records. If several run at once, it covers them and some that have ended.
pub const REMEMBERED: usize = 128;
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
    /// When INVOKE came.
    invoked: Option<u64>,
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
            if interval.invoked.is_none_or(|invoked| time <= invoked) {
                interval.start = interval.start.max(time);
            }
        }
    }

    /// INVOKE announced an invocation, at `time` by our clock.
    pub fn invoked(&mut self, request_id: &str, time: u64) {
        // Platform: a failed asynchronous invocation is repeated under its request id.
        match self.last(request_id) {
            Some(last) if last.invoked.is_none() && last.end.is_none_or(|end| time <= end) => {
                last.invoked = Some(time);
            }
            _ => {
                let start = self.guess(time, self.invocations.back());
                self.remember(Interval {
                    start,
                    guessed: true,
                    invoked: Some(time),
                    ..Interval::of(request_id)
                });
            }
        }
    }

    /// `platform.start` of an invocation.
    pub fn started(&mut self, request_id: &str, time: Option<u64>) {
        let Some(time) = time else { return };
        self.init_ends_by(time.saturating_sub(1));
        if self.invocations.iter().any(|known| known.is_start_of(request_id, time)) {
            return;
        }
        let mut of_it = self.invocations.iter_mut().filter(|interval| interval.request_id == request_id);
        // Of two attempts it is the older whose start comes first.
        if let Some(guessed) = of_it.find(|interval| interval.guessed) {
            guessed.start = time;
            guessed.guessed = false;
            return;
        }
        match self.last(request_id) {
            // Lambda repeats a failed asynchronous invocation under the same id; anything else is a second delivery.
            Some(interval) if interval.end.is_none_or(|end| time <= end) => {}
            _ => self.remember(Interval { start: time, ..Interval::of(request_id) }),
        }
    }

    /// `platform.runtimeDone` of an invocation. May come when the next one runs already.
    pub fn ended(&mut self, request_id: &str, time: Option<u64>) {
        let Some(time) = time else { return };
        // Of two attempts it is the older whose end comes first.
        let is_it = |interval: &Interval| interval.request_id == request_id && interval.end.is_none();
        let Some(at) = self.invocations.iter().position(is_it) else { return };
        if let Some(interval) = self.invocations.get_mut(at) {
            interval.end = Some(time);
        }
        let next = self.invocations.get(at + 1);
        let invoked = next.filter(|next| next.guessed).and_then(|next| next.invoked);
        let start = invoked.map(|invoked| self.guess(invoked, self.invocations.get(at)));
        if let Some(next) = self.invocations.get_mut(at + 1)
            && let Some(start) = start
        {
            next.start = start;
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
        self.before_starts_of(|_| false, time)
    }

    /// The request id of a record made at `time` that was delivered together with the starts of those that are next, and
    /// before them.
    ///
    /// Platform: times are in whole milliseconds, so that the last line of an invocation may have the time of the next one's
    /// start.
    pub fn before_starts_of(&self, is_next: impl Fn(&str) -> bool, time: u64) -> Option<&str> {
        let has_started = |interval: &&Interval| {
            interval.start < time || interval.start == time && !is_next(&interval.request_id)
        };
        let started = self.invocations.iter().rev().filter(has_started);
        let found = if self.concurrent {
            let mut running = started.filter(|interval| interval.end.is_none_or(|end| time <= end));
            running.next().filter(|_| running.next().is_none())
        } else {
            let mut found: Option<&Interval> = None;
            for interval in started {
                if found.is_none_or(|found| interval.start > found.start) {
                    found = Some(interval);
                }
                // A guess may be off; of those whose start is known, the last that was added is the last that started.
                if !interval.guessed {
                    break;
                }
            }
            found
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

    /// When an invocation started of which only INVOKE is known.
    fn guess(&self, invoked: u64, before: Option<&Interval>) -> u64 {
        let earliest = invoked.saturating_sub(INVOKE_LATENESS);
        match before {
            Some(Interval { end: Some(end), .. }) => earliest.max(end + 1),
            // It may have run until INVOKE: its records are delivered before its end is, and those of the next after the start
            // of that.
            Some(Interval { start, .. }) => invoked.max(start + 1),
            None => earliest.max(self.init_end.unwrap_or(0)),
        }
    }

    fn remember(&mut self, interval: Interval) {
        if self.invocations.len() == REMEMBERED {
            // One that is forgotten while it runs would leave its records to another that then seems to run alone.
            let has_ended = |interval: &Interval| !self.concurrent || interval.end.is_some();
            let oldest = self.invocations.iter().position(has_ended);
            self.invocations.remove(oldest.unwrap_or(0));
        }
        self.invocations.push_back(interval);
    }
}

impl Interval {
    fn is_start_of(&self, request_id: &str, time: u64) -> bool {
        !self.guessed && self.start == time && self.request_id == request_id
    }

    fn of(request_id: &str) -> Self {
        Self { request_id: request_id.to_owned(), start: 0, guessed: false, invoked: None, end: None }
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
        assert_eq!(timeline.invocations.len(), REMEMBERED);
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

    /// Ends and starts that are delivered while the next invocation runs, or the one after that.
    #[test]
    fn records_delivered_late_belong_to_their_invocation() {
        let mut timeline = Timeline::new(false);
        timeline.invoked("a", 100 * MS);
        timeline.started("a", Some(99 * MS));
        timeline.invoked("b", 120 * MS);
        assert_eq!(
            [110, 119].map(|time| timeline.at(time * MS)),
            [Some("a"); 2],
            "who knows how long it ran"
        );
        timeline.ended("a", Some(112 * MS));
        assert_eq!([112, 115].map(|time| timeline.at(time * MS)), [Some("a"), Some("b")]);
        timeline.invoked("c", 140 * MS);
        assert_eq!([125, 139].map(|time| timeline.at(time * MS)), [Some("b"); 2]);
        timeline.started("b", Some(118 * MS));
        timeline.ended("b", Some(130 * MS));
        assert_eq!(
            [117, 118, 130, 131, 139].map(|time| timeline.at(time * MS)),
            [Some("a"), Some("b"), Some("b"), Some("c"), Some("c")]
        );
        // Both ends only with the third.
        timeline.invoked("d", 160 * MS);
        timeline.invoked("e", 170 * MS);
        timeline.ended("c", Some(150 * MS));
        timeline.ended("d", Some(165 * MS));
        timeline.started("e", Some(168 * MS));
        assert_eq!(
            [150, 155, 165, 166, 168].map(|time| timeline.at(time * MS)),
            [Some("c"), Some("d"), Some("d"), Some("d"), Some("e")]
        );
    }

    #[test]
    fn a_line_before_a_start_of_the_same_millisecond_is_not_its() {
        let mut timeline = Timeline::new(false);
        timeline.started("a", Some(100 * MS));
        timeline.started("b", Some(110 * MS));
        let at = |next: &[&str], time| timeline.before_starts_of(|id| next.contains(&id), time * MS);
        assert_eq!([at(&["b"], 110), at(&[], 110), at(&["b"], 111)], [Some("a"), Some("b"), Some("b")]);
    }

    #[test]
    fn a_late_end_of_an_earlier_attempt_is_not_that_of_the_later() {
        let mut timeline = Timeline::new(false);
        timeline.invoked("a", 100 * MS);
        timeline.invoked("b", 200 * MS);
        timeline.invoked("a", 300 * MS);
        for (request_id, start, end) in [("a", 100, 150), ("b", 200, 250), ("a", 300, 350)] {
            timeline.started(request_id, Some(start * MS));
            timeline.started(request_id, Some(start * MS));
            timeline.ended(request_id, Some(end * MS));
        }
        assert_eq!([120, 220, 320].map(|time| timeline.at(time * MS)), [Some("a"), Some("b"), Some("a")]);
        assert_eq!(timeline.invocations.len(), 3);
    }

    #[test]
    fn old_invocations_are_forgotten() {
        let mut timeline = Timeline::new(false);
        for number in 0..200 {
            timeline.started(&number.to_string(), Some(number * 10));
            timeline.ended(&number.to_string(), Some(number * 10 + 5));
        }
        assert_eq!(timeline.invocations.len(), REMEMBERED);
        assert_eq!(timeline.at(1_992), Some("199"));
        assert!(timeline.knows("199") && !timeline.knows("0"));
    }
}
