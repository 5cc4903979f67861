//! The intake: passes deliveries of the Telemetry API to the pipeline and the driver.
//!
//! It enqueues a delivery's log records, and the telemetry of its platform events, before it sends the delivery's
//! `runtimeDone` to the driver. So the flush that follows covers them. The intake is a task of its own: if a record makes it
//! panic, the exporter lives on.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::app::pipeline::{Control, Handle, InvocationStart};
use crate::edge::clock;
use crate::edge::telemetry_listener::{IntakeFull, RefusedDeliveries};
use rotel_core::chunk::{Chunk, Origin};
use rotel_core::config::LogFilter;
use rotel_core::config::resource::ResourceRules;
use rotel_core::lambda::platform::{self, Invoke, Platform, PlatformEvent, ShutdownReason};
use rotel_core::lambda::telemetry_api::{
    Deliveries, Delivery, EnvironmentEvent, EventKind, InvocationEvent, PlatformRecord, TelemetryEvent,
};
use rotel_core::lambda::xray::Header;
use rotel_core::logs::filter::FilterCounts;
use rotel_core::logs::{self, Filter, RecordSource, Timeline};
use rotel_core::otlp::request::{self, EncodedItems, RequestEnvelope};
use rotel_core::signal::Signal;

/// The maximum number of queued messages. The platform sends one delivery at a time.
const QUEUE_LIMIT: usize = 64;
/// The slots reserved for the driver's messages.
const DRIVER_RESERVE: usize = 8;

/// The bytes of events that are read before the task yields, so that the driver meets its deadlines whatever a delivery
/// holds.
const TURN_BYTES: usize = 64 << 10;
/// The minimum cost of an event, in bytes.
const MIN_EVENT_COST: usize = 256;
/// The cost of searching a text, as a multiple of reading it.
const SEARCH_COST_FACTOR: usize = 32;
/// The maximum number of platform events handled at once, so that their telemetry stays small.
const MAX_PLATFORM_EVENTS: usize = 128;

/// A message to the intake.
#[derive(Debug)]
pub enum IntakeMessage {
    /// The Telemetry API delivered this body.
    Delivery(Bytes),
    /// `/next` answered INVOKE.
    Invoked {
        request_id: String,
        invoked_arn: Option<String>,
        /// The X-Ray trace header, if there is one.
        xray: Option<Header>,
        /// The function's deadline, in milliseconds since the epoch.
        deadline_ms: Option<u64>,
    },
    /// The environment shuts down, and the last flush is about to begin.
    ShutDown {
        reason: ShutdownReason,
        /// Dropped once everything about the shutdown is enqueued.
        done: oneshot::Sender<()>,
    },
    /// Drop this to show that the intake is alive.
    LivenessProbe(oneshot::Sender<()>),
}

/// `platform.runtimeDone` of an invocation.
#[derive(Debug)]
pub struct RuntimeDone {
    pub request_id: String,
    /// The platform's time of the end, in nanoseconds since the epoch.
    pub time: Option<u64>,
}

/// Enqueues a delivery if there is room. Some slots are reserved for the driver: without its messages, the intake would not
/// know which invocation a record belongs to.
pub fn offer(intake: &mpsc::Sender<IntakeMessage>, body: Bytes) -> Result<(), IntakeFull> {
    if intake.capacity() <= DRIVER_RESERVE {
        return Err(IntakeFull);
    }
    intake.try_send(IntakeMessage::Delivery(body)).map_err(|_| IntakeFull)
}

/// The intake of the Telemetry API. [`TelemetryIntake::run`] is its task.
#[derive(Debug)]
pub struct TelemetryIntake {
    messages: mpsc::Receiver<IntakeMessage>,
    pipeline: Handle,
    runtime_done: mpsc::Sender<RuntimeDone>,
    rules: ResourceRules,
    /// Built from the rules once there is something to send.
    envelopes: Option<Envelopes>,
    timeline: Timeline,
    platform: Platform,
    log_filter: LogFilter,
    /// Compiled when the first record arrives, which delays nobody.
    filter: Option<Filter>,
    deliveries: Deliveries,
    refused: RefusedDeliveries,
    anomalies: Anomalies,
    filtered: FilterCounts,
    /// The filter's total at the last log line.
    filtered_logged: u64,
}

