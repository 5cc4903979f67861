//! The owner of the buffer and the exporter.
//!
//! One queue is the flush barrier: chunks and flushes come through the same channel, so that a flush covers everything
//! that was enqueued before it. One request a signal is in flight, the signals side by side. While a function runs, what
//! its SDK sends goes out at once, and so does what an earlier flush had to leave; between invocations nothing is in
//! flight, because a freeze would leave it hanging. When a flush is called off is left to `app::driver`, which has the
//! deadlines.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use crate::core::buffer::{Barrier, Batch, Buffer};
use crate::core::chunk::{Chunk, Origin};
use crate::core::config::{BATCH_MAX_BYTES, Config};
use crate::core::health::{Health, Items, Report};
use crate::core::lifecycle::FlushReason;
use crate::core::otlp::{self, Limits};
use crate::core::resource::ResourceRules;
use crate::core::retry::{Failure, Verdict};
use crate::core::signal::{PerSignal, Signal};
use crate::edge::clock;
use crate::edge::exporter::Exporter;

/// How many messages may wait. The pipeline never waits for the network itself, so that a full queue means that it is
/// broken; the bytes behind the messages are bounded by the buffer as soon as it takes them.
const QUEUE_LIMIT: usize = 1024;
/// Of these, so many are kept for messages of the driver, none of which may be lost to telemetry.
const CONTROL_RESERVE: usize = 16;
/// After so long without an answer a connection is taken for dead: load balancers forget idle ones, and a freeze hides it.
const IDLE_LIMIT: Duration = Duration::from_secs(20);
/// How long flushes wait for the exporter to be set up; it is longer only where secrets are slow to come.
const SETUP_PATIENCE: Duration = Duration::from_millis(500);
/// At SHUTDOWN what fails is tried again after so long, and then after twice that, and so on.
const SHUTDOWN_BACKOFF: Duration = Duration::from_millis(100);

/// What attempts are made with.
pub trait Export: Clone + Send + 'static {
    /// Sends the chunks as one request.
    fn attempt(&self, signal: Signal, chunks: Vec<Bytes>) -> impl Future<Output = Verdict> + Send;
    /// Opens the connection.
    fn warm(&self) -> impl Future<Output = Verdict> + Send;
    /// The same without its connections.
    #[must_use]
    fn afresh(&self) -> Self;
    /// Whether the signal has a way to the backend. Without one it is received and dropped.
    fn takes(&self, signal: Signal) -> bool;
}

impl Export for Exporter {
    async fn attempt(&self, signal: Signal, chunks: Vec<Bytes>) -> Verdict {
        Self::attempt(self, signal, chunks).await
    }

    async fn warm(&self) -> Verdict {
        Self::warm(self).await
    }

    fn afresh(&self) -> Self {
        Self::afresh(self)
    }

    fn takes(&self, signal: Signal) -> bool {
        Self::takes(self, signal)
    }
}

/// What makes the exporter once the first `/next` is out; `None` receives and drops.
pub type Setup<E> = Pin<Box<dyn Future<Output = Option<E>> + Send>>;

/// What the pipeline is told.
#[derive(Debug)]
enum Message {
    Ingest(Chunk),
    Control(Control),
}

/// What the driver tells the pipeline.
#[derive(Debug)]
pub enum Control {
    /// The first `/next` is out: set the exporter up.
    Prepare,
    /// A function runs: what its SDK sends may leave.
    Open,
    /// No function runs: nothing may be in flight.
    Close,
    /// Nobody tells when functions run: everything goes as it comes.
    StayOpen,
    /// Send everything enqueued so far, and say when that is done or has failed.
    Flush {
        /// Why.
        reason: FlushReason,
        /// Told, or dropped with the pipeline.
        done: oneshot::Sender<()>,
    },
    /// Call the flush off: end what is in flight and keep it.
    Cancel,
    /// The process ends: say what is lost by that.
    End(oneshot::Sender<()>),
    /// The platform told the name of the environment.
    Instance(String),
}

/// The way into the pipeline.
#[derive(Clone, Debug)]
pub struct Handle(mpsc::Sender<Message>);

