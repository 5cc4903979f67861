//! The owner of the buffer and the exporter.
//!
//! One queue is the flush barrier: chunks and flushes come through the same channel, so that a flush covers everything
//! that was enqueued before it. One request a signal is in flight, the signals side by side. While a function runs,
//! what was released goes out at once, and so does what an earlier flush had to leave; between invocations nothing is
//! in flight, because a freeze would leave it hanging. An endpoint that has failed a flush is only probed, beside the
//! function, until it answers. Log records name the span of their invocation when they leave: it passes by here, and
//! until the end of the invocation they wait. When a flush is called off is left to `app::driver`, which has the
//! deadlines; when what waits is released, to [`crate::core::cadence`].

mod account;
mod export;
mod flush;
mod handle;
mod line;
#[cfg(test)]
mod tests;
mod verdict;

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

pub use self::export::{Export, SettingUp, Setup};
use self::flush::Flush;
use self::handle::Message;
pub use self::handle::{Control, Handle, Invocation, Refused};
use self::line::{InFlight, Line};
use crate::core::buffer::{Barrier, Buffer, Released};
use crate::core::cadence::Beside;
use crate::core::chunk::{Chunk, Origin};
use crate::core::config::{BATCH_MAX_BYTES, Config};
use crate::core::correlation::Correlation;
use crate::core::health::{Health, Items};
use crate::core::lifecycle::FlushReason;
use crate::core::otlp::{self, Limits};
use crate::core::patience::Patience;
use crate::core::platform;
use crate::core::resource::ResourceRules;
use crate::core::retry::Verdict;
use crate::core::signal::{PerSignal, Signal};
use crate::core::tally::Tally;
use crate::edge::clock;
use crate::edge::exporter::Way;

/// After so long without an answer a connection is taken for dead: load balancers forget idle ones, and a freeze hides
/// it.
const IDLE_LIMIT: Duration = Duration::from_secs(20);
/// How long flushes wait for the exporter to be set up; it is longer only where secrets are slow to come.
const SETUP_PATIENCE: Duration = Duration::from_millis(500);
/// So often the extension tells of itself, where that was asked for.
const OWN_METRICS_EVERY: Duration = Duration::from_mins(1);

/// The pipeline's own state. [`Pipeline::run`] is its task.
pub struct Pipeline<E> {
    messages: mpsc::Receiver<Message>,
    setup: Option<Setup<E>>,
    sink: Sink<E>,
    rules: ResourceRules,
    lines: PerSignal<Line>,
    buffer: Buffer,
    correlation: Correlation,
    tasks: JoinSet<Ended<E>>,
    /// The test of the connection that is under way.
    warming: Option<AbortHandle>,
    /// While a function runs.
    open: Option<Open>,
    flush: Option<Flush>,
    patience: Patience,
    /// The connections may be dead without our knowing.
    suspect: bool,
    last_answer: Duration,
    health: Health,
    /// What became of telemetry since it was last told.
    tally: Tally,
    tally_since: Duration,
    tells_of_itself: bool,
}

enum Sink<E> {
    /// Not set up yet.
    Configured,
    /// Being set up; flushes wait for it so long.
    Preparing {
        patience_until: Option<Instant>,
        /// What goes on serving where nothing better comes of it.
        former: Option<E>,
    },
    Ready(E),
    /// Receives and drops.
    Blackhole,
}

/// When what waits leaves beside the function.
#[derive(Clone, Copy, Debug)]
struct Open {
    released: Released,
    /// When all is released next, and how long after that again.
    due: Option<(Instant, Duration)>,
    /// Nobody tells of the function's end.
    stays: bool,
}

/// How a task of the pipeline ended.
#[derive(Debug)]
enum Ended<E> {
    Setup(Option<E>),
    Attempt(Verdict),
}

