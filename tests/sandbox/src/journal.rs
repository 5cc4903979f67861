//! The sandbox's observations, in order.

use std::time::Instant;

use serde::Deserialize;

/// All observations so far.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// Calls to the Extensions and Telemetry API.
    pub calls: Vec<Call>,
    /// Attempts to deliver telemetry to extensions.
    pub deliveries: Vec<Delivery>,
    /// Lines of output of the extensions.
    pub output: Vec<OutputLine>,
}

/// A call of an extension.
#[derive(Clone, Debug)]
pub struct Call {
    /// The time of its arrival.
    pub at: Instant,
    /// The calling extension, if known.
    pub extension: Option<String>,
    /// The operation that was called.
    pub what: Operation,
    /// The status of the answer. An allowed `/next` has 200 from the moment it arrives.
    pub status: u16,
    /// The reason for a refusal: `errorType: errorMessage`.
    pub refusal: Option<String>,
    /// True if a test's fault refused the call, not because the extension made a mistake.
    pub by_fault: bool,
    /// The report of [`Operation::InitError`] or [`Operation::ExitError`].
    pub report: Option<ErrorReport>,
}

/// An extension's report that it cannot continue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ErrorReport {
    /// `errorType`; taken from the header if the body has none.
    pub error_type: String,
    /// `errorMessage`.
    pub error_message: String,
}

/// The operations of the Extensions and Telemetry API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `POST /2020-01-01/extension/register`
    Register,
    /// `PUT /2022-07-01/telemetry`
    Subscribe,
    /// `GET /2020-01-01/extension/event/next`
    Next,
    /// `POST /2020-01-01/extension/init/error`
    InitError,
    /// `POST /2020-01-01/extension/exit/error`
    ExitError,
    /// Any other operation.
    Unknown,
}

/// One POST of telemetry to an extension.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The time it started.
    pub at: Instant,
    /// The time of the answer or of the failure; none while it is in progress.
    pub ended: Option<Instant>,
    /// The receiving extension.
    pub extension: String,
    /// The number of earlier attempts with this content.
    pub attempt: u32,
    /// The status of the listener's answer, if any.
    pub status: Option<u16>,
    /// The number of records.
    pub records: usize,
    /// The size of the body.
    pub bytes: usize,
    /// The request ids of its `platform.runtimeDone` events.
    pub runtime_done: Vec<String>,
}

impl Delivery {
    /// Returns true if the listener accepted it.
    pub fn is_accepted(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// A line of an extension's standard output or standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputLine {
    /// The time it was read.
    pub at: Instant,
    /// The extension that wrote it.
    pub extension: String,
    /// The line, without its line ending.
    pub text: String,
}

impl Journal {
    /// Calls that an extension must not make: refused without a fault set by the test.
    pub fn violations(&self) -> Vec<String> {
        self.calls
            .iter()
            .filter(|call| !call.by_fault)
            .filter_map(|call| {
                let who = call.extension.as_deref().unwrap_or("somebody");
                call.refusal.as_ref().map(|why| format!("{who}: {:?}: {why}", call.what))
            })
            .collect()
    }

    /// The number of calls of an operation that were not refused.
    pub fn count(&self, what: Operation) -> usize {
        self.calls.iter().filter(|call| call.what == what && call.refusal.is_none()).count()
    }

    /// The delivery that reported the end of an invocation: the first that was not refused. It may still be in progress,
    /// because a listener may act on the data before it answers.
    pub fn runtime_done(&self, request_id: &str) -> Option<&Delivery> {
        let holds = |delivery: &&Delivery| {
            (delivery.is_accepted() || delivery.ended.is_none())
                && delivery.runtime_done.iter().any(|done| done == request_id)
        };
        self.deliveries.iter().find(holds)
    }
}
