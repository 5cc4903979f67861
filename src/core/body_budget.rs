//! The memory budget that all request bodies share while they are received, decompressed and converted.
//!
//! Promises: all bodies together never hold more than the limit plus an eighth. Small bodies have that eighth
//! to themselves, so large bodies cannot starve them. A body that exceeds the whole budget gets a different
//! error from one that only has to wait for room.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The largest body that counts as small, in bytes.
const SMALL_LIMIT: usize = 64 << 10;
const MIB: usize = 1 << 20;

/// A byte budget for request bodies. Clones share one budget.
#[derive(Clone, Debug)]
pub struct BodyBudget(Arc<Pools>);

#[derive(Debug)]
struct Pools {
    limit: usize,
    large: AtomicUsize,
    small: AtomicUsize,
}

/// The bytes held by one body. Dropping it releases them.
#[derive(Debug)]
pub struct HeldBytes {
    bytes: usize,
    is_small: bool,
    budget: BodyBudget,
}

/// The reason a body cannot hold more bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// Other bodies hold too much at the moment.
    Full,
    /// The body alone would exceed the whole budget, whose size in bytes this is.
    TooLarge(usize),
}

impl BodyBudget {
    /// Creates a budget of `limit` bytes for all bodies together.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Pools { limit, large: AtomicUsize::new(0), small: AtomicUsize::new(0) }))
    }

    /// Creates the budget for a function with `memory_bytes` of memory: an eighth of it, clamped to 8–64 MiB.
    pub fn for_memory(memory_bytes: Option<usize>) -> Self {
        Self::new(memory_bytes.map_or(8 * MIB, |memory| (memory / 8).clamp(8 * MIB, 64 * MIB)))
    }

    /// The most bytes that one body can hold.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Starts a body that holds no bytes yet.
    pub fn hold(&self) -> HeldBytes {
        HeldBytes { bytes: 0, is_small: true, budget: self.clone() }
    }

    fn pool(&self, is_small: bool) -> (&AtomicUsize, usize) {
        if is_small { (&self.0.small, self.0.limit / 8) } else { (&self.0.large, self.0.limit) }
    }

    fn try_take(&self, bytes: usize, is_small: bool) -> bool {
        let (pool, limit) = self.pool(is_small);
        let grow = |taken: usize| taken.checked_add(bytes).filter(|grown| *grown <= limit);
        pool.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).is_ok()
    }

    fn release(&self, bytes: usize, is_small: bool) {
        self.pool(is_small).0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl HeldBytes {
    /// Holds `more` bytes on top, if there is room.
    pub fn try_grow(&mut self, more: usize) -> Result<(), NoRoom> {
        let bytes = self.bytes.saturating_add(more);
        if bytes > self.budget.limit() {
            return Err(NoRoom::TooLarge(self.budget.limit()));
        }
        let stays_small = self.is_small && bytes <= SMALL_LIMIT && self.budget.try_take(more, true);
        if self.is_small && !stays_small {
            if !self.budget.try_take(bytes, false) {
                return Err(NoRoom::Full);
            }
            self.budget.release(self.bytes, true);
            self.is_small = false;
        } else if !self.is_small && !self.budget.try_take(more, false) {
            return Err(NoRoom::Full);
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Releases all but `bytes` bytes.
    pub fn shrink_to(&mut self, bytes: usize) {
        let freed = self.bytes.saturating_sub(bytes);
        self.bytes -= freed;
        self.budget.release(freed, self.is_small);
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_do_not_starve_small_ones() {
        let budget = BodyBudget::new(8 * MIB);
        let mut large = budget.hold();
        large.try_grow(8 * MIB).unwrap();
        assert_eq!(large.try_grow(1), Err(NoRoom::TooLarge(8 * MIB)));
        let mut small: Vec<_> = (0..16).map(|_| budget.hold()).collect();
        for held in &mut small {
            held.try_grow(SMALL_LIMIT).unwrap();
        }
        assert_eq!(small[0].try_grow(1), Err(NoRoom::Full));
        assert_eq!(budget.hold().try_grow(1), Err(NoRoom::Full));
        large.shrink_to(7 * MIB);
        small[0].try_grow(1).unwrap();
        budget.hold().try_grow(SMALL_LIMIT).unwrap();
        drop((large, small));
        let mut all = budget.hold();
        all.try_grow(8 * MIB).unwrap();
    }

    #[test]
    fn budget_is_an_eighth_of_memory() {
        for (memory, limit) in [(None, 8), (Some(128), 16), (Some(32), 8), (Some(10_240), 64)] {
            assert_eq!(BodyBudget::for_memory(memory.map(|memory| memory * MIB)).limit(), limit * MIB);
        }
    }
}
