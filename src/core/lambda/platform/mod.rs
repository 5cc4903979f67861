//! What the platform tells of the environment and its invocations, as metrics, spans and log records of its own.
//!
//! A state machine fed with the platform's events and with INVOKE and SHUTDOWN. It promises that an invocation is counted
//! once, whatever comes twice, out of order or not at all: its end is the first that tells of it, `platform.runtimeDone`,
//! `platform.report` (managed instances have no other, and elsewhere it comes an invocation later) or SHUTDOWN with a reason.
//! What only the report has goes with what leaves next. How the end of a function that cannot tell of it itself is told:
//! [`Outcome`]. Which spans are sent is the pipeline's decision, which knows whether the SDK sent its own.

mod adopted;
mod invocations;
mod logs;
mod made;
mod meter;
mod outcome;
mod spans;
mod stage;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

pub use self::adopted::{Adopted, adopted};
use self::invocations::{End, Ended, Invocations};
pub use self::made::{Made, SCOPE};
use self::meter::{Instrument, Meter};
pub use self::outcome::Outcome;
use self::spans::{Invoked, Place, after};
use self::stage::Stage;
use crate::lambda::telemetry_api::{Change, Event, Kind, Moment, Record};
use crate::lambda::xray;
use crate::trace_context::TraceContext;

/// How many events of the environment are remembered, to know a second delivery of them by.
const REMEMBERED_INVOCATIONS: usize = 32;
const MEGABYTE: f64 = 1_048_576.0;

/// What is made of the platform's events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Counters and distributions.
    pub metrics: bool,
    /// Spans of invocations, of the init and of the restore.
    pub spans: bool,
    /// The events themselves as log records.
    pub logs: bool,
}

/// Where the function lives, as far as it matters here.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What is made.
    pub wanted: Wanted,
    /// The function's name, which its spans bear.
    pub function_name: String,
    /// Invocations run side by side.
    pub concurrent: bool,
    /// What comes before the first invocation.
    pub beginning: Beginning,
    /// The spans of X-Ray can be found where ours go, so that they can be parents.
    pub xray_parents: bool,
}

/// What INVOKE tells.
#[derive(Clone, Copy, Debug)]
pub struct Invoke<'a> {
    /// Of the invocation.
    pub request_id: &'a str,
    /// The ARN that was invoked.
    pub arn: Option<&'a str>,
    /// The trace that it is part of, if the platform says.
    pub xray: Option<xray::Header>,
    /// The function's deadline, in milliseconds since the epoch.
    pub deadline_ms: Option<u64>,
}

/// What comes before the first invocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Beginning {
    /// An init that nobody waits for.
    #[default]
    Ahead,
    /// An init that the first invocation waits for, and so part of it.
    OnDemand,
    /// A restore from a snapshot, for which the same holds; the init was long ago.
    Restored,
}

/// Why the environment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownReason {
    /// It is not needed any more, or nobody says why.
    Spindown,
    /// The function's time was up.
    Timeout,
    /// A process exited.
    Failure,
}

/// An event of the platform, with its time in nanoseconds since the epoch.
#[derive(Clone, Copy, Debug)]
pub enum Happening<'e> {
    /// Of the environment.
    Environment(Change, u64, &'e Record),
    /// Of the invocation with this request id.
    Invocation(Moment, u64, &'e str, &'e Record),
}

impl<'e> Happening<'e> {
    /// The platform's events of a delivery, in their order; that of the array means nothing. So they can be taken part by
    /// part: what is made of many of them at once would take more memory than they do.
    pub fn in_order(events: &'e [Event<'_>], now: u64) -> Vec<Self> {
        let mut happenings: Vec<_> = events
            .iter()
            .filter_map(|event| {
                let time = event.time.unwrap_or(now);
                match &event.kind {
                    Kind::Environment { change, record } => Some(Self::Environment(*change, time, record)),
                    Kind::Invocation { moment, request_id, record } => {
                        Some(Self::Invocation(*moment, time, request_id, record))
                    }
                    Kind::Function(_) | Kind::Extension(_) | Kind::Unknown { .. } | Kind::Text { .. } => None,
                }
            })
            .collect();
        happenings.sort_unstable_by_key(|happening| match *happening {
            Self::Environment(change, time, _) => (Some(change), None, time, ""),
            Self::Invocation(moment, time, request_id, _) => (None, Some(moment), time, request_id),
        });
        // Those of invocations would come first.
        let of_environment =
            happenings.partition_point(|happening| matches!(happening, Self::Invocation(..)));
        happenings.rotate_left(of_environment);
        happenings
    }
}

