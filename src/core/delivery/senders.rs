//! The senders of all backends. Each chunk goes to every sender that takes its signal, and all share one memory budget.
//!
//! Promises: a chunk for several backends is held in memory once. When the shared budget is full, the sender that holds the
//! most drops its oldest chunks, so that a backend that is down costs the others nothing. A flush ends when it has ended for
//! every sender. The end of an invocation waits for probes within a single budget.

use std::time::{Duration, Instant};

use super::budget::ByteBudget;
use super::buffer::Buffer;
use super::event::{SenderAction, SenderContext, SenderEvent, SenderSettings};
use super::probe_budget::ProbeBudget;
use super::sender::BackendSender;
use crate::chunk::Chunk;
use crate::delivery::cadence::DuringInvocation;
use crate::elapsed::Now;
use crate::lambda::lifecycle::FlushReason;
use crate::otlp::Limits;
use crate::signal::Signal;
use crate::trace_context::TraceContext;

/// Actions, each with the index of its sender.
pub type Actions = Vec<(usize, SenderAction)>;

/// The senders of all backends.
#[derive(Debug)]
pub struct Senders {
    of_backends: Vec<BackendSender>,
    budget: ByteBudget,
    probe_budget: ProbeBudget,
}

impl Senders {
    /// Returns senders that together hold at most `budget` bytes.
    pub fn new(settings: Vec<SenderSettings>, budget: ByteBudget, now: Now) -> Self {
        let sender = |settings| BackendSender::new(settings, budget.clone(), now);
        let of_backends = settings.into_iter().map(sender).collect();
        Self { of_backends, budget, probe_budget: ProbeBudget::default() }
    }

    /// The sender at this index.
    pub fn get(&self, place: usize) -> Option<&BackendSender> {
        self.of_backends.get(place)
    }

    /// The time at which the first sender needs a [`SenderEvent::Tick`].
    pub fn timeout(&self) -> Option<Instant> {
        self.of_backends.iter().filter_map(BackendSender::timeout).min()
    }

    /// Returns true if the next invocation must flush at its end.
    pub fn wants_flush(&self) -> bool {
        self.of_backends.iter().any(BackendSender::wants_flush)
    }

    /// The size limits of a request that every sender of the signal accepts; `None` if no sender takes the signal.
    pub fn limits(&self, signal: Signal) -> Option<Limits> {
        let takers = self.of_backends.iter().filter(|sender| sender.takes(signal));
        takers.map(|sender| sender.limits(signal)).min_by_key(|limits| limits.bytes)
    }

    /// Passes an event to the sender at this index.
    pub fn on(&mut self, place: usize, event: SenderEvent, context: &SenderContext<'_>) -> Actions {
        let actions = self.of_backends.get_mut(place).map(|sender| sender.on(event, context));
        self.note_outage();
        actions.into_iter().flatten().map(|action| (place, action)).collect()
    }

    /// Passes an event to every sender.
    pub fn on_all(&mut self, event: impl Fn() -> SenderEvent, context: &SenderContext<'_>) -> Actions {
        let mut actions = Actions::new();
        for (place, sender) in self.of_backends.iter_mut().enumerate() {
            actions.extend(sender.on(event(), context).into_iter().map(|action| (place, action)));
        }
        self.note_outage();
        actions
    }

    /// Updates the budget's outage flag. A backend is down while its sender needs probes or a setup.
    fn note_outage(&self) {
        self.budget.note_outage(self.of_backends.iter().any(|sender| sender.probe_budget().is_some()));
    }

    pub fn begin_invocation(
        &mut self,
        during: DuringInvocation,
        held: bool,
        context: &SenderContext<'_>,
    ) -> Actions {
        let probes = self.of_backends.iter().filter_map(BackendSender::probe_budget).max();
        self.probe_budget.invocation_begins(probes);
        self.on_all(|| SenderEvent::InvocationBegins { during, held }, context)
    }

    pub fn start_flush(
        &mut self,
        reason: FlushReason,
        deadline: Instant,
        context: &SenderContext<'_>,
    ) -> Actions {
        let waits_for_probes = self.waits_for_probes(reason, context.now);
        self.on_all(|| SenderEvent::Flush { reason, deadline, waits_for_probes }, context)
    }

    fn waits_for_probes(&mut self, reason: FlushReason, now: Now) -> bool {
        if reason == FlushReason::Shutdown {
            return false;
        }
        let longest = self.of_backends.iter().filter_map(|sender| sender.probes_end_in(now)).max();
        // Near its deadline the function still runs, so the time of a probe adds nothing.
        reason == FlushReason::NearDeadline || self.probe_budget.try_spend(longest.unwrap_or(Duration::ZERO))
    }

    /// Passes a chunk to every sender that takes its signal.
    pub fn enqueue(&mut self, chunk: &Chunk, context: &SenderContext<'_>) -> Actions {
        let takers = self.of_backends.iter().filter(|sender| sender.takes(chunk.signal)).count();
        // Each sender writes the span into its own copy of log records that await one.
        let is_shared = takers > 1 && chunk.pending_invocation().is_none();
        let has_room = self.of_backends.len() < 2 || self.make_room(chunk, takers, is_shared);
        let share = (has_room && is_shared).then(|| self.budget.share(chunk.size()));
        let mut actions = Actions::new();
        for (place, sender) in self.of_backends.iter_mut().enumerate() {
            if sender.takes(chunk.signal) {
                let event = if has_room {
                    SenderEvent::Enqueued(chunk.clone(), share.clone())
                } else {
                    SenderEvent::NoRoom(chunk.clone())
                };
                actions.extend(sender.on(event, context).into_iter().map(|action| (place, action)));
            }
        }
        actions
    }

    /// Makes room for a chunk by dropping the oldest chunks of the largest sender. Returns false if that is not enough.
    fn make_room(&mut self, chunk: &Chunk, takers: usize, is_shared: bool) -> bool {
        let needed = Buffer::cost_of(chunk, takers, is_shared);
        // Batches in flight cannot be dropped. If they leave too little room, nothing is dropped.
        let in_flight: usize = self.of_backends.iter().map(BackendSender::in_flight_bytes).sum();
        if needed.saturating_add(in_flight) > self.budget.limit() {
            return false;
        }
        while !self.budget.has_room_for(needed) {
            let with_pending = self.of_backends.iter_mut().filter(|sender| sender.has_pending());
            let Some(largest) = with_pending.max_by_key(|sender| sender.total_bytes()) else { return false };
            largest.drop_oldest();
        }
        true
    }

    /// Writes the span of an invocation into all its pending log records.
    pub fn stamp_pending(&mut self, invocation: &str, span: &TraceContext) {
        for sender in &mut self.of_backends {
            sender.stamp_pending(invocation, span);
        }
    }
}
