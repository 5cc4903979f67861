//! Finds the invocation of a record that does not contain a request id.
//!
//! A plain line carries no request id, and the Telemetry API promises no order between its streams, so the
//! order of arrival says nothing. Timestamps decide instead. If invocations run one at a time, a record belongs
//! to the last invocation that had started when it was written: after `runtimeDone` an environment runs only
//! because of the invocation before. As long as the start of the running invocation has not been delivered,
//! INVOKE replaces it, or a time shortly before INVOKE if the end of the previous invocation is known. The
//! start may be delivered one or two invocations late. If several invocations run at once, a record belongs to
//! the only one that was running; if more than one was running, none is guessed. None is guessed before the first start
//! either: a record written then, and before the runtime had initialised, belongs to the init phase.

use std::collections::VecDeque;
use std::time::Duration;

/// The number of invocations remembered. If `/next` is called at once, an environment may be frozen after a
/// millisecond, and many invocations may pass before the platform delivers their records. If several run at
/// once, the number covers them and some that have ended.
pub const REMEMBERED_INVOCATIONS: usize = 128;
/// The maximum delay of INVOKE after `platform.start` and after the start of the function, in nanoseconds.
pub(crate) const MAX_INVOKE_DELAY: u64 = 50_000_000;
const MILLISECOND: Duration = Duration::from_millis(1);

/// The invocations of an environment, in the order of time.
#[derive(Debug)]
pub struct Timeline {
    invocations: VecDeque<InvocationInterval>,
    concurrent: bool,
    /// The end of the init phase in nanoseconds since the epoch, if known.
    init_end: Option<u64>,
}

/// One invocation; all times are in nanoseconds since the epoch.
#[derive(Debug)]
struct InvocationInterval {
    request_id: String,
    start: u64,
    /// `start` is estimated from INVOKE.
    is_estimate: bool,
    /// The time of INVOKE.
    invoked: Option<u64>,
    end: Option<u64>,
}

impl Timeline {
    /// Creates an empty timeline. `concurrent` means that several invocations run at once, as on managed
    /// instances.
    pub fn new(concurrent: bool) -> Self {
        Self { invocations: VecDeque::new(), concurrent, init_end: None }
    }

    /// Handles `platform.initRuntimeDone`: the runtime has initialised.
    pub fn initialised(&mut self, time: Option<u64>) {
        let Some(time) = time else { return };
        self.init_ends_by(time);
        for interval in self.invocations.iter_mut().filter(|interval| interval.is_estimate) {
            // An init within an invocation, after the first init failed, is part of the invocation.
            if interval.invoked.is_none_or(|invoked| time <= invoked) {
                interval.start = interval.start.max(time);
            }
        }
    }

    /// Handles INVOKE, received at `time` by our clock.
    pub fn invoked(&mut self, request_id: &str, time: u64) {
        // Platform: a failed asynchronous invocation is retried with the same request id.
        match self.last(request_id) {
            Some(last) if last.invoked.is_none() && last.end.is_none_or(|end| time <= end) => {
                last.invoked = Some(time);
            }
            _ => {
                let start = self.estimate_start(time, self.invocations.back());
                self.insert(InvocationInterval {
                    start,
                    is_estimate: true,
                    invoked: Some(time),
                    ..InvocationInterval::new(request_id)
                });
            }
        }
    }

    /// Handles `platform.start`.
    pub fn started(&mut self, request_id: &str, time: Option<u64>) {
        let Some(time) = time else { return };
        self.init_ends_by(time.saturating_sub(1));
        if self.invocations.iter().any(|known| known.is_start_of(request_id, time)) {
            return;
        }
        let mut of_it = self.invocations.iter_mut().filter(|interval| interval.request_id == request_id);
        // Of two attempts, the start of the older one arrives first.
        if let Some(estimated) = of_it.find(|interval| interval.is_estimate) {
            estimated.start = time;
            estimated.is_estimate = false;
            return;
        }
        match self.last(request_id) {
            // Platform: a failed asynchronous invocation is retried with the same request id; anything else is
            // a duplicate delivery.
            Some(interval) if interval.end.is_none_or(|end| time <= end) => {}
            _ => self.insert(InvocationInterval { start: time, ..InvocationInterval::new(request_id) }),
        }
    }

    /// Handles `platform.runtimeDone`, which may arrive when the next invocation is already running.
    pub fn ended(&mut self, request_id: &str, time: Option<u64>) {
        let Some(time) = time else { return };
        // Of two attempts, the end of the older one arrives first.
        let is_it =
            |interval: &InvocationInterval| interval.request_id == request_id && interval.end.is_none();
        let Some(at) = self.invocations.iter().position(is_it) else { return };
        if let Some(interval) = self.invocations.get_mut(at) {
            interval.end = Some(time);
        }
        let next = self.invocations.get(at + 1);
        let invoked = next.filter(|next| next.is_estimate).and_then(|next| next.invoked);
        let start = invoked.map(|invoked| self.estimate_start(invoked, self.invocations.get(at)));
        if let Some(next) = self.invocations.get_mut(at + 1)
            && let Some(start) = start
        {
            next.start = start;
        }
    }

