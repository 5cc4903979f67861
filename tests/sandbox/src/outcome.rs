//! The outcomes of phases.

use std::time::Duration;

use crate::collector::Received;
use crate::process::Exit;
use crate::state::Answer;

/// The `status` of the platform's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Everything succeeded.
    Success,
    /// The function or an extension failed.
    Error,
    /// The time limit was reached.
    Timeout,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Timeout => "timeout",
        }
    }
}

/// The outcome of an init.
#[derive(Clone, Debug)]
pub struct Init {
    pub status: Status,
    /// The reason for a failure and the culprit: `Extension.Crash`, `Runtime.ExitError`, …
    pub error: Option<String>,
    /// The time from the start of the first process until all were ready.
    pub took: Duration,
    /// Each extension, and the time from its start to its first `/next`.
    pub extensions: Vec<(String, Option<Duration>)>,
    /// The shutdown of the environment, if the init failed.
    pub shutdown: Option<Shutdown>,
}

/// The outcome of an invocation.
#[derive(Clone, Debug)]
pub struct Invocation {
    pub request_id: String,
    /// True for the first invocation of its environment.
    pub cold_start: bool,
    /// The answer to the caller.
    pub answer: Answer,
    /// The status in `platform.report`.
    pub status: Status,
    /// The reason for a failure: `Extension.Crash`, `Runtime.ExitError`, or the function's own error type.
    pub error_type: Option<String>,
    /// The time from the event to the end of the function, when its runtime asked for more work.
    pub function: Duration,
    /// The time from the end of the function to the last extension's `/next`, which extensions add to the bill. Zero if they
    /// were done before the function.
    pub added: Duration,
    /// The part of `added` after the delivery of `platform.runtimeDone` started: the time of the extension's own work. None if
    /// it was not delivered before `/next`.
    pub added_after_delivery: Option<Duration>,
    /// The total time.
    pub total: Duration,
    /// The attached collector's requests at the moment of the last extension's `/next`.
    pub collector_at_next: Option<Received>,
    /// The shutdown, if the environment was reset after the invocation.
    pub reset: Option<Shutdown>,
}

/// The outcome of a shutdown.
#[derive(Clone, Debug)]
pub struct Shutdown {
    pub reason: ShutdownReason,
    /// The time until the last extension had exited.
    pub took: Duration,
    /// The end of each extension that was a process.
    pub extensions: Vec<ExtensionEnd>,
}

/// The end of an extension.
#[derive(Clone, Debug)]
pub struct ExtensionEnd {
    pub name: String,
    /// The exit of its process; none if it could not even be killed.
    pub exit: Option<Exit>,
    /// The time from the start of the shutdown.
    pub took: Duration,
    /// True if it still ran at the deadline and was killed. An extension that has not registered for SHUTDOWN is killed at
    /// once, which is not its fault.
    pub killed: bool,
}

impl Shutdown {
    /// Returns true if all extensions exited on their own and successfully.
    pub fn is_clean(&self) -> bool {
        self.extensions.iter().all(|end| !end.killed && end.exit.is_some_and(|exit| exit.status.success()))
    }
}

/// The `shutdownReason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownReason {
    /// The environment is no longer needed.
    Spindown,
    /// The function timed out.
    Timeout,
    /// The function or an extension crashed.
    Failure,
}

impl ShutdownReason {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Spindown => "spindown",
            Self::Timeout => "timeout",
            Self::Failure => "failure",
        }
    }
}
