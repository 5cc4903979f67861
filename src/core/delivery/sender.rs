//! The sender of one backend: a state machine without IO.
//!
//! Events go into [`BackendSender::on`], which returns the actions to carry out. It promises, for any order of events and any
//! clock steps:
//! - accepted telemetry is delivered, or counted as dropped with a reason;
//! - at most one request per signal is in flight. None starts unless its answer can be expected in time. A batch that was
//!   cut off without an answer is sent again only after the backend has answered something else;
//! - nothing is in flight outside invocations. In an unheld invocation, nothing is started that its end would probably cut
//!   off;
//! - a backend that failed a flush only gets probes, during invocations, until it answers;
//! - a failed setup is retried during later invocations, and telemetry is kept meanwhile. If the backend refuses a key that
//!   came from a secret, the secret is fetched again;
//! - no timer is further ahead than its own maximum.
//!
//! Other modules decide the rest: [`super::senders`] coordinates several backends, [`crate::lambda::lifecycle`] decides when
//! invocations are held and flushed, and [`super::probe_budget`] limits the wait for probes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::admission::{Admission, Admitted, Facts};
use super::breaker::RetryPolicy;
use super::budget::{ByteBudget, SharedBytes};
use super::buffer::{Barrier, Batch, Buffer, Released};
use super::connection::ConnectionState;
use super::event::{
    RequestId, Route, RouteState, SenderAction, SenderContext, SenderEvent, SenderSettings, SetupResult,
};
use super::flush::{Flush, NextAttempt};
use super::health::Report;
use super::reporter::Reporter;
use super::round_trip::RoundTrip;
use super::routes::Routes;
use super::setup::SetupState;
use super::signal_state::{InFlight, SignalState, was_frozen};
use super::tally::{DropReason, Tally};
use super::timers::{Timer, TimerTable};
use super::verdict::{Failure, Verdict};
use super::window::{Window, WindowKind};
use crate::chunk::Chunk;
use crate::delivery::cadence::DuringInvocation;
use crate::delivery::own_telemetry::CurrentState;
use crate::elapsed::{Elapsed, Now};
use crate::lambda::correlation::Correlation;
use crate::lambda::lifecycle::FlushReason;
use crate::otlp::Limits;
use crate::signal::{PerSignal, Signal};

/// The pause between two requests of one signal during an invocation. It keeps an SDK that exports every span by itself from
/// causing one request per span. A full batch, or a buffer that is half full, does not wait.
const REQUEST_SPACING: Duration = Duration::from_millis(100);
/// An attempt that was cut off sooner than this says nothing about the backend.
const MIN_ANSWER_TIME: Duration = Duration::from_millis(100);
/// A timer that is later than this was delayed by a freeze.
const TIMER_LATENESS_LIMIT: Duration = Duration::from_millis(100);

/// The sender of one backend.
#[derive(Debug)]
pub struct BackendSender {
    settings: SenderSettings,
    setup: SetupState,
    routes: Routes,
    signals: PerSignal<SignalState>,
    buffer: Buffer,
    window: Option<Window>,
    flush: Option<Flush>,
    timers: TimerTable,
    elapsed: Elapsed,
    /// Both clocks at the last event.
    now: Now,
    /// The same moment in elapsed time.
    at: Duration,
    jitter: f64,
    connection: ConnectionState,
    round_trip: RoundTrip,
    requests: u64,
    reporter: Reporter,
    actions: Vec<SenderAction>,
}

impl BackendSender {
    /// Returns a sender that waits for [`SenderEvent::Start`].
    pub fn new(settings: SenderSettings, budget: ByteBudget, now: Now) -> Self {
        let signals = PerSignal::from_fn(|signal| SignalState::new(*settings.limits.of(signal)));
        let mut elapsed = Elapsed::new();
        let at = elapsed.advance_to(now);
        Self {
            setup: SetupState::default(),
            routes: Routes::new(&settings),
            signals,
            buffer: Buffer::new(budget),
            window: None,
            flush: None,
            timers: TimerTable::default(),
            elapsed,
            now,
            at,
            jitter: 0.0,
            connection: ConnectionState::default(),
            round_trip: RoundTrip::default(),
            requests: 0,
            reporter: Reporter::new(&settings, now.wall, at),
            actions: Vec::new(),
            settings,
        }
    }