    /// Handles `platform.report`, with the duration of the invocation.
    ///
    /// Platform: if several invocations run at once there is no `platform.runtimeDone`, and the report is later
    /// than the end.
    pub fn reported(&mut self, request_id: &str, took: Option<Duration>, time: Option<u64>) {
        if self.concurrent
            && let Some(interval) = self.last(request_id)
        {
            // Timestamps are in whole milliseconds, durations in fractions of one.
            let took = took.and_then(|took| u64::try_from((took + MILLISECOND).as_nanos()).ok());
            let end = took.map(|took| interval.start.saturating_add(took));
            interval.end = interval.end.or(end).or(time);
        }
    }

    /// The request id of a record written at `time`.
    pub fn invocation_at(&self, time: u64) -> Option<&str> {
        self.invocation_before_starts(|_| false, time)
    }

    /// The request id of a record written at `time` and delivered together with, but before, the starts of the
    /// next invocations.
    ///
    /// Platform: timestamps are in whole milliseconds, so the last line of an invocation may have the same
    /// timestamp as the start of the next one.
    pub fn invocation_before_starts(&self, is_next: impl Fn(&str) -> bool, time: u64) -> Option<&str> {
        let has_started = |interval: &&InvocationInterval| {
            interval.start < time || interval.start == time && !is_next(&interval.request_id)
        };
        let started = self.invocations.iter().rev().filter(has_started);
        let found = if self.concurrent {
            let mut running = started.filter(|interval| interval.end.is_none_or(|end| time <= end));
            running.next().filter(|_| running.next().is_none())
        } else {
            let mut found: Option<&InvocationInterval> = None;
            for interval in started {
                if found.is_none_or(|found| interval.start > found.start) {
                    found = Some(interval);
                }
                // An estimate may be wrong. Among known starts, the last one added is the latest.
                if !interval.is_estimate {
                    break;
                }
            }
            found
        };
        found.map(|interval| interval.request_id.as_str())
    }

    /// Returns true if the invocation with this request id is remembered.
    pub fn contains(&self, request_id: &str) -> bool {
        self.invocations.iter().any(|interval| interval.request_id == request_id)
    }

    /// Returns true if a record written at `time` belongs to the init phase.
    pub fn is_init(&self, time: u64) -> bool {
        // Timestamps are in whole milliseconds: the end of init may have the same one as the last line before
        // it.
        self.init_end.is_none_or(|end| time <= end) && self.invocations.iter().all(|first| time < first.start)
    }

    fn init_ends_by(&mut self, time: u64) {
        self.init_end = Some(self.init_end.map_or(time, |end| end.min(time)));
    }

    fn last(&mut self, request_id: &str) -> Option<&mut InvocationInterval> {
        self.invocations.iter_mut().rev().find(|interval| interval.request_id == request_id)
    }

    /// Estimates the start of an invocation of which only INVOKE is known.
    fn estimate_start(&self, invoked: u64, before: Option<&InvocationInterval>) -> u64 {
        let earliest = invoked.saturating_sub(MAX_INVOKE_DELAY);
        match before {
            Some(InvocationInterval { end: Some(end), .. }) => earliest.max(end + 1),
            // The previous invocation may have run until INVOKE: its records are delivered before its end, and
            // records of the next one after that one's start.
            Some(InvocationInterval { start, .. }) => invoked.max(start + 1),
            None => earliest.max(self.init_end.unwrap_or(0)),
        }
    }

    fn insert(&mut self, interval: InvocationInterval) {
        if self.invocations.len() == REMEMBERED_INVOCATIONS {
            // Forgetting a running invocation would attribute its records to another one that then seems to run
            // alone.
            let has_ended = |interval: &InvocationInterval| !self.concurrent || interval.end.is_some();
            let oldest = self.invocations.iter().position(has_ended);
            self.invocations.remove(oldest.unwrap_or(0));
        }
        self.invocations.push_back(interval);
    }
}

impl InvocationInterval {
    fn is_start_of(&self, request_id: &str, time: u64) -> bool {
        !self.is_estimate && self.start == time && self.request_id == request_id
    }

