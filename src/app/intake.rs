//! What comes from the Telemetry API, on its way to the pipeline and to the driver.
//!
//! A delivery's log records, and what is made of its platform events, are enqueued before the driver is told of its
//! `runtimeDone`, so that the flush which follows covers them. A task of its own: should a record make it panic, the
//! exporter lives on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use tokio::sync::{mpsc, oneshot};

use crate::app::pipeline::{Control, Handle, Invocation};
use crate::core::chunk::{Chunk, Origin};
use crate::core::config::LogFilter;
use crate::core::logs::filter::Filtered;
use crate::core::logs::{self, Filter, Source, Timeline};
use crate::core::platform::{self, Invoke, Platform, ShutdownReason};
use crate::core::request::{self, Envelope};
use crate::core::resource::ResourceRules;
use crate::core::signal::Signal;
use crate::core::telemetry::{self, Change, Event, Kind, Moment, Record};
use crate::core::xray::Header;
use crate::edge::clock;

/// How many deliveries may wait: the platform sends one at a time, and each is at most 2 MiB.
const QUEUE_LIMIT: usize = 64;

/// What the intake is told.
#[derive(Debug)]
pub enum Told {
    /// The Telemetry API delivered this body.
    Delivery(Bytes),
    /// `/next` answered INVOKE.
    Invoked {
        /// Of the invocation.
        request_id: String,
        /// The ARN that was invoked.
        invoked_arn: Option<String>,
        /// The trace that it is part of, if the platform says.
        xray: Option<Header>,
        /// The function's deadline, in milliseconds since the epoch.
        deadline_ms: Option<u64>,
    },
    /// The environment ends, and the last flush is about to begin.
    ShutDown {
        /// Why it ends.
        reason: ShutdownReason,
        /// Dropped once what there is to say of that has been said.
        heard: oneshot::Sender<()>,
    },
    /// Drop this, to show that the intake has its turn still.
    Pulse(oneshot::Sender<()>),
}

/// Deliveries that never became one: counted by the listener, told by the intake.
#[derive(Debug, Default)]
pub struct Untaken {
    /// Larger than the listener takes.
    pub too_large: Arc<AtomicU64>,
    /// Answered, but the queue was full.
    pub no_room: AtomicU64,
}

/// The intake's own state. [`Intake::run`] is its task.
#[derive(Debug)]
pub struct Intake {
    told: mpsc::Receiver<Told>,
    pipeline: Handle,
    runtime_done: mpsc::Sender<String>,
    rules: ResourceRules,
    /// By these rules, once there is something to send.
    envelopes: Option<Envelopes>,
    timeline: Timeline,
    platform: Platform,
    log_filter: LogFilter,
    /// Compiled when the first record comes, when nobody waits for it.
    filter: Option<Filter>,
    untaken: Arc<Untaken>,
    odd: Odd,
    filtered: Filtered,
    /// How much the filter had done when it was last told.
    filtered_told: u64,
}

/// What stands around what is sent.
#[derive(Debug)]
struct Envelopes {
    of_records: Envelope,
    /// What was made of the platform's events.
    of_made: Envelope,
}

impl Envelopes {
    fn of(rules: &ResourceRules) -> Self {
        let of = |scope| Envelope::new(&rules.own(), &request::scope(scope));
        Self { of_records: of(request::SCOPE), of_made: of(platform::SCOPE) }
    }
}

/// What was odd so far.
#[derive(Debug, Default)]
struct Odd {
    unreadable: usize,
    unknown: usize,
    /// How many there were when it was last told.
    told: u64,
}

/// Log records by the invocation whose span they are to name, those of each in their order. Most deliveries hold one.
#[derive(Default)]
struct ByInvocation(Vec<(Option<Arc<str>>, Vec<LogRecord>)>);

impl ByInvocation {
    fn of(&mut self, invocation: Option<&str>) -> &mut Vec<LogRecord> {
        let known = self.0.iter().position(|(known, _)| known.as_deref() == invocation);
        let found = known.map(|at| self.0.remove(at));
        let (_, records) = self.0.push_mut(found.unwrap_or_else(|| (invocation.map(Arc::from), Vec::new())));
        records
    }
}

