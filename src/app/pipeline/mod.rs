//! The pipeline task: takes telemetry from its queue and carries out the senders' actions.
//!
//! Its queue is the flush barrier: chunks and flushes share one channel, so a flush covers everything enqueued before it. The
//! senders decide ([`rotel_core::delivery`]), and the pipeline carries their actions out. It learns the spans of invocations
//! from the telemetry that passes through. Log records wait for the end of their invocation, and get its span when they are
//! sent. `app::driver`, which knows the deadlines, cancels flushes. [`rotel_core::delivery::cadence`] decides when pending
//! telemetry is released.

mod export;
mod handle;
mod requests;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

pub use self::export::{Backend, BackendExporter, SetupFn, SetupFuture, SetupOutcome};
use self::handle::PipelineMessage;
pub use self::handle::{Control, EnqueueError, Handle, InvocationStart};
use self::requests::Requests;
use crate::edge::{clock, pages};
use rotel_core::chunk::{Chunk, Origin};
use rotel_core::config::resource::ResourceRules;
use rotel_core::config::{BATCH_MAX_BYTES, Config};
use rotel_core::delivery::budget::ByteBudget;
use rotel_core::delivery::cadence::DuringInvocation;
use rotel_core::delivery::event::{OwnTelemetry, SenderAction, SenderContext, SenderEvent, SenderSettings};
use rotel_core::delivery::health::{ItemCounts, Report};
use rotel_core::delivery::own_telemetry;
use rotel_core::delivery::senders::{Actions, Senders};
use rotel_core::echo;
use rotel_core::lambda::correlation::Correlation;
use rotel_core::lambda::lifecycle::FlushReason;
use rotel_core::lambda::platform::{self, StageSpans};
use rotel_core::otlp::request::{self, RequestEnvelope};
use rotel_core::otlp::{self, LastEdit, Limits, RequestPart};
use rotel_core::processors::{Processed, Processors};
use rotel_core::signal::{PerSignal, Signal};

/// The normal maximum of pending bytes. Beyond it the backend is slow or down, and new chunks are kept in their own memory
/// pages. On the heap they would make it grow, and it would never shrink.
const BACKLOG: usize = 1024 * 1024;

/// The state of the pipeline. [`Pipeline::run`] is its task.
pub struct Pipeline<E> {
    messages: mpsc::Receiver<PipelineMessage>,
    senders: Senders,
    /// The budget of the senders.
    budget: ByteBudget,
    /// The tasks of each sender.
    requests: Vec<Requests<E>>,
    flush: Option<PendingFlush>,
    wants_flush: Arc<AtomicBool>,
    reports_itself: bool,
    rules: ResourceRules,
    processors: Processors,
    /// The last resource of each signal that processors edited.
    last_processed: PerSignal<LastEdit>,
    /// A request could not be processed, which is logged once.
    reported_failure: bool,
    /// The last edited resource, by these rules.
    last_edit: LastEdit,
    correlation: Correlation,
    /// The signals whose received items are logged, and the items received since the last line.
    logs_received: PerSignal<bool>,
    received: PerSignal<usize>,
}

/// A running flush.
struct PendingFlush {
    /// The number of senders that have not finished it.
    pending: usize,
    done: oneshot::Sender<()>,
}

impl<E: BackendExporter> Pipeline<E> {
    /// Returns a pipeline and its handle.
    pub fn new(config: &Config, rules: ResourceRules, backends: Vec<Backend<E>>) -> (Self, Handle) {
        let wants_flush = Arc::new(AtomicBool::new(false));
        let budget = ByteBudget::new(config.buffer_max_bytes, backends.len());
        let (handle, messages) = Handle::new(Arc::clone(&wants_flush), budget.clone());
        let settings = backends.iter().map(|backend| settings(backend, config, &budget)).collect();
        let pipeline = Self {
            messages,
            senders: Senders::new(settings, budget.clone(), clock::reading()),
            budget,
            requests: backends.into_iter().map(|backend| Requests::new(backend.setup)).collect(),
            flush: None,
            wants_flush,
            reports_itself: config.internal_telemetry,
            rules,
            processors: Processors::default(),
            last_processed: PerSignal::default(),
            reported_failure: false,
            last_edit: LastEdit::default(),
            correlation: Correlation::new(config.fallback_spans),
            logs_received: config.debug_log,
            received: PerSignal::default(),
        };
        (pipeline, handle)
    }

