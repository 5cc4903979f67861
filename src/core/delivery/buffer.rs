//! The buffer of one backend: pending chunks within a byte budget, taken in batches.
//!
//! Promises: the bytes held, including their overhead, never exceed the budget. When it is full, the oldest chunks are
//! dropped and counted, and logs of the running invocation come last. A batch that is given back goes before everything
//! younger. Released chunks may be sent during an invocation ([`Buffer::take_early`]). The rest waits for a flush
//! ([`Buffer::take`]), for a full batch, or until half of the budget is used. Buffers of several backends may share one
//! budget. Then a chunk that is in all of them is counted once.

use std::collections::VecDeque;

use crate::chunk::{Chunk, Origin};
use crate::delivery::budget::{ByteBudget, SharedBytes};
use crate::otlp::{self, Limits, RequestPart};
use crate::signal::{PerSignal, Signal};
use crate::trace_context::TraceContext;

/// The overhead of a chunk: its slot in a queue, which may be half empty because it grows by doubling, and the allocator's
/// overhead. Without it, ten thousand log lines of an outage, each in a chunk of its own, would take twice the budget.
const CHUNK_COST: usize = 2 * size_of::<Held>() + 32;

/// All chunks held, including batches in flight.
#[derive(Debug)]
pub struct Buffer {
    lanes: PerSignal<Lanes>,
    budget: ByteBudget,
    /// The cost of all held chunks: [`CHUNK_COST`] and, unless they are shared, their bytes. Includes those in flight.
    held_bytes: usize,
    /// The bytes shared with other buffers, which the budget counts once.
    shared_bytes: usize,
    in_flight_bytes: usize,
    next_age: u64,
    /// The beginning of the running invocation.
    running_from: Barrier,
    dropped: PerSignal<usize>,
}

#[derive(Debug, Default)]
struct Lanes {
    sdk: Lane,
    platform: Lane,
}

#[derive(Debug, Default)]
struct Lane {
    chunks: VecDeque<Held>,
    bytes: usize,
    items: usize,
}

#[derive(Clone, Debug)]
struct Held {
    age: u64,
    chunk: Chunk,
    /// Set if the budget counts the bytes there.
    share: Option<SharedBytes>,
    /// The chunk was sent, but the request was cut off before an answer. The backend may have it.
    interrupted: bool,
}

impl Held {
    /// The cost charged to this buffer.
    fn cost(&self) -> usize {
        if self.share.is_some() { CHUNK_COST } else { cost(&self.chunk) }
    }

    /// The bytes charged once for all buffers.
    fn shared(&self) -> usize {
        self.share.as_ref().map_or(0, SharedBytes::bytes)
    }
}

/// Chunks for one request. Must be returned by [`Buffer::give_back`] or [`Buffer::release`].
#[derive(Debug)]
pub struct Batch {
    /// The signal of the chunks.
    pub signal: Signal,
    /// The items in all chunks.
    pub items: usize,
    /// The maximum encoded size of all chunks, in bytes.
    pub bytes: usize,
    held: Vec<Held>,
}

impl Batch {
    /// The cost of holding the batch.
    fn cost(&self) -> usize {
        self.held.iter().map(Held::cost).sum()
    }

    /// The chunks, in the order of the request.
    pub fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.held.iter().map(|held| &held.chunk)
    }
}

/// A point in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Barrier(u64);

/// The chunks that may be sent during an invocation: those before the barrier of their origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// The barrier for chunks from the SDK.
    pub sdk: Barrier,
    /// The barrier for chunks from the platform.
    pub platform: Barrier,
}

impl Released {
    /// Everything, including future chunks.
    pub const ALL: Self = Self { sdk: Barrier::END, platform: Barrier::END };
    /// Nothing.
    pub const NOTHING: Self = Self { sdk: Barrier::START, platform: Barrier::START };
}

impl Barrier {
    /// Before the first chunk.
    pub const START: Self = Self(0);
    /// After every future chunk.
    pub const END: Self = Self(u64::MAX);
}

impl Buffer {
    /// Returns an empty buffer within `budget`.
    pub fn new(budget: ByteBudget) -> Self {
        Self {
            lanes: PerSignal::default(),
            budget,
            held_bytes: 0,
            shared_bytes: 0,
            in_flight_bytes: 0,
            next_age: 0,
            running_from: Barrier::END,
            dropped: PerSignal::default(),
        }
    }