impl Intake {
    /// An intake and the way into it.
    pub fn new(
        rules: ResourceRules,
        timeline: Timeline,
        untaken: Arc<Untaken>,
        pipeline: Handle,
        runtime_done: mpsc::Sender<String>,
    ) -> (Self, mpsc::Sender<Told>) {
        let (sender, told) = mpsc::channel(QUEUE_LIMIT);
        let intake = Self {
            told,
            pipeline,
            runtime_done,
            rules,
            envelopes: None,
            timeline,
            platform: Platform::default(),
            log_filter: LogFilter::default(),
            filter: None,
            untaken,
            odd: Odd::default(),
            filtered: Filtered::default(),
            filtered_told: 0,
        };
        (intake, sender)
    }

    /// With a filter for the log records made here.
    #[must_use]
    pub fn filtering(mut self, log_filter: LogFilter) -> Self {
        self.log_filter = log_filter;
        self
    }

    /// With what is to be made of the platform's events.
    #[must_use]
    pub fn telling_of(mut self, platform: Platform) -> Self {
        self.platform = platform;
        self
    }

    /// Runs until every sender is gone.
    pub async fn run(mut self) {
        while let Some(told) = self.told.recv().await {
            match told {
                Told::Invoked { request_id, invoked_arn, xray, deadline_ms } => {
                    let now = clock::epoch_nanos();
                    self.timeline.invoked(&request_id, now);
                    let arn = invoked_arn.as_deref();
                    self.platform.invoked(&Invoke { request_id: &request_id, arn, xray, deadline_ms }, now);
                    self.send_made().await;
                }
                Told::ShutDown { reason, heard } => {
                    self.platform.shut_down(reason, clock::epoch_nanos());
                    self.send_made().await;
                    drop(heard);
                }
                Told::Delivery(body) => self.deliver(&body).await,
                Told::Pulse(pulse) => drop(pulse),
            }
        }
    }

    async fn deliver(&mut self, body: &[u8]) {
        let delivery = telemetry::read(body);
        let observed = clock::epoch_nanos();
        // The platform's events first: they say to which invocation a line belongs, wherever in the array they stand.
        let mut done = Vec::new();
        for event in &delivery.events {
            done.extend(self.learn(event).await);
        }
        let mut records = ByInvocation::default();
        for event in &delivery.events {
            self.log(event, observed, &mut records);
        }
        self.odd.unreadable += delivery.unreadable;
        self.tell_odd();
        self.tell_filtered();
        for (invocation, records) in records.0 {
            self.send(invocation, records).await;
        }
        self.platform.take_in(&delivery.events, observed);
        self.send_made().await;
        for request_id in done {
            // The driver ends after us, and with it the need to tell.
            let _ = self.runtime_done.send(request_id).await;
        }
    }

    /// Learns what an event says of the environment and its invocations; gives the invocation that the runtime is done
    /// with.
    async fn learn(&mut self, event: &Event<'_>) -> Option<String> {
        match &event.kind {
            Kind::Environment { change: Change::InitStart, record } => {
                if let Some(id) = &record.instance_id {
                    self.learn_instance(id).await;
                }
            }
            Kind::Environment { change: Change::InitRuntimeDone, .. } => {
                self.timeline.initialised(event.time);
            }
            Kind::Invocation { moment: Moment::Start, request_id, record } => {
                self.timeline.started(request_id, event.time);
                self.tell_of_start(request_id, record).await;
            }
            Kind::Invocation { moment: Moment::RuntimeDone, request_id, .. } => {
                self.timeline.ended(request_id, event.time);
                return Some(request_id.clone());
            }
            Kind::Invocation { moment: Moment::Report, request_id, record } => {
                let took = record.metrics.duration;
                let took = took.and_then(|took| Duration::try_from_secs_f64(took / 1e3).ok());
                self.timeline.reported(request_id, took, event.time);
            }
            _ => {}
        }
        None
    }

