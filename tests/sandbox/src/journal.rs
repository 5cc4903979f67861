//! What the sandbox saw, in the order it saw it.

use std::time::Instant;

use serde::Deserialize;

/// Everything so far.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// Calls to the Extensions and Telemetry API.
    pub calls: Vec<Call>,
    /// Attempts to deliver telemetry to extensions.
    pub deliveries: Vec<Delivery>,
    /// Lines that the extensions wrote.
    pub output: Vec<OutputLine>,
}

/// A call of an extension.
#[derive(Clone, Debug)]
pub struct Call {
    /// When it arrived.
    pub at: Instant,
    /// Who called, as far as that is known.
    pub extension: Option<String>,
    /// What was called.
    pub what: Operation,
    /// The status of the answer. A `/next` that is allowed has 200 from the moment it arrives.
    pub status: u16,
    /// Why it was refused; `errorType: errorMessage`.
    pub refusal: Option<String>,
    /// Refused because the test wanted so, not because the extension did wrong.
    pub by_fault: bool,
    /// The report of [`Operation::InitError`] or [`Operation::ExitError`].
    pub report: Option<ErrorReport>,
}

/// Why an extension says that it cannot go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ErrorReport {
    /// `errorType`; the header's where the body has none.
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
    /// Anything else that an extension might think there is.
    Unknown,
}

/// One POST of telemetry to an extension.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// When it was begun.
    pub at: Instant,
    /// When the answer was there, or the attempt had failed; none while it is under way.
    pub ended: Option<Instant>,
    /// To whom.
    pub extension: String,
    /// How often this content was tried before.
    pub attempt: u32,
    /// The listener's answer; none if there was none.
    pub status: Option<u16>,
    /// Records within.
    pub records: usize,
    /// Bytes of the body.
    pub bytes: usize,
    /// The request ids of the `platform.runtimeDone` events within.
    pub runtime_done: Vec<String>,
}

impl Delivery {
    /// Whether the listener took it.
    pub fn is_accepted(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// A line on an extension's standard output or error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputLine {
    /// When it was read.
    pub at: Instant,
    /// Whose.
    pub extension: String,
    /// Without its end.
    pub text: String,
}

impl Journal {
    /// Calls that an extension must not make: refused, though no fault was asked for.
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

    /// How often an extension has called an operation and was not refused.
    pub fn count(&self, what: Operation) -> usize {
        self.calls.iter().filter(|call| call.what == what && call.refusal.is_none()).count()
    }

    /// The delivery that reported the end of an invocation: the first that was not refused. It may still be under way,
    /// for a listener may act on what it reads before it answers.
    pub fn runtime_done(&self, request_id: &str) -> Option<&Delivery> {
        let holds = |delivery: &&Delivery| {
            (delivery.is_accepted() || delivery.ended.is_none())
                && delivery.runtime_done.iter().any(|done| done == request_id)
        };
        self.deliveries.iter().find(holds)
    }
}