    /// Applies these processors to all telemetry.
    #[must_use]
    pub fn with_processors(self, processors: Processors) -> Self {
        Self { processors, ..self }
    }

    /// Runs until every handle is gone.
    pub async fn run(mut self) {
        loop {
            let timeout = self.senders.timeout();
            tokio::select! {
                biased;
                // Answers first: they free bytes, and a flush may wait for them.
                (sender, event) = ended(&mut self.requests) => self.on(sender, event),
                message = self.messages.recv() => match message {
                    Some(PipelineMessage::Ingest(chunk, slot, reservation)) => {
                        drop(slot);
                        self.ingest(chunk).await;
                        // The room stays reserved until the buffers hold the chunk.
                        drop(reservation);
                    }
                    Some(PipelineMessage::FromIntake(control, slot)) => {
                        drop(slot);
                        self.handle_control(control);
                    }
                    Some(PipelineMessage::Control(control)) => self.handle_control(control),
                    None => return,
                },
                () = clock::until(timeout) => self.on_all(|| SenderEvent::Tick),
            }
            self.stamp_forgotten();
            self.wants_flush.store(self.senders.wants_flush(), Ordering::Relaxed);
        }
    }

    fn handle_control(&mut self, control: Control) {
        match control {
            Control::SetUp => self.on_all(|| SenderEvent::Start),
            Control::InvocationStarted(InvocationStart { request_id, xray, invoked }) => match invoked {
                Some(invoked) => self.correlation.invoked(&request_id, xray, invoked),
                None => self.correlation.started(&request_id, xray),
            },
            Control::CutOff(request_id) => self.correlation.cut_off(&request_id),
            Control::InvocationEnded { request_id, at } => self.correlation.ended(&request_id, at),
            Control::OpenWindow { during, held } => self.begin_invocation(during, held),
            Control::CloseWindow => {
                self.take_answers();
                self.on_all(|| SenderEvent::InvocationEnds);
            }
            Control::KeepOpen(during) => self.on_all(|| SenderEvent::KeepOpen(during)),
            Control::Flush { reason, deadline, done } => self.start_flush(reason, deadline, done),
            Control::CancelFlush => {
                self.take_answers();
                self.flush = None;
                self.on_all(|| SenderEvent::CancelFlush);
            }
            Control::Restored => {
                // Or all environments of the snapshot would draw the same random numbers.
                fastrand::seed(clock::epoch_nanos());
                self.on_all(|| SenderEvent::Restored);
            }
            Control::Shutdown(done) => {
                self.take_answers();
                self.on_all(|| SenderEvent::ProcessEnds);
                let _ = done.send(());
            }
            Control::InstanceId(instance_id) => {
                self.rules.set_instance(&instance_id);
                self.last_edit = LastEdit::default();
            }
            Control::LivenessProbe(probe) => drop(probe),
        }
    }

    fn begin_invocation(&mut self, during: DuringInvocation, held: bool) {
        self.take_answers();
        self.report_itself(false);
        let actions = self.senders.begin_invocation(during, held, &context(&self.correlation));
        self.carry_out(actions);
    }

    /// Has the senders report their own metrics. Must precede the event that sends them.
    fn report_itself(&mut self, last: bool) {
        if self.reports_itself {
            self.on_all(|| SenderEvent::ReportItself { last });
        }
    }

    fn start_flush(&mut self, reason: FlushReason, deadline: std::time::Instant, done: oneshot::Sender<()>) {
        self.log_received();
        if reason == FlushReason::Shutdown {
            self.report_itself(true);
        }
        self.flush = Some(PendingFlush { pending: self.requests.len(), done });
        let actions = self.senders.start_flush(reason, deadline, &context(&self.correlation));
        self.carry_out(actions);
        self.finish_flush();
    }

    /// Passes an event to one sender.
    fn on(&mut self, sender: usize, event: SenderEvent) {
        let actions = self.senders.on(sender, event, &context(&self.correlation));
        self.carry_out(actions);
        self.finish_flush();
    }

    /// Passes an event to every sender.
    fn on_all(&mut self, event: impl Fn() -> SenderEvent) {
        let actions = self.senders.on_all(event, &context(&self.correlation));
        self.carry_out(actions);
        self.finish_flush();
    }