/// The envelopes of requests.
#[derive(Debug)]
struct Envelopes {
    records: RequestEnvelope,
    /// For telemetry derived from platform events.
    platform: RequestEnvelope,
}

impl Envelopes {
    fn of(rules: &ResourceRules) -> Self {
        let of = |scope| RequestEnvelope::new(&rules.own(), &request::scope(scope));
        Self { records: of(request::SCOPE), platform: of(platform::SCOPE) }
    }
}

/// The counts of malformed and refused input.
#[derive(Debug, Default)]
struct Anomalies {
    kept_as_text: usize,
    lost: usize,
    unknown: usize,
    spans_left_out: usize,
    /// The total at the last summary.
    summarized: u64,
}

impl Anomalies {
    /// Returns a summary at the first anomaly and each time the total has grown tenfold. One line per anomaly would be a
    /// feedback loop, because each line comes back as an event.
    fn summary(&mut self, refused: &RefusedDeliveries) -> Option<String> {
        let Self { kept_as_text, lost, unknown, spans_left_out, summarized } = self;
        let too_large = refused.too_large.load(Ordering::Relaxed);
        let no_room = refused.no_room.load(Ordering::Relaxed);
        let all = *kept_as_text as u64
            + *lost as u64
            + *unknown as u64
            + *spans_left_out as u64
            + too_large
            + no_room;
        if all < summarized.saturating_mul(10).max(1) {
            return None;
        }
        *summarized = all;
        let counts = [
            (
                *kept_as_text as u64,
                "record could not be read and was kept as text",
                "records could not be read and were kept as text",
            ),
            (*lost as u64, "record was lost", "records were lost"),
            (
                *unknown as u64,
                "event of unknown type was sent as a log record",
                "events of unknown types were sent as log records",
            ),
            (
                *spans_left_out as u64,
                "span of a platform event with too many was left out",
                "spans of platform events with too many were left out",
            ),
            (
                too_large,
                "delivery was refused because it was too large",
                "deliveries were refused because they were too large",
            ),
            (
                no_room,
                "delivery was refused for lack of room (Lambda repeats it)",
                "deliveries were refused for lack of room (Lambda repeats them)",
            ),
        ];
        let counts = counts.iter().filter(|(count, ..)| *count > 0);
        let counts = counts
            .map(|(count, one, several)| format!("{count} {}", if *count == 1 { one } else { several }));
        Some(counts.collect::<Vec<_>>().join(", "))
    }
}

/// Log records grouped by the invocation whose span they must reference, in order. Most deliveries have one group.
#[derive(Default)]
struct ByInvocation(Vec<(Option<Arc<str>>, EncodedItems)>);

impl ByInvocation {
    fn of(&mut self, invocation: Option<&str>) -> &mut EncodedItems {
        let known = self.0.iter().position(|(known, _)| known.as_deref() == invocation);
        let found = known.map(|at| self.0.remove(at));
        let (_, records) =
            self.0.push_mut(found.unwrap_or_else(|| (invocation.map(Arc::from), EncodedItems::default())));
        records
    }
}

/// The work since the task last yielded, in bytes read.
#[derive(Debug, Default)]
struct YieldBudget(usize);

impl YieldBudget {
    /// Adds work, and yields to other tasks once enough has been done.
    async fn spend(&mut self, work: usize) {
        self.0 = self.0.saturating_add(work);
        if self.0 >= TURN_BYTES {
            self.0 = 0;
            tokio::task::yield_now().await;
        }
    }
}