    /// Handles an event. Returns the actions in the order in which to carry them out.
    pub fn on(&mut self, event: SenderEvent, context: &SenderContext<'_>) -> Vec<SenderAction> {
        let (before, before_at) = (self.now, self.at);
        self.now = context.now;
        self.at = self.elapsed.advance_to(context.now);
        self.jitter = context.jitter;
        if self.is_unheld() && was_frozen(before, before_at, self.now, self.at) {
            // Platform: there is no freeze while a function runs, so the invocation has ended.
            self.take_back_frozen();
            self.window = None;
        }
        match event {
            SenderEvent::Start => self.start_setup(true, false),
            SenderEvent::Enqueued(chunk, share) => self.keep(chunk, share),
            SenderEvent::NoRoom(chunk) => self.refuse(&chunk),
            SenderEvent::InvocationBegins { during, held } => self.begin_invocation(during, held),
            SenderEvent::InvocationEnds => {
                self.cut_off_all();
                self.window = None;
            }
            SenderEvent::KeepOpen(during) => {
                if !self.is_continuous() {
                    self.open(WindowKind::Continuous, during, Released::ALL);
                }
            }
            SenderEvent::Flush { reason, deadline, waits_for_probes } => {
                self.start_flush(reason, deadline, waits_for_probes);
            }
            SenderEvent::CancelFlush => {
                self.fail_unanswered();
                self.cut_off_all();
                if !self.is_continuous() {
                    self.window = None;
                }
            }
            SenderEvent::Answered(request, verdict) => self.answered(request, verdict),
            SenderEvent::SetupDone(result) => self.on_setup_done(result),
            SenderEvent::Restored => self.restored(),
            SenderEvent::ReportItself { last } => {
                if last || self.reporter.is_due(self.at) {
                    self.report_itself();
                }
            }
            SenderEvent::ProcessEnds => self.end(),
            SenderEvent::Tick => {}
        }
        // Timers come after the event, so that an answer that arrives now is not cut off.
        self.expire_timers();
        self.try_setup();
        self.dispatch(context.spans);
        self.finish_flush();
        std::mem::take(&mut self.actions)
    }

    /// The time at which [`SenderEvent::Tick`] is due.
    pub fn timeout(&self) -> Option<Instant> {
        let next = self.timers.next()?;
        self.now.monotonic.checked_add(next.saturating_sub(self.at))
    }

    /// The user's name for the backend, if there are several.
    pub fn name(&self) -> Option<&Arc<str>> {
        self.settings.name.as_ref()
    }

    /// Returns true if the signal has a route or may get one.
    pub fn takes(&self, signal: Signal) -> bool {
        self.routes.may_take(signal)
    }

    /// The size limits of a request of the signal.
    pub fn limits(&self, signal: Signal) -> Limits {
        self.signals.of(signal).limits()
    }

    /// The bytes held, including those shared with other senders.
    pub fn total_bytes(&self) -> usize {
        self.buffer.total_bytes()
    }

    /// The bytes of the batches in flight.
    pub fn in_flight_bytes(&self) -> usize {
        self.buffer.in_flight_bytes()
    }

    /// The items held, including those in flight.
    pub fn kept(&self) -> PerSignal<usize> {
        let pending = self.buffer.pending();
        PerSignal::from_fn(|signal| pending.of(signal) + self.in_flight_items(signal))
    }

    /// The counts since the last report.
    pub fn tally(&self) -> &Tally {
        self.reporter.tally()
    }

    /// Returns true if it holds telemetry that is not in flight.
    pub fn has_pending(&self) -> bool {
        self.buffer.has_pending()
    }

    /// Returns true if the next invocation must flush at its end under any strategy: the buffer is half full, or a request was
    /// cut off.
    pub fn wants_flush(&self) -> bool {
        // The end of an unheld invocation will probably cut this request off.
        self.is_in_flight() && self.is_unheld()
            || Signal::ALL.iter().any(|signal| self.owes_flush(*signal))
            || self.buffer.is_half_full() && Signal::ALL.iter().any(|signal| self.is_sendable(*signal))
    }

    /// The longest time that a probe or the setup may take; `None` if neither is needed.
    pub fn probe_budget(&self) -> Option<Duration> {
        let budgets =
            Signal::ALL.into_iter().filter_map(|signal| self.signals.of(signal).breaker.probe_budget());
        let probe = budgets.max().map(|budget| budget.max(self.min_probe_time()));
        probe.max(self.needs_setup().then_some(self.setup.wait()))
    }

    /// The time until the running probes and setup end, if the end of the invocation waits for them.
    pub fn probes_end_in(&self, now: Now) -> Option<Duration> {
        // A clone, because this reading must not count.
        let at = self.elapsed.clone().advance_to(now);
        let least = self.min_probe_time();
        let ends = Signal::ALL.into_iter().filter_map(|signal| self.signals.of(signal).probe_ends_at(least));
        ends.max().max(self.setup_ends_at()).map(|end| end.saturating_sub(at))
    }