    /// Handles the answers that have arrived by now, so that accepted batches are not sent again.
    fn take_answers(&mut self) {
        for sender in 0..self.requests.len() {
            while let Some(event) = self.requests.get_mut(sender).and_then(Requests::try_ended) {
                self.on(sender, event);
            }
        }
    }

    /// Carries actions out, and the actions that follow from them.
    fn carry_out(&mut self, actions: Actions) {
        let mut actions = VecDeque::from(actions);
        while let Some((sender, action)) = actions.pop_front() {
            let Some(requests) = self.requests.get_mut(sender) else { continue };
            match action {
                SenderAction::Setup { refresh } => requests.start_setup(refresh),
                SenderAction::AbortSetup => requests.abort_setup(),
                SenderAction::Send { request, signal, chunks, fresh } => {
                    requests.send(request, signal, chunks, fresh);
                }
                SenderAction::Warm { request, fresh } => requests.warm(request, fresh),
                SenderAction::Abort(request) => requests.abort(request),
                SenderAction::FlushDone => {
                    if let Some(flush) = &mut self.flush {
                        flush.pending = flush.pending.saturating_sub(1);
                    }
                }
                SenderAction::Enqueue(own) => {
                    let takes = |signal| self.senders.get(sender).is_some_and(|sender| sender.takes(signal));
                    let chunk = chunk_of(own, &self.rules).filter(|chunk| takes(chunk.signal));
                    if let Some(chunk) = chunk {
                        let event = SenderEvent::Enqueued(chunk, None);
                        actions.extend(self.senders.on(sender, event, &context(&self.correlation)));
                    }
                }
                SenderAction::Log(report) => self.log(sender, &report),
            }
        }
    }

    /// Answers the flush if it is over for all senders.
    fn finish_flush(&mut self) {
        if let Some(PendingFlush { done, .. }) = self.flush.take_if(|flush| flush.pending == 0) {
            // The driver may have stopped waiting.
            let _ = done.send(());
        }
    }

    fn log(&self, sender: usize, report: &Report) {
        let name = self.senders.get(sender).and_then(|sender| sender.name());
        let name = name.map_or_else(String::new, |name| format!("exporter {name}: "));
        let requests = self.requests.get(sender);
        let line = report.explained(|signal, failure| requests?.explain(signal, failure));
        let line = echo::one_line(&line);
        if matches!(report, Report::Recovered { .. }) {
            tracing::info!("{name}{line}");
        } else {
            tracing::warn!("{name}{line}");
        }
    }

    /// Logs the items received since the last flush. One line per flush, and none if nothing was received, because the line comes
    /// back as a log record.
    fn log_received(&mut self) {
        let received = std::mem::take(&mut self.received);
        if received != PerSignal::default() {
            tracing::info!("received since the last flush: {}", ItemCounts(&received));
        }
    }

    async fn ingest(&mut self, chunk: Chunk) {
        let Chunk { signal, mut bytes, mut items, origin, invocation } = chunk;
        match (signal, origin, &invocation) {
            (Signal::Traces, Origin::Sdk, _) => self.correlation.observe_traces(&bytes),
            (Signal::Logs, Origin::Sdk, _) => self.correlation.observe_logs(&bytes),
            (Signal::Traces, Origin::Platform, Some(request_id))
                if !self.correlation.accept_fallback(request_id, &bytes) =>
            {
                let rest = platform::reparent_stage_spans(&bytes, self.correlation.span_for(request_id));
                let Some(StageSpans { bytes: of_stages, spans }) = rest else { return };
                (bytes, items) = (of_stages, spans);
            }
            _ => {}
        }
        if *self.logs_received.of(signal) {
            *self.received.of_mut(signal) += items;
        }
        let Some(limits) = self.senders.limits(signal) else { return };
        let bytes = match origin {
            Origin::Sdk => {
                let rules = &self.rules;
                otlp::edit_resources(signal, &bytes, &mut self.last_edit, |resource| rules.apply(resource))
            }
            Origin::Platform => bytes,
        };
        let Some((bytes, items)) = self.process(signal, bytes, items) else { return };
        let bytes = if self.budget.held() > BACKLOG { pages::move_to_pages(bytes) } else { bytes };
        for (nth, RequestPart { bytes, items }) in
            otlp::split(signal, RequestPart { bytes, items }, limits).enumerate()
        {
            // A large request must not block the thread for all of its parts.
            if nth > 0 {
                tokio::task::yield_now().await;
            }
            let chunk = Chunk { signal, bytes, items, origin, invocation: invocation.clone() };
            let actions = self.senders.enqueue(&chunk, &context(&self.correlation));
            self.carry_out(actions);
        }
    }