impl TelemetryIntake {
    /// Returns an intake and the sender of its queue.
    pub fn new(
        rules: ResourceRules,
        timeline: Timeline,
        refused: RefusedDeliveries,
        pipeline: Handle,
        runtime_done: mpsc::Sender<RuntimeDone>,
    ) -> (Self, mpsc::Sender<IntakeMessage>) {
        let (sender, messages) = mpsc::channel(QUEUE_LIMIT);
        let intake = Self {
            messages,
            pipeline,
            runtime_done,
            rules,
            envelopes: None,
            timeline,
            platform: Platform::default(),
            log_filter: LogFilter::default(),
            filter: None,
            deliveries: Deliveries::default(),
            refused,
            anomalies: Anomalies::default(),
            filtered: FilterCounts::default(),
            filtered_logged: 0,
        };
        (intake, sender)
    }

    /// Sets the filter for log records.
    #[must_use]
    pub fn with_filter(mut self, log_filter: LogFilter) -> Self {
        self.log_filter = log_filter;
        self
    }

    /// Sets the state machine for platform events.
    #[must_use]
    pub fn with_platform(mut self, platform: Platform) -> Self {
        self.platform = platform;
        self
    }

    /// Runs until every sender is gone.
    pub async fn run(mut self) {
        while let Some(message) = self.messages.recv().await {
            match message {
                IntakeMessage::Invoked { request_id, invoked_arn, xray, deadline_ms } => {
                    let now = clock::epoch_nanos();
                    self.timeline.invoked(&request_id, now);
                    let arn = invoked_arn.as_deref();
                    self.platform.invoked(&Invoke { request_id: &request_id, arn, xray, deadline_ms }, now);
                    self.send_platform_telemetry().await;
                }
                IntakeMessage::ShutDown { reason, done } => {
                    let cut = self.deliveries.give_up();
                    self.forward(cut).await;
                    self.platform.shut_down(reason, clock::epoch_nanos());
                    self.send_platform_telemetry().await;
                    drop(done);
                }
                IntakeMessage::Delivery(body) => self.deliver(&body).await,
                IntakeMessage::LivenessProbe(probe) => drop(probe),
            }
        }
    }

    async fn deliver(&mut self, body: &[u8]) {
        let delivery = self.deliveries.read(body);
        self.forward(delivery).await;
    }

    async fn forward(&mut self, delivery: Delivery<'_>) {
        let observed = clock::epoch_nanos();
        // Platform events first: they show which invocation a line belongs to, wherever they are in the array.
        let mut turn = YieldBudget::default();
        let mut done = Vec::new();
        for event in &delivery.events {
            done.extend(self.learn(event).await);
            turn.spend(MIN_EVENT_COST).await;
        }
        // The timeline remembers only the last ones.
        let starts: Vec<_> = delivery.events.iter().filter_map(started).collect();
        for (request_id, record) in
            starts.iter().skip(starts.len().saturating_sub(logs::REMEMBERED_INVOCATIONS))
        {
            self.announce_start(request_id, record).await;
        }
        let mut records = ByInvocation::default();
        let mut starts: HashSet<_> = starts.into_iter().map(|(request_id, _)| request_id).collect();
        for event in &delivery.events {
            if let Some((request_id, _)) = started(event) {
                starts.remove(request_id);
            }
            let work = self.log(event, observed, &starts, &mut records);
            turn.spend(work).await;
        }
        self.anomalies.kept_as_text += delivery.kept_as_text;
        self.anomalies.lost += delivery.lost;
        self.log_anomalies();
        self.log_filtered();
        for (invocation, records) in records.0 {
            self.send(invocation, records).await;
        }
        for events in PlatformEvent::in_order(&delivery.events, observed).chunks(MAX_PLATFORM_EVENTS) {
            self.platform.on_events(events, observed);
            self.send_platform_telemetry().await;
            turn.spend(MIN_EVENT_COST * events.len()).await;
        }
        self.send_platform_telemetry().await;
        for done in done {
            // If the driver is gone, nothing needs the event.
            let _ = self.runtime_done.send(done).await;
        }
    }

