//! The limit on what processors add to a request.

use std::cell::Cell;

/// The largest growth, as a multiple of the request.
const FACTOR: usize = 4;
/// A small request may grow by this many bytes.
const MIN_GROWTH: usize = 64 * 1024;

/// The bytes that processors may still add to a request. What exceeds it is not added, and the request must not be sent: a value may
/// have been left out that masks another.
#[derive(Debug)]
pub(super) struct GrowthBudget {
    left: Cell<usize>,
    is_exceeded: Cell<bool>,
}

impl GrowthBudget {
    /// The budget of a request of this many bytes.
    pub(super) fn of(request: usize) -> Self {
        Self {
            left: Cell::new(request.saturating_mul(FACTOR).max(MIN_GROWTH)),
            is_exceeded: Cell::new(false),
        }
    }

    /// Spends the difference if `new` bytes replace `old`. Returns false if the budget is too small.
    pub(super) fn try_spend(&self, old: usize, new: usize) -> bool {
        let left = self.left.get().checked_sub(new.saturating_sub(old));
        match left {
            Some(left) => self.left.set(left),
            None => self.is_exceeded.set(true),
        }
        left.is_some()
    }

    /// Returns true if text of this many bytes may be put together. Spends nothing: it may replace a text of the same size.
    pub(super) fn allows(&self, old: usize, new: usize) -> bool {
        let allows = new.saturating_sub(old) <= self.left.get();
        if !allows {
            self.is_exceeded.set(true);
        }
        allows
    }

    pub(super) fn is_exceeded(&self) -> bool {
        self.is_exceeded.get()
    }
}