/// Why telemetry is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The queue is full.
    Full,
    /// The pipeline is gone.
    Gone,
}

impl Handle {
    /// Enqueues telemetry, if there is room.
    pub fn offer(&self, chunk: Chunk) -> Result<(), Refused> {
        if self.0.capacity() <= CONTROL_RESERVE && !self.0.is_closed() {
            return Err(Refused::Full);
        }
        self.0.try_send(Message::Ingest(chunk)).map_err(|_| Refused::Gone)
    }

    /// Enqueues telemetry as soon as there is room.
    pub async fn ingest(&self, chunk: Chunk) -> Result<(), Refused> {
        let mut room = self.0.reserve_many(CONTROL_RESERVE + 1).await.map_err(|_| Refused::Gone)?;
        room.next().ok_or(Refused::Full)?.send(Message::Ingest(chunk));
        Ok(())
    }

    /// Enqueues a message of the driver. With a pipeline that is gone the message goes, and with it the sender within, which
    /// counts as answered.
    pub fn control(&self, message: Control) {
        let _ = self.0.try_send(Message::Control(message));
    }
}

/// The pipeline's own state. [`Pipeline::run`] is its task.
pub struct Pipeline<E> {
    messages: mpsc::Receiver<Message>,
    sink: Sink<E>,
    rules: ResourceRules,
    limits: PerSignal<Limits>,
    buffer: Buffer,
    tasks: JoinSet<Ended<E>>,
    in_flight: PerSignal<Option<InFlight>>,
    /// The test of the connection that is under way.
    warming: Option<AbortHandle>,
    /// A signal whose last attempt failed waits for the next invocation or flush.
    paused: PerSignal<bool>,
    /// While a function runs: where its invocation begins.
    open: Option<Barrier>,
    flush: Option<Flush>,
    /// The connections may be dead without our knowing.
    suspect: bool,
    health: Health,
    last_answer: Duration,
}

enum Sink<E> {
    /// Not set up yet.
    Configured(Setup<E>),
    /// Being set up; flushes wait for it so long.
    Preparing {
        patience_until: Option<Instant>,
    },
    Ready(E),
    /// Receives and drops.
    Blackhole,
}

/// How a task of the pipeline ended.
#[derive(Debug)]
enum Ended<E> {
    Setup(Option<E>),
    Attempt(Verdict),
}

#[derive(Debug)]
struct InFlight {
    task: AbortHandle,
    batch: Batch,
    /// Started by the flush that is going on, so that its failure is the flush's.
    of_flush: bool,
}

#[derive(Debug)]
struct Flush {
    reason: FlushReason,
    barrier: Barrier,
    failed: PerSignal<bool>,
    done: oneshot::Sender<()>,
    /// SHUTDOWN only: how long to wait before what failed is tried again, and until when.
    backoff: Duration,
    again_at: Option<Instant>,
}

impl<E: Export> Pipeline<E> {
    /// A pipeline and the way into it. Without `setup` it receives and drops.
    pub fn new(config: &Config, rules: ResourceRules, setup: Option<Setup<E>>) -> (Self, Handle) {
        let (sender, messages) = mpsc::channel(QUEUE_LIMIT);
        let limits = PerSignal::from_fn(|signal| Limits {
            items: *config.batch_max_items.of(signal),
            bytes: BATCH_MAX_BYTES,
        });
        let pipeline = Self {
            messages,
            sink: setup.map_or(Sink::Blackhole, Sink::Configured),
            rules,
            limits,
            buffer: Buffer::new(config.buffer_max_bytes),
            tasks: JoinSet::new(),
            in_flight: PerSignal::default(),
            warming: None,
            paused: PerSignal::default(),
            open: None,
            flush: None,
            suspect: false,
            health: Health::default(),
            last_answer: Duration::ZERO,
        };
        (pipeline, Handle(sender))
    }