    fn new(request_id: &str) -> Self {
        Self { request_id: request_id.to_owned(), start: 0, is_estimate: false, invoked: None, end: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn record_belongs_to_the_last_started_invocation() {
        let mut timeline = Timeline::new(false);
        timeline.started("a", Some(100));
        timeline.ended("a", Some(200));
        timeline.started("b", Some(300));
        assert_eq!(timeline.invocation_at(99), None);
        assert_eq!(timeline.invocation_at(100), Some("a"));
        assert_eq!(timeline.invocation_at(201), Some("a"), "a line written after runtimeDone");
        assert_eq!(timeline.invocation_at(300), Some("b"));
    }

    #[test]
    fn lost_runtime_done_does_not_affect_later_invocations() {
        let mut timeline = Timeline::new(false);
        timeline.started("a", Some(100));
        timeline.started("b", Some(300));
        timeline.ended("b", Some(400));
        assert_eq!(timeline.invocation_at(350), Some("b"));
    }

    #[test]
    fn invoke_stands_in_for_a_late_start() {
        let mut timeline = Timeline::new(false);
        timeline.started("a", Some(100 * MS));
        timeline.ended("a", Some(200 * MS));
        timeline.invoked("b", 210 * MS);
        assert_eq!(timeline.invocation_at(150 * MS), Some("a"));
        assert_eq!(timeline.invocation_at(205 * MS), Some("b"));
        timeline.started("b", Some(207 * MS));
        assert_eq!(timeline.invocation_at(206 * MS), Some("a"));
        timeline.invoked("b", 215 * MS);
        assert_eq!(timeline.invocation_at(220 * MS), Some("b"));
    }

    #[test]
    fn concurrent_invocations_are_not_guessed() {
        let mut timeline = Timeline::new(true);
        timeline.started("a", Some(100));
        timeline.started("b", Some(110));
        timeline.ended("a", Some(130));
        assert_eq!(timeline.invocation_at(105), Some("a"));
        assert_eq!(timeline.invocation_at(120), None);
        assert_eq!(timeline.invocation_at(140), Some("b"));
    }

    #[test]
    fn report_ends_a_concurrent_invocation() {
        let mut timeline = Timeline::new(true);
        timeline.started("a", Some(100 * MS));
        timeline.started("b", Some(110 * MS));
        timeline.reported("a", Some(Duration::from_micros(30_500)), Some(150 * MS));
        assert_eq!([120, 131, 140].map(|time| timeline.invocation_at(time * MS)), [None, None, Some("b")]);
        timeline.reported("b", None, Some(160 * MS));
        timeline.reported("b", Some(Duration::from_secs(1)), Some(1_110 * MS));
        timeline.started("c", Some(170 * MS));
        assert_eq!(timeline.invocation_at(180 * MS), Some("c"));
    }

    #[test]
    fn running_invocation_is_not_evicted() {
        let mut timeline = Timeline::new(true);
        timeline.started("long", Some(100));
        for number in 0..1_000 {
            timeline.started(&number.to_string(), Some(200 + number));
            timeline.reported(&number.to_string(), None, Some(200 + number));
        }
        assert_eq!(timeline.invocations.len(), REMEMBERED_INVOCATIONS);
        assert_eq!(timeline.invocation_at(2_000), Some("long"));
        timeline.started("short", Some(2_000));
        assert_eq!(timeline.invocation_at(2_001), None);
    }

    #[test]
    fn retried_invocation_runs_again() {
        let mut timeline = Timeline::new(false);
        for (request_id, start, end) in [("a", 100, 200), ("b", 300, 400), ("a", 500, 600)] {
            timeline.started(request_id, Some(start));
            timeline.started(request_id, Some(start));
            timeline.ended(request_id, Some(end));
        }
        assert_eq!(
            [150, 350, 550].map(|time| timeline.invocation_at(time)),
            [Some("a"), Some("b"), Some("a")]
        );
    }

    #[test]
    fn retried_invocation_is_known_by_invoke() {
        let mut timeline = Timeline::new(false);
        for (request_id, start) in [("a", 100 * MS), ("b", 300 * MS)] {
            timeline.started(request_id, Some(start));
            timeline.ended(request_id, Some(start + 50 * MS));
        }
        timeline.invoked("a", 500 * MS);
        assert_eq!(
            [120, 320, 510].map(|time| timeline.invocation_at(time * MS)),
            [Some("a"), Some("b"), Some("a")]
        );
        timeline.started("a", Some(498 * MS));
        assert_eq!([497, 498].map(|time| timeline.invocation_at(time * MS)), [Some("b"), Some("a")]);
        timeline.ended("a", Some(550 * MS));
        timeline.started("c", Some(600 * MS));
        assert_eq!([560, 600].map(|time| timeline.invocation_at(time * MS)), [Some("a"), Some("c")]);
    }

    #[test]
    fn init_ends_with_runtime_init_or_first_start() {
        let mut with_both = Timeline::new(false);
        assert!(with_both.is_init(0));
        with_both.invoked("a", 120 * MS);
        assert!(!with_both.is_init(100 * MS), "unknown within 50 ms before INVOKE");
        with_both.initialised(Some(100 * MS));
        assert_eq!((with_both.is_init(99 * MS), with_both.invocation_at(99 * MS)), (true, None));
        assert_eq!((with_both.is_init(100 * MS), with_both.invocation_at(100 * MS)), (false, Some("a")));
        with_both.started("a", Some(110 * MS));
        assert_eq!(
            (with_both.is_init(105 * MS), with_both.invocation_at(105 * MS)),
            (false, None),
            "no guess between the two"
        );

        let mut without_start = Timeline::new(false);
        without_start.initialised(Some(100 * MS));
        assert_eq!([100, 101].map(|time| without_start.is_init(time * MS)), [true, false]);

        let mut without_init_done = Timeline::new(false);
        for number in 0..100 {
            without_init_done.started(&number.to_string(), Some((100 + number) * MS));
        }
        assert!(without_init_done.is_init(99 * MS));
        assert!(!without_init_done.is_init(100 * MS));
    }

    #[test]
    fn init_within_an_invocation_is_part_of_it() {
        let mut timeline = Timeline::new(false);
        timeline.invoked("a", 100 * MS);
        timeline.initialised(Some(900 * MS));
        assert_eq!((timeline.is_init(500 * MS), timeline.invocation_at(500 * MS)), (false, Some("a")));
    }

    /// Starts and ends are delivered during the next invocation, or the one after that.
    #[test]
    fn late_records_belong_to_their_invocation() {
        let mut timeline = Timeline::new(false);
        timeline.invoked("a", 100 * MS);
        timeline.started("a", Some(99 * MS));
        timeline.invoked("b", 120 * MS);
        assert_eq!(
            [110, 119].map(|time| timeline.invocation_at(time * MS)),
            [Some("a"); 2],
            "its end is not known yet"
        );
        timeline.ended("a", Some(112 * MS));
        assert_eq!([112, 115].map(|time| timeline.invocation_at(time * MS)), [Some("a"), Some("b")]);
        timeline.invoked("c", 140 * MS);
        assert_eq!([125, 139].map(|time| timeline.invocation_at(time * MS)), [Some("b"); 2]);
        timeline.started("b", Some(118 * MS));
        timeline.ended("b", Some(130 * MS));
        assert_eq!(
            [117, 118, 130, 131, 139].map(|time| timeline.invocation_at(time * MS)),
            [Some("a"), Some("b"), Some("b"), Some("c"), Some("c")]
        );
        // Both ends arrive with the third.
        timeline.invoked("d", 160 * MS);
        timeline.invoked("e", 170 * MS);
        timeline.ended("c", Some(150 * MS));
        timeline.ended("d", Some(165 * MS));
        timeline.started("e", Some(168 * MS));
        assert_eq!(
            [150, 155, 165, 166, 168].map(|time| timeline.invocation_at(time * MS)),
            [Some("c"), Some("d"), Some("d"), Some("d"), Some("e")]
        );
    }

    #[test]
    fn line_before_a_start_in_the_same_ms_is_older() {
        let mut timeline = Timeline::new(false);
        timeline.started("a", Some(100 * MS));
        timeline.started("b", Some(110 * MS));
        let at = |next: &[&str], time| timeline.invocation_before_starts(|id| next.contains(&id), time * MS);
        assert_eq!([at(&["b"], 110), at(&[], 110), at(&["b"], 111)], [Some("a"), Some("b"), Some("b")]);
    }

    #[test]
    fn late_end_belongs_to_the_earlier_attempt() {
        let mut timeline = Timeline::new(false);
        timeline.invoked("a", 100 * MS);
        timeline.invoked("b", 200 * MS);
        timeline.invoked("a", 300 * MS);
        for (request_id, start, end) in [("a", 100, 150), ("b", 200, 250), ("a", 300, 350)] {
            timeline.started(request_id, Some(start * MS));
            timeline.started(request_id, Some(start * MS));
            timeline.ended(request_id, Some(end * MS));
        }
        assert_eq!(
            [120, 220, 320].map(|time| timeline.invocation_at(time * MS)),
            [Some("a"), Some("b"), Some("a")]
        );
        assert_eq!(timeline.invocations.len(), 3);
    }

    #[test]
    fn old_invocations_are_forgotten() {
        let mut timeline = Timeline::new(false);
        for number in 0..200 {
            timeline.started(&number.to_string(), Some(number * 10));
            timeline.ended(&number.to_string(), Some(number * 10 + 5));
        }
        assert_eq!(timeline.invocations.len(), REMEMBERED_INVOCATIONS);
        assert_eq!(timeline.invocation_at(1_992), Some("199"));
        assert!(timeline.contains("199") && !timeline.contains("0"));
    }
}
