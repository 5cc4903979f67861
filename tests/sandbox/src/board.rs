//! A value that tasks share, and wait on.
//!
//! Nearly every wait in an emulated environment is "until this is so": until every extension has called `/next`, until
//! the collector holds ten spans. A [`Board`] keeps the value and wakes who waits at each change, so nothing here polls
//! or sleeps. Closures get the value, never a guard: a guard held over an `await` is a deadlock that no lint sees here.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

/// Cheap to clone; all clones are one value.
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

    /// Changes the value and wakes all who wait on it.
    #[expect(clippy::expect_used, reason = "send_modify has run the closure when it returns")]
    pub(crate) fn write<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut result = None;
        self.0.send_modify(|value| result = Some(change(value)));
        result.expect("the closure has run")
    }

    /// Until `found` yields something.
    pub(crate) async fn wait<R>(&self, mut found: impl FnMut(&T) -> Option<R>) -> R {
        let mut changes = self.0.subscribe();
        loop {
            if let Some(result) = found(&changes.borrow_and_update()) {
                return result;
            }
            // The sender is in `self`, so it cannot be gone.
            let _ = changes.changed().await;
        }
    }

    /// Until `found` yields something, or not at all.
    pub(crate) async fn wait_before<R>(
        &self,
        deadline: Instant,
        found: impl FnMut(&T) -> Option<R>,
    ) -> Option<R> {
        tokio::time::timeout_at(deadline.into(), self.wait(found)).await.ok()
    }
}