    /// Runs until every handle is gone.
    pub async fn run(mut self) {
        loop {
            let wake_at = self.wake_at();
            tokio::select! {
                biased;
                // Answers first: they free bytes, and a flush may be waiting for them.
                Some(ended) = self.tasks.join_next_with_id() => self.settle(ended),
                message = self.messages.recv() => match message {
                    Some(Message::Ingest(chunk)) => self.ingest(chunk),
                    Some(Message::Control(control)) => self.obey(control),
                    None => return,
                },
                () = clock::until(wake_at) => self.wake(),
            }
            self.dispatch();
            self.finish_flush();
        }
    }

    fn obey(&mut self, control: Control) {
        match control {
            Control::Prepare => self.prepare(),
            Control::Open => self.open(),
            Control::Close => {
                self.call_off();
                self.open = None;
            }
            Control::StayOpen => self.open = Some(Barrier::NONE),
            Control::Flush { reason, done } => {
                self.flush = Some(Flush {
                    reason,
                    barrier: self.buffer.barrier(),
                    failed: PerSignal::default(),
                    done,
                    backoff: SHUTDOWN_BACKOFF,
                    again_at: None,
                });
            }
            Control::Cancel => {
                // The deadline is the verdict: without it, an endpoint that hangs would never be told of.
                let late = Verdict::Retry(Failure::FlushTimeout);
                for signal in Signal::ALL {
                    if let Some(items) =
                        self.in_flight.of(signal).as_ref().map(|in_flight| in_flight.batch.items)
                    {
                        tell(self.health.on_verdict(signal, items, &late, clock::since_epoch()));
                    }
                }
                self.call_off();
            }
            Control::End(done) => {
                self.call_off();
                let waiting = self.buffer.waiting();
                if waiting != PerSignal::default() {
                    tracing::warn!(
                        "export: the environment ends before everything was sent; lost: {}",
                        Items(&waiting)
                    );
                }
                let _ = done.send(());
            }
            Control::Instance(instance_id) => self.rules.learn_instance(&instance_id),
        }
    }

    fn open(&mut self) {
        if self.open != Some(Barrier::NONE) {
            self.open = Some(self.buffer.barrier());
        }
        self.paused = PerSignal::default();
        if clock::since_epoch().saturating_sub(self.last_answer) > IDLE_LIMIT {
            self.suspect = true;
            if let Some(task) = self.warming.take() {
                task.abort();
            }
            self.warm();
        }
    }

    fn ingest(&mut self, chunk: Chunk) {
        let Chunk { signal, bytes, origin, .. } = chunk;
        let dropped = match &self.sink {
            Sink::Configured(_) | Sink::Preparing { .. } => false,
            Sink::Ready(exporter) => !exporter.takes(signal),
            Sink::Blackhole => true,
        };
        if dropped {
            return;
        }
        let bytes = match origin {
            Origin::Sdk => otlp::edit_resources(signal, &bytes, |resource| self.rules.apply(resource)),
            Origin::Platform => bytes,
        };
        for part in otlp::split(signal, &bytes, *self.limits.of(signal)) {
            self.buffer.push(Chunk { signal, bytes: part.bytes, items: part.items, origin });
        }
        let dropped = self.buffer.take_dropped();
        tell(self.health.on_dropped(dropped, clock::since_epoch()));
    }

    fn prepare(&mut self) {
        let patience_until = Some(clock::now() + SETUP_PATIENCE);
        match std::mem::replace(&mut self.sink, Sink::Preparing { patience_until }) {
            Sink::Configured(setup) => {
                self.tasks.spawn(async { Ended::Setup(setup.await) });
            }
            other => self.sink = other,
        }
    }

    /// Opens the connection beside the function, so that the flush after it need not.
    fn warm(&mut self) {
        if self.warming.is_some() || Signal::ALL.iter().any(|signal| self.in_flight.of(*signal).is_some()) {
            return;
        }
        let Some(exporter) = self.exporter() else { return };
        self.warming = Some(self.tasks.spawn(async move { Ended::Attempt(exporter.warm().await) }));
    }

    /// The exporter, with new connections where the old ones may be dead.
    fn exporter(&mut self) -> Option<E> {
        let Sink::Ready(exporter) = &mut self.sink else { return None };
        if std::mem::take(&mut self.suspect) {
            *exporter = exporter.afresh();
        }
        Some(exporter.clone())
    }