/// The state machine.
#[derive(Debug, Default)]
pub struct Platform {
    settings: Settings,
    invocations: Invocations,
    init: Stage,
    restore: Stage,
    instance_id: Option<String>,
    recent: VecDeque<(Change, u64, Option<String>)>,
    meter: Meter,
    /// What was measured is to leave with what leaves next.
    due: bool,
    stopping: bool,
    made: Made,
}

impl Platform {
    /// Before anything has happened.
    pub fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// INVOKE came, at `now` in nanoseconds since the epoch.
    pub fn invoked(&mut self, invoke: &Invoke<'_>, now: u64) {
        self.tell_ends(now);
        if let Some(invocation) = self.invocations.invoked(invoke.request_id) {
            invocation.invoked = Some(now);
            invocation.arn = invoke.arn.map(str::to_owned);
            invocation.xray = invocation.xray.or(invoke.xray);
            invocation.deadline_ms = invoke.deadline_ms;
        }
    }

    /// SHUTDOWN came, at `now` in nanoseconds since the epoch.
    pub fn shut_down(&mut self, reason: ShutdownReason, now: u64) {
        self.stopping = true;
        let outcome = match reason {
            ShutdownReason::Spindown => None,
            ShutdownReason::Timeout => Some(Outcome::Timeout),
            ShutdownReason::Failure => Some(Outcome::Crash),
        };
        if let Some(outcome) = outcome {
            let mut ended = Vec::new();
            for invocation in self.invocations.open(self.settings.concurrent) {
                let began = invocation.began();
                let duration = began.map(|began| milliseconds(now.saturating_sub(began)));
                invocation.end = Some(End { outcome, error_type: None, time: now, duration, untold: true });
                ended.extend(Ended::of(invocation, self.settings.beginning != Beginning::Ahead));
            }
            for ended in ended {
                self.note_cut_off(&ended);
            }
        }
        self.tell_ends(now);
        self.show_stages_alone();
        self.due = true;
    }

