//! What an environment goes through before its first invocation: the init, and the restore from a snapshot.

use opentelemetry_proto::tonic::trace::v1::Span;

use super::outcome::InvocationOutcome;
use super::spans::{self, SpanPlacement, after};
use crate::lambda::telemetry_api::{self, PlatformRecord};

/// The most phases that are remembered, of all events together.
const MAX_PHASES: usize = 64;

/// An init or a restore, as far as the platform has told of it. Times are nanoseconds since the epoch.
#[derive(Debug, Default)]
pub(super) struct Stage {
    started: Option<u64>,
    runtime_done: Option<u64>,
    pub(super) reported: bool,
    /// When all of it was over.
    ended: Option<u64>,
    /// Milliseconds.
    duration: Option<f64>,
    phases: Vec<telemetry_api::PhaseSpan>,
    failure: Option<(InvocationOutcome, Option<String>)>,
    /// Its spans were made.
    spans_taken: bool,
    /// Its failure was told.
    failure_taken: bool,
}

impl Stage {
    /// It starts.
    pub(super) fn start(&mut self, time: u64) {
        self.started.get_or_insert(time);
    }

    /// The runtime is through.
    pub(super) fn runtime_done(&mut self, record: &PlatformRecord, time: u64) {
        self.runtime_done.get_or_insert(time);
        self.merge(record);
    }

    /// All is through. Says whether that is news.
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

    /// When it began and when it ended, if that can be said.
    pub(super) fn interval(&self) -> Option<(u64, u64)> {
        let end = self.ended.or(self.runtime_done);
        match (self.started, end, self.duration) {
            // The report comes later than the end, and times are told in whole milliseconds.
            (Some(start), Some(end), Some(duration)) => Some((start, after(start, duration).min(end))),
            (Some(start), Some(end), None) => Some((start, end)),
            (None, Some(end), Some(duration)) => Some((end.saturating_sub(after(0, duration)), end)),
            (None, _, None) | (_, None, _) => None,
        }
    }

    /// Its failure, once.
    pub(super) fn take_failure(&mut self) -> Option<(InvocationOutcome, Option<String>, u64, Option<f64>)> {
        let (outcome, error_type) = self.failure.clone()?;
        let time = self.ended.or(self.runtime_done)?;
        let was_taken = std::mem::replace(&mut self.failure_taken, true);
        (!was_taken).then_some((outcome, error_type, time, self.duration))
    }

    /// Its spans, once: itself, the runtime's part of it, and what the platform tells more.
    pub(super) fn take_spans(&mut self, name: &str, place: SpanPlacement<'_>) -> Vec<Span> {
        let Some(interval) = self.interval().filter(|_| !self.spans_taken) else { return Vec::new() };
        self.spans_taken = true;
        let mut whole = spans::part(place, name, interval);
        if let Some((outcome, error_type)) = &self.failure {
            spans::fail(&mut whole, *outcome, error_type.as_deref());
        }
        let id = <[u8; 8]>::try_from(whole.span_id.as_slice()).ok();
        let within = SpanPlacement { parent: id, ..place };
        let runtime = self.started.zip(self.runtime_done);
        let runtime = runtime.map(|interval| spans::part(within, &format!("{name} runtime"), interval));
        let mut spans = vec![whole];
        spans.extend(runtime);
        spans.extend(spans::phases(within, &self.phases));
        spans
    }
}
