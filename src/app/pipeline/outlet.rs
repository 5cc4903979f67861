//! The way to one backend: what waits for it, what is in flight to it, and what is known of it.
//!
//! One request a signal is in flight, the signals side by side. While a function runs, what was released goes out at
//! once, and so does what an earlier flush had to leave, but what follows closely on a request waits for more of its like;
//! between invocations nothing is in flight, because a freeze would leave it hanging. An endpoint that has failed a flush is
//! only probed, beside the function, until it answers. Outlets know nothing of each other: one whose backend hangs keeps what
//! is its own and holds nobody up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};

use super::export::{Export, Setup};
use super::flush::Flush;
use super::line::{InFlight, Line};
use crate::core::cadence::Beside;
use crate::core::chunk::Chunk;
use crate::core::config::BATCH_MAX_BYTES;
use crate::core::correlation::Correlation;
use crate::core::delivery::budget::{Budget, Share};
use crate::core::delivery::buffer::{Barrier, Buffer, Released};
use crate::core::delivery::health::{Health, Items};
use crate::core::delivery::tally::Tally;
use crate::core::delivery::verdict::Verdict;
use crate::core::lifecycle::FlushReason;
use crate::core::otlp::Limits;
use crate::core::resource::ResourceRules;
use crate::core::signal::{PerSignal, Signal};
use crate::edge::clock;
use crate::edge::exporter::Way;

/// After so long without an answer a connection is taken for dead: load balancers forget idle ones, and a freeze hides
/// it.
const IDLE_LIMIT: Duration = Duration::from_secs(20);
/// So long after a request beside the function what comes of its signal gathers, for an SDK that sends each span by itself
/// would have a request made for each. What fills a batch, or half of the buffer, does not wait.
const PACE: Duration = Duration::from_millis(100);
/// How long flushes wait for the exporter to be set up; it is longer only where secrets are slow to come.
pub(super) const SETUP_PATIENCE: Duration = Duration::from_millis(500);
/// So often the extension tells of itself, where that was asked for.
const OWN_METRICS_EVERY: Duration = Duration::from_mins(1);

/// The way to one backend.
pub(super) struct Outlet<E> {
    /// As people call it, where there are several.
    pub(super) name: Option<Arc<str>>,
    takes: PerSignal<bool>,
    setup: Option<Setup<E>>,
    pub(super) sink: Sink<E>,
    pub(super) rules: ResourceRules,
    pub(super) lines: PerSignal<Line>,
    pub(super) buffer: Buffer,
    pub(super) tasks: JoinSet<Ended<E>>,
    /// The test of the connection that is under way.
    pub(super) warming: Option<AbortHandle>,
    /// While a function runs.
    open: Option<Open>,
    pub(super) flush: Option<Flush>,
    /// The connections may be dead without our knowing.
    pub(super) suspect: bool,
    pub(super) last_answer: Duration,
    pub(super) health: Health,
    /// What became of telemetry since it was last told.
    pub(super) tally: Tally,
    pub(super) tally_since: Duration,
    pub(super) tells_of_itself: bool,
}

pub(super) enum Sink<E> {
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
pub(super) enum Ended<E> {
    Setup(Option<E>),
    Attempt(Verdict),
}

/// What an outlet leads to.
pub struct Backend<E> {
    /// What people call it, where there are several.
    pub name: Option<Arc<str>>,
    /// Which signals it is to get.
    pub takes: PerSignal<bool>,
    /// Without it telemetry is received and dropped.
    pub setup: Option<Setup<E>>,
}

/// What all outlets have in common.
pub(super) struct Common<'a> {
    pub(super) rules: &'a ResourceRules,
    pub(super) budget: &'a Budget,
    pub(super) batch_max_items: &'a PerSignal<usize>,
    pub(super) tells_of_itself: bool,
}

impl<E: Export> Outlet<E> {
    pub(super) fn new(backend: Backend<E>, common: &Common<'_>) -> Self {
        let Backend { name, takes, setup } = backend;
        let Common { rules, budget, batch_max_items, tells_of_itself } = *common;
        // Where there are several, what hangs in flight to one must leave room for what is new to the others: three
        // requests, a signal each, come to three quarters of its part at most.
        let bytes = match name {
            None => BATCH_MAX_BYTES,
            Some(_) => BATCH_MAX_BYTES.min(budget.fair_part() / 4),
        };
        let line = |signal| Line::new(Limits { items: *batch_max_items.of(signal), bytes });
        Self {
            name,
            takes,
            sink: if setup.is_some() { Sink::Configured } else { Sink::Blackhole },
            setup,
            rules: rules.clone(),
            lines: PerSignal::from_fn(line),
            buffer: Buffer::new(budget.clone()),
            tasks: JoinSet::new(),
            warming: None,
            open: None,
            flush: None,
            suspect: false,
            last_answer: Duration::ZERO,
            health: Health::default(),
            tally: Tally::default(),
            tally_since: clock::since_epoch(),
            tells_of_itself,
        }
    }

    /// Whether telemetry of the signal may have somewhere to go.
    pub(super) fn takes(&self, signal: Signal) -> bool {
        *self.takes.of(signal)
            && match &self.sink {
                Sink::Configured | Sink::Preparing { .. } => true,
                Sink::Ready(exporter) => exporter.way(signal).is_some(),
                Sink::Blackhole => false,
            }
    }