    fn setup_ends_at(&self) -> Option<Duration> {
        let running = self.setup.running().filter(|_| self.needs_setup() && self.buffer.has_pending())?;
        Some(running.started_at + self.setup.wait())
    }

    /// The minimum time of a probe: as long as the last answer took. The backend has not become faster during a pause.
    fn min_probe_time(&self) -> Duration {
        self.round_trip.last().min(self.settings.flush_timeout)
    }

    /// Drops the oldest chunk that is not in flight, to make room for other senders. Returns true if there was one.
    pub fn drop_oldest(&mut self) -> bool {
        let dropped = self.buffer.drop_oldest();
        self.count_dropped();
        dropped
    }

    /// Writes the span of an invocation into all its pending log records.
    pub fn stamp_pending(&mut self, invocation: &str, span: &crate::trace_context::TraceContext) {
        self.buffer.stamp_pending(invocation, span);
    }

    /// Returns true if a batch was cut off and can be sent again in a flush, which waits for its answer.
    fn owes_flush(&self, signal: Signal) -> bool {
        self.buffer.next_was_interrupted(signal)
            && self.routes.of(signal).is_some()
            && self.signals.of(signal).breaker.is_ready(self.at)
    }

    fn is_sendable(&self, signal: Signal) -> bool {
        self.routes.of(signal).is_some()
            && !self.setup.blocks()
            && !self.signals.of(signal).breaker.is_open()
            && self.buffer.has_pending_before(signal, Barrier::END)
    }

    fn in_flight_items(&self, signal: Signal) -> usize {
        let in_flight = self.signals.of(signal).in_flight.as_ref();
        in_flight.and_then(|in_flight| in_flight.batch.as_ref()).map_or(0, |batch| batch.items)
    }

    fn is_in_flight(&self) -> bool {
        Signal::ALL.iter().any(|signal| self.signals.of(*signal).in_flight.is_some())
    }

    fn is_unheld(&self) -> bool {
        self.window.is_some_and(|window| window.kind == WindowKind::Unheld)
    }

    fn is_continuous(&self) -> bool {
        self.window.is_some_and(|window| window.kind == WindowKind::Continuous)
    }
}

/// Input: telemetry, invocations and flushes.
impl BackendSender {
    fn keep(&mut self, chunk: Chunk, share: Option<SharedBytes>) {
        self.reporter.count_received(chunk.signal, chunk.items);
        match share {
            Some(share) => self.buffer.push_shared(chunk, share),
            None => self.buffer.push(chunk),
        }
        self.count_dropped();
    }

    fn refuse(&mut self, chunk: &Chunk) {
        self.reporter.count_received(chunk.signal, chunk.items);
        self.buffer.count_refused(chunk);
        self.count_dropped();
    }

    fn count_dropped(&mut self) {
        let dropped = self.buffer.take_dropped();
        if dropped == PerSignal::default() {
            return;
        }
        let report = self.reporter.on_buffer_full(dropped, self.at);
        self.log(report);
    }

    fn begin_invocation(&mut self, during: DuringInvocation, held: bool) {
        self.buffer.invocation_begins();
        self.take_back_frozen();
        for signal in Signal::ALL {
            self.signals.of_mut(signal).coalesces_until = None;
            self.timers.stop(Timer::Coalesced(signal));
        }
        if !self.is_continuous() {
            // The logs of an invocation wait for its end unless something else releases them.
            let released = Released { sdk: Barrier::END, platform: self.buffer.barrier() };
            self.open(if held { WindowKind::Held } else { WindowKind::Unheld }, during, released);
        }
        if self.connection.is_idle(self.at) {
            self.mark_connections_stale();
            // With an open breaker, the probe opens the connection. Without a flush at the end, none is needed.
            if held && Signal::ALL.iter().all(|signal| !self.signals.of(*signal).breaker.is_open()) {
                self.warm();
            }
        }
    }

    fn open(&mut self, kind: WindowKind, during: DuringInvocation, at_once: Released) {
        self.window = Some(Window::open(kind, during, at_once, &mut self.timers, self.at));
        self.release_if_due();
    }

    fn release_if_due(&mut self) {
        let barrier = self.buffer.barrier();
        if let Some(window) = &mut self.window {
            window.release_if_due(barrier, &mut self.timers, self.at);
        }
    }

