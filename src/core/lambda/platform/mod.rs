//! Turns platform events into metrics, spans and log records.
//!
//! A state machine fed with platform events, INVOKE and SHUTDOWN. It promises to count each invocation once, even if events
//! are duplicated, out of order or missing. The first event that reports the end counts: `platform.runtimeDone`,
//! `platform.report` (the only one on managed instances; elsewhere it comes an invocation later) or SHUTDOWN with a reason.
//! Report-only data is sent with the next batch. [`InvocationOutcome`] covers failures that the function cannot log itself.
//! The pipeline decides which spans are sent, because it knows if the SDK sent its own.

mod invocations;
mod logs;
mod meter;
mod outcome;
mod spans;
mod stage;
mod stage_spans;
mod telemetry;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use self::invocations::{EndedInvocation, InvocationEnd, Invocations};
use self::meter::{Instrument, Meter};
pub use self::outcome::InvocationOutcome;
use self::spans::{InvocationSpan, SpanPlacement, add_milliseconds};
use self::stage::Stage;
pub use self::stage_spans::{StageSpans, reparent_stage_spans};
pub use self::telemetry::{PlatformTelemetry, SCOPE};
use crate::lambda::telemetry_api::{
    EnvironmentEvent, EventKind, InvocationEvent, PlatformRecord, TelemetryEvent,
};
use crate::lambda::xray;
use crate::trace_context::TraceContext;

/// The number of environment events remembered, to detect duplicates.
const REMEMBERED_EVENTS: usize = 32;
const MEGABYTE: f64 = 1_048_576.0;

/// The telemetry to derive from platform events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlatformOutputs {
    /// Counters and histograms.
    pub metrics: bool,
    /// Spans of invocations, the init and the restore.
    pub spans: bool,
    /// The events themselves as log records.
    pub logs: bool,
}

/// The settings of [`Platform`].
#[derive(Clone, Debug, Default)]
pub struct PlatformSettings {
    /// The telemetry to derive.
    pub outputs: PlatformOutputs,
    /// The function's name, used as span name.
    pub function_name: String,
    /// True if invocations run in parallel.
    pub concurrent: bool,
    /// The stage before the first invocation.
    pub init_type: InitType,
    /// True if X-Ray's spans are in the same backend, so that they can be parents.
    pub xray_parents: bool,
}

/// The data of INVOKE.
#[derive(Clone, Copy, Debug)]
pub struct Invoke<'a> {
    pub request_id: &'a str,
    /// The invoked ARN.
    pub arn: Option<&'a str>,
    /// The X-Ray trace header, if there is one.
    pub xray: Option<xray::Header>,
    /// The function's deadline, in milliseconds since the epoch.
    pub deadline_ms: Option<u64>,
}

/// The stage before the first invocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InitType {
    /// An init that no invocation waits for.
    #[default]
    AheadOfTime,
    /// An init that the first invocation waits for, so it is part of it.
    OnDemand,
    /// A restore from a snapshot that the first invocation waits for. The init was long ago.
    Restored,
}

/// The reason of SHUTDOWN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownReason {
    /// The environment is no longer needed, or the reason is unknown.
    Spindown,
    /// The function timed out.
    Timeout,
    /// A process exited.
    Failure,
}

/// A platform event, with its time in nanoseconds since the epoch.
#[derive(Clone, Copy, Debug)]
pub enum PlatformEvent<'e> {
    /// An event of the environment.
    Environment(EnvironmentEvent, u64, &'e PlatformRecord),
    /// An event of the invocation with this request id.
    Invocation(InvocationEvent, u64, &'e str, &'e PlatformRecord),
}

