//! The state of every participant in the environment: the legal-state table.
//!
//! A plain state machine without IO. The two APIs pass it each call and return its answer. The phases ([`crate::environment`])
//! advance it and wait for the states they need.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use serde_json::Value;

use crate::collector::Received;
use crate::id;
use crate::process::Exit;

/// The answer of an API to a wrong call: the status, and `errorType` and `errorMessage` of the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    pub(crate) error_type: &'static str,
    pub(crate) message: String,
}

impl ApiError {
    pub(crate) fn new(status: u16, error_type: &'static str, message: impl Into<String>) -> Self {
        Self { status, error_type, message: message.into() }
    }
}

/// The state of the whole environment.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The number of inits: a reset invalidates all earlier ids and waiting calls.
    pub(crate) generation: u64,
    pub(crate) phase: Phase,
    /// Lambda Managed Instances: several invocations at once, and extensions are not notified.
    pub(crate) managed: bool,
    pub(crate) extensions: Vec<Extension>,
    pub(crate) runtime: Runtime,
    pub(crate) invocations: HashMap<String, Running>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing runs yet, or nothing runs any more.
    #[default]
    Stopped,
    Init,
    /// Initialised: an invocation is running, or the environment is frozen between invocations.
    Ready,
    Shutdown,
}

/// An extension as Lambda sees it.
#[derive(Debug)]
pub(crate) struct Extension {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) events: Vec<String>,
    pub(crate) stage: Stage,
    /// The event to answer its `/next` with.
    pub(crate) outbox: Option<Value>,
    /// The start of its process.
    pub(crate) started: Instant,
    pub(crate) first_next: Option<Instant>,
    /// The time of its last `/next`, and the collector's requests at that time.
    pub(crate) last_next: Option<(Instant, Option<Received>)>,
    /// The error type that it reported to `init/error` or `exit/error`.
    pub(crate) reported: Option<String>,
    pub(crate) exit: Option<Exit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Started,
    Registered,
    /// In `/next`, without an event.
    Waiting,
    /// In `/next`, with an event about to be sent.
    Dispatched,
    /// Received INVOKE and has not called `/next` since.
    Running,
    /// Received SHUTDOWN.
    Stopping,
    InitError,
    ExitError,
}

/// The function's runtime.
#[derive(Debug, Default)]
pub(crate) struct Runtime {
    /// True if it has asked for work at least once.
    pub(crate) ready: bool,
    /// The number of its workers that are waiting for work.
    pub(crate) idle: usize,
    /// SnapStart: true while it waits for the restore.
    pub(crate) before_restore: bool,
    pub(crate) pending: VecDeque<Arc<Invoke>>,
    pub(crate) init_error: Option<Answer>,
    /// The reason for its exit, if it has exited.
    pub(crate) exit: Option<String>,
}

/// An invocation as passed to the runtime.
#[derive(Debug)]
pub(crate) struct Invoke {
    pub(crate) request_id: String,
    pub(crate) deadline_ms: u64,
    pub(crate) arn: String,
    pub(crate) trace: String,
    pub(crate) payload: Bytes,
}

/// A running invocation.
#[derive(Debug, Default)]
pub(crate) struct Running {
    pub(crate) handed: bool,
    pub(crate) answer: Option<Answer>,
    pub(crate) answered: Option<Instant>,
    pub(crate) done: Option<Instant>,
}

/// The answer of an invocation.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The function's response.
    Response(Bytes),
    /// The function's or Lambda's error.
    Error {
        /// `errorType`, such as `Runtime.ExitError`.
        error_type: String,
        /// The posted body.
        body: Bytes,
    },
    /// The function timed out without an answer.
    Timeout,
}

impl State {
    /// Starts a new environment with these extensions.
    pub(crate) fn begin(&mut self, extensions: &[String], now: Instant) {
        *self = Self {
            generation: self.generation + 1,
            phase: Phase::Init,
            managed: self.managed,
            extensions: extensions.iter().map(|name| Extension::new(name, now)).collect(),
            ..Self::default()
        };
    }

