//! The bytes that request bodies may take together while they are received, decompressed and converted.
//!
//! Promises: all bodies together never hold more than the limit and an eighth of it, small bodies have that eighth for
//! themselves, so that they get through beside large ones, and a body that could never be held alone gets another answer than
//! one for which there is no room now.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A body of so many bytes is small.
const SMALL: usize = 64 << 10;
const MIB: usize = 1 << 20;

/// A budget of bytes for bodies. Clones are the same budget.
#[derive(Clone, Debug)]
pub struct BodyBudget(Arc<Pools>);

#[derive(Debug)]
struct Pools {
    limit: usize,
    large: AtomicUsize,
    small: AtomicUsize,
}

/// The bytes that one body holds, until it is dropped.
#[derive(Debug)]
pub struct HeldBytes {
    bytes: usize,
    is_small: bool,
    budget: BodyBudget,
}

/// The reason that a body cannot hold more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// Others hold too much.
    Now,
    /// It would exceed the whole budget, of so many bytes.
    Ever(usize),
}

impl BodyBudget {
    /// A budget for bodies of at most `limit` bytes together.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Pools { limit, large: AtomicUsize::new(0), small: AtomicUsize::new(0) }))
    }

    /// The budget of a function with so much memory: an eighth, from 8 to 64 MiB.
    pub fn of_memory(memory_bytes: Option<usize>) -> Self {
        Self::new(memory_bytes.map_or(8 * MIB, |memory| (memory / 8).clamp(8 * MIB, 64 * MIB)))
    }

    /// The most bytes that one body can hold.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// The bytes of a new body: none.
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

    fn give_back(&self, bytes: usize, is_small: bool) {
        self.pool(is_small).0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl HeldBytes {
    /// Holds so many bytes more, if there is room.
    pub fn try_grow(&mut self, more: usize) -> Result<(), NoRoom> {
        let bytes = self.bytes.saturating_add(more);
        if bytes > self.budget.limit() {
            return Err(NoRoom::Ever(self.budget.limit()));
        }
        let stays_small = self.is_small && bytes <= SMALL && self.budget.try_take(more, true);
        if self.is_small && !stays_small {
            if !self.budget.try_take(bytes, false) {
                return Err(NoRoom::Now);
            }
            self.budget.give_back(self.bytes, true);
            self.is_small = false;
        } else if !self.is_small && !self.budget.try_take(more, false) {
            return Err(NoRoom::Now);
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Holds no more than so many bytes.
    pub fn shrink_to(&mut self, bytes: usize) {
        let spared = self.bytes.saturating_sub(bytes);
        self.bytes -= spared;
        self.budget.give_back(spared, self.is_small);
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
    fn small_bodies_pass_beside_large_ones() {
        let budget = BodyBudget::new(8 * MIB);
        let mut large = budget.hold();
        large.try_grow(8 * MIB).unwrap();
        assert_eq!(large.try_grow(1), Err(NoRoom::Ever(8 * MIB)));
        let mut small: Vec<_> = (0..16).map(|_| budget.hold()).collect();
        for held in &mut small {
            held.try_grow(SMALL).unwrap();
        }
        assert_eq!(small[0].try_grow(1), Err(NoRoom::Now));
        assert_eq!(budget.hold().try_grow(1), Err(NoRoom::Now));
        large.shrink_to(7 * MIB);
        small[0].try_grow(1).unwrap();
        budget.hold().try_grow(SMALL).unwrap();
        drop((large, small));
        let mut all = budget.hold();
        all.try_grow(8 * MIB).unwrap();
    }

    #[test]
    fn the_budget_is_an_eighth_of_the_memory() {
        for (memory, limit) in [(None, 8), (Some(128), 16), (Some(32), 8), (Some(10_240), 64)] {
            assert_eq!(BodyBudget::of_memory(memory.map(|memory| memory * MIB)).limit(), limit * MIB);
        }
    }
}