    /// Adds a chunk. Drops the oldest chunks if the budget has no room. The chunk itself is dropped if it is larger than the
    /// budget or does not fit next to the batches in flight.
    pub fn push(&mut self, chunk: Chunk) {
        self.insert(chunk, None);
    }

    /// Adds a chunk that other buffers hold too. It must not await a span, because stamping it would make a copy.
    pub fn push_shared(&mut self, chunk: Chunk, share: SharedBytes) {
        self.insert(chunk, Some(share));
    }

    fn insert(&mut self, chunk: Chunk, share: Option<SharedBytes>) {
        let held = Held { age: self.next_age, chunk, share, interrupted: false };
        let size = held.cost();
        while !self.budget.has_room_for(size) {
            let immovable = self.budget.held() - (self.held_bytes - self.in_flight_bytes);
            if immovable + size > self.budget.limit() || !self.drop_oldest() {
                return self.count_refused(&held.chunk);
            }
        }
        self.next_age += 1;
        self.charge(&held);
        self.lane(&held.chunk).push_back(held);
    }

    /// Counts a chunk as dropped because there is no room.
    pub fn count_refused(&mut self, chunk: &Chunk) {
        *self.dropped.of_mut(chunk.signal) += chunk.items;
    }

    fn charge(&mut self, held: &Held) {
        self.held_bytes += held.cost();
        self.shared_bytes += held.shared();
        self.budget.take(held.cost());
    }

    fn refund(&mut self, held: &Held) {
        self.held_bytes -= held.cost();
        self.shared_bytes -= held.shared();
        self.budget.give_back(held.cost());
    }

    /// The cost of a chunk that this many buffers hold.
    pub fn cost_of(chunk: &Chunk, buffers: usize, is_shared: bool) -> usize {
        let copies = if is_shared { 1 } else { buffers };
        chunk.size() * copies + CHUNK_COST * buffers
    }

    /// Returns true if half of this buffer's fair share is used.
    pub fn is_half_full(&self) -> bool {
        self.total_bytes() >= self.budget.fair_share() / 2
    }

    /// Returns true if seven eighths of this buffer's fair share are used.
    pub fn is_nearly_full(&self) -> bool {
        self.total_bytes() >= self.budget.fair_share() / 8 * 7
    }

    /// Returns true if a chunk is pending, that is, not in flight.
    pub fn has_pending(&self) -> bool {
        self.pending() != PerSignal::default()
    }

    /// The bytes held, including those shared with other buffers.
    pub fn total_bytes(&self) -> usize {
        self.held_bytes + self.shared_bytes
    }

    /// Begins an invocation, whose logs are dropped last.
    pub fn invocation_begins(&mut self) {
        self.running_from = self.barrier();
    }

    /// The point after everything that has arrived.
    pub fn barrier(&self) -> Barrier {
        Barrier(self.next_age)
    }

    /// Returns true if a chunk of `signal` is pending that arrived before `barrier`.
    pub fn has_pending_before(&self, signal: Signal, barrier: Barrier) -> bool {
        self.has_released(signal, Released { sdk: barrier, platform: barrier })
    }

    /// Returns true if a chunk of `signal` is pending that was released.
    pub fn has_released(&self, signal: Signal, released: Released) -> bool {
        let lanes = self.lanes.of(signal);
        let before =
            |lane: &Lane, barrier: Barrier| lane.chunks.front().is_some_and(|held| held.age < barrier.0);
        before(&lanes.sdk, released.sdk) || before(&lanes.platform, released.platform)
    }

    /// Takes the next batch of all pending chunks, within `limits`. A chunk that exceeds them is a batch of its own.
    pub fn take(&mut self, signal: Signal, limits: Limits) -> Option<Batch> {
        let lanes = self.lanes.of_mut(signal);
        let mut builder = BatchBuilder { limits, held: Vec::new(), bytes: 0, items: 0 };
        builder.fill_from(&mut lanes.sdk, Barrier::END);
        builder.fill_from(&mut lanes.platform, Barrier::END);
        self.depart(builder.into_batch(signal))
    }