    /// Handles `POST /extension/register`. Returns the identifier.
    pub(crate) fn register(&mut self, name: &str, events: Vec<String>) -> Result<String, ApiError> {
        if self.phase != Phase::Init {
            let message = "Extension registration closed already";
            return Err(ApiError::new(403, "Extension.RegistrationClosed", message));
        }
        for event in &events {
            // Platform: managed instances have no INVOKE for extensions.
            if !["INVOKE", "SHUTDOWN"].contains(&event.as_str()) || (self.managed && event == "INVOKE") {
                let message = format!("Invalid event type: {event}");
                return Err(ApiError::new(400, "Extension.InvalidEventType", message));
            }
        }
        let Some(extension) = self.extensions.iter_mut().find(|extension| extension.name == name) else {
            let message = format!("no extension named {name:?}; the name is the full file name");
            return Err(ApiError::new(403, "Extension.InvalidExtensionName", message));
        };
        if extension.stage != Stage::Started {
            return Err(extension.not_allowed("Registered"));
        }
        let id = id::uuid();
        extension.stage = Stage::Registered;
        extension.events = events;
        extension.id = Some(id.clone());
        Ok(id)
    }

    /// The extension with this `Lambda-Extension-Identifier`.
    pub(crate) fn identify(&mut self, id: Option<&str>) -> Result<&mut Extension, ApiError> {
        let Some(id) = id else {
            let message = "Missing Lambda-Extension-Identifier header";
            return Err(ApiError::new(403, "Extension.MissingExtensionIdentifier", message));
        };
        if !id::is_uuid(id) {
            let message = format!("Invalid Lambda-Extension-Identifier: {id}");
            return Err(ApiError::new(403, "Extension.InvalidExtensionIdentifier", message));
        }
        self.extensions.iter_mut().find(|extension| extension.id.as_deref() == Some(id)).ok_or_else(|| {
            ApiError::new(403, "Extension.UnknownExtensionIdentifier", format!("Unknown extension {id}"))
        })
    }

    /// Checks if `PUT /telemetry` is allowed now. Returns the extension's name.
    pub(crate) fn subscribe(&mut self, id: Option<&str>) -> Result<String, ApiError> {
        let open = self.phase == Phase::Init;
        let extension = self.identify(id)?;
        if !open {
            let message = "Telemetry API subscription is closed";
            return Err(ApiError::new(403, "Telemetry.SubscriptionClosed", message));
        }
        Ok(extension.name.clone())
    }

    /// Takes the event for an extension waiting in `/next`, if there is one, and changes the stage.
    pub(crate) fn take_event(&mut self, id: &str) -> Option<Value> {
        let extension = self.extensions.iter_mut().find(|extension| extension.id.as_deref() == Some(id))?;
        let event = extension.outbox.take()?;
        let shutdown = event.get("eventType").is_some_and(|kind| kind == "SHUTDOWN");
        extension.stage = if shutdown { Stage::Stopping } else { Stage::Running };
        Some(event)
    }

    /// Sends an event to every extension that has registered for it.
    pub(crate) fn dispatch(&mut self, kind: &str, event: &Value) {
        for extension in self.extensions.iter_mut().filter(|extension| extension.takes(kind)) {
            extension.outbox = Some(event.clone());
            if extension.stage == Stage::Waiting {
                extension.stage = Stage::Dispatched;
            }
        }
    }

    /// Returns true if every extension has registered.
    pub(crate) fn all_registered(&self) -> bool {
        self.extensions.iter().all(|extension| extension.stage != Stage::Started)
    }

    /// Returns true if every extension has called `/next` and has no pending event.
    pub(crate) fn all_waiting(&self) -> bool {
        self.extensions.iter().all(|extension| extension.stage == Stage::Waiting)
    }

    /// The first extension that has exited or reported that it cannot continue, and the error type.
    pub(crate) fn crashed_extension(&self) -> Option<(String, String)> {
        self.extensions.iter().find_map(|extension| match (&extension.reported, &extension.exit) {
            (Some(reported), _) => Some((extension.name.clone(), reported.clone())),
            (None, Some(_)) => Some((extension.name.clone(), "Extension.Crash".to_owned())),
            (None, None) => None,
        })
    }

