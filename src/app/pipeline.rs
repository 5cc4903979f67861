//! The owner of the buffer and the exporter.
//!
//! One queue is the flush barrier: chunks and flushes come through the same channel, so that a flush covers everything
//! that was enqueued before it. One request a signal is in flight, the signals side by side. While a function runs, what
//! its SDK sends goes out at once; between invocations nothing is in flight, because a freeze would leave it hanging.
//! When a flush is called off is left to `app::driver`, which has the deadlines.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use crate::core::buffer::{Barrier, Batch, Buffer};
use crate::core::chunk::{Chunk, Origin};
use crate::core::config::{BATCH_MAX_BYTES, Config, Export};
use crate::core::health::{Health, Report};
use crate::core::otlp::{self, Limits};
use crate::core::resource::ResourceRules;
use crate::core::retry::{Failure, Verdict};
use crate::core::signal::{PerSignal, Signal};
use crate::edge::clock;
use crate::edge::exporter::Exporter;

/// How many messages may wait. The pipeline never waits for the network itself, so that a full queue means that it is
/// broken; the bytes behind the messages are bounded by the buffer as soon as it takes them.
const QUEUE_LIMIT: usize = 1024;
/// After so long without an answer a pooled connection is worth a test before it is needed. Load balancers close idle
/// connections after a minute or more.
const IDLE_NANOS: u64 = 30_000_000_000;

/// What the pipeline is told.
#[derive(Debug)]
pub enum Message {
    /// Telemetry.
    Ingest(Chunk),
    /// The first `/next` is out: set the exporter up.
    Prepare,
    /// A function runs: what its SDK sends may leave.
    Open,
    /// No function runs: nothing may be in flight.
    Close,
    /// Send everything enqueued so far, and say when that is done or has failed.
    Flush {
        /// Told, or dropped with the pipeline.
        done: oneshot::Sender<()>,
    },
    /// Call the flush off: end what is in flight and keep it.
    Cancel,
    /// The platform told the name of the environment.
    Instance(String),
}

/// The way into the pipeline.
pub type Handle = mpsc::Sender<Message>;

/// The pipeline's own state. [`Pipeline::run`] is its task.
#[derive(Debug)]
pub struct Pipeline {
    messages: mpsc::Receiver<Message>,
    sink: Sink,
    rules: ResourceRules,
    limits: PerSignal<Limits>,
    buffer: Buffer,
    attempts: JoinSet<Verdict>,
    in_flight: PerSignal<Option<InFlight>>,
    /// The test of the connection that is under way.
    warming: Option<AbortHandle>,
    /// A signal whose last attempt failed waits for the next invocation or flush.
    paused: PerSignal<bool>,
    open: bool,
    flush: Option<Flush>,
    health: Health,
    last_answer_nanos: u64,
}

#[derive(Debug)]
enum Sink {
    /// Not set up yet.
    Configured(Box<Export>),
    Exporter(Arc<Exporter>),
    /// Receives and drops.
    Blackhole,
}

#[derive(Debug)]
struct InFlight {
    task: AbortHandle,
    batch: Batch,
}

#[derive(Debug)]
struct Flush {
    barrier: Barrier,
    failed: PerSignal<bool>,
    done: oneshot::Sender<()>,
}

impl Pipeline {
    /// A pipeline and the way into it.
    pub fn new(config: &Config, rules: ResourceRules) -> (Self, Handle) {
        let (handle, messages) = mpsc::channel(QUEUE_LIMIT);
        let sink = match &config.export {
            Some(export) => Sink::Configured(Box::new(export.clone())),
            None => Sink::Blackhole,
        };
        let limits = PerSignal::from_fn(|signal| Limits {
            items: *config.batch_max_items.of(signal),
            bytes: BATCH_MAX_BYTES,
        });
        let pipeline = Self {
            messages,
            sink,
            rules,
            limits,
            buffer: Buffer::new(config.buffer_max_bytes),
            attempts: JoinSet::new(),
            in_flight: PerSignal::default(),
            warming: None,
            paused: PerSignal::default(),
            open: false,
            flush: None,
            health: Health::default(),
            last_answer_nanos: 0,
        };
        (pipeline, handle)
    }

