//! Turns verdicts into log lines: one per change of state, never one per attempt, because our own log lines are exported as
//! records too.
//!
//! Promises: an outage of all signals is logged once when it begins and once when it ends. A signal that is refused is
//! logged even while others are healthy. If the state changes all the time, a few lines are logged, and then one every few
//! minutes with the current state.

use std::fmt;
use std::time::Duration;

use crate::delivery::verdict::{BackendMessage, Failure, Verdict};
use crate::signal::{PerSignal, Signal};

/// The number of lines that may be logged in a row.
const MAX_BURST_LINES: u32 = 4;
/// The time that earns one more line.
const LINE_INTERVAL: Duration = Duration::from_mins(5);

/// The backend's health, by signal.
#[derive(Debug)]
pub struct Health {
    signals: PerSignal<SignalHealth>,
    failed_attempts: usize,
    lost: PerSignal<usize>,
    /// Signals for which a backend's warning was logged.
    warned: PerSignal<bool>,
    /// Lines that may still be logged, and the time since which one more is being earned.
    lines: u32,
    refill_since: Duration,
}

#[derive(Debug, Default)]
struct SignalHealth {
    state: SignalStatus,
    /// The state that was last logged.
    logged: SignalStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum SignalStatus {
    #[default]
    Healthy,
    Failing(Failure),
    Refusing(Failure),
    Rejecting(usize, Option<BackendMessage>),
    Dropping,
}

/// A change to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The backend fails. Telemetry is kept.
    Failing(Signal, Failure),
    /// The backend refuses a signal. The refused items are lost.
    Refusing(Signal, Failure),
    /// The backend accepted a request but rejected some of its items.
    Rejecting(Signal, usize, Option<BackendMessage>),
    /// The backend accepted a request with a warning.
    Warning(Signal, BackendMessage),
    /// The buffer is full, and the oldest items are dropped.
    Dropping(Signal),
    /// There is no usable route to a backend. The items held for one are lost.
    NoRoute(PerSignal<usize>),
    /// The process ends. These items were not sent.
    Unsent(PerSignal<usize>),
    /// The reported problem is over.
    Recovered {
        /// Failed attempts since the last recovery.
        failed_attempts: usize,
        /// Items lost since the last recovery.
        lost: PerSignal<usize>,
    },
}

impl Default for Health {
    fn default() -> Self {
        Self {
            signals: PerSignal::default(),
            failed_attempts: 0,
            lost: PerSignal::default(),
            warned: PerSignal::default(),
            lines: MAX_BURST_LINES,
            refill_since: Duration::ZERO,
        }
    }
}

impl Health {
    /// Records the verdict on a request with `items` of `signal`. `at` is the elapsed time.
    pub fn on_verdict(
        &mut self,
        signal: Signal,
        items: usize,
        verdict: &Verdict,
        at: Duration,
    ) -> Option<Report> {
        let state = match verdict {
            Verdict::Accepted { rejected, message } => match (*rejected).min(items) {
                0 => {
                    let report = self.set_status(signal, SignalStatus::Healthy, at);
                    return report.or_else(|| self.warn(signal, message.as_ref()?, at));
                }
                rejected => {
                    self.count_lost(signal, rejected);
                    SignalStatus::Rejecting(rejected, message.clone())
                }
            },
            Verdict::Retry { failure, .. } => {
                self.failed_attempts = self.failed_attempts.saturating_add(1);
                SignalStatus::Failing(failure.clone())
            }
            Verdict::Refused(failure) | Verdict::TooLarge(failure) => {
                self.failed_attempts = self.failed_attempts.saturating_add(1);
                self.count_lost(signal, items);
                SignalStatus::Refusing(failure.clone())
            }
        };
        self.set_status(signal, state, at)
    }

    /// Records the items that a full buffer dropped.
    pub fn on_dropped(&mut self, dropped: PerSignal<usize>, at: Duration) -> Option<Report> {
        let mut report = None;
        for signal in Signal::ALL.into_iter().filter(|signal| *dropped.of(*signal) > 0) {
            self.count_lost(signal, *dropped.of(signal));
            // A full buffer is expected while the backend fails. The recovery reports the count.
            if self.signals.of(signal).state == SignalStatus::Healthy {
                report = report.or(self.set_status(signal, SignalStatus::Dropping, at));
            }
        }
        report
    }