    /// Starts what may be started.
    fn dispatch(&mut self) {
        if !matches!(self.sink, Sink::Ready(_)) {
            return;
        }
        for signal in Signal::ALL {
            if self.in_flight.of(signal).is_some() {
                continue;
            }
            let limits = *self.limits.of(signal);
            let batch = match (&self.flush, self.open) {
                (Some(flush), _) => {
                    let due = !flush.failed.of(signal) && self.buffer.waits_before(signal, flush.barrier);
                    if due { self.buffer.take(signal, limits) } else { None }
                }
                (None, Some(barrier)) if !self.paused.of(signal) => {
                    self.buffer.take_early(signal, limits, barrier)
                }
                (None, _) => None,
            };
            let Some(batch) = batch else { continue };
            let Some(exporter) = self.exporter() else { return };
            let chunks = batch.chunks().map(|chunk| chunk.bytes.clone()).collect();
            let attempt = async move { Ended::Attempt(exporter.attempt(signal, chunks).await) };
            let task = self.tasks.spawn(attempt);
            let of_flush = self.flush.is_some();
            *self.in_flight.of_mut(signal) = Some(InFlight { task, batch, of_flush });
        }
    }

    /// Takes the end of a task. That of an attempt called off belongs to nothing any more.
    fn settle(&mut self, ended: Result<(Id, Ended<E>), JoinError>) {
        let (id, verdict) = match ended {
            Ok((_, Ended::Setup(exporter))) => return self.set_up(exporter),
            Ok((id, Ended::Attempt(verdict))) => (id, verdict),
            // A set-up that panicked leaves nothing to send with.
            Err(error) if error.is_panic() && matches!(self.sink, Sink::Preparing { .. }) => {
                return self.set_up(None);
            }
            // A batch on which the exporter panics would make it panic again.
            Err(error) => (error.id(), Verdict::Refused(Failure::Panicked)),
        };
        if self.warming.take_if(|task| task.id() == id).is_some() {
            // What is wrong with the way shows when something is to go it; here nothing was lost.
            self.answered(&verdict);
            return;
        }
        let is_it = |in_flight: &mut InFlight| in_flight.task.id() == id;
        let found = Signal::ALL
            .into_iter()
            .find_map(|signal| Some((signal, self.in_flight.of_mut(signal).take_if(is_it)?)));
        let Some((signal, InFlight { batch, of_flush, .. })) = found else { return };
        self.answered(&verdict);
        tell(self.health.on_verdict(signal, batch.items, &verdict, clock::since_epoch()));
        match verdict {
            Verdict::Accepted { .. } | Verdict::Refused(_) => self.buffer.release(&batch),
            Verdict::Retry(_) => {
                self.buffer.give_back(batch);
                *self.paused.of_mut(signal) = true;
                if let Some(flush) = self.flush.as_mut().filter(|_| of_flush) {
                    flush.fail(signal);
                }
            }
        }
    }

    fn set_up(&mut self, exporter: Option<E>) {
        if let Some(exporter) = exporter {
            self.sink = Sink::Ready(exporter);
            // Its first connection is as good as answered, or the first invocation would make a second.
            self.last_answer = clock::since_epoch();
        } else {
            self.sink = Sink::Blackhole;
            self.buffer.clear();
        }
        self.warm();
    }

    fn answered(&mut self, verdict: &Verdict) {
        match verdict {
            // Silence says nothing of new connections.
            Verdict::Retry(Failure::Timeout) => self.suspect = true,
            Verdict::Retry(_) => {}
            Verdict::Accepted { .. } | Verdict::Refused(_) => self.last_answer = clock::since_epoch(),
        }
    }

    /// When a flush has to be looked at, whatever happens.
    fn wake_at(&self) -> Option<Instant> {
        let flush = self.flush.as_ref()?;
        match self.sink {
            Sink::Preparing { patience_until } => patience_until,
            _ => flush.again_at,
        }
    }

    fn wake(&mut self) {
        if let Sink::Preparing { patience_until } = &mut self.sink {
            *patience_until = None;
        }
        if let Some(flush) = &mut self.flush {
            flush.again_at = None;
            flush.failed = PerSignal::default();
        }
    }