    /// Handles the timers that have expired.
    fn expire_timers(&mut self) {
        let Some(next) = self.timers.next().filter(|next| *next <= self.at) else { return };
        if self.at.saturating_sub(next) > TIMER_LATENESS_LIMIT
            && let Some(window) = self.window.as_mut().filter(|window| window.kind == WindowKind::Unheld)
        {
            // A freeze delayed the tick, so the function has probably ended before it.
            window.began_at = self.at;
        }
        self.release_if_due();
        for signal in Signal::ALL {
            if self.timers.take_due(Timer::Probe(signal), self.at) {
                self.cut_off_probe(signal);
            }
        }
        if self.timers.take_due(Timer::SetupWait, self.at) && self.setup.running().is_some() {
            self.setup.extend_wait(self.settings.flush_timeout);
        }
        self.timers.clear_due(self.at);
    }

    fn start_flush(&mut self, reason: FlushReason, deadline: Instant, waits_for_probes: bool) {
        let deadline = self.at + deadline.saturating_duration_since(self.now.monotonic);
        // Platform: Lambda may deliver a backlog kept over freezes, so the last flush also covers what arrives meanwhile.
        let is_last = reason == FlushReason::Shutdown;
        let barrier = if is_last { Barrier::END } else { self.buffer.barrier() };
        let flush = Flush::new(reason, barrier, deadline, self.at);
        if flush.is_last() {
            self.take_back_frozen();
            if self.connection.is_idle_at_shutdown(self.at) {
                self.mark_connections_stale();
            }
            // No later invocation can retry the setup.
            if !self.setup.is_key_refused() {
                self.timers.stop(Timer::Setup);
            }
        } else {
            self.limit_probes(waits_for_probes);
        }
        self.flush = Some(flush);
    }

    /// Sets the time at which the running probes and setup are cut off: when their budget ends, if the end of the invocation
    /// waits for them, else at once.
    fn limit_probes(&mut self, waits: bool) {
        if let Some(ends_at) = self.setup_ends_at().filter(|ends_at| waits && *ends_at > self.at) {
            self.timers.set(Timer::SetupWait, ends_at);
        }
        for signal in Signal::ALL {
            let state = self.signals.of(signal);
            if let Some(ends_at) = state.probe_ends_at(self.min_probe_time()) {
                let earliest_probe_end =
                    state.in_flight.as_ref().and_then(|in_flight| in_flight.earliest_probe_end);
                let at_once = earliest_probe_end.unwrap_or(self.at).max(self.at);
                self.timers.set(Timer::Probe(signal), if waits { ends_at.max(at_once) } else { at_once });
            }
        }
        self.expire_timers();
    }

    fn end(&mut self) {
        self.cut_off_all();
        let pending = self.buffer.pending();
        if pending != PerSignal::default() {
            self.actions.push(SenderAction::Log(Report::Unsent(pending)));
        }
    }
}

/// Setup.
impl BackendSender {
    /// Returns true if a setup may change a route.
    fn needs_setup(&self) -> bool {
        self.setup.is_key_refused() || self.routes.has_pending()
    }

    /// Retries a failed setup during an invocation and at SHUTDOWN.
    fn try_setup(&mut self) {
        let is_time = self.window.is_some() || self.is_last_flush();
        let has_failed = self.routes.is_known() || self.setup.has_failed();
        if is_time
            && has_failed
            && self.setup.running().is_none()
            && self.timers.get(Timer::Setup).is_none()
            && self.needs_setup()
        {
            self.start_setup(false, self.setup.is_key_refused());
        }
    }

    fn start_setup(&mut self, blocks: bool, refresh: bool) {
        if !self.settings.has_setup || self.setup.running().is_some() {
            return;
        }
        self.setup.start(blocks, self.now, self.at);
        if blocks {
            self.timers.set(Timer::SetupWait, self.at + self.setup.wait());
        }
        self.actions.push(SenderAction::Setup { refresh });
    }

    fn on_setup_done(&mut self, result: SetupResult) {
        let is_first = !self.routes.is_known();
        let is_new = self.routes.apply(result);
        if is_new {
            self.drop_unroutable();
            for signal in Signal::ALL {
                // Earlier failures belong to the old route.
                self.recover(signal);
            }
        }
        let pause = self.setup.finish(!self.routes.has_pending(), self.jitter);
        match pause {
            Some(pause) => self.timers.set(Timer::Setup, self.at + pause),
            None => self.timers.stop(Timer::Setup),
        }
        if is_new || is_first {
            // Counts as an answer, or the first invocation would open a second connection.
            self.connection.record_answer(self.at);
            self.warm();
        }
    }

