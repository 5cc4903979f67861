//! Which of the exporter's verdicts people are told of: changes of state, never each attempt, because our own log lines
//! come back to us as records to export.

use std::fmt;

use crate::core::retry::{Failure, Verdict};
use crate::core::signal::{PerSignal, Signal};

/// The exporter's health since it last changed.
#[derive(Debug, Default)]
pub struct Health {
    /// What went wrong last, until something gets through again.
    told: Option<Told>,
    failed_attempts: usize,
    lost: PerSignal<usize>,
}

#[derive(Debug, PartialEq, Eq)]
enum Told {
    Failing,
    Refusing(Failure),
    Rejecting,
    Dropping,
}

/// A change worth a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The endpoint fails; what is not sent is kept.
    Failing(Failure),
    /// The endpoint refuses for good; what it refused is lost.
    Refusing(Failure),
    /// The endpoint took a request, but not all of its items.
    Rejecting(usize),
    /// The buffer is full; the oldest go.
    Dropping,
    /// Something got through again.
    Recovered {
        /// Attempts that failed meanwhile.
        failed_attempts: usize,
        /// Items lost meanwhile.
        lost: PerSignal<usize>,
    },
}

impl Health {
    /// Takes the verdict of an attempt to send `items` of `signal`.
    pub fn on_verdict(&mut self, signal: Signal, items: usize, verdict: &Verdict) -> Option<Report> {
        match verdict {
            Verdict::Accepted { rejected: 0 } => self.recovered(),
            Verdict::Accepted { rejected } => {
                *self.lost.of_mut(signal) += rejected;
                self.tell(Told::Rejecting, Report::Rejecting(*rejected))
            }
            Verdict::Retry(failure) => {
                self.failed_attempts += 1;
                self.tell(Told::Failing, Report::Failing(failure.clone()))
            }
            Verdict::Refused(failure) => {
                self.failed_attempts += 1;
                *self.lost.of_mut(signal) += items;
                self.tell(Told::Refusing(failure.clone()), Report::Refusing(failure.clone()))
            }
        }
    }

    /// Takes the count of what the buffer had to drop.
    pub fn on_dropped(&mut self, dropped: PerSignal<usize>) -> Option<Report> {
        let mut any = false;
        for signal in Signal::ALL {
            *self.lost.of_mut(signal) += dropped.of(signal);
            any |= *dropped.of(signal) > 0;
        }
        // While the endpoint fails, a full buffer is what people expect; the count comes with the recovery.
        if any && self.told.is_none() { self.tell(Told::Dropping, Report::Dropping) } else { None }
    }

    fn tell(&mut self, told: Told, report: Report) -> Option<Report> {
        let news = self.told.as_ref() != Some(&told);
        self.told = Some(told);
        news.then_some(report)
    }

    fn recovered(&mut self) -> Option<Report> {
        self.told.take()?;
        let failed_attempts = std::mem::take(&mut self.failed_attempts);
        Some(Report::Recovered { failed_attempts, lost: std::mem::take(&mut self.lost) })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failing(failure) => {
                write!(f, "export: the endpoint {failure}; telemetry is kept and goes with the next flush")
            }
            Self::Refusing(failure) => {
                write!(f, "export: the endpoint {failure}; what it refuses so is dropped and counted")
            }
            Self::Rejecting(items) => {
                write!(f, "export: the endpoint took a request but rejected {items} of its items")
            }
            Self::Dropping => f.write_str(
                "export: the buffer is full and the oldest telemetry is dropped; raise ROTEL_BUFFER_MAX_BYTES, or send less",
            ),
            Self::Recovered { failed_attempts, lost: PerSignal { logs, metrics, traces } } => write!(
                f,
                "export: working again after {failed_attempts} failed attempts; lost meanwhile: {logs} log records, {metrics} data points, {traces} spans"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOWN: Verdict = Verdict::Retry(Failure::Timeout);

    #[test]
    fn an_outage_is_told_when_it_begins_and_when_it_ends() {
        let mut health = Health::default();
        assert_eq!(health.on_verdict(Signal::Logs, 1, &Verdict::Accepted { rejected: 0 }), None);
        assert_eq!(health.on_verdict(Signal::Logs, 1, &DOWN), Some(Report::Failing(Failure::Timeout)));
        for _ in 0..1000 {
            assert_eq!(health.on_verdict(Signal::Traces, 1, &DOWN), None);
            assert_eq!(health.on_dropped(PerSignal { logs: 2, ..PerSignal::default() }), None);
        }
        let recovered = health.on_verdict(Signal::Logs, 1, &Verdict::Accepted { rejected: 0 });
        let lost = PerSignal { logs: 2000, ..PerSignal::default() };
        assert_eq!(recovered, Some(Report::Recovered { failed_attempts: 1001, lost }));
        assert_eq!(health.on_verdict(Signal::Logs, 1, &Verdict::Accepted { rejected: 0 }), None);
    }

    #[test]
    fn the_first_refusal_of_each_kind_is_told_and_what_it_cost_is_counted() {
        let mut health = Health::default();
        let refused = Verdict::Refused(Failure::Http(401));
        assert_eq!(
            health.on_verdict(Signal::Traces, 20, &refused),
            Some(Report::Refusing(Failure::Http(401)))
        );
        assert_eq!(health.on_verdict(Signal::Traces, 20, &refused), None);
        let recovered = health.on_verdict(Signal::Traces, 20, &Verdict::Accepted { rejected: 0 });
        let lost = PerSignal { traces: 40, ..PerSignal::default() };
        assert_eq!(recovered, Some(Report::Recovered { failed_attempts: 2, lost }));
    }

    #[test]
    fn reports_read_as_sentences_with_a_remedy() {
        let lost = PerSignal { logs: 3, metrics: 0, traces: 20 };
        let reports = [
            Report::Failing(Failure::Connection("Connection refused (os error 111)".to_owned())),
            Report::Failing(Failure::Grpc(14)),
            Report::Refusing(Failure::Http(401)),
            Report::Refusing(Failure::Grpc(16)),
            Report::Refusing(Failure::Http(404)),
            Report::Refusing(Failure::Answer("it is HTTP, but not gRPC")),
            Report::Rejecting(3),
            Report::Dropping,
            Report::Recovered { failed_attempts: 2, lost },
        ];
        insta::assert_snapshot!(reports.map(|report| report.to_string()).join("\n"), @r#"
        export: the endpoint could not be reached: Connection refused (os error 111); telemetry is kept and goes with the next flush
        export: the endpoint answered gRPC UNAVAILABLE; telemetry is kept and goes with the next flush
        export: the endpoint answered HTTP 401: the ingestion key is missing or wrong; ClickStack takes it raw, without "Bearer"; what it refuses so is dropped and counted
        export: the endpoint answered gRPC UNAUTHENTICATED: the ingestion key is missing or wrong; ClickStack takes it raw, without "Bearer"; what it refuses so is dropped and counted
        export: the endpoint answered HTTP 404: no OTLP at this path; check the endpoint's path; what it refuses so is dropped and counted
        export: the endpoint gave an answer that is not OTLP: it is HTTP, but not gRPC; check host, port and protocol; what it refuses so is dropped and counted
        export: the endpoint took a request but rejected 3 of its items
        export: the buffer is full and the oldest telemetry is dropped; raise ROTEL_BUFFER_MAX_BYTES, or send less
        export: working again after 2 failed attempts; lost meanwhile: 3 log records, 0 data points, 20 spans
        "#);
    }
}