    /// Updates the timeline and the instance id from an event. Returns a `platform.runtimeDone`.
    async fn learn(&mut self, event: &TelemetryEvent<'_>) -> Option<RuntimeDone> {
        if let EventKind::Environment { record, .. } | EventKind::Invocation { record, .. } = &event.kind {
            self.anomalies.spans_left_out += record.spans.left_out;
        }
        match &event.kind {
            EventKind::Environment { event: EnvironmentEvent::InitStart, record } => {
                if let Some(id) = &record.instance_id {
                    self.learn_instance(id).await;
                }
            }
            EventKind::Environment { event: EnvironmentEvent::InitRuntimeDone, .. } => {
                self.timeline.initialised(event.time);
            }
            EventKind::Invocation { event: InvocationEvent::Start, request_id, .. } => {
                self.timeline.started(request_id, event.time);
            }
            EventKind::Invocation { event: InvocationEvent::RuntimeDone, request_id, .. } => {
                self.timeline.ended(request_id, event.time);
                return Some(RuntimeDone { request_id: request_id.clone(), time: event.time });
            }
            EventKind::Invocation { event: InvocationEvent::Report, request_id, record } => {
                let took = record.metrics.duration;
                let took = took.and_then(|took| Duration::try_from_secs_f64(took / 1e3).ok());
                self.timeline.reported(request_id, took, event.time);
            }
            _ => {}
        }
        None
    }

    /// Converts an event to a log record, if it is one and is not filtered out. The `starts` come later in its delivery. Returns
    /// the work done.
    fn log(
        &mut self,
        event: &TelemetryEvent<'_>,
        observed: u64,
        starts: &HashSet<&str>,
        records: &mut ByInvocation,
    ) -> usize {
        let (source, raw) = match &event.kind {
            EventKind::Function(raw) => (RecordSource::Function, Ok(raw)),
            EventKind::Extension(raw) => (RecordSource::Extension, Ok(raw)),
            EventKind::Unknown { name, record } => {
                self.anomalies.unknown += 1;
                (RecordSource::Unknown(name), Ok(record))
            }
            EventKind::Text { name, text } => (RecordSource::of(name), Err(text)),
            EventKind::Invocation { .. } | EventKind::Environment { .. } => return 0,
        };
        let bytes = MIN_EVENT_COST + raw.map_or_else(|text| text.len(), |raw| raw.get().len());
        let is_invocation = |request_id: &str| self.timeline.contains(request_id);
        let mut log = match raw {
            Ok(raw) => logs::to_log(source, raw, event.time, observed, &is_invocation),
            Err(text) => logs::text_to_log(source, text, event.time, observed, &is_invocation),
        };
        let keeps = if source == RecordSource::Function { Filter::apply_to_function } else { Filter::apply };
        let filter = self.filter.get_or_insert_with(|| compile(&self.log_filter));
        let work = if filter.needs_search() { bytes.saturating_mul(SEARCH_COST_FACTOR) } else { bytes };
        if !keeps(filter, &mut log.record, &mut self.filtered) {
            return work;
        }
        let logged_at = event.time.unwrap_or(observed);
        let running_then =
            self.timeline.invocation_before_starts(|request_id| starts.contains(request_id), logged_at);
        match running_then {
            _ if log.has_own_request_id => {}
            Some(request_id) => logs::set_request_id(&mut log, request_id),
            None if self.timeline.is_init(logged_at) => logs::set_init_phase(&mut log),
            None => {}
        }
        // Only a known id counts: some loggers use that field for the id of another request, such as API Gateway's.
        let named = log.request_id().filter(|named| self.timeline.contains(named));
        let traced = !log.record.trace_id.is_empty();
        let records = records.of(named.or(running_then).filter(|_| !traced));
        records.push(&log.record);
        work
    }

    async fn send(&mut self, invocation: Option<Arc<str>>, records: EncodedItems) {
        let items = records.count();
        let bytes = self.envelopes().records.wrap_items(&records);
        drop(records);
        let chunk = Chunk { signal: Signal::Logs, bytes, items, origin: Origin::Platform, invocation };
        // If the pipeline is gone, that has been logged.
        let _ = self.pipeline.ingest(chunk).await;
    }

    /// Announces an invocation to the pipeline. On managed instances no INVOKE does.
    async fn announce_start(&self, request_id: &str, record: &PlatformRecord) {
        let xray = record.tracing.as_deref().and_then(Header::read);
        let start = InvocationStart { request_id: request_id.to_owned(), xray, invoked: None };
        self.pipeline.send_from_intake(Control::InvocationStarted(start)).await;
    }

