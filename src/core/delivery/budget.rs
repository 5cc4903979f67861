//! The bytes that several buffers may hold together.
//!
//! Promises that what several of them hold is counted once, for as long as one of them does. Who has to let go where the
//! budget does not suffice is left to [`super::senders`], and what of it to [`super::buffer`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A budget of bytes. Clones are the same budget.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Account>);

#[derive(Debug)]
struct Account {
    limit: usize,
    buffers: usize,
    held: AtomicUsize,
}

/// Bytes that several buffers hold. Clones are the same bytes.
#[derive(Clone, Debug)]
pub struct Share(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes: usize,
    budget: Budget,
}

impl Budget {
    /// A budget of `limit` bytes for so many buffers.
    pub fn new(limit: usize, buffers: usize) -> Self {
        Self(Arc::new(Account { limit, buffers: buffers.max(1), held: AtomicUsize::new(0) }))
    }

    /// Bytes that may be held.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// What each of the buffers may count on, whatever the others hold.
    pub fn fair_part(&self) -> usize {
        self.0.limit / self.0.buffers
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }

    /// Whether so many more may be held.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        self.held().saturating_add(bytes) <= self.0.limit
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
    pub fn share(&self, bytes: usize) -> Share {
        self.take(bytes);
        Share(Arc::new(Shared { bytes, budget: self.clone() }))
    }
}

impl Share {
    /// How many there are.
    pub fn bytes(&self) -> usize {
        self.0.bytes
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_hold_counts_once_until_the_last_lets_go() {
        let budget = Budget::new(10, 2);
        let one = budget.share(6);
        let other = one.clone();
        budget.take(4);
        assert_eq!((budget.held(), budget.fair_part()), (10, 5));
        assert!(budget.has_room_for(0) && !budget.has_room_for(1));
        drop(one);
        assert!(!budget.has_room_for(1));
        drop(other);
        assert!(budget.has_room_for(6));
        budget.give_back(4);
        assert_eq!(budget.held(), 0);
    }
}
