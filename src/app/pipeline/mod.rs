//! What telemetry passes through between those who take it and those who send it.
//!
//! One queue is the flush barrier: chunks and flushes come through the same channel, so that a flush covers everything
//! that was enqueued before it. Each backend has an outlet of its own, and a flush is over when it is over for all of
//! them; a chunk that goes to several is held once, and where the memory that all share runs out, the one that holds most
//! lets go of its oldest. Log records name the span of their invocation when they leave: it passes by here, and until the
//! end of the invocation they wait. When a flush is called off is left to `app::driver`, which has the deadlines; when
//! what waits is released, to [`crate::core::cadence`].

mod account;
mod export;
mod flush;
mod handle;
mod line;
mod outlet;
#[cfg(test)]
mod tests;
mod verdict;

use std::sync::Arc;
use std::task::Poll;

use tokio::sync::mpsc;
use tokio::task::{Id, JoinError};

pub use self::export::{Export, SettingUp, Setup};
use self::handle::Message;
pub use self::handle::{Control, Handle, Invocation, Refused};
use self::line::Line;
pub use self::outlet::Backend;
use self::outlet::{Common, Ended, Outlet};
use crate::core::cadence::Beside;
use crate::core::chunk::{Chunk, Origin};
use crate::core::config::Config;
use crate::core::correlation::Correlation;
use crate::core::delivery::budget::Budget;
use crate::core::delivery::buffer::Buffer;
use crate::core::delivery::health::Items;
use crate::core::delivery::probe_budget::ProbeBudget;
use crate::core::lifecycle::FlushReason;
use crate::core::otlp::{self, LastEdit, Limits, Part};
use crate::core::platform::{self, Adopted};
use crate::core::resource::ResourceRules;
use crate::core::signal::{PerSignal, Signal};
use crate::edge::clock;

/// The pipeline's own state. [`Pipeline::run`] is its task.
pub struct Pipeline<E> {
    messages: mpsc::Receiver<Message>,
    outlets: Vec<Outlet<E>>,
    budget: Budget,
    rules: ResourceRules,
    /// By these rules.
    last_edit: LastEdit,
    correlation: Correlation,
    probe_budget: ProbeBudget,
    /// Of which signals the log counts what passes, and how much has passed since it last did.
    counted: PerSignal<bool>,
    passed: PerSignal<usize>,
}

impl<E: Export> Pipeline<E> {
    /// A pipeline and the way into it.
    pub fn new(config: &Config, rules: ResourceRules, backends: Vec<Backend<E>>) -> (Self, Handle) {
        let (handle, messages) = Handle::new();
        let budget = Budget::new(config.buffer_max_bytes, backends.len());
        let common = Common {
            rules: &rules,
            budget: &budget,
            batch_max_items: &config.batch_max_items,
            tells_of_itself: config.internal_telemetry,
        };
        let outlets = backends.into_iter().map(|backend| Outlet::new(backend, &common));
        let pipeline = Self {
            messages,
            outlets: outlets.collect(),
            budget,
            rules,
            last_edit: LastEdit::default(),
            correlation: Correlation::new(config.stand_ins),
            probe_budget: ProbeBudget::default(),
            counted: config.debug_log,
            passed: PerSignal::default(),
        };
        (pipeline, handle)
    }

    /// Runs until every handle is gone.
    pub async fn run(mut self) {
        loop {
            let wake_at = self.outlets.iter().filter_map(Outlet::wake_at).min();
            tokio::select! {
                biased;
                // Answers first: they free bytes, and a flush may be waiting for them.
                (outlet, ended) = ended(&mut self.outlets) => {
                    if let Some(outlet) = self.outlets.get_mut(outlet) {
                        outlet.settle(ended);
                    }
                }
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
                () = clock::until(wake_at) => self.outlets.iter_mut().for_each(Outlet::wake),
            }
            self.name_the_forgotten();
            for outlet in &mut self.outlets {
                outlet.dispatch(&self.correlation);
                outlet.finish_flush();
            }
        }
    }

    fn obey(&mut self, control: Control) {
        let outlets = self.outlets.iter_mut();
        match control {
            Control::Prepare => outlets.for_each(Outlet::prepare),
            Control::Invocation(Invocation { request_id, xray, invoked }) => match invoked {
                Some(invoked) => self.correlation.invoked(&request_id, xray, invoked),
                None => self.correlation.started(&request_id, xray),
            },
            Control::CutOff(request_id) => self.correlation.cut_off(&request_id),
            Control::Over { at } => self.correlation.ended(at),
            Control::Open(beside) => self.open(beside),
            Control::Close => outlets.for_each(Outlet::close),
            Control::StayOpen(beside) => outlets.for_each(|outlet| outlet.stay_open(beside)),
            Control::Flush { reason, deadline, done } => {
                self.count_what_passed();
                let waits = self.waits_for_probes(reason);
                let done = Arc::new(done);
                for outlet in &mut self.outlets {
                    if reason == FlushReason::Shutdown {
                        outlet.tell_of_itself();
                    } else {
                        outlet.limit_probes(waits);
                    }
                    outlet.start_flush(reason, deadline, Arc::clone(&done));
                }
            }
            Control::Cancel => outlets.for_each(|outlet| {
                outlet.judge_the_unanswered();
                outlet.call_off();
            }),
            Control::Restored => {
                // All environments of the snapshot would draw the same numbers.
                fastrand::seed(clock::epoch_nanos());
                outlets.for_each(Outlet::restored);
            }
            Control::End(done) => {
                outlets.for_each(Outlet::end);
                let _ = done.send(());
            }
            Control::Instance(instance_id) => {
                self.rules.learn_instance(&instance_id);
                self.last_edit = LastEdit::default();
                outlets.for_each(|outlet| outlet.rules.learn_instance(&instance_id));
            }
            Control::Pulse(pulse) => drop(pulse),
        }
    }

