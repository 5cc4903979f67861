//! How phases end.

use std::time::Duration;

use crate::collector::Received;
use crate::process::Exit;
use crate::state::Answer;

/// `status` of the platform's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// All went well.
    Success,
    /// The function or an extension failed.
    Error,
    /// The time was up.
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

/// An init.
#[derive(Clone, Debug)]
pub struct Init {
    /// How it ended.
    pub status: Status,
    /// Why it did not end well: `Extension.Crash`, `Runtime.ExitError`, … with who it was.
    pub error: Option<String>,
    /// From the start of the first process until all were ready.
    pub took: Duration,
    /// Each extension, and how long it took from its start to its first `/next`.
    pub extensions: Vec<(String, Option<Duration>)>,
    /// The end of the environment, where it did not end well.
    pub shutdown: Option<Shutdown>,
}

/// An invocation.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Its id.
    pub request_id: String,
    /// The first of its environment.
    pub cold_start: bool,
    /// What the caller got.
    pub answer: Answer,
    /// As `platform.report` has it.
    pub status: Status,
    /// Why, if not well: `Extension.Crash`, `Runtime.ExitError`, the function's own error type.
    pub error_type: Option<String>,
    /// From the event to the end of the function, when its runtime asked for more work.
    pub function: Duration,
    /// From the end of the function to the last extension's `/next`: what extensions added to the bill. Zero if they
    /// were done before the function.
    pub added: Duration,
    /// Of this, from the moment when `platform.runtimeDone` was begun to be delivered: what the extension's own work
    /// took. None if it was not delivered before `/next`.
    pub added_after_delivery: Option<Duration>,
    /// All of it.
    pub total: Duration,
    /// What the attached collector held at the moment of the last extension's `/next`.
    pub collector_at_next: Option<Received>,
    /// The environment was reset after it.
    pub reset: Option<Shutdown>,
}

/// A shutdown.
#[derive(Clone, Debug)]
pub struct Shutdown {
    /// Why.
    pub reason: ShutdownReason,
    /// Until the last extension was gone.
    pub took: Duration,
    /// Each extension that was a process.
    pub extensions: Vec<ExtensionEnd>,
}

/// The end of an extension.
#[derive(Clone, Debug)]
pub struct ExtensionEnd {
    /// Its name.
    pub name: String,
    /// How its process ended; none if it cannot even be killed.
    pub exit: Option<Exit>,
    /// From the start of the shutdown.
    pub took: Duration,
    /// It was still there at the deadline, and was killed. One that has not registered for SHUTDOWN is killed at once,
    /// which is no fault of its.
    pub killed: bool,
}

impl Shutdown {
    /// All extensions ended by themselves, and with success.
    pub fn is_clean(&self) -> bool {
        self.extensions.iter().all(|end| !end.killed && end.exit.is_some_and(|exit| exit.status.success()))
    }
}

/// `shutdownReason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownReason {
    /// The environment is not needed any more.
    Spindown,
    /// The function ran into its timeout.
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