    /// Ends a flush that has nothing left to wait for.
    fn finish_flush(&mut self) {
        let in_flight = Signal::ALL.iter().any(|signal| self.in_flight.of(*signal).is_some());
        if in_flight || self.wake_at().is_some() {
            return;
        }
        let Some(flush) = self.flush.take() else { return };
        if flush.reason != FlushReason::NearDeadline && self.open != Some(Barrier::NONE) {
            // What comes now would only be cut off by the freeze.
            self.open = None;
        }
        // The driver may have stopped waiting.
        let _ = flush.done.send(());
    }

    /// Ends what is in flight and keeps it.
    fn call_off(&mut self) {
        // What has got through in this very moment must not be sent again.
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.settle(ended);
        }
        if let Some(task) = self.warming.take() {
            task.abort();
        }
        for signal in Signal::ALL {
            if let Some(InFlight { task, batch, .. }) = self.in_flight.of_mut(signal).take() {
                task.abort();
                self.buffer.give_back(batch);
                self.suspect = true;
            }
        }
        self.flush = None;
    }
}

impl Flush {
    /// Takes a failure of an attempt of this flush. At SHUTDOWN there is no later flush to leave it to.
    fn fail(&mut self, signal: Signal) {
        *self.failed.of_mut(signal) = true;
        if self.reason == FlushReason::Shutdown && self.again_at.is_none() {
            self.again_at = Some(clock::now() + self.backoff);
            self.backoff *= 2;
        }
    }
}

