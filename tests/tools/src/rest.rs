//! Waits for an idle extension: one that uses no CPU.

use std::time::Duration;

use lambda_sandbox::Sandbox;

/// The time without CPU use after which an extension counts as idle, under valgrind as well.
const REST: Duration = Duration::from_millis(300);
/// The interval of looking.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until the extension is idle.
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