    fn drop_unroutable(&mut self) {
        let mut dropped = PerSignal::default();
        for signal in Signal::ALL {
            if self.routes.state(signal) != RouteState::NoRoute {
                continue;
            }
            let items = self.buffer.clear(signal);
            self.reporter.count_dropped(signal, DropReason::NoRoute, items);
            *dropped.of_mut(signal) = items;
        }
        if dropped != PerSignal::default() {
            self.actions.push(SenderAction::Log(Report::NoRoute(dropped)));
        }
    }

    /// Starts over, because the snapshot may be weeks old.
    fn restored(&mut self) {
        for signal in Signal::ALL {
            self.recover(signal);
        }
        self.connection.mark_stale();
        if self.setup.running().is_some() {
            self.setup.abandon();
            self.actions.push(SenderAction::AbortSetup);
        }
        self.start_setup(true, true);
    }
}

/// Sending.
impl BackendSender {
    /// Starts every request that may start now.
    fn dispatch(&mut self, spans: &Correlation) {
        if self.flush.is_none() && self.window.is_none() || self.setup.blocks() {
            return;
        }
        for signal in Signal::ALL {
            if let Some(route) = self.routes.of(signal)
                && self.signals.of(signal).in_flight.is_none()
            {
                self.dispatch_signal(signal, route, spans);
            }
        }
    }

    fn dispatch_signal(&mut self, signal: Signal, route: Route, spans: &Correlation) {
        let limits = self.signals.of(signal).limits();
        let batch = if self.flush.is_some() {
            if !self.try_flush_signal(signal) {
                return;
            }
            self.buffer.take(signal, limits)
        } else {
            match self.admit(signal) {
                Some(Admitted::Batch(released)) => self.buffer.take_early(signal, limits, released),
                Some(Admitted::EmptyProbe) => return self.send(signal, route, None),
                None => None,
            }
        };
        if let Some(mut batch) = batch {
            // As late as possible: the span of an invocation may arrive just before its end.
            self.buffer.stamp(&mut batch, |invocation| spans.span_for(invocation));
            self.send(signal, route, Some(batch));
        }
    }

    /// Returns true if the flush may send the signal now. Gives the signal up for this flush if there is not enough time.
    fn try_flush_signal(&mut self, signal: Signal) -> bool {
        let Self { flush: Some(flush), buffer, signals, timers, round_trip, at, .. } = self else {
            return false;
        };
        let breaker = &mut signals.of_mut(signal).breaker;
        if !buffer.has_pending_before(signal, flush.barrier)
            || !flush.may_attempt_or_schedule(signal, breaker, timers, *at)
        {
            return false;
        }
        let fits = flush.is_last()
            || match round_trip.expected() {
                Some(expected) => *at + expected <= flush.deadline,
                None => !buffer.next_was_interrupted(signal),
            };
        if !fits {
            // The next request will be a probe, which measures the current round trip.
            if flush.reason == FlushReason::EndOfInvocation && !flush.has_progressed(signal) {
                breaker.trip();
            }
            flush.give_up(signal);
        }
        fits
    }

    /// Decides what the signal may send during the invocation, and sets the timer for what must wait.
    fn admit(&mut self, signal: Signal) -> Option<Admitted> {
        let facts = Facts {
            signal,
            window: self.window?,
            state: self.signals.of(signal),
            buffer: &self.buffer,
            round_trip: self.round_trip,
            flush_timeout: self.settings.flush_timeout,
            at: self.at,
        };
        let Admission { request, timer } = facts.admit();
        if let Some((timer, at)) = timer {
            self.timers.set(timer, at);
        }
        request
    }

    fn send(&mut self, signal: Signal, route: Route, batch: Option<Batch>) {
        let request = self.next_request();
        if !self.is_continuous() && self.connection.is_idle(self.at) {
            self.mark_connections_stale();
        }
        let fresh = self.connection.take_stale(self.at);
        let chunks = batch.iter().flat_map(Batch::chunks).map(|chunk| chunk.bytes.clone()).collect();
        let by_flush = self.flush.is_some();
        // A release that did not fit into one batch has waited already. And if no event announces the end, the function may end
        // before the rest is sent.
        let unheld = self.is_unheld();
        let coalesces = !by_flush
            && self.window.is_some_and(|window| {
                window.kind != WindowKind::Continuous && !self.buffer.has_released(signal, window.released)
            });
        let state = self.signals.of_mut(signal);
        let probe_time =
            self.round_trip.min_loaded_probe_time().map(|time| time.min(self.settings.flush_timeout));
        let earliest_probe_end =
            probe_time.filter(|_| batch.is_some() && state.breaker.is_open()).map(|time| self.at + time);
        state.coalesces_until = coalesces.then(|| self.at + REQUEST_SPACING);
        state.in_flight = Some(InFlight {
            request,
            batch,
            started: self.now,
            started_at: self.at,
            by_flush,
            unheld,
            retry: route.retry,
            earliest_probe_end,
        });
        self.actions.push(SenderAction::Send { request, signal, chunks, fresh });
    }