    /// One line a flush, and none where nothing passed: it comes back as a log record itself.
    fn count_what_passed(&mut self) {
        let passed = std::mem::take(&mut self.passed);
        if passed != PerSignal::default() {
            tracing::info!("since the last flush there came {}", Items(&passed));
        }
    }

    fn open(&mut self, beside: Beside) {
        let probes = self.lines().filter_map(|line| line.breaker.probe_budget()).max();
        self.probe_budget.invocation_begins(probes);
        self.outlets.iter_mut().for_each(|outlet| outlet.open(beside));
    }

    fn lines(&self) -> impl Iterator<Item = &Line> {
        self.outlets.iter().flat_map(|outlet| Signal::ALL.map(|signal| outlet.lines.of(signal)))
    }

    /// Whether the end of an invocation waits for the probes that are under way.
    fn waits_for_probes(&mut self, reason: FlushReason) -> bool {
        if reason == FlushReason::Shutdown {
            return false;
        }
        let now = clock::now();
        let longest = self.lines().filter_map(Line::probe_ends_at).max().unwrap_or(now);
        // Near its deadline the function runs still: what a probe takes there is not added to it.
        reason == FlushReason::NearDeadline
            || self.probe_budget.try_spend(longest.saturating_duration_since(now))
    }

    fn ingest(&mut self, chunk: Chunk) {
        let Chunk { signal, mut bytes, mut items, origin, invocation } = chunk;
        match (signal, origin, &invocation) {
            (Signal::Traces, Origin::Sdk, _) => self.correlation.learn(&bytes),
            (Signal::Logs, Origin::Sdk, _) => self.correlation.learn_of_logs(&bytes),
            (Signal::Traces, Origin::Platform, Some(stands_for))
                if !self.correlation.may_stand(stands_for, &bytes) =>
            {
                let rest = platform::adopted(&bytes, self.correlation.of(stands_for));
                let Some(Adopted { bytes: of_stages, spans }) = rest else { return };
                (bytes, items) = (of_stages, spans);
            }
            _ => {}
        }
        if *self.counted.of(signal) {
            *self.passed.of_mut(signal) += items;
        }
        let Some(limits) = self.limits(signal) else { return };
        let bytes = match origin {
            Origin::Sdk => {
                let rules = &self.rules;
                otlp::edit_resources(signal, &bytes, &mut self.last_edit, |resource| rules.apply(resource))
            }
            Origin::Platform => bytes,
        };
        for Part { bytes, items } in otlp::split(signal, Part { bytes, items }, limits) {
            let invocation = invocation.clone();
            self.hand_out(&Chunk { signal, bytes, items, origin, invocation });
        }
    }

    /// What all outlets of a signal send in one request; `None` where it has none.
    fn limits(&self, signal: Signal) -> Option<Limits> {
        let outlets = self.outlets.iter().filter(|outlet| outlet.takes(signal));
        outlets.map(|outlet| outlet.lines.of(signal).limits()).min_by_key(|limits| limits.bytes)
    }

    /// Has each outlet of its signal keep a chunk.
    fn hand_out(&mut self, chunk: &Chunk) {
        let takers = self.outlets.iter().filter(|outlet| outlet.takes(chunk.signal)).count();
        // In log records that await a span, each outlet names it in a copy of its own.
        let is_shared = takers > 1 && chunk.awaits_a_span().is_none();
        let has_room = self.outlets.len() < 2 || self.make_room(chunk, takers, is_shared);
        let share = (has_room && is_shared).then(|| self.budget.share(chunk.size()));
        for outlet in self.outlets.iter_mut().filter(|outlet| outlet.takes(chunk.signal)) {
            if has_room {
                outlet.keep(chunk.clone(), share.clone());
            } else {
                outlet.refuse(chunk);
            }
        }
    }

    /// Makes room for a chunk at the price of who holds most, so that a backend that is down costs the others nothing.
    fn make_room(&mut self, chunk: &Chunk, takers: usize, is_shared: bool) -> bool {
        let needed = Buffer::cost_of(chunk, takers, is_shared);
        // What is in flight cannot go; nothing is to be dropped where that would not suffice.
        let in_flight: usize = self.outlets.iter().map(|outlet| outlet.buffer.in_flight_bytes()).sum();
        if needed.saturating_add(in_flight) > self.budget.limit() {
            return false;
        }
        while !self.budget.has_room_for(needed) {
            let waiting = self.outlets.iter_mut().filter(|outlet| outlet.buffer.is_waiting());
            let Some(hoarder) = waiting.max_by_key(|outlet| outlet.buffer.weight()) else { return false };
            hoarder.buffer.drop_oldest();
            hoarder.count_dropped();
        }
        true
    }

    /// In an outage log records wait for longer than invocations are remembered.
    fn name_the_forgotten(&mut self) {
        for (invocation, span) in self.correlation.take_forgotten() {
            for outlet in &mut self.outlets {
                outlet.buffer.stamp_waiting(&invocation, &span);
            }
        }
    }
}

/// The next task of any outlet that ends; never, where none is under way.
async fn ended<E: Export>(outlets: &mut [Outlet<E>]) -> (usize, Result<(Id, Ended<E>), JoinError>) {
    std::future::poll_fn(|context| {
        for (at, outlet) in outlets.iter_mut().enumerate() {
            if let Poll::Ready(Some(ended)) = outlet.tasks.poll_join_next_with_id(context) {
                return Poll::Ready((at, ended));
            }
        }
        Poll::Pending
    })
    .await
}