impl<'e> PlatformEvent<'e> {
    /// Returns the platform events of a delivery, sorted. The order of the array means nothing. The caller can pass them on in
    /// parts, because the telemetry of many events at once would take more memory than the events.
    pub fn in_order(events: &'e [TelemetryEvent<'_>], now: u64) -> Vec<Self> {
        let mut events: Vec<_> = events
            .iter()
            .filter_map(|event| {
                let time = event.time.unwrap_or(now);
                match &event.kind {
                    EventKind::Environment { event, record } => Some(Self::Environment(*event, time, record)),
                    EventKind::Invocation { event, request_id, record } => {
                        Some(Self::Invocation(*event, time, request_id, record))
                    }
                    EventKind::Function(_)
                    | EventKind::Extension(_)
                    | EventKind::Unknown { .. }
                    | EventKind::Text { .. } => None,
                }
            })
            .collect();
        events.sort_unstable_by_key(|event| match *event {
            Self::Environment(event, time, _) => (Some(event), None, time, ""),
            Self::Invocation(event, time, request_id, _) => (None, Some(event), time, request_id),
        });
        // Environment events go first; the sort puts them last.
        let of_environment = events.partition_point(|event| matches!(event, Self::Invocation(..)));
        events.rotate_left(of_environment);
        events
    }
}

/// The state machine that turns platform events into telemetry.
#[derive(Debug, Default)]
pub struct Platform {
    settings: PlatformSettings,
    invocations: Invocations,
    init: Stage,
    restore: Stage,
    instance_id: Option<String>,
    recent: VecDeque<(EnvironmentEvent, u64, Option<String>)>,
    meter: Meter,
    /// True if the measurements must be sent with the next batch.
    due: bool,
    stopping: bool,
    telemetry: PlatformTelemetry,
}

