//! The shutdown phase: 2,000 ms in total, then SIGKILL.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::clock;
use crate::environment::{Environment, Processes, RunningFunction};
use crate::outcome::{ExtensionEnd, Shutdown, ShutdownReason};
use crate::state::{Phase, State};

/// The limit of a shutdown. Platform: with external extensions.
const LIMIT: Duration = Duration::from_secs(2);
/// Platform: the part of the limit for the runtime.
const RUNTIME_LIMIT: Duration = Duration::from_millis(300);
/// The maximum time for the system to carry out a SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(5);

impl Environment {
    /// Shuts the whole environment down.
    pub(crate) async fn shut_down(&self, processes: &mut Processes, reason: ShutdownReason) -> Shutdown {
        let start = clock::now();
        let deadline_ms = clock::epoch_millis(clock::wall() + LIMIT);
        self.thaw(processes).await;
        self.state.write(|state| state.phase = Phase::Shutdown);
        self.stop_function(processes, start, reason).await;
        let event = json!({
            "eventType": "SHUTDOWN",
            "shutdownReason": reason.name(),
            "deadlineMs": deadline_ms,
        });
        let notified: Vec<String> = self.state.write(|state| {
            state.dispatch("SHUTDOWN", &event);
            let notified = state.extensions.iter().filter(|extension| extension.takes("SHUTDOWN"));
            notified.map(|extension| extension.name.clone()).collect()
        });
        for (name, process) in &processes.extensions {
            if !notified.contains(name) {
                process.handle().signal(Signal::SIGKILL).await;
            }
        }
        let spawned: Vec<String> = processes.extensions.iter().map(|(name, _)| name.clone()).collect();
        let gone = |state: &State| all_gone(state, &spawned).then_some(());
        let mut killed = Vec::new();
        if self.state.wait_before(start + LIMIT, gone).await.is_none() {
            for (name, process) in &processes.extensions {
                if !self.state.read(|state| is_gone(state, name)) {
                    killed.push(name.clone());
                    process.handle().signal(Signal::SIGKILL).await;
                }
            }
            let killed_all = |state: &State| spawned.iter().all(|name| is_gone(state, name)).then_some(());
            let _ = self.state.wait_before(clock::now() + KILL_LIMIT, killed_all).await;
        }
        let extensions = spawned.iter().map(|name| self.end_of(name, start, killed.contains(name))).collect();
        self.state.write(|state| state.phase = Phase::Stopped);
        self.telemetry.end();
        *processes = Processes::default();
        Shutdown { reason, took: start.elapsed(), extensions }
    }

    async fn stop_function(&self, processes: &mut Processes, start: Instant, reason: ShutdownReason) {
        if let (ShutdownReason::Spindown, Some(RunningFunction::Process(process))) =
            (reason, &processes.function)
        {
            process.handle().signal(Signal::SIGTERM).await;
            let exited = |state: &State| state.runtime.exit.is_some().then_some(());
            let _ = self.state.wait_before(start + RUNTIME_LIMIT, exited).await;
        }
        // Dropping the function kills what is left of it.
        processes.function = None;
    }

    fn end_of(&self, name: &str, start: Instant, killed: bool) -> ExtensionEnd {
        let exit = self.state.read(|state| {
            state
                .extensions
                .iter()
                .find(|extension| extension.name == name)
                .and_then(|extension| extension.exit)
        });
        let took = exit.map_or_else(|| start.elapsed(), |exit| exit.at.saturating_duration_since(start));
        ExtensionEnd { name: name.to_owned(), exit, took, killed }
    }
}

/// Returns true if all processes have exited. An extension that a test plays counts as gone once it got its event or reported
/// an error.
fn all_gone(state: &State, spawned: &[String]) -> bool {
    state.extensions.iter().all(|extension| {
        if spawned.contains(&extension.name) {
            extension.exit.is_some()
        } else {
            extension.outbox.is_none() || extension.reported.is_some()
        }
    })
}

fn is_gone(state: &State, name: &str) -> bool {
    state.extensions.iter().any(|extension| extension.name == name && extension.exit.is_some())
}