    /// Reports a warning, once per signal, because it may come with every answer.
    fn warn(&mut self, signal: Signal, message: &BackendMessage, at: Duration) -> Option<Report> {
        if *self.warned.of(signal) || !self.try_spend_line(at) {
            return None;
        }
        *self.warned.of_mut(signal) = true;
        Some(Report::Warning(signal, message.clone()))
    }

    fn count_lost(&mut self, signal: Signal, items: usize) {
        let lost = self.lost.of_mut(signal);
        *lost = lost.saturating_add(items);
    }

    fn set_status(&mut self, signal: Signal, state: SignalStatus, at: Duration) -> Option<Report> {
        let health = self.signals.of_mut(signal);
        health.state = state;
        if is_same_kind(&health.logged, &health.state) {
            return None;
        }
        if self.is_new(signal) && !self.try_spend_line(at) {
            return None;
        }
        let is_new = self.is_new(signal);
        let health = self.signals.of_mut(signal);
        health.logged = health.state.clone();
        is_new.then(|| self.report(signal))
    }

    /// Returns true unless another signal's report already covers the state of `signal`.
    fn is_new(&self, signal: Signal) -> bool {
        let SignalHealth { state, logged } = self.signals.of(signal);
        // A problem of several signals is logged with the first, and ends with the last.
        let shared = if *state == SignalStatus::Healthy { logged } else { state };
        if !matches!(shared, SignalStatus::Failing(_) | SignalStatus::Refusing(_)) {
            return true;
        }
        let mut others = Signal::ALL.into_iter().filter(|other| *other != signal);
        !others.any(|other| is_same_kind(&self.signals.of(other).logged, shared))
    }

    fn try_spend_line(&mut self, at: Duration) -> bool {
        let earned = at.saturating_sub(self.refill_since).as_secs() / LINE_INTERVAL.as_secs();
        if earned > 0 {
            self.lines =
                self.lines.saturating_add(u32::try_from(earned).unwrap_or(u32::MAX)).min(MAX_BURST_LINES);
            self.refill_since = at;
        }
        if self.lines == 0 {
            return false;
        }
        if self.lines == MAX_BURST_LINES {
            self.refill_since = at;
        }
        self.lines -= 1;
        true
    }

    fn report(&mut self, signal: Signal) -> Report {
        match self.signals.of(signal).logged.clone() {
            SignalStatus::Failing(failure) => Report::Failing(signal, failure),
            SignalStatus::Refusing(failure) => Report::Refusing(signal, failure),
            SignalStatus::Rejecting(items, message) => Report::Rejecting(signal, items, message),
            SignalStatus::Dropping => Report::Dropping(signal),
            SignalStatus::Healthy => Report::Recovered {
                failed_attempts: std::mem::take(&mut self.failed_attempts),
                lost: std::mem::take(&mut self.lost),
            },
        }
    }
}

/// Returns true if the second state adds nothing to the first: it differs at most in the failure or in a count.
fn is_same_kind(logged: &SignalStatus, state: &SignalStatus) -> bool {
    match (logged, state) {
        (SignalStatus::Refusing(logged), SignalStatus::Refusing(failure)) => logged == failure,
        _ => std::mem::discriminant(logged) == std::mem::discriminant(state),
    }
}

impl Report {
    /// The text of the report. `explain` describes a failure and its remedy. If it returns `None`, the failure is described
    /// without a remedy.
    pub fn explained(&self, explain: impl FnOnce(Signal, &Failure) -> Option<String>) -> String {
        let explained =
            |signal, failure: &Failure| explain(signal, failure).unwrap_or_else(|| failure.to_string());
        match self {
            Self::Failing(signal, failure) => {
                let failure = explained(*signal, failure);
                format!("export: the endpoint {failure}; telemetry is kept and sent with a later flush")
            }
            Self::Refusing(signal, failure) => {
                let failure = explained(*signal, failure);
                format!("export of {signal}: the endpoint {failure}; rejected items are dropped and counted")
            }
            others => others.to_string(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failing(..) | Self::Refusing(..) => f.write_str(&self.explained(|_, _| None)),
            Self::Rejecting(signal, items, message) => {
                write!(
                    f,
                    "export of {signal}: the endpoint accepted a request but rejected {items} of its items"
                )?;
                message.as_ref().map_or(Ok(()), |message| write!(f, "; {message}"))
            }
            Self::Warning(signal, message) => {
                write!(f, "export of {signal}: the endpoint accepted a request with a warning; {message}")
            }
            Self::Dropping(signal) => write!(
                f,
                "export of {signal}: the buffer is full, dropping the oldest items; increase ROTEL_BUFFER_MAX_BYTES or send less"
            ),
            Self::NoRoute(lost) => {
                write!(
                    f,
                    "export: no usable route to a backend; dropped {}; see the errors above",
                    ItemCounts(lost)
                )
            }
            Self::Unsent(lost) => {
                write!(
                    f,
                    "export: the environment shuts down before everything was sent; lost {}",
                    ItemCounts(lost)
                )
            }
            Self::Recovered { failed_attempts, lost } => {
                write!(
                    f,
                    "export: recovered after {failed_attempts} failed attempts; lost {}",
                    ItemCounts(lost)
                )
            }
        }
    }
}

/// Item counts, as text.
pub struct ItemCounts<'a>(pub &'a PerSignal<usize>);

