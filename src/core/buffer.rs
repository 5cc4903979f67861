//! What waits for the backend: bytes held to a budget, cut into batches.
//!
//! Promises: the bytes held never exceed the budget, what goes over it goes oldest first and is counted, and a batch that
//! comes back stands before everything younger. What the SDK sent may leave at any time ([`Buffer::take_sdk`]); what the
//! platform delivered waits for the end of its invocation ([`Buffer::take`]) or for a full batch.

use std::collections::VecDeque;

use crate::core::chunk::{Chunk, Origin};
use crate::core::otlp::Limits;
use crate::core::signal::{PerSignal, Signal};

/// Everything that is held, batches in flight included.
#[derive(Debug)]
pub struct Buffer {
    lanes: PerSignal<Lanes>,
    budget: usize,
    held_bytes: usize,
    next_age: u64,
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
}

/// Chunks on their way to the backend, in one request. Comes back by [`Buffer::give_back`] or [`Buffer::release`].
#[derive(Debug)]
pub struct Batch {
    /// What the chunks hold.
    pub signal: Signal,
    /// Items in all chunks.
    pub items: usize,
    bytes: usize,
    held: Vec<Held>,
}

impl Batch {
    /// The chunks, in the order of the request.
    pub fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.held.iter().map(|held| &held.chunk)
    }
}

/// A point in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Barrier(u64);

impl Buffer {
    /// An empty buffer that holds at most `budget` bytes.
    pub fn new(budget: usize) -> Self {
        Self {
            lanes: PerSignal::default(),
            budget,
            held_bytes: 0,
            next_age: 0,
            dropped: PerSignal::default(),
        }
    }

    /// Takes a chunk, at the price of the oldest where the budget does not suffice. A chunk that is larger than the whole
    /// budget, or does not fit beside what is in flight, is dropped itself.
    pub fn push(&mut self, chunk: Chunk) {
        let size = chunk.bytes.len();
        while self.held_bytes + size > self.budget {
            if !self.drop_oldest() {
                *self.dropped.of_mut(chunk.signal) += chunk.items;
                return;
            }
        }
        self.held_bytes += size;
        let age = self.next_age;
        self.next_age += 1;
        self.lane(&chunk).push_back(Held { age, chunk });
    }

    /// The point behind everything that has come so far.
    pub fn barrier(&self) -> Barrier {
        Barrier(self.next_age)
    }

    /// Whether something of `signal` waits that came before `barrier`.
    pub fn waits_before(&self, signal: Signal, barrier: Barrier) -> bool {
        let lanes = self.lanes.of(signal);
        let before = |lane: &Lane| lane.chunks.front().is_some_and(|held| held.age < barrier.0);
        before(&lanes.sdk) || before(&lanes.platform)
    }

    /// The next batch of everything that waits, within `limits`; a chunk that exceeds them alone goes alone.
    pub fn take(&mut self, signal: Signal, limits: Limits) -> Option<Batch> {
        let lanes = self.lanes.of_mut(signal);
        let mut cut = Cut { limits, held: Vec::new(), bytes: 0, items: 0 };
        cut.fill_from(&mut lanes.sdk);
        cut.fill_from(&mut lanes.platform);
        cut.into_batch(signal)
    }

    /// The next batch of what need not wait: the SDK's, and the platform's where it fills a batch.
    pub fn take_sdk(&mut self, signal: Signal, limits: Limits) -> Option<Batch> {
        let lanes = self.lanes.of_mut(signal);
        let mut cut = Cut { limits, held: Vec::new(), bytes: 0, items: 0 };
        cut.fill_from(&mut lanes.sdk);
        if lanes.platform.items >= limits.items || lanes.platform.bytes >= limits.bytes {
            cut.fill_from(&mut lanes.platform);
        }
        cut.into_batch(signal)
    }

    /// Takes back a batch that did not get through.
    pub fn give_back(&mut self, batch: Batch) {
        for held in batch.held.into_iter().rev() {
            self.lane(&held.chunk).push_front(held);
        }
    }

    /// Lets go of a batch that the backend has, or that it will never take.
    pub fn release(&mut self, batch: &Batch) {
        self.held_bytes -= batch.bytes;
    }

    /// Items dropped for the budget since this was last asked.
    pub fn take_dropped(&mut self) -> PerSignal<usize> {
        std::mem::take(&mut self.dropped)
    }

    /// Bytes held, batches in flight included.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    fn lane(&mut self, chunk: &Chunk) -> &mut Lane {
        let lanes = self.lanes.of_mut(chunk.signal);
        match chunk.origin {
            Origin::Sdk => &mut lanes.sdk,
            Origin::Platform => &mut lanes.platform,
        }
    }

    /// Drops the oldest chunk that is not in flight; says whether there was one.
    fn drop_oldest(&mut self) -> bool {
        let PerSignal { logs, metrics, traces } = &mut self.lanes;
        let lanes = [
            &mut logs.sdk,
            &mut logs.platform,
            &mut metrics.sdk,
            &mut metrics.platform,
            &mut traces.sdk,
            &mut traces.platform,
        ];
        let oldest = lanes
            .into_iter()
            .filter_map(|lane| Some((lane.chunks.front()?.age, lane)))
            .min_by_key(|(age, _)| *age)
            .and_then(|(_, lane)| lane.pop_front());
        let Some(held) = oldest else { return false };
        self.held_bytes -= held.chunk.bytes.len();
        *self.dropped.of_mut(held.chunk.signal) += held.chunk.items;
        true
    }
}

impl Lane {
    fn push_back(&mut self, held: Held) {
        self.bytes += held.chunk.bytes.len();
        self.items += held.chunk.items;
        self.chunks.push_back(held);
    }

    fn push_front(&mut self, held: Held) {
        self.bytes += held.chunk.bytes.len();
        self.items += held.chunk.items;
        self.chunks.push_front(held);
    }

    fn pop_front(&mut self) -> Option<Held> {
        let held = self.chunks.pop_front()?;
        self.bytes -= held.chunk.bytes.len();
        self.items -= held.chunk.items;
        Some(held)
    }
}

/// A batch being cut.
struct Cut {
    limits: Limits,
    held: Vec<Held>,
    bytes: usize,
    items: usize,
}

impl Cut {
    fn fill_from(&mut self, lane: &mut Lane) {
        while let Some(next) = lane.chunks.front() {
            let fits = self.items + next.chunk.items <= self.limits.items
                && self.bytes + next.chunk.bytes.len() <= self.limits.bytes;
            if !fits && !self.held.is_empty() {
                return;
            }
            let Some(held) = lane.pop_front() else { return };
            self.items += held.chunk.items;
            self.bytes += held.chunk.bytes.len();
            self.held.push(held);
        }
    }

    fn into_batch(self, signal: Signal) -> Option<Batch> {
        let Self { held, bytes, items, .. } = self;
        (!held.is_empty()).then_some(Batch { signal, items, bytes, held })
    }
}
