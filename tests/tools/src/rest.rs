//! When an extension has nothing more to do: it then uses no CPU.

use std::time::Duration;

use lambda_sandbox::Sandbox;

/// How long it has used no CPU when it is taken to be at rest, under valgrind as well.
const REST: Duration = Duration::from_millis(300);
/// How often is looked.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until the extension has nothing more to do.
pub(crate) async fn until_at_rest(sandbox: &Sandbox) {
    let mut used = sandbox.cpu_time();
    let mut rested = Duration::ZERO;
    while rested < REST {
        tokio::time::sleep(LOOK).await;
        let now = sandbox.cpu_time();
        rested = if now == used { rested + LOOK } else { Duration::ZERO };
        used = now;
    }
}