    /// Takes the next batch that does not have to wait for a flush: released chunks, and all chunks if they fill a batch or half
    /// of the budget is used.
    pub fn take_early(&mut self, signal: Signal, limits: Limits, released: Released) -> Option<Batch> {
        let pressed = self.is_half_full();
        let lanes = self.lanes.of_mut(signal);
        let mut builder = BatchBuilder { limits, held: Vec::new(), bytes: 0, items: 0 };
        for (lane, released) in [(&mut lanes.sdk, released.sdk), (&mut lanes.platform, released.platform)] {
            let barrier = if pressed || lane.is_full(limits) { Barrier::END } else { released };
            builder.fill_from(lane, barrier);
        }
        self.depart(builder.into_batch(signal))
    }

    /// Returns true if [`Self::take_early`] would return a batch.
    pub fn would_take_early(&self, signal: Signal, limits: Limits, released: Released) -> bool {
        let pressed = self.is_half_full();
        let Lanes { sdk, platform } = self.lanes.of(signal);
        [(sdk, released.sdk), (platform, released.platform)].into_iter().any(|(lane, released)| {
            let barrier = if pressed || lane.is_full(limits) { Barrier::END } else { released };
            lane.chunks.front().is_some_and(|held| held.age < barrier.0)
        })
    }

    fn depart(&mut self, batch: Option<Batch>) -> Option<Batch> {
        self.in_flight_bytes += batch.as_ref().map_or(0, Batch::cost);
        batch
    }

    /// Writes the spans of their invocations, as far as `span_of` knows them, into log records that are about to be sent.
    pub fn stamp(&mut self, batch: &mut Batch, span_of: impl Fn(&str) -> Option<TraceContext>) {
        for Held { chunk, .. } in &mut batch.held {
            if let Some(context) = chunk.pending_invocation().and_then(&span_of) {
                let spared = chunk.stamp(&context);
                batch.bytes -= spared;
                self.in_flight_bytes -= spared;
                self.held_bytes -= spared;
                self.budget.give_back(spared);
            }
        }
    }

    /// Writes the span of an invocation into all its pending log records.
    pub fn stamp_pending(&mut self, invocation: &str, span: &TraceContext) {
        let lane = &mut self.lanes.logs.platform;
        let of_it = |held: &&mut Held| held.chunk.pending_invocation() == Some(invocation);
        for Held { chunk, .. } in lane.chunks.iter_mut().filter(of_it) {
            let spared = chunk.stamp(span);
            lane.bytes -= spared;
            self.held_bytes -= spared;
            self.budget.give_back(spared);
        }
    }

    /// Takes back a batch whose request was cut off before an answer.
    pub fn give_back_interrupted(&mut self, mut batch: Batch) {
        for held in &mut batch.held {
            held.interrupted = true;
        }
        self.give_back(batch);
    }

    /// Returns true if the next chunk was sent before, and its request cut off.
    pub fn next_was_interrupted(&self, signal: Signal) -> bool {
        let Lanes { sdk, platform } = self.lanes.of(signal);
        // A chunk that is given back goes to the front.
        [sdk, platform].into_iter().filter_map(|lane| lane.chunks.front()).any(|held| held.interrupted)
    }

    /// Takes back a batch that was not accepted.
    pub fn give_back(&mut self, batch: Batch) {
        self.in_flight_bytes -= batch.cost();
        for held in batch.held.into_iter().rev() {
            self.lane(&held.chunk).push_front(held);
        }
    }

    /// Takes back a batch that was too large for the backend, split to `limits`. Chunks that cannot be split stay whole.
    pub fn give_back_split(&mut self, batch: Batch, limits: Limits) {
        self.in_flight_bytes -= batch.cost();
        for held in batch.held.into_iter().rev() {
            self.refund(&held);
            let Held { age, chunk, interrupted, .. } = held;
            let Chunk { signal, bytes, items, origin, invocation } = chunk;
            let parts: Vec<_> = otlp::split(signal, RequestPart { bytes, items }, limits).collect();
            for RequestPart { bytes, items } in parts.into_iter().rev() {
                // Each part repeats the resource, so it is not shared.
                let chunk = Chunk { signal, bytes, items, origin, invocation: invocation.clone() };
                let part = Held { age, chunk, share: None, interrupted };
                self.charge(&part);
                self.lane(&part.chunk).push_front(part);
            }
        }
        while !self.budget.has_room_for(0) && self.drop_oldest() {}
    }