    pub(crate) fn extension_exited(&mut self, generation: u64, name: &str, exit: Exit) {
        if self.generation == generation
            && let Some(extension) = self.extensions.iter_mut().find(|extension| extension.name == name)
        {
            extension.exit = Some(exit);
        }
    }

    pub(crate) fn runtime_exited(&mut self, generation: u64, reason: String) {
        if self.generation == generation {
            self.runtime.exit.get_or_insert(reason);
        }
    }

    /// Handles `GET /runtime/invocation/next`: the worker has finished its previous invocation.
    pub(crate) fn runtime_next(&mut self, now: Instant) -> Result<(), ApiError> {
        if !self.managed {
            for running in self.invocations.values_mut().filter(|running| running.handed) {
                if running.answer.is_none() {
                    let message = "next before the response or the error of the invocation before";
                    return Err(ApiError::new(403, "InvalidStateTransition", message));
                }
                running.done.get_or_insert(now);
            }
        }
        self.runtime.ready = true;
        self.runtime.idle += 1;
        Ok(())
    }

    /// Passes a pending invocation to the runtime, if there is one.
    pub(crate) fn hand_over(&mut self) -> Option<Arc<Invoke>> {
        let invoke = self.runtime.pending.pop_front()?;
        self.invocations.entry(invoke.request_id.clone()).or_default().handed = true;
        Some(invoke)
    }

    /// Handles `POST /runtime/invocation/{id}/response` and `…/error`.
    pub(crate) fn answer(&mut self, request_id: &str, answer: Answer, now: Instant) -> Result<(), ApiError> {
        let managed = self.managed;
        let running = self.invocations.get_mut(request_id).filter(|running| running.handed);
        let Some(running) = running.filter(|running| running.answer.is_none()) else {
            return Err(ApiError::new(400, "InvalidRequestID", "Invalid request ID"));
        };
        running.answer = Some(answer);
        running.answered = Some(now);
        if managed {
            running.done = Some(now);
        }
        Ok(())
    }
}

impl Extension {
    fn new(name: &str, started: Instant) -> Self {
        Self {
            name: name.to_owned(),
            id: None,
            events: Vec::new(),
            stage: Stage::Started,
            outbox: None,
            started,
            first_next: None,
            last_next: None,
            reported: None,
            exit: None,
        }
    }

    pub(crate) fn takes(&self, kind: &str) -> bool {
        self.exit.is_none() && self.events.iter().any(|event| event == kind)
    }

    /// Handles `GET /extension/event/next`.
    pub(crate) fn next(&mut self, now: Instant, collector: Option<Received>) -> Result<(), ApiError> {
        if !matches!(self.stage, Stage::Registered | Stage::Running) {
            return Err(self.not_allowed("Ready"));
        }
        self.first_next.get_or_insert(now);
        self.last_next = Some((now, collector));
        self.stage = if self.outbox.is_some() { Stage::Dispatched } else { Stage::Waiting };
        Ok(())
    }

    /// Handles `POST /extension/init/error`.
    pub(crate) fn init_error(&mut self, error_type: &str) -> Result<(), ApiError> {
        if self.stage != Stage::Registered {
            return Err(self.not_allowed("InitError"));
        }
        self.stage = Stage::InitError;
        self.reported = Some(error_type.to_owned());
        Ok(())
    }

    /// Handles `POST /extension/exit/error`.
    pub(crate) fn exit_error(&mut self, error_type: &str) -> Result<(), ApiError> {
        if matches!(self.stage, Stage::Started | Stage::InitError | Stage::ExitError) {
            return Err(self.not_allowed("ExitError"));
        }
        self.stage = Stage::ExitError;
        self.reported = Some(error_type.to_owned());
        Ok(())
    }

    fn not_allowed(&self, to: &str) -> ApiError {
        let message = format!(
            "State transition from {:?} to {to} failed for extension {}. Error: State transition is not allowed",
            self.stage, self.name
        );
        ApiError::new(403, "Extension.InvalidExtensionState", message)
    }
}
