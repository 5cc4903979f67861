//! Invocations that are not held: the extension has called `/next` before their function ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lambda_sandbox::{Builder, Invocation, Sandbox, Status};
use serde_json::Value;
use tokio::sync::watch;

use crate::PATIENCE;

/// The calls of `/next` in a sandbox, for a function that waits for that of its own invocation. If the extension held the
/// invocation, the function would never end.
#[derive(Clone, Debug)]
pub struct NextCalls {
    calls: watch::Receiver<usize>,
    invocations: Arc<AtomicUsize>,
}

impl NextCalls {
    /// Watches the calls in a sandbox.
    pub fn of(builder: Builder) -> (Builder, Self) {
        let (count, calls) = watch::channel(0);
        let builder = builder.on_next(move |_| count.send_modify(|count| *count += 1));
        (builder, Self { calls, invocations: Arc::default() })
    }

    /// For the invocation that begins now: returns once the extension has called `/next`.
    pub fn of_this(&self) -> impl Future<Output = ()> + use<> {
        // One for the init, and one for each invocation.
        let expected = self.invocations.fetch_add(1, Ordering::Relaxed) + 2;
        let mut calls = self.calls.clone();
        async move {
            let called = tokio::time::timeout(PATIENCE, calls.wait_for(|calls| *calls >= expected)).await;
            called.expect("the invocation is not held").expect("the sandbox is there");
        }
    }
}

/// An invocation that goes well and is not held.
pub async fn invoke(sandbox: &Sandbox, payload: Value) -> Invocation {
    let invocation = sandbox.invoke(payload).await.expect("an invocation");
    assert_eq!(invocation.status, Status::Success, "{invocation:?}");
    assert_eq!(invocation.added, Duration::ZERO, "{invocation:?}");
    invocation
}
