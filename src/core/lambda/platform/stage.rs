//! The stages before the first invocation: the init, and the restore from a snapshot.

use opentelemetry_proto::tonic::trace::v1::Span;

use super::outcome::InvocationOutcome;
use super::spans::{self, SpanPlacement, add_milliseconds};
use crate::lambda::telemetry_api::{self, PlatformRecord};

/// The maximum number of phases kept, over all events.
const MAX_PHASES: usize = 64;

/// An init or a restore, as far as platform events describe it. Times are nanoseconds since the epoch.
#[derive(Debug, Default)]
pub(super) struct Stage {
    started: Option<u64>,
    runtime_done: Option<u64>,
    pub(super) reported: bool,
    /// The end of the whole stage.
    ended: Option<u64>,
    /// The duration in milliseconds.
    duration: Option<f64>,
    phases: Vec<telemetry_api::PhaseSpan>,
    failure: Option<(InvocationOutcome, Option<String>)>,
    /// The spans were taken.
    spans_taken: bool,
    /// The failure was taken.
    failure_taken: bool,
}

impl Stage {
    /// Records the start.
    pub(super) fn start(&mut self, time: u64) {
        self.started.get_or_insert(time);
    }

    /// Records that the runtime is done.
    pub(super) fn runtime_done(&mut self, record: &PlatformRecord, time: u64) {
        self.runtime_done.get_or_insert(time);
        self.merge(record);
    }

    /// Records the end. Returns true on the first report.
    pub(super) fn report(&mut self, record: &PlatformRecord, time: u64) -> bool {
        let is_new = !self.reported;
        self.reported = true;
        self.ended.get_or_insert(time);
        self.duration = self.duration.or(record.metrics.duration);
        self.merge(record);
        is_new
    }

    fn merge(&mut self, record: &PlatformRecord) {
        for phase in &record.spans.first {
            if self.phases.len() < MAX_PHASES && !self.phases.contains(phase) {
                self.phases.push(phase.clone());
            }
        }
        let error_type = record.error_type.as_deref();
        let outcome = InvocationOutcome::of(record.status.as_deref(), error_type);
        if outcome != InvocationOutcome::Success && self.failure.is_none() {
            self.failure = Some((outcome, error_type.map(str::to_owned)));
        }
    }

    /// The start and the end, if known.
    pub(super) fn interval(&self) -> Option<(u64, u64)> {
        let end = self.ended.or(self.runtime_done);
        match (self.started, end, self.duration) {
            // Platform: the report comes after the end, and times are in whole milliseconds.
            (Some(start), Some(end), Some(duration)) => {
                Some((start, add_milliseconds(start, duration).min(end)))
            }
            (Some(start), Some(end), None) => Some((start, end)),
            (None, Some(end), Some(duration)) => {
                Some((end.saturating_sub(add_milliseconds(0, duration)), end))
            }
            (None, _, None) | (_, None, _) => None,
        }
    }

    /// Takes the failure: outcome, error type, time and duration. Returns it once.
    pub(super) fn take_failure(&mut self) -> Option<(InvocationOutcome, Option<String>, u64, Option<f64>)> {
        let (outcome, error_type) = self.failure.clone()?;
        let time = self.ended.or(self.runtime_done)?;
        let was_taken = std::mem::replace(&mut self.failure_taken, true);
        (!was_taken).then_some((outcome, error_type, time, self.duration))
    }

    /// Takes the spans: the stage, the runtime's part of it, and its phases. Returns them once.
    pub(super) fn take_spans(&mut self, name: &str, place: SpanPlacement<'_>) -> Vec<Span> {
        let Some(interval) = self.interval().filter(|_| !self.spans_taken) else { return Vec::new() };
        self.spans_taken = true;
        let mut whole = spans::internal_span(place, name, interval);
        if let Some((outcome, error_type)) = &self.failure {
            spans::set_error(&mut whole, *outcome, error_type.as_deref());
        }
        let id = <[u8; 8]>::try_from(whole.span_id.as_slice()).ok();
        let within = SpanPlacement { parent: id, ..place };
        let runtime = self.started.zip(self.runtime_done);
        let runtime =
            runtime.map(|interval| spans::internal_span(within, &format!("{name} runtime"), interval));
        let mut spans = vec![whole];
        spans.extend(runtime);
        spans.extend(spans::phases(within, &self.phases));
        spans
    }
}