    /// Sends the telemetry derived from platform events.
    async fn send_platform_telemetry(&mut self) {
        let mut telemetry = self.platform.take_telemetry();
        let Self { log_filter, filter, filtered, .. } = self;
        telemetry
            .retain_logs(|record| filter.get_or_insert_with(|| compile(log_filter)).apply(record, filtered));
        if telemetry.is_empty() {
            return;
        }
        // Before the span and the end record, which are sent because of it.
        for request_id in telemetry.cut_off() {
            self.pipeline.send_from_intake(Control::CutOff(request_id.to_owned())).await;
        }
        for chunk in telemetry.into_chunks(&self.envelopes().platform) {
            let _ = self.pipeline.ingest(chunk).await;
        }
    }

    fn envelopes(&mut self) -> &Envelopes {
        self.envelopes.get_or_insert_with(|| Envelopes::of(&self.rules))
    }

    async fn learn_instance(&mut self, instance_id: &str) {
        self.rules.set_instance(instance_id);
        self.envelopes = None;
        self.pipeline.send_from_intake(Control::InstanceId(instance_id.to_owned())).await;
    }

    fn log_anomalies(&mut self) {
        if let Some(summary) = self.anomalies.summary(&self.refused) {
            tracing::warn!("Telemetry API totals: {summary}");
        }
    }

    /// Logs the filter's counts, as rarely as anomalies and for the same reason.
    fn log_filtered(&mut self) {
        let Self { filtered, filtered_logged, .. } = self;
        if filtered.total() < filtered_logged.saturating_mul(10).max(1) {
            return;
        }
        *filtered_logged = filtered.total();
        tracing::info!("log record totals: {filtered}");
    }
}

/// Returns the request id and the record of a `platform.start`.
fn started<'a>(event: &'a TelemetryEvent<'_>) -> Option<(&'a str, &'a PlatformRecord)> {
    match &event.kind {
        EventKind::Invocation { event: InvocationEvent::Start, request_id, record } => {
            Some((request_id, record))
        }
        _ => None,
    }
}

/// Compiles the filter and logs its errors.
fn compile(log_filter: &LogFilter) -> Filter {
    let (filter, errors) = log_filter.compile();
    for error in errors {
        tracing::error!("{error}");
    }
    filter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_come_at_tenfold_counts_only() {
        let refused = RefusedDeliveries::default();
        let mut anomalies = Anomalies::default();
        assert_eq!(anomalies.summary(&refused), None);
        anomalies.lost = 1;
        assert_eq!(anomalies.summary(&refused).as_deref(), Some("1 record was lost"));
        anomalies.kept_as_text = 8;
        assert_eq!(anomalies.summary(&refused), None);
        refused.no_room.store(2, Ordering::Relaxed);
        assert_eq!(
            anomalies.summary(&refused).as_deref(),
            Some(
                "8 records could not be read and were kept as text, 1 record was lost, 2 deliveries were refused for lack of \
                 room (Lambda repeats them)"
            )
        );
        assert_eq!(anomalies.summary(&refused), None);
    }

    #[test]
    fn full_queue_keeps_room_for_the_driver() {
        let (intake, mut queue) = mpsc::channel(QUEUE_LIMIT);
        let taken = (0..=QUEUE_LIMIT).take_while(|_| offer(&intake, Bytes::new()).is_ok()).count();
        assert_eq!(taken, QUEUE_LIMIT - DRIVER_RESERVE);
        let (probe, _) = oneshot::channel();
        assert!(intake.try_send(IntakeMessage::LivenessProbe(probe)).is_ok());
        assert_eq!(offer(&intake, Bytes::new()), Err(IntakeFull));
        for _ in 0..2 {
            queue.try_recv().unwrap();
        }
        assert_eq!(offer(&intake, Bytes::new()), Ok(()));
        drop(queue);
        assert_eq!(offer(&intake, Bytes::new()), Err(IntakeFull), "a closed queue accepts no delivery");
    }
}