    /// Keeps a chunk that is within the limits of its signal. `share` says that others keep it, too.
    pub(super) fn keep(&mut self, chunk: Chunk, share: Option<Share>) {
        *self.tally.received.of_mut(chunk.signal) += chunk.items;
        match share {
            Some(share) => self.buffer.push_shared(chunk, share),
            None => self.buffer.push(chunk),
        }
        self.count_dropped();
    }

    /// Counts a chunk for which the others leave no room.
    pub(super) fn refuse(&mut self, chunk: &Chunk) {
        *self.tally.received.of_mut(chunk.signal) += chunk.items;
        self.buffer.refuse(chunk);
        self.count_dropped();
    }

    /// A function runs from now on.
    pub(super) fn open(&mut self, beside: Beside) {
        if clock::since_epoch().saturating_sub(self.tally_since) >= OWN_METRICS_EVERY {
            self.tell_of_itself();
        }
        self.buffer.invocation_begins();
        self.take_back_the_frozen();
        for signal in Signal::ALL {
            self.lines.of_mut(signal).gathers_until = None;
        }
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

    /// No function runs from now on.
    pub(super) fn close(&mut self) {
        self.call_off();
        self.open = None;
    }

    /// Nobody tells when functions run.
    pub(super) fn stay_open(&mut self, beside: Beside) {
        if !self.stays_open() {
            self.release_beside(beside, Released::ALL, true);
        }
    }

    /// Sends what came so far.
    pub(super) fn start_flush(
        &mut self,
        reason: FlushReason,
        deadline: Instant,
        done: Arc<oneshot::Sender<()>>,
    ) {
        self.flush = Some(Flush::new(reason, deadline, self.buffer.barrier(), done));
    }

    /// The process ends: says what is lost by that.
    pub(super) fn end(&mut self) {
        self.call_off();
        let waiting = self.buffer.waiting();
        if waiting != PerSignal::default() {
            tracing::warn!(
                "{}export: the environment ends before everything was sent; lost: {}",
                self.by_name(),
                Items(&waiting)
            );
        }
    }

    fn stays_open(&self) -> bool {
        self.open.is_some_and(|open| open.stays)
    }

    fn release_beside(&mut self, beside: Beside, at_once: Released, stays: bool) {
        let (released, due) = match beside {
            Beside::AtOnce => (at_once, None),
            Beside::Every { first, interval } => (Released::NOTHING, Some((clock::now() + first, interval))),
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

    pub(super) fn prepare(&mut self) {
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
    pub(super) fn restored(&mut self) {
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
    pub(super) fn dispatch(&mut self, correlation: &Correlation) {
        let (now, wall) = (clock::now(), clock::since_epoch());
        for signal in Signal::ALL {
            let Sink::Ready(exporter) = &self.sink else { return };
            let Some(Way { retry, .. }) = exporter.way(signal) else { continue };
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
                    let released =
                        if line.gathers_past(now).is_some() { Released::NOTHING } else { open.released };
                    self.buffer.take_early(signal, limits, released)
                }
                (None, _) => None,
            };
            let Some(mut batch) = batch else { continue };
            // As late as can be: what stands for an invocation may come just before its end.
            self.buffer.stamp(&mut batch, |invocation| correlation.of(invocation));
            let Some(exporter) = self.exporter() else { return };
            let chunks = batch.chunks().map(|chunk| chunk.bytes.clone()).collect();
            let attempt = async move { Ended::Attempt(exporter.attempt(signal, chunks).await) };
            let task = self.tasks.spawn(attempt);
            let of_flush = self.flush.is_some();
            // What is left of what was released has gathered already, and where nobody tells of the function's end it may be
            // over before the rest has gone.
            let gathers = !of_flush
                && self
                    .open
                    .is_some_and(|open| !open.stays && !self.buffer.waits_among(signal, open.released));
            let line = self.lines.of_mut(signal);
            line.gathers_until = gathers.then(|| now + PACE);
            line.in_flight = Some(InFlight {
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

    pub(super) fn set_up(&mut self, exporter: Option<E>) {
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
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let (now, wall) = (clock::now(), clock::since_epoch());
        let lines = || Signal::ALL.into_iter().map(|signal| self.lines.of(signal));
        let probes = lines().filter_map(|line| line.in_flight.as_ref()?.call_off_at);
        // One that is over is waited for no more: what was to go has gone, or there was nothing.
        let pauses = lines().filter(|line| !line.breaker.is_ready(wall));
        let pauses = pauses.filter_map(|line| line.resume_at(wall, now)).filter(|_| self.open.is_some());
        let release = self.open.and_then(|open| open.due).map(|(at, _)| at);
        let gathered = Signal::ALL.into_iter().filter_map(|signal| self.gathered_at(signal, now));
        probes.chain(pauses).chain(release).chain(gathered).chain(self.flush_at()).min()
    }

    /// When what waits behind a request beside the function is to go.
    fn gathered_at(&self, signal: Signal, now: Instant) -> Option<Instant> {
        let Open { released, .. } = self.open?;
        let until = self.lines.of(signal).gathers_past(now)?;
        self.buffer.waits_among(signal, released).then_some(until)
    }

    /// When the flush has to be looked at.
    fn flush_at(&self) -> Option<Instant> {
        let flush = self.flush.as_ref()?;
        match self.sink {
            Sink::Preparing { patience_until, .. } => patience_until,
            _ => flush.again_at(),
        }
    }

    pub(super) fn wake(&mut self) {
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
    pub(super) fn finish_flush(&mut self) {
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
