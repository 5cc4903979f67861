//! The bytes that several buffers may hold together.
//!
//! Promises that what several of them hold is counted once, for as long as one of them does, and that what was reserved has
//! room beside what is held, as long as a backend answers. Who has to let go where the budget does not suffice is left to
//! [`super::senders`], and what of it to [`super::buffer`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Bytes that it takes to keep a reserved request, beside its own.
const RESERVED_COST: usize = 512;

/// A budget of bytes. Clones are the same budget.
#[derive(Clone, Debug)]
pub struct ByteBudget(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    limit: usize,
    buffers: usize,
    held: AtomicUsize,
    /// For what was accepted and is on its way to the buffers.
    reserved: AtomicUsize,
    is_outage: AtomicBool,
}

/// Bytes that are kept free for a request on its way to the buffers.
#[derive(Debug)]
pub struct Reservation {
    bytes: usize,
    budget: ByteBudget,
}

/// The reason that nothing was reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReserveError {
    /// There is no room now.
    Full,
    /// There is never so much room.
    TooLarge {
        /// The most that can be reserved, in bytes.
        limit: usize,
    },
}

/// Bytes that several buffers hold. Clones are the same bytes.
#[derive(Clone, Debug)]
pub struct SharedBytes(Arc<SharedCharge>);

#[derive(Debug)]
struct SharedCharge {
    bytes: usize,
    budget: ByteBudget,
}

impl ByteBudget {
    /// A budget of `limit` bytes for so many buffers.
    pub fn new(limit: usize, buffers: usize) -> Self {
        Self(Arc::new(Counters {
            limit,
            buffers: buffers.max(1),
            held: AtomicUsize::new(0),
            reserved: AtomicUsize::new(0),
            is_outage: AtomicBool::new(false),
        }))
    }

    /// Bytes that may be held.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// The bytes that each buffer may always hold, even if the others are full.
    pub fn fair_share(&self) -> usize {
        self.0.limit / self.0.buffers
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }

    /// Returns true if the budget has room for `bytes` more.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        self.held().saturating_add(bytes) <= self.0.limit
    }

    /// Notes whether a backend is down. Then the oldest makes room for what is new, as far as the budget goes.
    pub fn note_outage(&self, is_outage: bool) {
        self.0.is_outage.store(is_outage, Ordering::Relaxed);
    }

    /// Keeps room for a request of so many bytes until the reservation is dropped.
    ///
    /// An eighth stays free for what cannot be refused, the platform's logs. While a backend is down, only what is reserved
    /// counts and not what is held.
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

    /// Counts bytes that one buffer holds from now on.
    pub fn take(&self, bytes: usize) {
        self.0.held.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes that it holds no more.
    pub fn give_back(&self, bytes: usize) {
        self.0.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts bytes that several buffers hold from now on, until all of them have dropped their clone.
    pub fn share(&self, bytes: usize) -> SharedBytes {
        self.take(bytes);
        SharedBytes(Arc::new(SharedCharge { bytes, budget: self.clone() }))
    }
}

impl SharedBytes {
    /// The reserved bytes.
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
    fn what_is_reserved_has_room() {
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
    fn in_an_outage_only_reservations_count() {
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
    fn what_several_hold_counts_once_until_the_last_lets_go() {
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