    /// Makes a log record of an event that is one, unless it is filtered out.
    fn log(&mut self, event: &Event<'_>, observed: u64, records: &mut ByInvocation) {
        let (source, raw) = match &event.kind {
            Kind::Function(raw) => (Source::Function, *raw),
            Kind::Extension(raw) => (Source::Extension, *raw),
            Kind::Unknown { name, record } => {
                self.odd.unknown += 1;
                (Source::Unknown(name), *record)
            }
            _ => return,
        };
        let mut log = logs::to_log(source, raw, event.time, observed);
        let keeps = if source == Source::Function { Filter::keeps_of_function } else { Filter::keeps };
        let filter = self.filter.get_or_insert_with(|| compile(&self.log_filter));
        if !keeps(filter, &mut log.record, &mut self.filtered) {
            return;
        }
        let made_at = event.time.unwrap_or(observed);
        let of_then = self.timeline.at(made_at);
        match of_then {
            _ if log.told_request_id => {}
            Some(request_id) => logs::set_request_id(&mut log, request_id),
            None if self.timeline.is_init(made_at) => logs::set_init_phase(&mut log),
            None => {}
        }
        // Some loggers call by that name the id of another request, such as API Gateway's.
        let told = log.request_id().filter(|told| self.timeline.knows(told));
        let traced = !log.record.trace_id.is_empty();
        let records = records.of(told.or(of_then).filter(|_| !traced));
        records.push(log.record);
    }

    async fn send(&mut self, invocation: Option<Arc<str>>, records: Vec<LogRecord>) {
        let items = records.len();
        let bytes = self.envelopes().of_records.around(&records);
        let chunk = Chunk { signal: Signal::Logs, bytes, items, origin: Origin::Platform, invocation };
        // A pipeline that is gone has been told of already.
        let _ = self.pipeline.ingest(chunk).await;
    }

    /// On managed instances there is no INVOKE that would tell of it.
    async fn tell_of_start(&self, request_id: &str, record: &Record) {
        let xray = record.tracing.as_deref().and_then(Header::read);
        let told = Invocation { request_id: request_id.to_owned(), xray, invoked: None };
        self.pipeline.tell(Control::Invocation(told)).await;
    }

    /// Sends what was made of the platform's events.
    async fn send_made(&mut self) {
        let mut made = self.platform.take();
        let Self { log_filter, filter, filtered, .. } = self;
        made.retain_logs(|record| filter.get_or_insert_with(|| compile(log_filter)).keeps(record, filtered));
        if made.is_empty() {
            return;
        }
        // Before the span, and the record of the end, that are sent because of it.
        for request_id in made.cut_off() {
            self.pipeline.tell(Control::CutOff(request_id.to_owned())).await;
        }
        for chunk in made.into_chunks(&self.envelopes().of_made) {
            let _ = self.pipeline.ingest(chunk).await;
        }
    }

    fn envelopes(&mut self) -> &Envelopes {
        self.envelopes.get_or_insert_with(|| Envelopes::of(&self.rules))
    }

    async fn learn_instance(&mut self, instance_id: &str) {
        self.rules.learn_instance(instance_id);
        self.envelopes = None;
        self.pipeline.tell(Control::Instance(instance_id.to_owned())).await;
    }

    /// At the first and each time there are ten times as many: a line per odd event would come back as an event.
    fn tell_odd(&mut self) {
        let Odd { unreadable, unknown, told } = &mut self.odd;
        let too_large = self.untaken.too_large.load(Ordering::Relaxed);
        let no_room = self.untaken.no_room.load(Ordering::Relaxed);
        let all = *unreadable as u64 + *unknown as u64 + too_large + no_room;
        if all < told.saturating_mul(10).max(1) {
            return;
        }
        *told = all;
        tracing::warn!(
            "the Telemetry API delivered, so far: {unreadable} events that cannot be read, which are left out; {unknown} of \
             unknown types, which are sent as log records; {too_large} posts that are too large and {no_room} for which there \
             was no room"
        );
    }

    /// As seldom, for the same reason.
    fn tell_filtered(&mut self) {
        let Self { filtered, filtered_told, .. } = self;
        if filtered.total() < filtered_told.saturating_mul(10).max(1) {
            return;
        }
        *filtered_told = filtered.total();
        tracing::info!("log records so far: {filtered}");
    }
}

/// Compiles the filter; tells what is wrong with it.
fn compile(log_filter: &LogFilter) -> Filter {
    let (filter, faults) = log_filter.compile();
    for fault in faults {
        tracing::error!("{fault}");
    }
    filter
}