    /// Opens the connection during the invocation, so that the flush at its end does not have to.
    fn warm(&mut self) {
        if self.connection.is_warming() || self.is_in_flight() || self.routes.is_empty() {
            return;
        }
        let request = self.next_request();
        let fresh = self.connection.take_stale(self.at);
        self.connection.start_warming(request);
        self.actions.push(SenderAction::Warm { request, fresh });
    }

    fn next_request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    fn mark_connections_stale(&mut self) {
        self.connection.mark_stale();
        if let Some(request) = self.connection.take_warming() {
            self.actions.push(SenderAction::Abort(request));
        }
    }

    /// Ends the flush if it has nothing left to wait for.
    fn finish_flush(&mut self) {
        let Some(flush) = &self.flush else { return };
        let retries = Signal::ALL.iter().any(|signal| self.timers.get(Timer::Retry(*signal)).is_some());
        if self.is_in_flight() || retries || self.waits_for_setup(flush) {
            return;
        }
        if flush.reason != FlushReason::NearDeadline && !self.is_continuous() {
            // The freeze would cut off any request started now.
            self.window = None;
        }
        self.close_flush();
        self.actions.push(SenderAction::FlushDone);
    }

    fn waits_for_setup(&self, flush: &Flush) -> bool {
        if !self.buffer.has_pending() {
            return false;
        }
        let is_running = self.setup.running().is_some();
        if flush.is_last() {
            let again = self.timers.get(Timer::Setup).filter(|at| *at < flush.deadline);
            return self.needs_setup() && (is_running || again.is_some());
        }
        is_running && self.timers.get(Timer::SetupWait).is_some()
    }

    fn is_last_flush(&self) -> bool {
        self.flush.as_ref().is_some_and(Flush::is_last)
    }

    fn close_flush(&mut self) {
        if let Some(flush) = self.flush.take() {
            self.reporter.count_flush(flush.duration(self.at));
        }
        for signal in Signal::ALL {
            self.timers.stop(Timer::Retry(signal));
            self.timers.stop(Timer::Probe(signal));
        }
    }
}

/// Ends of requests. When a request ends, its batch is released, given back, or given back in parts. Nothing else can
/// happen to it.
impl BackendSender {
    fn answered(&mut self, request: RequestId, verdict: Verdict) {
        if self.connection.take_warmed(request) {
            // A failure here lost nothing, and the next request will report it.
            self.record_answer(&verdict);
            return;
        }
        let is_it = |in_flight: &mut InFlight| in_flight.request == request;
        let found = Signal::ALL
            .into_iter()
            .find_map(|signal| Some((signal, self.signals.of_mut(signal).in_flight.take_if(is_it)?)));
        let Some((signal, in_flight)) = found else { return };
        self.timers.stop(Timer::Probe(signal));
        self.record_answer(&verdict);
        let had = in_flight.had(self.now);
        match &verdict {
            Verdict::Retry { failure: Failure::Timeout, .. } => self.round_trip.record_cut_off(had),
            // Errors are not measured: a proxy may answer for a backend that is down, and faster.
            Verdict::Accepted { .. } | Verdict::TooLarge(_) if in_flight.batch.is_some() => {
                self.round_trip.record_answer(had);
            }
            _ => {}
        }
        self.apply_verdict(signal, in_flight, verdict);
    }