    /// Takes events of a delivery, in their order, `now` being nanoseconds since the epoch.
    pub fn take_in(&mut self, happenings: &[Happening<'_>], now: u64) {
        for happening in happenings {
            match *happening {
                Happening::Environment(change, time, record) => self.changed(change, record, time, now),
                Happening::Invocation(Moment::Start, time, id, record) => self.started(id, record, time, now),
                Happening::Invocation(Moment::RuntimeDone, time, id, record) => {
                    self.runtime_done(id, record, time, now);
                }
                Happening::Invocation(Moment::Report, time, id, record) => {
                    self.reported(id, record, time, now);
                }
            }
        }
        if self.stopping {
            self.tell_ends(now);
        }
    }

    /// What there is to send.
    pub fn take(&mut self) -> Made {
        let mut made = std::mem::take(&mut self.made);
        if self.settings.wanted.metrics && (self.due || self.stopping) {
            made.metrics = self.meter.take();
            self.due = false;
        }
        made
    }

    fn started(&mut self, request_id: &str, record: &Record, time: u64, now: u64) {
        let Some(invocation) = self.invocations.started(request_id, time) else { return };
        invocation.take_tracing(record);
        self.log_invocation(Moment::Start, request_id, record, (time, now));
    }

    fn runtime_done(&mut self, request_id: &str, record: &Record, time: u64, now: u64) {
        let Some(invocation) = self.invocations.done(request_id, time) else { return };
        invocation.take_tracing(record);
        let news = invocation.end_by(record, record.metrics.duration, time);
        let Some(ended) = Ended::of(invocation, self.settings.beginning != Beginning::Ahead) else { return };
        if news {
            self.note_cut_off(&ended);
        }
        self.tell_end(&ended, None, now);
        if let Some(bytes) = record.metrics.produced_bytes {
            self.meter.record(Instrument::ProducedBytes, bytes, ended.from, time);
        }
        self.show_phases(&ended, record);
        self.log_invocation(Moment::RuntimeDone, request_id, record, (time, now));
    }

    fn reported(&mut self, request_id: &str, record: &Record, time: u64, now: u64) {
        let Some(invocation) = self.invocations.reported(request_id, time) else { return };
        invocation.take_tracing(record);
        let metrics = &record.metrics;
        let done = invocation.end.as_ref().and_then(|end| end.duration);
        // Platform: managed instances tell of no other end, and of this one later than it was.
        let end = invocation.began().zip(metrics.duration).map_or(time, |(began, took)| after(began, took));
        let news = invocation.end_by(record, metrics.duration, end);
        let memory = metrics.max_memory_used.zip(metrics.memory_size);
        // Platform: most runtimes are killed without a word of it when the memory is used up.
        if let Some(end) = &mut invocation.end
            && end.outcome == Outcome::Crash
            && memory.is_some_and(|(used, size)| used >= size)
        {
            end.outcome = Outcome::OutOfMemory;
        }
        let Some(ended) = Ended::of(invocation, self.settings.beginning != Beginning::Ahead) else { return };
        if news {
            self.note_cut_off(&ended);
        }
        self.tell_end(&ended, memory, now);
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
            // Platform: the whole of it ends when the last extension asks for more.
            metrics.duration.zip(done).map(|(all, done)| all - done).filter(|rest| !news && *rest >= 0.0)
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
        self.show_phases(&ended, record);
        self.log_invocation(Moment::Report, request_id, record, (time, now));
    }

    fn changed(&mut self, change: Change, record: &Record, time: u64, now: u64) {
        let seen = (change, time, record.name.clone());
        if self.recent.contains(&seen) {
            return;
        }
        if self.recent.len() == REMEMBERED_INVOCATIONS {
            self.recent.pop_front();
        }
        self.recent.push_back(seen);
        match change {
            Change::InitStart => {
                self.instance_id.clone_from(&record.instance_id);
                self.init.start(time);
            }
            Change::InitRuntimeDone => self.init.runtime_done(record, time),
            Change::InitReport => {
                if self.init.report(record, time) {
                    self.measure_stage(Instrument::InitDuration, record, time);
                }
            }
            Change::RestoreStart => self.restore.start(time),
            Change::RestoreRuntimeDone => self.restore.runtime_done(record, time),
            Change::RestoreReport => {
                if self.restore.report(record, time) {
                    self.measure_stage(Instrument::RestoreDuration, record, time);
                }
            }
            Change::LogsDropped => {
                let from = time;
                if let Some(records) = record.dropped_records {
                    self.meter.record(Instrument::LogsDropped, records, from, time);
                }
                if let Some(bytes) = record.dropped_bytes {
                    self.meter.record(Instrument::LogBytesDropped, bytes, from, time);
                }
            }
            Change::Extension | Change::Subscription | Change::End | Change::Fault => {}
        }
        if self.settings.wanted.logs
            && let Some(log) = logs::of_environment(change, record, (time, now))
        {
            self.made.logs.push((None, log));
        }
        for stage in [&mut self.init, &mut self.restore] {
            if let Some((outcome, error_type, time, duration)) = stage.take_failure() {
                let end = outcome::End { error_type: error_type.as_deref(), time, duration, memory: None };
                self.made.logs.push((None, outcome::init_failed(outcome, &end, now)));
            }
        }
        if self.stopping {
            self.show_stages_alone();
        } else if self.init.reported && self.settings.beginning != Beginning::OnDemand {
            self.show_init_alone();
        }
    }

    fn measure_stage(&mut self, instrument: Instrument, record: &Record, time: u64) {
        if let Some(duration) = record.metrics.duration {
            self.meter.record(instrument, seconds(duration), time.saturating_sub(after(0, duration)), time);
        }
    }

    /// Where an SDK makes spans, that of an invocation which was cut off will not come: its logs are to name the one made
    /// here, however long that waits.
    fn note_cut_off(&mut self, ended: &Ended) {
        if self.settings.wanted.spans && ended.end.outcome.is_cut_off() {
            self.made.cut_off.push(Arc::clone(&ended.request_id));
        }
    }

    /// Counts an invocation and makes its span.
    fn conclude(&mut self, ended: &Ended) {
        let (from, to) = (ended.from, ended.end.time);
        let instrument = match ended.end.outcome {
            Outcome::Success => Instrument::Invocations,
            Outcome::Timeout => Instrument::Timeouts,
            Outcome::Error | Outcome::Crash | Outcome::OutOfMemory => Instrument::Errors,
        };
        self.meter.count(instrument, from, to);
        if ended.cold {
            self.meter.count(Instrument::ColdStarts, from, to);
        }
        if let Some(duration) = ended.end.duration {
            self.meter.record(Instrument::InvokeDuration, seconds(duration), from, to);
        }
        self.due = true;
        if !self.settings.wanted.spans {
            return;
        }
        let context = ended.context();
        // A parent that is nowhere to be found makes a trace look as if its beginning were missing.
        let parent = ended.xray.filter(|_| self.settings.xray_parents).and_then(|xray| xray.parent);
        let mut spans = vec![spans::invocation(
            context,
            &Invoked {
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
            let place = Place::under(context, &ended.request_id);
            spans.extend(self.init.take_spans(spans::INIT, place));
            spans.extend(self.restore.take_spans(spans::RESTORE, place));
        }
        self.made.spans.push((Some(Arc::clone(&ended.request_id)), spans));
    }

    /// Makes spans of an invocation's phases, under its own.
    fn show_phases(&mut self, ended: &Ended, record: &Record) {
        if !self.settings.wanted.spans || record.spans.first.is_empty() {
            return;
        }
        let phases = spans::phases(Place::under(ended.context(), &ended.request_id), &record.spans.first);
        match self.made.spans.last_mut() {
            Some((invocation, spans)) if invocation.as_ref() == Some(&ended.request_id) => {
                spans.extend(phases);
            }
            _ => self.made.spans.push((Some(Arc::clone(&ended.request_id)), phases.collect())),
        }
    }

    /// What belongs to no invocation has a trace of its own.
    fn show_stages_alone(&mut self) {
        self.show_init_alone();
        show_alone(
            spans::RESTORE,
            &mut self.restore,
            self.instance_id.as_deref(),
            self.settings.wanted,
            &mut self.made,
        );
    }

    fn show_init_alone(&mut self) {
        show_alone(
            spans::INIT,
            &mut self.init,
            self.instance_id.as_deref(),
            self.settings.wanted,
            &mut self.made,
        );
    }

    fn log_invocation(&mut self, moment: Moment, request_id: &str, record: &Record, times: (u64, u64)) {
        if self.settings.wanted.logs {
            let log = logs::of_invocation(moment, request_id, record, times);
            self.made.logs.push((Some(request_id.into()), log));
        }
    }

    /// Tells of an invocation's end, once: counts it and makes its span, and the log record where the function cannot tell.
    /// A crash waits for what the report says of the memory.
    fn tell_end(&mut self, ended: &Ended, memory: Option<(f64, f64)>, now: u64) {
        let waits = ended.end.outcome == Outcome::Crash && !ended.reported;
        if waits || !ended.end.untold {
            return;
        }
        for invocation in self.invocations.iter_mut().filter(|one| one.request_id == ended.request_id) {
            if let Some(end) = &mut invocation.end {
                end.untold = false;
            }
        }
        self.conclude(ended);
        self.push_end(ended, memory, now);
    }

    /// Tells of all ends that are not told yet, because nothing more will be known of them in time.
    fn tell_ends(&mut self, now: u64) {
        let mut untold = Vec::new();
        for invocation in self.invocations.iter_mut() {
            untold.extend(
                Ended::of(invocation, self.settings.beginning != Beginning::Ahead)
                    .filter(|ended| ended.end.untold),
            );
            if let Some(end) = &mut invocation.end {
                end.untold = false;
            }
        }
        for ended in untold {
            self.conclude(&ended);
            self.push_end(&ended, None, now);
        }
    }

    fn push_end(&mut self, ended: &Ended, memory: Option<(f64, f64)>, now: u64) {
        let End { outcome, error_type, time, duration, .. } = &ended.end;
        let end =
            outcome::End { error_type: error_type.as_deref(), time: *time, duration: *duration, memory };
        if let Some(record) = outcome::record(*outcome, &ended.request_id, &end, now) {
            self.made.logs.push((Some(Arc::clone(&ended.request_id)), record));
        }
    }
}

/// Makes the spans of a stage that belongs to no invocation, in a trace of its own.
fn show_alone(name: &str, stage: &mut Stage, instance_id: Option<&str>, wanted: Wanted, made: &mut Made) {
    let Some((from, _)) = stage.interval().filter(|_| wanted.spans) else { return };
    let seed = format!("{name} {from} {}", instance_id.unwrap_or_default());
    let trace_id = TraceContext::of_text(&seed).trace_id;
    let spans = stage.take_spans(name, Place { trace_id, parent: None, seed: &seed });
    if !spans.is_empty() {
        made.spans.push((None, spans));
    }
}

fn milliseconds(nanos: u64) -> f64 {
    std::time::Duration::from_nanos(nanos).as_secs_f64() * 1e3
}

fn seconds(milliseconds: f64) -> f64 {
    milliseconds / 1e3
}