    /// Frees a batch that the backend has accepted or will never accept.
    pub fn release(&mut self, batch: &Batch) {
        self.in_flight_bytes -= batch.cost();
        for held in &batch.held {
            self.refund(held);
        }
    }

    /// Takes the counts of items dropped for lack of room.
    pub fn take_dropped(&mut self) -> PerSignal<usize> {
        std::mem::take(&mut self.dropped)
    }

    /// Drops all pending chunks of `signal`, which has no route. Returns the number of items.
    pub fn clear(&mut self, signal: Signal) -> usize {
        let Lanes { sdk, platform } = std::mem::take(self.lanes.of_mut(signal));
        for held in sdk.chunks.iter().chain(&platform.chunks) {
            self.refund(held);
        }
        sdk.items + platform.items
    }

    /// The cost of the batches in flight, in bytes.
    pub fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }

    /// The pending items.
    pub fn pending(&self) -> PerSignal<usize> {
        PerSignal::from_fn(|signal| self.lanes.of(signal).sdk.items + self.lanes.of(signal).platform.items)
    }

    fn lane(&mut self, chunk: &Chunk) -> &mut Lane {
        let lanes = self.lanes.of_mut(chunk.signal);
        match chunk.origin {
            Origin::Sdk => &mut lanes.sdk,
            Origin::Platform => &mut lanes.platform,
        }
    }

    /// Drops the oldest chunk that is not in flight. Returns true if there was one.
    pub fn drop_oldest(&mut self) -> bool {
        let PerSignal { logs, metrics, traces } = &mut self.lanes;
        let lanes = [
            &mut logs.sdk,
            &mut logs.platform,
            &mut metrics.sdk,
            &mut metrics.platform,
            &mut traces.sdk,
            &mut traces.platform,
        ];
        let running_from = self.running_from.0;
        let oldest = lanes
            .into_iter()
            .filter_map(|lane| {
                let Held { age, chunk, .. } = lane.chunks.front()?;
                let is_running_log = chunk.signal == Signal::Logs && *age >= running_from;
                Some(((is_running_log, *age), lane))
            })
            .min_by_key(|(rank, _)| *rank)
            .and_then(|(_, lane)| lane.pop_front());
        let Some(held) = oldest else { return false };
        self.refund(&held);
        self.count_refused(&held.chunk);
        true
    }
}

/// The cost of holding a chunk, in bytes.
fn cost(chunk: &Chunk) -> usize {
    chunk.size() + CHUNK_COST
}

impl Lane {
    /// Returns true if the lane fills a batch.
    fn is_full(&self, limits: Limits) -> bool {
        self.items >= limits.items || self.bytes >= limits.bytes
    }

    fn push_back(&mut self, held: Held) {
        self.bytes += held.chunk.size();
        self.items += held.chunk.items;
        self.chunks.push_back(held);
    }

    fn push_front(&mut self, held: Held) {
        self.bytes += held.chunk.size();
        self.items += held.chunk.items;
        self.chunks.push_front(held);
    }

    fn pop_front(&mut self) -> Option<Held> {
        let held = self.chunks.pop_front()?;
        self.bytes -= held.chunk.size();
        self.items -= held.chunk.items;
        Some(held)
    }
}

/// A batch under construction.
struct BatchBuilder {
    limits: Limits,
    held: Vec<Held>,
    bytes: usize,
    items: usize,
}

impl BatchBuilder {
    fn fill_from(&mut self, lane: &mut Lane, barrier: Barrier) {
        while let Some(next) = lane.chunks.front().filter(|next| next.age < barrier.0) {
            let fits = self.items + next.chunk.items <= self.limits.items
                && self.bytes + next.chunk.size() <= self.limits.bytes;
            if !fits && !self.held.is_empty() {
                return;
            }
            let Some(held) = lane.pop_front() else { return };
            self.items += held.chunk.items;
            self.bytes += held.chunk.size();
            self.held.push(held);
        }
    }