    fn apply_verdict(&mut self, signal: Signal, in_flight: InFlight, verdict: Verdict) {
        let InFlight { batch, started, by_flush, retry, .. } = in_flight;
        let state = self.signals.of_mut(signal);
        if !matches!(verdict, Verdict::Accepted { .. }) {
            // A batch that is given back has waited already.
            state.coalesces_until = None;
        }
        let Some(batch) = batch else {
            let verdict = self.with_refused_key(verdict);
            return self.apply_probe_verdict(signal, &started, retry, verdict);
        };
        if matches!(verdict, Verdict::TooLarge(_)) && state.shrink_limits(&batch) {
            let limits = state.limits();
            self.buffer.give_back_split(batch, limits);
            self.count_dropped();
            return;
        }
        let verdict = self.with_refused_key(verdict);
        let report = self.reporter.on_verdict(signal, batch.items, &verdict, self.at);
        let reason = match verdict {
            Verdict::Accepted { rejected, .. } => {
                let rejected = rejected.min(batch.items);
                self.reporter.count_sent(signal, batch.items - rejected);
                self.reporter.count_dropped(signal, DropReason::Rejected, rejected);
                None
            }
            Verdict::TooLarge(_) => Some(DropReason::TooLarge),
            Verdict::Refused(_) => Some(DropReason::Refused),
            Verdict::Retry { failure, after } => {
                match failure {
                    Failure::FlushTimeout | Failure::Timeout => self.buffer.give_back_interrupted(batch),
                    _ => self.buffer.give_back(batch),
                }
                self.failed(signal, &FailedAttempt { failure, after, retry, by_flush });
                self.log(report);
                return;
            }
        };
        let items = batch.items;
        self.buffer.release(&batch);
        // Frees the bytes shared with other senders, because the recovery report below needs room.
        drop(batch);
        if let Some(reason) = reason {
            self.reporter.count_dropped(signal, reason, items);
        } else if let Some(flush) = &mut self.flush {
            flush.record_progress(signal);
        }
        if self.signals.of_mut(signal).answered(reason.is_none()) {
            self.recover_endpoint(signal);
        }
        self.log(report);
    }

    /// Turns a refused key that came from a secret into a retry: the key may be valid after it is fetched again.
    fn with_refused_key(&mut self, verdict: Verdict) -> Verdict {
        match verdict {
            Verdict::Refused(failure) if self.routes.has_secret() && failure.is_unauthorized() => {
                let again_at = self.setup.on_key_refused(self.at);
                self.timers.set(Timer::Setup, again_at);
                Verdict::retry(failure)
            }
            verdict => verdict,
        }
    }

    /// Applies the verdict on an empty probe. After an answer, the next request carries telemetry.
    fn apply_probe_verdict(&mut self, signal: Signal, started: &Now, retry: RetryPolicy, verdict: Verdict) {
        match verdict {
            Verdict::Retry { failure, after } => {
                self.failed(signal, &FailedAttempt { failure, after, retry, by_flush: false });
            }
            Verdict::Refused(failure @ Failure::Panicked) => {
                self.failed(signal, &FailedAttempt { failure, after: None, retry, by_flush: false });
            }
            Verdict::Accepted { .. } | Verdict::TooLarge(_) | Verdict::Refused(_) => {
                let took = self.now.monotonic.saturating_duration_since(started.monotonic);
                self.round_trip.record_answer(took);
            }
        }
    }

    /// Handles an attempt that failed and may succeed later.
    fn failed(&mut self, signal: Signal, failed: &FailedAttempt) {
        let FailedAttempt { failure, after, retry, by_flush } = failed;
        let state = self.signals.of_mut(signal);
        state.breaker.record_failure(*retry, *after, self.at, self.jitter);
        let again_at = state.breaker.resume_at().unwrap_or(self.at);
        self.timers.set(Timer::Pause(signal), again_at);
        // An attempt from before the flush does not use up the flush's own attempt, unless it ran into the request timeout.
        let trips = match self.flush.as_mut().filter(|_| *by_flush) {
            Some(flush) => {
                let again = NextAttempt { at: again_at, after: *after, within: retry.max_elapsed_time };
                !flush.schedule_retry(signal, again, &mut self.timers, self.at)
            }
            None => *failure == Failure::Timeout || failure.is_unauthorized(),
        };
        if trips {
            self.signals.of_mut(signal).breaker.trip();
        }
    }

    /// Marks every signal of the same endpoint as recovered.
    fn recover_endpoint(&mut self, signal: Signal) {
        for other in Signal::ALL {
            if self.routes.share_endpoint(signal, other) {
                self.recover(other);
            }
        }
    }

    fn recover(&mut self, signal: Signal) {
        self.signals.of_mut(signal).breaker.record_answer();
        self.timers.stop(Timer::Pause(signal));
    }

    fn record_answer(&mut self, verdict: &Verdict) {
        match verdict {
            // Without an answer, a new connection may still work.
            Verdict::Retry { failure: Failure::Timeout, .. } => self.connection.mark_stale(),
            Verdict::Retry { .. } => {}
            Verdict::Accepted { .. } | Verdict::TooLarge(_) | Verdict::Refused(_) => {
                self.connection.record_answer(self.at);
            }
        }
    }