    /// Runs until every handle is gone.
    pub async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                // Answers first: they free bytes, and a flush may be waiting for them.
                Some(ended) = self.attempts.join_next_with_id() => self.settle(ended),
                message = self.messages.recv() => match message {
                    Some(message) => self.take(message),
                    None => return,
                },
            }
            self.dispatch();
            self.finish_flush();
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Ingest(chunk) => self.ingest(chunk),
            Message::Prepare => self.prepare(),
            Message::Open => {
                self.open = true;
                self.paused = PerSignal::default();
                if clock::epoch_nanos().saturating_sub(self.last_answer_nanos) > IDLE_NANOS {
                    self.warm();
                }
            }
            Message::Close => {
                self.open = false;
                self.call_off();
            }
            Message::Flush { done } => {
                let barrier = self.buffer.barrier();
                self.flush = Some(Flush { barrier, failed: PerSignal::default(), done });
            }
            Message::Cancel => self.call_off(),
            Message::Instance(instance_id) => self.rules.learn_instance(&instance_id),
        }
    }

    fn ingest(&mut self, chunk: Chunk) {
        if matches!(self.sink, Sink::Blackhole) {
            return;
        }
        let Chunk { signal, bytes, origin, .. } = chunk;
        let bytes = match origin {
            Origin::Sdk => otlp::edit_resources(signal, &bytes, |resource| self.rules.apply(resource)),
            Origin::Platform => bytes,
        };
        for part in otlp::split(signal, &bytes, *self.limits.of(signal)) {
            self.buffer.push(Chunk { signal, bytes: part.bytes, items: part.items, origin });
        }
        let dropped = self.buffer.take_dropped();
        tell(self.health.on_dropped(dropped));
    }

    fn prepare(&mut self) {
        let Sink::Configured(export) = &self.sink else { return };
        self.sink = match Exporter::new(export) {
            Ok(exporter) => Sink::Exporter(Arc::new(exporter)),
            Err(error) => {
                tracing::error!("{error}; telemetry is received and dropped");
                Sink::Blackhole
            }
        };
        self.warm();
    }

    /// Opens the connection beside the function, so that the flush after it need not.
    fn warm(&mut self) {
        let Sink::Exporter(exporter) = &self.sink else { return };
        if self.warming.is_some() || Signal::ALL.iter().any(|signal| self.in_flight.of(*signal).is_some()) {
            return;
        }
        let exporter = Arc::clone(exporter);
        self.warming = Some(self.attempts.spawn(async move { exporter.warm().await }));
    }

    /// Starts what may be started.
    fn dispatch(&mut self) {
        let Sink::Exporter(exporter) = &self.sink else { return };
        for signal in Signal::ALL {
            if self.in_flight.of(signal).is_some() {
                continue;
            }
            let limits = *self.limits.of(signal);
            let batch = match &self.flush {
                Some(flush)
                    if *flush.failed.of(signal) || !self.buffer.waits_before(signal, flush.barrier) =>
                {
                    None
                }
                Some(_) => self.buffer.take(signal, limits),
                None if self.open && !self.paused.of(signal) => self.buffer.take_sdk(signal, limits),
                None => None,
            };
            let Some(batch) = batch else { continue };
            let chunks = batch.chunks().map(|chunk| chunk.bytes.clone()).collect();
            let exporter = Arc::clone(exporter);
            let task = self.attempts.spawn(async move { exporter.attempt(signal, chunks).await });
            *self.in_flight.of_mut(signal) = Some(InFlight { task, batch });
        }
    }

    /// Takes the end of an attempt. That of one called off belongs to nothing any more.
    fn settle(&mut self, ended: Result<(Id, Verdict), JoinError>) {
        let (id, verdict) = match ended {
            Ok(ended) => ended,
            // A batch on which the exporter panics would make it panic again.
            Err(error) => (error.id(), Verdict::Refused(Failure::Panicked)),
        };
        if self.warming.as_ref().is_some_and(|task| task.id() == id) {
            self.warming = None;
            self.answered(&verdict);
            tell(self.health.on_verdict(Signal::Logs, 0, &verdict));
            return;
        }
        let is_it = |in_flight: &mut InFlight| in_flight.task.id() == id;
        let found = Signal::ALL
            .into_iter()
            .find_map(|signal| Some((signal, self.in_flight.of_mut(signal).take_if(is_it)?.batch)));
        let Some((signal, batch)) = found else { return };
        self.answered(&verdict);
        tell(self.health.on_verdict(signal, batch.items, &verdict));
        match verdict {
            Verdict::Accepted { .. } | Verdict::Refused(_) => self.buffer.release(&batch),
            Verdict::Retry(_) => {
                self.buffer.give_back(batch);
                *self.paused.of_mut(signal) = true;
                if let Some(flush) = &mut self.flush {
                    *flush.failed.of_mut(signal) = true;
                }
            }
        }
    }

    fn answered(&mut self, verdict: &Verdict) {
        if !matches!(verdict, Verdict::Retry(_)) {
            self.last_answer_nanos = clock::epoch_nanos();
        }
    }

    /// Ends a flush that has nothing left to wait for.
    fn finish_flush(&mut self) {
        let idle = Signal::ALL.iter().all(|signal| self.in_flight.of(*signal).is_none());
        if idle && let Some(flush) = self.flush.take() {
            // The driver may have stopped waiting.
            let _ = flush.done.send(());
        }
    }

    /// Ends what is in flight and keeps it.
    fn call_off(&mut self) {
        // What has got through in this very moment must not be sent again.
        while let Some(ended) = self.attempts.try_join_next_with_id() {
            self.settle(ended);
        }
        if let Some(task) = self.warming.take() {
            task.abort();
        }
        for signal in Signal::ALL {
            if let Some(InFlight { task, batch }) = self.in_flight.of_mut(signal).take() {
                task.abort();
                self.buffer.give_back(batch);
            }
        }
        self.flush = None;
    }
}

fn tell(report: Option<Report>) {
    match report {
        None => {}
        Some(report @ Report::Recovered { .. }) => tracing::info!("{report}"),
        Some(report) => tracing::warn!("{report}"),
    }
}
