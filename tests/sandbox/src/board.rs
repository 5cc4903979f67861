//! A value that tasks share and wait on.
//!
//! Nearly every wait in an emulated environment is for a condition: until every extension has called `/next`, until the
//! collector holds ten spans. A [`Board`] holds the value and wakes its waiters at each change, so nothing here polls or
//! sleeps. Closures get the value, never a guard: a guard held across an `await` is a deadlock that no lint detects here.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

/// A shared value. It is cheap to clone; all clones share the value.
#[derive(Debug)]
pub(crate) struct Board<T>(Arc<watch::Sender<T>>);

impl<T> Clone for Board<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Board<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(watch::Sender::new(value)))
    }

    pub(crate) fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.0.borrow())
    }

    /// Changes the value and wakes all its waiters.
    #[expect(clippy::expect_used, reason = "send_modify has run the closure when it returns")]
    pub(crate) fn write<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut result = None;
        self.0.send_modify(|value| result = Some(change(value)));
        result.expect("the closure has run")
    }

    /// Waits until `found` returns a value.
    pub(crate) async fn wait<R>(&self, mut found: impl FnMut(&T) -> Option<R>) -> R {
        let mut changes = self.0.subscribe();
        loop {
            if let Some(result) = found(&changes.borrow_and_update()) {
                return result;
            }
            // The sender is in `self`, so the channel cannot be closed.
            let _ = changes.changed().await;
        }
    }

    /// Waits until `found` returns a value; returns none at the deadline.
    pub(crate) async fn wait_before<R>(
        &self,
        deadline: Instant,
        found: impl FnMut(&T) -> Option<R>,
    ) -> Option<R> {
        tokio::time::timeout_at(deadline.into(), self.wait(found)).await.ok()
    }
}