impl fmt::Display for ItemCounts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PerSignal { logs, metrics, traces } = self.0;
        write!(f, "{logs} log records, {metrics} data points, {traces} spans")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::connection_failure::{Cause, ConnectionFailure};

    const HEALTHY: Verdict = Verdict::ACCEPTED;
    const DOWN: Verdict = Verdict::Retry { failure: Failure::Timeout, after: None };

    fn minutes(minutes: u64) -> Duration {
        Duration::from_mins(1_000_000 + minutes)
    }

    #[test]
    fn outage_is_logged_at_start_and_end() {
        let mut health = Health::default();
        assert_eq!(health.on_verdict(Signal::Logs, 1, &HEALTHY, minutes(0)), None);
        assert_eq!(
            health.on_verdict(Signal::Logs, 1, &DOWN, minutes(0)),
            Some(Report::Failing(Signal::Logs, Failure::Timeout))
        );
        for minute in 0..1000 {
            assert_eq!(health.on_verdict(Signal::Traces, 1, &DOWN, minutes(minute)), None);
            let dropped = PerSignal { logs: 2, ..PerSignal::default() };
            assert_eq!(health.on_dropped(dropped, minutes(minute)), None);
        }
        assert_eq!(
            health.on_verdict(Signal::Logs, 1, &HEALTHY, minutes(1000)),
            None,
            "traces are still failing"
        );
        let recovered = health.on_verdict(Signal::Traces, 1, &HEALTHY, minutes(1000));
        let lost = PerSignal { logs: 2000, ..PerSignal::default() };
        assert_eq!(recovered, Some(Report::Recovered { failed_attempts: 1001, lost }));
        assert_eq!(health.on_verdict(Signal::Logs, 1, &HEALTHY, minutes(1000)), None);
    }

    #[test]
    fn refused_signal_is_logged_once_among_healthy_ones() {
        let mut health = Health::default();
        let refused = Verdict::Refused(Failure::Http(404));
        let mut lines = 0;
        for _ in 0..100 {
            lines += usize::from(health.on_verdict(Signal::Metrics, 5, &refused, minutes(0)).is_some());
            lines += usize::from(health.on_verdict(Signal::Logs, 5, &HEALTHY, minutes(0)).is_some());
        }
        assert_eq!(lines, 1);
        let recovered = health.on_verdict(Signal::Metrics, 5, &HEALTHY, minutes(0));
        let lost = PerSignal { metrics: 500, ..PerSignal::default() };
        assert_eq!(recovered, Some(Report::Recovered { failed_attempts: 100, lost }));
    }

    #[test]
    fn key_refused_for_every_signal_is_logged_once() {
        let mut health = Health::default();
        let refused = Verdict::Refused(Failure::Http(401));
        let mut lines = Signal::ALL
            .map(|signal| health.on_verdict(signal, 1, &refused, minutes(0)).is_some())
            .into_iter();
        assert_eq!(lines.by_ref().filter(|logged| *logged).count(), 1);
        let mut recovered =
            Signal::ALL.map(|signal| health.on_verdict(signal, 1, &HEALTHY, minutes(0))).into_iter();
        assert_eq!(recovered.by_ref().flatten().count(), 1);
    }

    #[test]
    fn flapping_logs_a_few_lines_then_one_per_five_minutes() {
        let mut health = Health::default();
        let mut lines_in = |minute| {
            let rounds = (0..100).flat_map(|_| [DOWN, HEALTHY]);
            rounds
                .filter(|verdict| health.on_verdict(Signal::Logs, 1, verdict, minutes(minute)).is_some())
                .count()
        };
        assert_eq!(lines_in(0), 4);
        assert_eq!(lines_in(1), 0);
        assert_eq!((5..65).map(&mut lines_in).sum::<usize>(), 12);
        assert_eq!(lines_in(1000), 4);
    }

    #[test]
    fn rejected_items_are_at_most_those_sent() {
        let mut health = Health::default();
        let rejected = Verdict::Accepted { rejected: usize::MAX, message: None };
        for _ in 0..3 {
            health.on_verdict(Signal::Logs, 5, &rejected, minutes(0));
        }
        health.on_dropped(PerSignal { logs: usize::MAX, ..PerSignal::default() }, minutes(0));
        assert_eq!(health.lost.logs, usize::MAX);
        health.lost.logs = 15;
        let lost = PerSignal { logs: 15, ..PerSignal::default() };
        assert_eq!(
            health.on_verdict(Signal::Logs, 5, &HEALTHY, minutes(0)),
            Some(Report::Recovered { failed_attempts: 0, lost })
        );
        assert_eq!(health.on_verdict(Signal::Logs, 0, &rejected, minutes(0)), None, "nothing was sent");
    }

    #[test]
    fn backend_warning_is_logged_once() {
        let mut health = Health::default();
        let message = BackendMessage::new("use v2", []);
        let warning = Verdict::Accepted { rejected: 0, message: message.clone() };
        let mut on = |verdict: &Verdict| health.on_verdict(Signal::Logs, 1, verdict, minutes(0));
        assert_eq!(on(&warning), message.map(|message| Report::Warning(Signal::Logs, message)));
        assert_eq!(on(&warning), None);
        assert_eq!(on(&DOWN), Some(Report::Failing(Signal::Logs, Failure::Timeout)));
        assert!(matches!(on(&warning), Some(Report::Recovered { .. })));
        assert_eq!(on(&HEALTHY), None);
    }

    #[test]
    fn reports_read_well() {
        let lost = PerSignal { logs: 3, metrics: 0, traces: 20 };
        let reports = [
            Report::Failing(
                Signal::Logs,
                Failure::Connection(ConnectionFailure::new(
                    Cause::Refused,
                    "Connection refused (os error 111)",
                )),
            ),
            Report::Failing(Signal::Logs, Failure::Grpc(14)),
            Report::Failing(Signal::Logs, Failure::FlushTimeout),
            Report::Refusing(Signal::Logs, Failure::Http(401)),
            Report::Refusing(Signal::Traces, Failure::Grpc(16)),
            Report::Refusing(Signal::Metrics, Failure::Http(404)),
            Report::Refusing(Signal::Logs, Failure::Answer("HTTP instead of gRPC")),
            Report::Rejecting(Signal::Traces, 3, None),
            Report::Rejecting(Signal::Traces, 3, BackendMessage::new("too old\n", [])),
            BackendMessage::new("use v2", [])
                .map(|message| Report::Warning(Signal::Logs, message))
                .expect("message"),
            Report::Dropping(Signal::Logs),
            Report::Recovered { failed_attempts: 2, lost },
        ];
        insta::assert_snapshot!(reports.map(|report| report.to_string()).join("\n"), @"
        export: the endpoint could not be reached: Connection refused (os error 111); telemetry is kept and sent with a later flush
        export: the endpoint answered gRPC UNAVAILABLE; telemetry is kept and sent with a later flush
        export: the endpoint did not answer before the flush had to end; if the endpoint is slow, increase ROTEL_FLUSH_TIMEOUT; telemetry is kept and sent with a later flush
        export of logs: the endpoint answered HTTP 401; rejected items are dropped and counted
        export of traces: the endpoint answered gRPC UNAUTHENTICATED; rejected items are dropped and counted
        export of metrics: the endpoint answered HTTP 404; rejected items are dropped and counted
        export of logs: the endpoint sent an answer that is not OTLP: HTTP instead of gRPC; check host, port and protocol; rejected items are dropped and counted
        export of traces: the endpoint accepted a request but rejected 3 of its items
        export of traces: the endpoint accepted a request but rejected 3 of its items; backend message: too old
        export of logs: the endpoint accepted a request with a warning; backend message: use v2
        export of logs: the buffer is full, dropping the oldest items; increase ROTEL_BUFFER_MAX_BYTES or send less
        export: recovered after 2 failed attempts; lost 3 log records, 0 data points, 20 spans
        ");
    }
}