fn tell(report: Option<Report>) {
    match report {
        None => {}
        Some(report @ Report::Recovered { .. }) => tracing::info!("{report}"),
        Some(report) => tracing::warn!("{report}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::config;
    use crate::core::resource::Registration;

    const ACCEPTED: Verdict = Verdict::Accepted { rejected: 0 };

    /// An attempt that waits for the test's verdict; dropped when it is called off.
    struct Attempt {
        signal: Signal,
        items: Vec<usize>,
        verdict: oneshot::Sender<Verdict>,
        /// How often the exporter had been made afresh by then.
        generation: usize,
    }

    #[derive(Clone)]
    struct Fake {
        attempts: mpsc::Sender<Attempt>,
        generation: usize,
    }

    impl Export for Fake {
        async fn attempt(&self, signal: Signal, chunks: Vec<Bytes>) -> Verdict {
            let (verdict, answer) = oneshot::channel();
            let items =
                chunks.iter().map(|chunk| otlp::validate(signal, chunk).expect("a request")).collect();
            let attempt = Attempt { signal, items, verdict, generation: self.generation };
            self.attempts.send(attempt).await.expect("the test listens");
            answer.await.expect("a verdict; a test that drops it wants a panic")
        }

        fn takes(&self, _: Signal) -> bool {
            true
        }

        async fn warm(&self) -> Verdict {
            ACCEPTED
        }

        fn afresh(&self) -> Self {
            Self { generation: self.generation + 1, ..self.clone() }
        }
    }

    struct Test {
        handle: Handle,
        attempts: mpsc::Receiver<Attempt>,
    }

    impl Test {
        /// A pipeline that is set up and runs.
        async fn start() -> Self {
            let (sender, attempts) = mpsc::channel(16);
            let config = config::read(&config::Variables::new()).config;
            let rules = ResourceRules::new(&config, &Registration::default());
            let setup: Setup<Fake> = Box::pin(async { Some(Fake { attempts: sender, generation: 0 }) });
            let (pipeline, handle) = Pipeline::new(&config, rules, Some(setup));
            tokio::spawn(pipeline.run());
            handle.control(Control::Prepare);
            let mut test = Self { handle, attempts };
            test.nothing_starts().await;
            test
        }

        fn offer(&self, signal: Signal, origin: Origin, items: usize) {
            self.handle.offer(request(signal, origin, items)).expect("room");
        }

        fn flush(&self, reason: FlushReason) -> oneshot::Receiver<()> {
            let (done, flushed) = oneshot::channel();
            self.handle.control(Control::Flush { reason, done });
            flushed
        }

        async fn attempt(&mut self) -> Attempt {
            let attempt = tokio::time::timeout(Duration::from_mins(1), self.attempts.recv()).await;
            attempt.expect("no attempt in a minute of paused time").expect("the pipeline lives")
        }

        /// Lets the pipeline do all it can, and sees that no attempt comes of it.
        async fn nothing_starts(&mut self) {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            assert!(self.attempts.try_recv().is_err(), "an attempt was started");
        }
    }

    fn request(signal: Signal, origin: Origin, items: usize) -> Chunk {
        use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
        use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
        use prost::Message as _;
        // Of empty items the requests for logs and for traces are the same bytes.
        let scope = ScopeLogs { log_records: vec![LogRecord::default(); items], ..ScopeLogs::default() };
        let resource_logs = vec![ResourceLogs { scope_logs: vec![scope], ..ResourceLogs::default() }];
        let bytes = Bytes::from(ExportLogsServiceRequest { resource_logs }.encode_to_vec());
        Chunk { signal, bytes, items, origin }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flush_covers_what_came_before_it_and_waits_for_the_answers() {
        let mut test = Test::start().await;
        test.offer(Signal::Logs, Origin::Platform, 3);
        test.offer(Signal::Traces, Origin::Sdk, 2);
        let mut flushed = test.flush(FlushReason::EndOfInvocation);
        test.offer(Signal::Logs, Origin::Sdk, 7);
        let (logs, traces) = (test.attempt().await, test.attempt().await);
        assert_eq!((logs.signal, logs.items), (Signal::Logs, vec![3]));
        assert_eq!((traces.signal, traces.items), (Signal::Traces, vec![2]));
        logs.verdict.send(ACCEPTED).expect("the attempt waits");
        test.nothing_starts().await;
        assert!(flushed.try_recv().is_err(), "traces are not answered yet");
        traces.verdict.send(ACCEPTED).expect("the attempt waits");
        flushed.await.expect("flushed");
        // What came behind the barrier stays, for a freeze may follow.
        test.nothing_starts().await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_sdks_data_leaves_while_a_function_runs_one_request_at_a_time() {
        let mut test = Test::start().await;
        test.offer(Signal::Traces, Origin::Sdk, 1);
        test.nothing_starts().await;
        test.handle.control(Control::Open);
        let first = test.attempt().await;
        assert_eq!(first.generation, 0, "the connection made at the start was thrown away");
        test.offer(Signal::Traces, Origin::Sdk, 2);
        test.offer(Signal::Traces, Origin::Sdk, 3);
        test.offer(Signal::Logs, Origin::Platform, 4);
        test.nothing_starts().await;
        first.verdict.send(ACCEPTED).expect("the attempt waits");
        assert_eq!(test.attempt().await.items, [2, 3]);
        test.nothing_starts().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_flush_called_off_keeps_all_and_the_next_function_takes_it_along_on_new_connections() {
        let mut test = Test::start().await;
        test.offer(Signal::Logs, Origin::Platform, 3);
        let flushed = test.flush(FlushReason::EndOfInvocation);
        let hanging = test.attempt().await;
        test.handle.control(Control::Cancel);
        test.handle.control(Control::Close);
        flushed.await.expect_err("nobody waits for it any more");
        test.nothing_starts().await;
        assert!(hanging.verdict.is_closed(), "the attempt goes on over the freeze");
        test.handle.control(Control::Open);
        let again = test.attempt().await;
        assert_eq!((again.items, again.generation), (vec![3], hanging.generation + 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_got_through_in_the_moment_of_calling_off_is_not_sent_again() {
        let mut test = Test::start().await;
        test.offer(Signal::Logs, Origin::Sdk, 3);
        test.flush(FlushReason::EndOfInvocation);
        let attempt = test.attempt().await;
        // The verdict and the message are there before the pipeline has its turn again.
        attempt.verdict.send(ACCEPTED).expect("the attempt waits");
        tokio::task::yield_now().await;
        test.handle.control(Control::Cancel);
        test.handle.control(Control::Open);
        test.nothing_starts().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_attempt_ends_the_flush_and_its_batch_goes_first_in_the_next() {
        let mut test = Test::start().await;
        test.offer(Signal::Logs, Origin::Platform, 1);
        let flushed = test.flush(FlushReason::EndOfInvocation);
        test.attempt().await.verdict.send(Verdict::Retry(Failure::Http(503))).expect("the attempt waits");
        flushed.await.expect("flushed");
        test.offer(Signal::Logs, Origin::Platform, 2);
        let flushed = test.flush(FlushReason::EndOfInvocation);
        let attempt = test.attempt().await;
        assert_eq!(attempt.items, [1, 2]);
        attempt.verdict.send(ACCEPTED).expect("the attempt waits");
        flushed.await.expect("flushed");
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_from_before_the_flush_that_fails_leaves_the_flush_one_of_its_own() {
        let mut test = Test::start().await;
        test.handle.control(Control::Open);
        test.offer(Signal::Traces, Origin::Sdk, 1);
        let before = test.attempt().await;
        let flushed = test.flush(FlushReason::EndOfInvocation);
        before.verdict.send(Verdict::Retry(Failure::Http(503))).expect("the attempt waits");
        test.attempt().await.verdict.send(ACCEPTED).expect("the attempt waits");
        flushed.await.expect("flushed");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_or_makes_the_exporter_panic_is_not_sent_again() {
        let mut test = Test::start().await;
        for refuse in [true, false] {
            test.offer(Signal::Traces, Origin::Sdk, 1);
            let flushed = test.flush(FlushReason::EndOfInvocation);
            let attempt = test.attempt().await;
            if refuse {
                attempt.verdict.send(Verdict::Refused(Failure::Http(400))).expect("the attempt waits");
            } else {
                drop(attempt);
            }
            flushed.await.expect("flushed");
            test.handle.control(Control::Open);
            test.nothing_starts().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn at_shutdown_what_fails_is_tried_again_until_the_flush_is_called_off() {
        let mut test = Test::start().await;
        test.offer(Signal::Logs, Origin::Platform, 1);
        let flushed = test.flush(FlushReason::Shutdown);
        for _ in 0..3 {
            test.attempt().await.verdict.send(Verdict::Retry(Failure::Http(503))).expect("the attempt waits");
        }
        test.attempt().await.verdict.send(ACCEPTED).expect("the attempt waits");
        flushed.await.expect("flushed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flush_waits_for_the_exporter_but_not_for_ever() {
        let config = config::read(&config::Variables::new()).config;
        let rules = ResourceRules::new(&config, &Registration::default());
        let setup: Setup<Fake> = Box::pin(std::future::pending());
        let (pipeline, handle) = Pipeline::new(&config, rules, Some(setup));
        tokio::spawn(pipeline.run());
        handle.control(Control::Prepare);
        handle.offer(request(Signal::Logs, Origin::Platform, 1)).expect("room");
        for patience in [SETUP_PATIENCE, Duration::ZERO] {
            let (done, flushed) = oneshot::channel();
            handle.control(Control::Flush { reason: FlushReason::EndOfInvocation, done });
            // Paused time moves on by itself to the next timer.
            let flushed = tokio::time::timeout(patience + Duration::from_millis(100), flushed).await;
            flushed.expect("in time").expect("flushed");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn telemetry_never_takes_the_room_of_the_drivers_messages() {
        let config = config::read(&config::Variables::new()).config;
        let rules = ResourceRules::new(&config, &Registration::default());
        // It does not run, so that nothing is taken from the queue.
        let (_pipeline, handle) = Pipeline::<Fake>::new(&config, rules, None);
        let offered = (0..=QUEUE_LIMIT)
            .take_while(|_| handle.offer(request(Signal::Logs, Origin::Sdk, 1)).is_ok())
            .count();
        assert_eq!(offered, QUEUE_LIMIT - CONTROL_RESERVE);
        let (done, mut flushed) = oneshot::channel();
        handle.control(Control::Flush { reason: FlushReason::EndOfInvocation, done });
        assert_eq!(flushed.try_recv(), Err(oneshot::error::TryRecvError::Empty), "the message was dropped");
    }
}