    fn into_batch(self, signal: Signal) -> Option<Batch> {
        let Self { held, bytes, items, .. } = self;
        (!held.is_empty()).then_some(Batch { signal, items, bytes, held })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    const WIDE: Limits = Limits { items: 100, bytes: 1000 };

    const SDK: Released = Released { sdk: Barrier::END, platform: Barrier::START };

    fn chunk(signal: Signal, origin: Origin, size: usize) -> Chunk {
        Chunk { signal, bytes: Bytes::from(vec![0; size]), items: size, origin, invocation: None }
    }

    /// Returns a buffer with room for this many chunks with this many bytes in total.
    fn buffer(chunks: usize, bytes: usize) -> Buffer {
        Buffer::new(ByteBudget::new(chunks * CHUNK_COST + bytes, 1))
    }

    fn sizes(batch: &Batch) -> Vec<usize> {
        batch.chunks().map(|chunk| chunk.items).collect()
    }

    #[test]
    fn oldest_chunks_are_dropped_first_and_counted() {
        let mut buffer = buffer(2, 10);
        buffer.push(chunk(Signal::Traces, Origin::Sdk, 4));
        buffer.push(chunk(Signal::Logs, Origin::Platform, 4));
        buffer.push(chunk(Signal::Metrics, Origin::Sdk, 6));
        assert_eq!(buffer.take_dropped(), PerSignal { traces: 4, ..PerSignal::default() });
        assert_eq!(buffer.held_bytes, 2 * CHUNK_COST + 10);
        assert!(buffer.take(Signal::Traces, WIDE).is_none());
        assert!(buffer.take(Signal::Logs, WIDE).is_some());
    }

    #[test]
    fn logs_of_the_running_invocation_are_dropped_last() {
        let mut buffer = buffer(3, 12);
        buffer.push(chunk(Signal::Logs, Origin::Platform, 2));
        buffer.invocation_begins();
        buffer.push(chunk(Signal::Logs, Origin::Platform, 4));
        buffer.push(chunk(Signal::Traces, Origin::Sdk, 6));
        let mut dropped = || {
            buffer.push(chunk(Signal::Logs, Origin::Platform, 4));
            buffer.take_dropped()
        };
        assert_eq!(dropped(), PerSignal { traces: 6, logs: 2, ..PerSignal::default() });
        assert_eq!(dropped(), PerSignal::default());
        assert_eq!(dropped(), PerSignal { logs: 4, ..PerSignal::default() });
    }

    #[test]
    fn parts_of_a_split_batch_keep_their_place() {
        use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
        use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
        use prost::Message as _;
        let log_records = vec![LogRecord { time_unix_nano: 1, ..LogRecord::default() }; 8];
        let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
        let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
        let bytes = Bytes::from(ExportLogsServiceRequest { resource_logs }.encode_to_vec());
        let size = bytes.len();
        let mut buffer = buffer(10, 1000);
        buffer.push(Chunk {
            signal: Signal::Logs,
            bytes,
            items: 8,
            origin: Origin::Platform,
            invocation: None,
        });
        let batch = buffer.take(Signal::Logs, WIDE).expect("a batch");
        buffer.push(chunk(Signal::Logs, Origin::Platform, 1));
        let halves = Limits { items: 100, bytes: size / 2 };
        buffer.give_back_split(batch, halves);
        let mut items = 0;
        while let Some(batch) = buffer.take(Signal::Logs, halves) {
            assert!(batch.bytes <= size / 2, "{} bytes", batch.bytes);
            items += batch.items;
            buffer.release(&batch);
        }
        assert_eq!(items, 9);
        assert_eq!((buffer.held_bytes, buffer.in_flight_bytes), (0, 0));
    }

    #[test]
    fn stamping_stays_within_the_reserved_size() {
        use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
        use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
        use prost::Message as _;
        let scope_logs = vec![ScopeLogs { log_records: vec![LogRecord::default()], ..ScopeLogs::default() }];
        let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
        let line = Bytes::from(ExportLogsServiceRequest { resource_logs }.encode_to_vec());
        let of = |invocation: &str| Chunk {
            bytes: line.clone(),
            invocation: Some(Arc::from(invocation)),
            ..chunk(Signal::Logs, Origin::Platform, 1)
        };
        let size = of("a").size();
        let mut buffer = buffer(2, 2 * size);
        buffer.push(of("a"));
        buffer.push(of("b"));
        assert_eq!(buffer.take_dropped(), PerSignal::default());
        assert_eq!(buffer.held_bytes, 2 * (CHUNK_COST + size));

        let context = TraceContext { trace_id: [1; 16], span_id: [2; 8], sampled: true };
        let awaiting = |batch: &Batch| {
            batch.chunks().map(|chunk| chunk.pending_invocation().map(str::to_owned)).collect::<Vec<_>>()
        };
        // The limit is the maximum size that stamping can reach.
        let mut batch = buffer.take(Signal::Logs, Limits { items: 2, bytes: 2 * size }).expect("a batch");
        buffer.stamp(&mut batch, |invocation| (invocation == "a").then_some(context));
        assert_eq!(awaiting(&batch), [None, Some("b".to_owned())]);
        buffer.give_back(batch);

        let mut batch = buffer.take(Signal::Logs, Limits { items: 2, bytes: 2 * size }).expect("a batch");
        buffer.stamp(&mut batch, |_| Some(context));
        assert_eq!(awaiting(&batch), [None, None]);
        assert!(batch.chunks().all(|chunk| chunk.bytes == otlp::stamp(&line, &context)));
        assert_eq!(batch.bytes, batch.chunks().map(|chunk| chunk.bytes.len()).sum::<usize>());
        buffer.release(&batch);
        assert_eq!((buffer.held_bytes, buffer.in_flight_bytes), (0, 0));
    }

    #[test]
    fn chunk_larger_than_the_budget_drops_only_itself() {
        let mut buffer = buffer(1, 10);
        buffer.push(chunk(Signal::Traces, Origin::Sdk, 4));
        buffer.push(chunk(Signal::Logs, Origin::Sdk, 11));
        assert_eq!(buffer.take_dropped(), PerSignal { logs: 11, ..PerSignal::default() });
        assert_eq!(buffer.held_bytes, CHUNK_COST + 4);
    }

    #[test]
    fn batches_in_flight_count_and_are_never_dropped() {
        let mut buffer = buffer(1, 10);
        buffer.push(chunk(Signal::Traces, Origin::Sdk, 8));
        let batch = buffer.take(Signal::Traces, WIDE).expect("a batch");
        buffer.push(chunk(Signal::Logs, Origin::Sdk, 4));
        assert_eq!(buffer.take_dropped().logs, 4);
        buffer.release(&batch);
        assert_eq!(buffer.held_bytes, 0);
    }

    #[test]
    fn returned_batch_goes_before_newer_chunks() {
        let mut buffer = buffer(10, 100);
        for size in [1, 2] {
            buffer.push(chunk(Signal::Logs, Origin::Platform, size));
        }
        let batch = buffer.take(Signal::Logs, WIDE).expect("a batch");
        buffer.push(chunk(Signal::Logs, Origin::Platform, 3));
        buffer.give_back(batch);
        assert_eq!(sizes(&buffer.take(Signal::Logs, WIDE).expect("a batch")), [1, 2, 3]);
    }

    #[test]
    fn platform_logs_wait_unless_they_fill_a_batch() {
        let mut buffer = buffer(10, 1000);
        buffer.push(chunk(Signal::Logs, Origin::Platform, 60));
        buffer.push(chunk(Signal::Logs, Origin::Sdk, 5));
        assert_eq!(sizes(&buffer.take_early(Signal::Logs, WIDE, SDK).expect("a batch")), [5]);
        assert!(buffer.take_early(Signal::Logs, WIDE, SDK).is_none());
        buffer.push(chunk(Signal::Logs, Origin::Platform, 40));
        assert_eq!(sizes(&buffer.take_early(Signal::Logs, WIDE, SDK).expect("a batch")), [60, 40]);
    }

    #[test]
    fn logs_from_before_the_invocation_are_released() {
        let mut buffer = buffer(10, 1000);
        buffer.push(chunk(Signal::Logs, Origin::Platform, 1));
        let barrier = buffer.barrier();
        buffer.push(chunk(Signal::Logs, Origin::Platform, 2));
        assert_eq!(
            sizes(
                &buffer
                    .take_early(Signal::Logs, WIDE, Released { sdk: Barrier::END, platform: barrier })
                    .expect("a batch")
            ),
            [1]
        );
        assert!(
            buffer
                .take_early(Signal::Logs, WIDE, Released { sdk: Barrier::END, platform: barrier })
                .is_none()
        );
    }

    #[test]
    fn chunk_that_cannot_fit_drops_only_itself() {
        let mut buffer = buffer(2, 10);
        buffer.push(chunk(Signal::Traces, Origin::Sdk, 8));
        let in_flight = buffer.take(Signal::Traces, WIDE).expect("a batch");
        buffer.push(chunk(Signal::Traces, Origin::Sdk, 1));
        buffer.push(chunk(Signal::Logs, Origin::Sdk, 4));
        assert_eq!(buffer.take_dropped(), PerSignal { logs: 4, ..PerSignal::default() });
        assert_eq!(buffer.pending(), PerSignal { traces: 1, ..PerSignal::default() });
        buffer.give_back(in_flight);
        assert_eq!(buffer.pending(), PerSignal { traces: 9, ..PerSignal::default() });
    }

    #[test]
    fn barrier_separates_earlier_from_later_chunks() {
        let mut buffer = buffer(10, 1000);
        buffer.push(chunk(Signal::Logs, Origin::Sdk, 1));
        let barrier = buffer.barrier();
        buffer.push(chunk(Signal::Traces, Origin::Sdk, 1));
        assert!(buffer.has_pending_before(Signal::Logs, barrier));
        assert!(!buffer.has_pending_before(Signal::Traces, barrier));
        buffer.take(Signal::Logs, WIDE);
        assert!(!buffer.has_pending_before(Signal::Logs, barrier));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push { signal: Signal, origin: Origin, size: usize },
        Take(Signal),
        TakeEarly(Signal),
        GiveBack,
        Release,
    }

    fn step() -> impl Strategy<Value = Step> {
        let signal = || prop::sample::select(Signal::ALL.to_vec());
        let origin = prop::sample::select(vec![Origin::Sdk, Origin::Platform]);
        prop_oneof![
            4 => (signal(), origin, 0..40_usize).prop_map(|(signal, origin, size)| Step::Push { signal, origin, size }),
            1 => signal().prop_map(Step::Take),
            1 => signal().prop_map(Step::TakeEarly),
            1 => Just(Step::GiveBack),
            1 => Just(Step::Release),
        ]
    }

    proptest! {
        #[test]
        fn no_item_is_lost_uncounted(
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let limits = Limits { items: 50, bytes: 60 };
            let early = Released { sdk: Barrier(9), platform: Barrier(7) };
            let mut buffer = buffer(5, 100);
            let budget = buffer.budget.clone();
            let mut in_flight: Vec<Batch> = Vec::new();
            let (mut pushed, mut released, mut dropped) = (0, 0, 0);
            for step in steps {
                match step {
                    Step::Push { signal, origin, size } => {
                        pushed += size;
                        buffer.push(chunk(signal, origin, size));
                    }
                    Step::Take(signal) => in_flight.extend(buffer.take(signal, limits)),
                    Step::TakeEarly(signal) => in_flight.extend(buffer.take_early(signal, limits, early)),
                    Step::GiveBack => in_flight.pop().into_iter().for_each(|batch| buffer.give_back(batch)),
                    Step::Release => {
                        if let Some(batch) = in_flight.pop() {
                            released += batch.items;
                            buffer.release(&batch);
                        }
                    }
                }
                let PerSignal { logs, metrics, traces } = buffer.take_dropped();
                dropped += logs + metrics + traces;
                for batch in &in_flight {
                    prop_assert!(batch.items <= limits.items || batch.chunks().count() == 1);
                }
                prop_assert!(buffer.held_bytes <= budget.limit() && buffer.held_bytes == budget.held());
                // Chunks in this test have as many bytes as items, so one sum checks both.
                let lanes = Signal::ALL.into_iter().map(|signal| buffer.lanes.of(signal));
                let pending: usize =
                    lanes.map(|lanes| lanes.sdk.chunks.len() + lanes.platform.chunks.len()).sum();
                let in_flight_chunks: usize = in_flight.iter().map(|batch| batch.held.len()).sum();
                let items = pushed - released - dropped;
                prop_assert_eq!(buffer.held_bytes, items + (pending + in_flight_chunks) * CHUNK_COST);
            }
        }
    }
}