    /// Ends a request without an answer and marks the connections as stale.
    fn abort(&mut self, in_flight: InFlight) -> InFlight {
        self.actions.push(SenderAction::Abort(in_flight.request));
        self.connection.mark_stale();
        self.round_trip.record_cut_off(in_flight.had(self.now));
        in_flight
    }

    fn cut_off_probe(&mut self, signal: Signal) {
        let Some(probe) = self.signals.of_mut(signal).in_flight.take() else { return };
        let probe = self.abort(probe);
        let breaker = &mut self.signals.of_mut(signal).breaker;
        if breaker.probe_budget().is_some_and(|budget| probe.had(self.now) >= budget) {
            breaker.extend_probe_budget();
        }
        self.apply_verdict(signal, probe, Verdict::retry(Failure::FlushTimeout));
    }

    /// Counts unanswered requests as failed when their flush is cancelled, because the backend hangs.
    fn fail_unanswered(&mut self) {
        // If the flush has ended, these requests are not part of the cancelled one.
        if self.flush.is_none() {
            return;
        }
        // A freeze may have happened between the request and now.
        if self.is_unheld() {
            return;
        }
        for signal in Signal::ALL {
            let progressed = self.flush.as_ref().is_some_and(|flush| flush.has_progressed(signal));
            let now = self.now;
            let is_unanswered =
                |in_flight: &mut InFlight| in_flight.had(now) >= MIN_ANSWER_TIME && !progressed;
            if let Some(in_flight) = self.signals.of_mut(signal).in_flight.take_if(is_unanswered) {
                let in_flight = self.abort(in_flight);
                self.apply_verdict(signal, in_flight, Verdict::retry(Failure::FlushTimeout));
                self.signals.of_mut(signal).breaker.trip();
            }
        }
    }

    /// Ends requests that were in flight during a freeze, so that they are sent again over a new connection.
    fn take_back_frozen(&mut self) {
        let (now, at) = (self.now, self.at);
        for signal in Signal::ALL {
            let was_frozen = |in_flight: &mut InFlight| in_flight.was_frozen(now, at);
            if let Some(in_flight) = self.signals.of_mut(signal).in_flight.take_if(was_frozen) {
                self.take_back(in_flight);
            }
        }
        if let Some(running) = self.setup.running()
            && was_frozen(running.started, running.started_at, now, at)
        {
            self.setup.abandon();
            self.actions.push(SenderAction::AbortSetup);
            // The fetcher has dropped the old values already, so no refresh is needed.
            self.start_setup(running.blocks, false);
        }
    }

    fn take_back(&mut self, in_flight: InFlight) {
        let InFlight { batch, unheld, .. } = self.abort(in_flight);
        if unheld {
            self.round_trip.record_freeze();
        }
        if let Some(batch) = batch {
            self.buffer.give_back_interrupted(batch);
        }
    }

    /// Ends everything in flight and keeps it for later.
    fn cut_off_all(&mut self) {
        if self.connection.is_warming() {
            self.mark_connections_stale();
        }
        for signal in Signal::ALL {
            if let Some(in_flight) = self.signals.of_mut(signal).in_flight.take() {
                self.take_back(in_flight);
            }
        }
        self.close_flush();
    }
}

/// Reports on itself: to the log and, as telemetry, to the backend.
impl BackendSender {
    fn log(&mut self, report: Option<Report>) {
        let Some(report) = report else { return };
        let recovered = matches!(report, Report::Recovered { .. });
        self.actions.push(SenderAction::Log(report));
        if recovered {
            let current_state = self.current_state();
            let own = self.reporter.report_losses(&current_state, self.now.wall, self.at);
            self.actions.extend(own.into_iter().map(SenderAction::Enqueue));
        }
    }

    fn report_itself(&mut self) {
        let current_state = self.current_state();
        let own = self.reporter.report_itself(&current_state, self.now.wall, self.at);
        self.actions.extend(own.map(SenderAction::Enqueue));
    }

    fn current_state(&self) -> CurrentState {
        CurrentState {
            kept: self.kept(),
            breaker_open: PerSignal::from_fn(|signal| self.signals.of(signal).breaker.is_open()),
        }
    }
}

/// A request that failed and may succeed later.
struct FailedAttempt {
    failure: Failure,
    /// The wait that the backend requested.
    after: Option<Duration>,
    retry: RetryPolicy,
    by_flush: bool,
}