    /// Applies the processors of the signal; `None` if nothing is left.
    fn process(&mut self, signal: Signal, bytes: Bytes, items: usize) -> Option<(Bytes, usize)> {
        if self.processors.is_empty(signal) {
            return Some((bytes, items));
        }
        if let Some(edit) = self.processors.resource_edit(signal) {
            let edited =
                otlp::edit_resources(signal, &bytes, self.last_processed.of_mut(signal), |resource| {
                    edit(resource);
                    true
                });
            return Some((edited, items));
        }
        match self.processors.process(signal, RequestPart { bytes, items }) {
            Processed::Kept { bytes, items, too_large } => {
                if too_large > 0 && !std::mem::replace(&mut self.reported_failure, true) {
                    tracing::warn!(
                        "dropped {too_large} {signal}, because decoding them for the processors of the collector.yaml takes too \
                         much memory; send fewer attributes per item"
                    );
                }
                (items > 0).then_some((bytes, items))
            }
            Processed::Filtered => None,
            Processed::Failed => {
                if !std::mem::replace(&mut self.reported_failure, true) {
                    tracing::warn!(
                        "dropped {items} {signal}, because the processors of the collector.yaml enlarge them by more than four \
                         times; shorten what they add"
                    );
                }
                None
            }
        }
    }

    /// Stamps log records of forgotten invocations. In an outage, records stay longer than invocations are remembered.
    fn stamp_forgotten(&mut self) {
        for (invocation, span) in self.correlation.take_forgotten() {
            self.senders.stamp_pending(&invocation, &span);
        }
    }
}

fn settings<E>(backend: &Backend<E>, config: &Config, budget: &ByteBudget) -> SenderSettings {
    // With several backends, requests that hang in flight to one must leave room for new telemetry of the others. Three
    // requests, one per signal, take at most three quarters of its fair share.
    let bytes = match backend.name {
        None => BATCH_MAX_BYTES,
        Some(_) => BATCH_MAX_BYTES.min(budget.fair_share() / 4),
    };
    SenderSettings {
        name: backend.name.clone(),
        takes: backend.takes,
        limits: PerSignal::from_fn(|signal| Limits { items: *config.batch_max_items.of(signal), bytes }),
        flush_timeout: config.flush_timeout,
        reports_itself: config.internal_telemetry,
        has_setup: backend.setup.is_some(),
    }
}

fn context(spans: &Correlation) -> SenderContext<'_> {
    SenderContext { now: clock::reading(), jitter: fastrand::f64(), spans }
}

/// Encodes the extension's own telemetry; `None` if it is empty.
fn chunk_of(own: OwnTelemetry, rules: &ResourceRules) -> Option<Chunk> {
    fn encoded<T: prost::Message>(telemetry: &[T], rules: &ResourceRules) -> bytes::Bytes {
        RequestEnvelope::new(&rules.own(), &request::scope(request::SCOPE)).wrap(telemetry)
    }
    let (signal, bytes, items) = match own {
        OwnTelemetry::Log(record) => (Signal::Logs, encoded(&[*record], rules), 1),
        OwnTelemetry::Metrics(metrics) => {
            let points = metrics.iter().map(own_telemetry::points).sum();
            (Signal::Metrics, encoded(&metrics, rules), points)
        }
    };
    (items > 0).then_some(Chunk { signal, bytes, items, origin: Origin::Platform, invocation: None })
}

/// Waits for the next task of any sender that ends; forever if none is running.
async fn ended<E: BackendExporter>(requests: &mut [Requests<E>]) -> (usize, SenderEvent) {
    std::future::poll_fn(|context| {
        for (sender, requests) in requests.iter_mut().enumerate() {
            if let Poll::Ready(event) = requests.poll_ended(context) {
                return Poll::Ready((sender, event));
            }
        }
        Poll::Pending
    })
    .await
}