impl Platform {
    /// Returns the initial state.
    pub fn new(settings: PlatformSettings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// Handles INVOKE, at `now` in nanoseconds since the epoch.
    pub fn invoked(&mut self, invoke: &Invoke<'_>, now: u64) {
        self.conclude_pending(now);
        if let Some(invocation) = self.invocations.invoked(invoke.request_id) {
            invocation.invoked = Some(now);
            invocation.arn = invoke.arn.map(str::to_owned);
            invocation.xray = invocation.xray.or(invoke.xray);
            invocation.deadline_ms = invoke.deadline_ms;
        }
    }

    /// Handles SHUTDOWN, at `now` in nanoseconds since the epoch.
    pub fn shut_down(&mut self, reason: ShutdownReason, now: u64) {
        self.stopping = true;
        let outcome = match reason {
            ShutdownReason::Spindown => None,
            ShutdownReason::Timeout => Some(InvocationOutcome::Timeout),
            ShutdownReason::Failure => Some(InvocationOutcome::Crash),
        };
        if let Some(outcome) = outcome {
            let mut ended = Vec::new();
            for invocation in self.invocations.iter_open(self.settings.concurrent) {
                let began = invocation.began();
                let duration = began.map(|began| milliseconds(now.saturating_sub(began)));
                invocation.end = Some(InvocationEnd {
                    outcome,
                    error_type: None,
                    time: now,
                    duration,
                    is_unreported: true,
                });
                ended.extend(EndedInvocation::of(
                    invocation,
                    self.settings.init_type != InitType::AheadOfTime,
                ));
            }
            for ended in ended {
                self.note_cut_off(&ended);
            }
        }
        self.conclude_pending(now);
        self.emit_stage_traces();
        self.due = true;
    }

    /// Handles sorted events of a delivery, at `now` in nanoseconds since the epoch.
    pub fn on_events(&mut self, events: &[PlatformEvent<'_>], now: u64) {
        for event in events {
            match *event {
                PlatformEvent::Environment(event, time, record) => {
                    self.on_environment_event(event, record, time, now);
                }
                PlatformEvent::Invocation(InvocationEvent::Start, time, id, record) => {
                    self.started(id, record, time, now);
                }
                PlatformEvent::Invocation(InvocationEvent::RuntimeDone, time, id, record) => {
                    self.runtime_done(id, record, time, now);
                }
                PlatformEvent::Invocation(InvocationEvent::Report, time, id, record) => {
                    self.reported(id, record, time, now);
                }
            }
        }
        if self.stopping {
            self.conclude_pending(now);
        }
    }

    /// Takes the telemetry to send.
    pub fn take_telemetry(&mut self) -> PlatformTelemetry {
        let mut telemetry = std::mem::take(&mut self.telemetry);
        if self.settings.outputs.metrics && (self.due || self.stopping) {
            telemetry.metrics = self.meter.take();
            self.due = false;
        }
        telemetry
    }

    fn started(&mut self, request_id: &str, record: &PlatformRecord, time: u64, now: u64) {
        let Some(invocation) = self.invocations.started(request_id, time) else { return };
        invocation.take_tracing(record);
        self.log_invocation(InvocationEvent::Start, request_id, record, (time, now));
    }

    fn runtime_done(&mut self, request_id: &str, record: &PlatformRecord, time: u64, now: u64) {
        let Some(invocation) = self.invocations.runtime_done(request_id, time) else { return };
        invocation.take_tracing(record);
        let is_new = invocation.end_by(record, record.metrics.duration, time);
        let Some(ended) = EndedInvocation::of(invocation, self.settings.init_type != InitType::AheadOfTime)
        else {
            return;
        };
        if is_new {
            self.note_cut_off(&ended);
        }
        self.conclude_once(&ended, None, now);
        if let Some(bytes) = record.metrics.produced_bytes {
            self.meter.record(Instrument::ProducedBytes, bytes, ended.from, time);
        }
        self.emit_phases(&ended, record);
        self.log_invocation(InvocationEvent::RuntimeDone, request_id, record, (time, now));
    }

    fn reported(&mut self, request_id: &str, record: &PlatformRecord, time: u64, now: u64) {
        let Some(invocation) = self.invocations.reported(request_id, time) else { return };
        invocation.take_tracing(record);
        let metrics = &record.metrics;
        let done = invocation.end.as_ref().and_then(|end| end.duration);
        // Platform: managed instances send no other end, and the report comes after the end.
        let end = invocation
            .began()
            .zip(metrics.duration)
            .map_or(time, |(began, took)| add_milliseconds(began, took));
        let is_new = invocation.end_by(record, metrics.duration, end);
        let memory = metrics.max_memory_used.zip(metrics.memory_size);
        // Platform: most runtimes are killed without an error type for it when the memory is used up.
        if let Some(end) = &mut invocation.end
            && end.outcome == InvocationOutcome::Crash
            && memory.is_some_and(|(used, size)| used >= size)
        {
            end.outcome = InvocationOutcome::OutOfMemory;
        }
        let Some(ended) = EndedInvocation::of(invocation, self.settings.init_type != InitType::AheadOfTime)
        else {
            return;
        };
        if is_new {
            self.note_cut_off(&ended);
        }
        self.conclude_once(&ended, memory, now);
        let overhead: f64 = record
            .spans
            .first
            .iter()
            .filter(|span| span.name == "extensionOverhead")
            .map(|span| span.duration)
            .sum();
        let post_runtime = if overhead > 0.0 {
            Some(overhead)
        } else {
            // Platform: `durationMs` of the report ends when the last extension calls `/next`.
            metrics.duration.zip(done).map(|(all, done)| all - done).filter(|rest| !is_new && *rest >= 0.0)
        };
        let init = metrics.init_duration.filter(|_| !self.init.reported && ended.cold);
        self.init.reported |= init.is_some();
        let values = [
            (Instrument::InitDuration, init.map(seconds)),
            (Instrument::MemoryUsage, metrics.max_memory_used.map(|used| used * MEGABYTE)),
            (Instrument::BilledDuration, metrics.billed_duration.map(seconds)),
            (Instrument::PostRuntimeDuration, post_runtime.map(seconds)),
            (
                Instrument::RestoreDuration,
                metrics.restore_duration.filter(|_| !self.restore.reported).map(seconds),
            ),
            (Instrument::MemorySize, metrics.memory_size.map(|size| size * MEGABYTE)),
        ];
        for (instrument, value) in values {
            if let Some(value) = value {
                self.meter.record(instrument, value, ended.from, time);
            }
        }
        self.emit_phases(&ended, record);
        self.log_invocation(InvocationEvent::Report, request_id, record, (time, now));
    }

    fn on_environment_event(
        &mut self,
        event: EnvironmentEvent,
        record: &PlatformRecord,
        time: u64,
        now: u64,
    ) {
        let seen = (event, time, record.name.clone());
        if self.recent.contains(&seen) {
            return;
        }
        if self.recent.len() == REMEMBERED_EVENTS {
            self.recent.pop_front();
        }
        self.recent.push_back(seen);
        match event {
            EnvironmentEvent::InitStart => {
                self.instance_id.clone_from(&record.instance_id);
                self.init.start(time);
            }
            EnvironmentEvent::InitRuntimeDone => self.init.runtime_done(record, time),
            EnvironmentEvent::InitReport => {
                if self.init.report(record, time) {
                    self.record_stage(Instrument::InitDuration, record, time);
                }
            }
            EnvironmentEvent::RestoreStart => self.restore.start(time),
            EnvironmentEvent::RestoreRuntimeDone => self.restore.runtime_done(record, time),
            EnvironmentEvent::RestoreReport => {
                if self.restore.report(record, time) {
                    self.record_stage(Instrument::RestoreDuration, record, time);
                }
            }
            EnvironmentEvent::LogsDropped => {
                let from = time;
                if let Some(records) = record.dropped_records {
                    self.meter.record(Instrument::LogsDropped, records, from, time);
                }
                if let Some(bytes) = record.dropped_bytes {
                    self.meter.record(Instrument::LogBytesDropped, bytes, from, time);
                }
            }
            EnvironmentEvent::Extension
            | EnvironmentEvent::Subscription
            | EnvironmentEvent::End
            | EnvironmentEvent::Fault => {}
        }
        if self.settings.outputs.logs
            && let Some(log) = logs::of_environment(event, record, (time, now))
        {
            self.telemetry.logs.push((None, log));
        }
        for stage in [&mut self.init, &mut self.restore] {
            if let Some((outcome, error_type, time, duration)) = stage.take_failure() {
                let end =
                    outcome::EndDetails { error_type: error_type.as_deref(), time, duration, memory: None };
                self.telemetry.logs.push((None, outcome::init_failed(outcome, &end, now)));
            }
        }
        if self.stopping {
            self.emit_stage_traces();
        } else if self.init.reported && self.settings.init_type != InitType::OnDemand {
            self.emit_init_trace();
        }
    }

    fn record_stage(&mut self, instrument: Instrument, record: &PlatformRecord, time: u64) {
        if let Some(duration) = record.metrics.duration {
            self.meter.record(
                instrument,
                seconds(duration),
                time.saturating_sub(add_milliseconds(0, duration)),
                time,
            );
        }
    }

    /// Marks an invocation as cut off. Its SDK will not send its span, so its logs must reference the platform's span, even if
    /// that is sent later.
    fn note_cut_off(&mut self, ended: &EndedInvocation) {
        if self.settings.outputs.spans && ended.end.outcome.is_cut_off() {
            self.telemetry.cut_off.push(Arc::clone(&ended.request_id));
        }
    }

    /// Counts an invocation and creates its span.
    fn conclude(&mut self, ended: &EndedInvocation) {
        let (from, to) = (ended.from, ended.end.time);
        let instrument = match ended.end.outcome {
            InvocationOutcome::Success => Instrument::Invocations,
            InvocationOutcome::Timeout => Instrument::Timeouts,
            InvocationOutcome::Error | InvocationOutcome::Crash | InvocationOutcome::OutOfMemory => {
                Instrument::Errors
            }
        };
        self.meter.count(instrument, from, to);
        if ended.cold {
            self.meter.count(Instrument::ColdStarts, from, to);
        }
        if let Some(duration) = ended.end.duration {
            self.meter.record(Instrument::InvokeDuration, seconds(duration), from, to);
        }
        self.due = true;
        if !self.settings.outputs.spans {
            return;
        }
        let context = ended.context();
        // A parent that is not in the backend makes a trace look incomplete.
        let parent = ended.xray.filter(|_| self.settings.xray_parents).and_then(|xray| xray.parent);
        let mut spans = vec![spans::invocation(
            context,
            &InvocationSpan {
                request_id: &ended.request_id,
                name: &self.settings.function_name,
                arn: ended.arn.as_deref(),
                cold: ended.cold,
                parent,
                outcome: ended.end.outcome,
                error_type: ended.end.error_type.as_deref(),
                from,
                to,
            },
        )];
        if ended.cold {
            let place = SpanPlacement::under(context, &ended.request_id);
            spans.extend(self.init.take_spans(spans::INIT, place));
            spans.extend(self.restore.take_spans(spans::RESTORE, place));
        }
        self.telemetry.spans.push((Some(Arc::clone(&ended.request_id)), spans));
    }

    /// Creates the spans of an invocation's phases, below its own.
    fn emit_phases(&mut self, ended: &EndedInvocation, record: &PlatformRecord) {
        if !self.settings.outputs.spans || record.spans.first.is_empty() {
            return;
        }
        let phases =
            spans::phases(SpanPlacement::under(ended.context(), &ended.request_id), &record.spans.first);
        match self.telemetry.spans.last_mut() {
            Some((invocation, spans)) if invocation.as_ref() == Some(&ended.request_id) => {
                spans.extend(phases);
            }
            _ => self.telemetry.spans.push((Some(Arc::clone(&ended.request_id)), phases.collect())),
        }
    }

    /// Creates the spans of stages that belong to no invocation, in traces of their own.
    fn emit_stage_traces(&mut self) {
        self.emit_init_trace();
        emit_stage_trace(
            spans::RESTORE,
            &mut self.restore,
            self.instance_id.as_deref(),
            self.settings.outputs,
            &mut self.telemetry,
        );
    }

    fn emit_init_trace(&mut self) {
        emit_stage_trace(
            spans::INIT,
            &mut self.init,
            self.instance_id.as_deref(),
            self.settings.outputs,
            &mut self.telemetry,
        );
    }

    fn log_invocation(
        &mut self,
        event: InvocationEvent,
        request_id: &str,
        record: &PlatformRecord,
        times: (u64, u64),
    ) {
        if self.settings.outputs.logs {
            let log = logs::of_invocation(event, request_id, record, times);
            self.telemetry.logs.push((Some(request_id.into()), log));
        }
    }

    /// Reports the end of an invocation once: counts it, and creates its span and, if the function cannot log the outcome
    /// itself, its log record. A crash waits for the report, which holds the memory.
    fn conclude_once(&mut self, ended: &EndedInvocation, memory: Option<(f64, f64)>, now: u64) {
        let is_pending = ended.end.outcome == InvocationOutcome::Crash && !ended.reported;
        if is_pending || !ended.end.is_unreported {
            return;
        }
        for invocation in self.invocations.iter_mut().filter(|one| one.request_id == ended.request_id) {
            if let Some(end) = &mut invocation.end {
                end.is_unreported = false;
            }
        }
        self.conclude(ended);
        self.log_end(ended, memory, now);
    }

    /// Reports all ends that have not been reported, because no more data will arrive in time.
    fn conclude_pending(&mut self, now: u64) {
        let mut unreported = Vec::new();
        for invocation in self.invocations.iter_mut() {
            unreported.extend(
                EndedInvocation::of(invocation, self.settings.init_type != InitType::AheadOfTime)
                    .filter(|ended| ended.end.is_unreported),
            );
            if let Some(end) = &mut invocation.end {
                end.is_unreported = false;
            }
        }
        for ended in unreported {
            self.conclude(&ended);
            self.log_end(&ended, None, now);
        }
    }

    fn log_end(&mut self, ended: &EndedInvocation, memory: Option<(f64, f64)>, now: u64) {
        let InvocationEnd { outcome, error_type, time, duration, .. } = &ended.end;
        let end = outcome::EndDetails {
            error_type: error_type.as_deref(),
            time: *time,
            duration: *duration,
            memory,
        };
        if let Some(record) = outcome::record(*outcome, &ended.request_id, &end, now) {
            self.telemetry.logs.push((Some(Arc::clone(&ended.request_id)), record));
        }
    }
}

/// Creates the spans of a stage that belongs to no invocation, in a trace of its own.
fn emit_stage_trace(
    name: &str,
    stage: &mut Stage,
    instance_id: Option<&str>,
    outputs: PlatformOutputs,
    telemetry: &mut PlatformTelemetry,
) {
    let Some((from, _)) = stage.interval().filter(|_| outputs.spans) else { return };
    let seed = format!("{name} {from} {}", instance_id.unwrap_or_default());
    let trace_id = TraceContext::of_text(&seed).trace_id;
    let spans = stage.take_spans(name, SpanPlacement { trace_id, parent: None, seed: &seed });
    if !spans.is_empty() {
        telemetry.spans.push((None, spans));
    }
}

fn milliseconds(nanos: u64) -> f64 {
    std::time::Duration::from_nanos(nanos).as_secs_f64() * 1e3
}

fn seconds(milliseconds: f64) -> f64 {
    milliseconds / 1e3
}
