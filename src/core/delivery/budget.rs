//! The memory budget shared by several buffers.
//!
//! Promises: a chunk that several buffers hold is counted once, until the last of them drops it. Reserved bytes have room as
//! long as a backend answers. When the budget is full, [`super::senders`] decides which buffer must drop chunks, and
//! [`super::buffer`] which chunks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The overhead of holding a reserved request, in bytes.
const RESERVED_COST: usize = 512;

/// A budget of bytes. Clones are the same budget.
#[derive(Clone, Debug)]
pub struct ByteBudget(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    limit: usize,
    buffers: usize,
    held: AtomicUsize,
    /// Bytes of accepted requests that have not reached the buffers yet.
    reserved: AtomicUsize,
    is_outage: AtomicBool,
}

/// Bytes kept free for a request on its way to the buffers. Freed on drop.
#[derive(Debug)]
pub struct Reservation {
    bytes: usize,
    budget: ByteBudget,
}

/// The reason why a reservation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReserveError {
    /// There is no room at the moment.
    Full,
    /// The budget never has that much room.
    TooLarge {
        /// The maximum reservation, in bytes.
        limit: usize,
    },
}

/// Bytes held by several buffers and counted once. Clones are the same bytes.
#[derive(Clone, Debug)]
pub struct SharedBytes(Arc<SharedCharge>);

#[derive(Debug)]
struct SharedCharge {
    bytes: usize,
    budget: ByteBudget,
}

impl ByteBudget {
    /// Returns a budget of `limit` bytes for this many buffers.
    pub fn new(limit: usize, buffers: usize) -> Self {
        Self(Arc::new(Counters {
            limit,
            buffers: buffers.max(1),
            held: AtomicUsize::new(0),
            reserved: AtomicUsize::new(0),
            is_outage: AtomicBool::new(false),
        }))
    }

    /// The maximum number of bytes held.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// The fair share of a buffer: the bytes it may always hold, even if the others are full.
    pub fn fair_share(&self) -> usize {
        self.0.limit / self.0.buffers
    }

    /// The bytes held.
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }

    /// Returns true if the budget has room for `bytes` more.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        self.held().saturating_add(bytes) <= self.0.limit
    }

    /// Records if a backend is down. If so, reservations ignore the held bytes, because the oldest chunks make room for new
    /// ones.
    pub fn note_outage(&self, is_outage: bool) {
        self.0.is_outage.store(is_outage, Ordering::Relaxed);
    }

    /// Reserves room for a request of this many bytes until the reservation is dropped.
    ///
    /// An eighth of the budget stays free for logs of the platform, which cannot be refused. While a backend is down, only
    /// reservations count against the limit, not held bytes.
    pub fn reserve(&self, bytes: usize) -> Result<Reservation, ReserveError> {
        let most = self.0.limit - self.0.limit / 8;
        let limit = most.saturating_sub(RESERVED_COST);
        if bytes > limit {
            return Err(ReserveError::TooLarge { limit });
        }
        let bytes = bytes + RESERVED_COST;
        let taken = if self.0.is_outage.load(Ordering::Relaxed) { 0 } else { self.held() };
        let grow = |reserved: usize| {
            Some(reserved.saturating_add(bytes)).filter(|grown| grown.saturating_add(taken) <= most)
        };
        match self.0.reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow) {
            Ok(_) => Ok(Reservation { bytes, budget: self.clone() }),
            Err(_) => Err(ReserveError::Full),
        }
    }

    /// Counts bytes that one buffer now holds.
    pub fn take(&self, bytes: usize) {
        self.0.held.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Subtracts bytes that a buffer no longer holds.
    pub fn give_back(&self, bytes: usize) {
        self.0.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts bytes that several buffers now hold, until the last clone is dropped.
    pub fn share(&self, bytes: usize) -> SharedBytes {
        self.take(bytes);
        SharedBytes(Arc::new(SharedCharge { bytes, budget: self.clone() }))
    }
}

impl SharedBytes {
    /// The number of bytes.
    pub fn bytes(&self) -> usize {
        self.0.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.0.reserved.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Drop for SharedCharge {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_bytes_have_room() {
        let budget = ByteBudget::new(80_000, 1);
        let limit = 70_000 - RESERVED_COST;
        assert_eq!(budget.reserve(limit + 1).unwrap_err(), ReserveError::TooLarge { limit });
        let first = budget.reserve(30_000).unwrap();
        budget.take(30_000);
        assert_eq!(budget.reserve(10_000).unwrap_err(), ReserveError::Full);
        let second = budget.reserve(8_000).unwrap();
        drop(first);
        budget.reserve(30_000).unwrap();
        drop(second);
        budget.give_back(30_000);
        budget.reserve(limit).unwrap();
    }

    #[test]
    fn only_reservations_count_in_an_outage() {
        let budget = ByteBudget::new(80_000, 1);
        budget.take(80_000);
        assert_eq!(budget.reserve(1).unwrap_err(), ReserveError::Full);
        budget.note_outage(true);
        let _first = budget.reserve(60_000).unwrap();
        assert_eq!(budget.reserve(10_000).unwrap_err(), ReserveError::Full);
        budget.note_outage(false);
        assert_eq!(budget.reserve(1).unwrap_err(), ReserveError::Full);
    }

    #[test]
    fn shared_bytes_count_once_until_the_last_drop() {
        let budget = ByteBudget::new(10, 2);
        let one = budget.share(6);
        let other = one.clone();
        budget.take(4);
        assert_eq!((budget.held(), budget.fair_share()), (10, 5));
        assert!(budget.has_room_for(0) && !budget.has_room_for(1));
        drop(one);
        assert!(!budget.has_room_for(1));
        drop(other);
        assert!(budget.has_room_for(6));
        budget.give_back(4);
        assert_eq!(budget.held(), 0);
    }
}