impl<E: Export> Pipeline<E> {
    /// A pipeline and the way into it. Without `setup` it receives and drops.
    pub fn new(config: &Config, rules: ResourceRules, setup: Option<Setup<E>>) -> (Self, Handle) {
        let (handle, messages) = Handle::new();
        let line =
            |signal| Line::new(Limits { items: *config.batch_max_items.of(signal), bytes: BATCH_MAX_BYTES });
        let pipeline = Self {
            messages,
            sink: if setup.is_some() { Sink::Configured } else { Sink::Blackhole },
            setup,
            rules,
            lines: PerSignal::from_fn(line),
            buffer: Buffer::new(config.buffer_max_bytes),
            correlation: Correlation::new(config.stand_ins),
            tasks: JoinSet::new(),
            warming: None,
            open: None,
            flush: None,
            patience: Patience::default(),
            suspect: false,
            last_answer: Duration::ZERO,
            health: Health::default(),
            tally: Tally::default(),
            tally_since: clock::since_epoch(),
            tells_of_itself: config.internal_telemetry,
        };
        (pipeline, handle)
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
                    Some(Message::Ingest(chunk, place)) => {
                        drop(place);
                        self.ingest(chunk);
                    }
                    Some(Message::Told(control, place)) => {
                        drop(place);
                        self.obey(control);
                    }
                    Some(Message::Control(control)) => self.obey(control),
                    None => return,
                },
                () = clock::until(wake_at) => self.wake(),
            }
            self.name_the_forgotten();
            self.dispatch();
            self.finish_flush();
        }
    }

    fn obey(&mut self, control: Control) {
        match control {
            Control::Prepare => self.prepare(),
            Control::Invocation(Invocation { request_id, xray, invoked }) => match invoked {
                Some(invoked) => self.correlation.invoked(&request_id, xray, invoked),
                None => self.correlation.started(&request_id, xray),
            },
            Control::CutOff(request_id) => self.correlation.cut_off(&request_id),
            Control::Over { at } => self.correlation.ended(at),
            Control::Open(beside) => self.open(beside),
            Control::Close => {
                self.call_off();
                self.open = None;
            }
            Control::StayOpen(beside) if !self.stays_open() => {
                self.release_beside(beside, Released::ALL, true);
            }
            Control::StayOpen(_) => {}
            Control::Flush { reason, deadline, done } => {
                if reason == FlushReason::Shutdown {
                    self.tell_of_itself();
                }
                self.limit_probes(reason);
                self.flush = Some(Flush::new(reason, deadline, self.buffer.barrier(), done));
            }
            Control::Cancel => {
                self.judge_the_unanswered();
                self.call_off();
            }
            Control::Restored => self.restored(),
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
            Control::Pulse(pulse) => drop(pulse),
        }
    }

    fn open(&mut self, beside: Beside) {
        if clock::since_epoch().saturating_sub(self.tally_since) >= OWN_METRICS_EVERY {
            self.tell_of_itself();
        }
        self.buffer.invocation_begins();
        let probes =
            Signal::ALL.into_iter().filter_map(|signal| self.lines.of(signal).breaker.probe_budget());
        self.patience.invocation_begins(probes.max());
        self.take_back_the_frozen();
        if !self.stays_open() {
            // Logs of an invocation wait for its end, where nothing else releases them.
            let released = Released { sdk: Barrier::NONE, platform: self.buffer.barrier() };
            self.release_beside(beside, released, false);
        }
        if clock::since_epoch().saturating_sub(self.last_answer) > IDLE_LIMIT {
            self.suspect = true;
            if let Some(task) = self.warming.take() {
                task.abort();
            }
            // Where the breaker is open, a probe does it.
            if Signal::ALL.iter().all(|signal| !self.lines.of(*signal).breaker.is_open()) {
                self.warm();
            }
        }
    }

    fn stays_open(&self) -> bool {
        self.open.is_some_and(|open| open.stays)
    }

    fn release_beside(&mut self, beside: Beside, at_once: Released, stays: bool) {
        let (released, due) = match beside {
            Beside::AtOnce => (at_once, None),
            Beside::Every { first, interval } => (
                Released { sdk: Barrier::START, platform: Barrier::START },
                Some((clock::now() + first, interval)),
            ),
        };
        self.open = Some(Open { released, due, stays });
        self.release_what_is_due();
    }

    fn release_what_is_due(&mut self) {
        let barrier = self.buffer.barrier();
        if let Some(Open { released, due: Some((at, interval)), .. }) = &mut self.open
            && *at <= clock::now()
        {
            *released = Released { sdk: barrier, platform: barrier };
            *at = clock::now() + *interval;
        }
    }

    fn ingest(&mut self, chunk: Chunk) {
        let Chunk { signal, mut bytes, origin, invocation, .. } = chunk;
        match (signal, origin, &invocation) {
            (Signal::Traces, Origin::Sdk, _) => self.correlation.learn(&bytes),
            (Signal::Logs, Origin::Sdk, _) => self.correlation.learn_of_logs(&bytes),
            (Signal::Traces, Origin::Platform, Some(stands_for))
                if !self.correlation.may_stand(stands_for, &bytes) =>
            {
                let Some(rest) = platform::adopted(&bytes, self.correlation.of(stands_for)) else { return };
                bytes = rest;
            }
            _ => {}
        }
        let dropped = match &self.sink {
            Sink::Configured | Sink::Preparing { .. } => false,
            Sink::Ready(exporter) => exporter.way(signal).is_none(),
            Sink::Blackhole => true,
        };
        if dropped {
            return;
        }
        let bytes = match origin {
            Origin::Sdk => otlp::edit_resources(signal, &bytes, |resource| self.rules.apply(resource)),
            Origin::Platform => bytes,
        };
        for part in otlp::split(signal, &bytes, self.lines.of(signal).limits()) {
            *self.tally.received.of_mut(signal) += part.items;
            self.buffer.push(Chunk {
                signal,
                bytes: part.bytes,
                items: part.items,
                origin,
                invocation: invocation.clone(),
            });
        }
        self.count_dropped();
    }

    /// In an outage log records wait for longer than invocations are remembered.
    fn name_the_forgotten(&mut self) {
        for (invocation, span) in self.correlation.take_forgotten() {
            self.buffer.stamp_waiting(&invocation, &span);
        }
    }

    fn prepare(&mut self) {
        let Some(setup) = &mut self.setup else { return };
        let making = setup();
        self.tasks.spawn(async { Ended::Setup(making.await) });
        let patience_until = Some(clock::now() + SETUP_PATIENCE);
        let former = match std::mem::replace(&mut self.sink, Sink::Configured) {
            Sink::Ready(exporter) => Some(exporter),
            _ => None,
        };
        self.sink = Sink::Preparing { patience_until, former };
    }

    /// Begins anew with everything that may have changed since the snapshot was taken, possibly weeks ago.
    fn restored(&mut self) {
        // All environments of the snapshot would draw the same numbers.
        fastrand::seed(clock::epoch_nanos());
        for signal in Signal::ALL {
            self.lines.of_mut(signal).breaker.answered();
        }
        self.suspect = true;
        if matches!(self.sink, Sink::Ready(_)) {
            self.prepare();
        }
    }

    /// Opens the connection beside the function, so that the flush after it need not.
    fn warm(&mut self) {
        let in_flight = Signal::ALL.iter().any(|signal| self.lines.of(*signal).in_flight.is_some());
        if self.warming.is_some() || in_flight {
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
        let (now, wall) = (clock::now(), clock::since_epoch());
        for signal in Signal::ALL {
            let line = self.lines.of(signal);
            if line.in_flight.is_some() {
                continue;
            }
            let limits = line.limits();
            let batch = match (&mut self.flush, self.open) {
                (Some(flush), _) => {
                    let waits = self.buffer.waits_before(signal, flush.barrier);
                    let due = waits && flush.is_due(signal, &line.breaker, now, wall);
                    if due { self.buffer.take(signal, limits) } else { None }
                }
                (None, Some(open)) if line.breaker.is_ready(wall) => {
                    self.buffer.take_early(signal, limits, open.released)
                }
                (None, _) => None,
            };
            let Some(mut batch) = batch else { continue };
            // As late as can be: what stands for an invocation may come just before its end.
            self.buffer.stamp(&mut batch, |invocation| self.correlation.of(invocation));
            let Some(exporter) = self.exporter() else { return };
            let Some(Way { retry, .. }) = exporter.way(signal) else { continue };
            let chunks = batch.chunks().map(|chunk| chunk.bytes.clone()).collect();
            let attempt = async move { Ended::Attempt(exporter.attempt(signal, chunks).await) };
            let task = self.tasks.spawn(attempt);
            let of_flush = self.flush.is_some();
            self.lines.of_mut(signal).in_flight = Some(InFlight {
                task,
                batch,
                started_at: now,
                started_wall: wall,
                of_flush,
                retry,
                call_off_at: None,
            });
        }
    }

    fn set_up(&mut self, exporter: Option<E>) {
        let former = match std::mem::replace(&mut self.sink, Sink::Blackhole) {
            Sink::Preparing { former, .. } => former,
            _ => None,
        };
        if let Some(exporter) = exporter.or(former) {
            for signal in Signal::ALL.into_iter().filter(|signal| exporter.way(*signal).is_none()) {
                self.buffer.clear(signal);
            }
            self.sink = Sink::Ready(exporter);
            // Its first connection is as good as answered, or the first invocation would make a second.
            self.last_answer = clock::since_epoch();
        } else {
            for signal in Signal::ALL {
                self.buffer.clear(signal);
            }
        }
        self.warm();
    }

    /// When something is to be looked at, whatever happens.
    fn wake_at(&self) -> Option<Instant> {
        let (now, wall) = (clock::now(), clock::since_epoch());
        let lines = || Signal::ALL.into_iter().map(|signal| self.lines.of(signal));
        let probes = lines().filter_map(|line| line.in_flight.as_ref()?.call_off_at);
        // One that is over is waited for no more: what was to go has gone, or there was nothing.
        let pauses = lines().filter(|line| !line.breaker.is_ready(wall));
        let pauses = pauses.filter_map(|line| line.resume_at(wall, now)).filter(|_| self.open.is_some());
        let release = self.open.and_then(|open| open.due).map(|(at, _)| at);
        probes.chain(pauses).chain(release).chain(self.flush_at()).min()
    }

    /// When the flush has to be looked at.
    fn flush_at(&self) -> Option<Instant> {
        let flush = self.flush.as_ref()?;
        match self.sink {
            Sink::Preparing { patience_until, .. } => patience_until,
            _ => flush.again_at(),
        }
    }

    fn wake(&mut self) {
        let now = clock::now();
        if let Sink::Preparing { patience_until, .. } = &mut self.sink {
            patience_until.take_if(|until| *until <= now);
        }
        if let Some(flush) = &mut self.flush {
            flush.wake(now);
        }
        for signal in Signal::ALL {
            let is_over = |probe: &mut InFlight| probe.call_off_at.is_some_and(|at| at <= now);
            if let Some(probe) = self.lines.of_mut(signal).in_flight.take_if(is_over) {
                self.call_off_probe(signal, probe);
            }
        }
        self.release_what_is_due();
    }

    /// Ends a flush that has nothing left to wait for.
    fn finish_flush(&mut self) {
        let in_flight = Signal::ALL.iter().any(|signal| self.lines.of(*signal).in_flight.is_some());
        if in_flight || self.flush_at().is_some() {
            return;
        }
        let Some(flush) = self.flush.take() else { return };
        if flush.reason != FlushReason::NearDeadline && !self.stays_open() {
            // What comes now would only be cut off by the freeze.
            self.open = None;
        }
        self.tally.flushes.add(flush.took());
        flush.finish();
    }
}
