//! The Extensions API and the subscription to the Telemetry API, over HTTP.

use std::sync::Arc;

use http::{Method, Request};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;

use crate::clock;
use crate::collector::Received;
use crate::delivery::Courier;
use crate::environment::Environment;
use crate::faults::Fault;
use crate::journal::{Call, ErrorReport, Operation};
use crate::settings::{ACCOUNT, HANDLER, VERSION};
use crate::state::{ApiError, Phase};
use crate::subscription::Subscription;
use crate::telemetry::set;
use crate::web::{self, Answer, header};

const BODY_LIMIT: usize = 1024 * 1024;

/// A `/next` call: an extension reports that it is done.
#[derive(Clone, Debug)]
pub struct NextCall {
    /// The extension's name.
    pub extension: String,
    /// The attached collector's requests at this moment.
    pub collector: Option<Received>,
}

/// Answers a request to the Extensions or Telemetry API.
pub(crate) async fn respond(environment: &Arc<Environment>, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let id = header(&head.headers, "lambda-extension-identifier");
    let operation = operation(&head.method, head.uri.path());
    if operation == Operation::Next {
        return next(environment, id).await;
    }
    // Lambda reads no longer body either; a cut body is not valid JSON.
    let body = web::read(body, BODY_LIMIT).await.unwrap_or_default();
    match operation {
        Operation::Register => register(environment, &head.headers, &body),
        Operation::Subscribe => subscribe(environment, id, &body),
        Operation::InitError | Operation::ExitError => {
            let error_type = header(&head.headers, "lambda-extension-function-error-type");
            report(environment, operation, id, error_type, &body)
        }
        Operation::Next | Operation::Unknown => {
            let message = format!("no such operation: {} {}", head.method, head.uri.path());
            environment.refuse(Operation::Unknown, id, ApiError::new(404, "NotFound", message))
        }
    }
}

fn operation(method: &Method, path: &str) -> Operation {
    match (method.as_str(), path) {
        ("POST", "/2020-01-01/extension/register") => Operation::Register,
        ("GET", "/2020-01-01/extension/event/next") => Operation::Next,
        ("POST", "/2020-01-01/extension/init/error") => Operation::InitError,
        ("POST", "/2020-01-01/extension/exit/error") => Operation::ExitError,
        ("PUT", "/2022-07-01/telemetry") => Operation::Subscribe,
        _ => Operation::Unknown,
    }
}

#[derive(Deserialize)]
struct Registration {
    events: Vec<String>,
}

fn register(environment: &Environment, headers: &http::HeaderMap, body: &[u8]) -> Answer {
    let name = header(headers, "lambda-extension-name").unwrap_or_default();
    let status = environment.faults.find(|fault| match fault {
        Fault::RefuseRegister(status) => Some(status),
        _ => None,
    });
    if let Some(status) = status {
        return environment.refuse_by_fault(Operation::Register, name.to_owned(), status);
    }
    let registered = serde_json::from_slice::<Registration>(body)
        .map_err(|error| ApiError::new(400, "InvalidRequestFormat", error.to_string()))
        .and_then(|registration| {
            environment.state.write(|state| {
                let id = state.register(name, registration.events)?;
                environment.record(Operation::Register, Some(name.to_owned()), 200);
                Ok(id)
            })
        });
    let id = match registered {
        Ok(id) => id,
        Err(error) => return environment.refuse_named(Operation::Register, name.to_owned(), error),
    };
    let features = header(headers, "lambda-extension-accept-feature").unwrap_or_default();
    let mut answer = json!({
        "functionName": environment.settings.function_name,
        "functionVersion": VERSION,
        "handler": HANDLER,
    });
    if features.split(',').any(|feature| feature.trim() == "accountId") {
        set(&mut answer, "accountId", ACCOUNT);
    }
    let mut answer = web::json(200, &answer);
    if let Ok(id) = id.parse() {
        answer.headers_mut().insert("lambda-extension-identifier", id);
    }
    answer
}

fn subscribe(environment: &Arc<Environment>, id: Option<&str>, body: &[u8]) -> Answer {
    let name = match environment.state.write(|state| state.subscribe(id)) {
        Ok(name) => name,
        Err(error) => return environment.refuse(Operation::Subscribe, id, error),
    };
    let subscription = match Subscription::parse(body) {
        Ok(subscription) => subscription,
        Err(error) => return environment.refuse_named(Operation::Subscribe, name, error),
    };
    let fault = environment.faults.find(|fault| match fault {
        Fault::TelemetryNotSupported => Some(202),
        Fault::RefuseSchema(version) if version == subscription.schema => Some(400),
        _ => None,
    });
    match fault {
        Some(202) => {
            environment.record(Operation::Subscribe, Some(name), 202);
            let message = "Telemetry API is not supported";
            let answer = json!({"errorType": "Telemetry.NotSupported", "errorMessage": message});
            return web::json(202, &answer);
        }
        Some(status) => return environment.refuse_by_fault(Operation::Subscribe, name, status),
        None => {}
    }
    // Platform: managed instances support the newest schema only.
    if environment.settings.managed() && subscription.schema != "2025-01-29" {
        let error =
            ApiError::new(400, "ValidationError", "managed instances require schemaVersion 2025-01-29");
        return environment.refuse_named(Operation::Subscribe, name, error);
    }
    let types = subscription.types.clone();
    environment.deliver_to(&subscription, |journal| {
        Courier::new(name.clone(), environment.ip, &subscription, journal)
    });
    // Recorded only now: a waiter may emit telemetry as soon as it sees the call.
    environment.record(Operation::Subscribe, Some(name.clone()), 200);
    let record = json!({"name": name, "state": "Subscribed", "types": types});
    environment.telemetry.emit("platform.telemetrySubscription", record);
    web::json(200, &"OK".into())
}

async fn next(environment: &Environment, id: Option<&str>) -> Answer {
    let status = environment.faults.find(|fault| match fault {
        Fault::RefuseNext(status) => Some(status),
        _ => None,
    });
    if let Some(status) = status {
        let name = environment.name_of(id).unwrap_or_default();
        return environment.refuse_by_fault(Operation::Next, name, status);
    }
    let collector = environment.collector.as_ref().map(|received| received.read(Received::clone));
    // Before the hook, on which a function may end: the call came before that end.
    let now = clock::now();
    if let (Some(extension), Some(hook)) = (environment.name_of(id), &environment.on_next) {
        hook(&NextCall { extension, collector: collector.clone() });
    }
    let called = environment.state.write(|state| {
        let generation = state.generation;
        let extension = state.identify(id)?;
        let name = extension.name.clone();
        extension.next(now, collector)?;
        // Recorded before the phase sees the change: a waiter for the phase finds the call recorded.
        environment.record(Operation::Next, Some(name.clone()), 200);
        Ok((name, generation))
    });
    let (name, generation) = match called {
        Ok(called) => called,
        Err(error) => return environment.refuse(Operation::Next, id, error),
    };
    let over = environment.state.wait(|state| {
        let over = state.generation != generation || state.phase == Phase::Stopped;
        let event =
            state.extensions.iter().any(|extension| extension.name == name && extension.outbox.is_some());
        (over || event).then_some(over)
    });
    let gone = over.await;
    let event = environment.state.write(|state| state.take_event(id.unwrap_or_default())).filter(|_| !gone);
    match event {
        Some(event) => {
            let mut answer = web::json(200, &event);
            if let Ok(id) = crate::id::uuid().parse() {
                answer.headers_mut().insert("lambda-extension-event-identifier", id);
            }
            answer
        }
        None => {
            web::json(500, &json!({"errorType": "Sandbox.Gone", "errorMessage": "the environment is gone"}))
        }
    }
}

fn report(
    environment: &Environment,
    operation: Operation,
    id: Option<&str>,
    error_type: Option<&str>,
    body: &[u8],
) -> Answer {
    let reported = environment.state.write(|state| {
        let extension = state.identify(id)?;
        let Some(error_type) = error_type else {
            let message = "Lambda-Extension-Function-Error-Type header is missing";
            return Err(ApiError::new(400, "Extension.MissingHeader", message));
        };
        match operation {
            Operation::InitError => extension.init_error(error_type),
            _ => extension.exit_error(error_type),
        }
        .map(|()| {
            let mut report: ErrorReport = serde_json::from_slice(body).unwrap_or_default();
            if report.error_type.is_empty() {
                error_type.clone_into(&mut report.error_type);
            }
            environment.record_report(operation, extension.name.clone(), report);
        })
    });
    match reported {
        Ok(()) => web::json(202, &json!({"status": "OK"})),
        Err(error) => environment.refuse(operation, id, error),
    }
}

impl Environment {
    fn record(&self, what: Operation, extension: Option<String>, status: u16) {
        let call =
            Call { at: clock::now(), extension, what, status, refusal: None, by_fault: false, report: None };
        self.journal.write(|journal| journal.calls.push(call));
    }

    fn record_report(&self, what: Operation, extension: String, report: ErrorReport) {
        let (at, report) = (clock::now(), Some(report));
        let call = Call {
            at,
            extension: Some(extension),
            what,
            status: 202,
            refusal: None,
            by_fault: false,
            report,
        };
        self.journal.write(|journal| journal.calls.push(call));
    }

    fn refuse(&self, what: Operation, id: Option<&str>, error: ApiError) -> Answer {
        self.refuse_as(what, self.name_of(id), error, false)
    }

    fn refuse_named(&self, what: Operation, extension: String, error: ApiError) -> Answer {
        self.refuse_as(what, Some(extension), error, false)
    }

    fn refuse_by_fault(&self, what: Operation, extension: String, status: u16) -> Answer {
        let kind = if status == 400 { "ValidationError" } else { "Sandbox.Fault" };
        self.refuse_as(what, Some(extension), ApiError::new(status, kind, "refused by the test"), true)
    }

    fn refuse_as(
        &self,
        what: Operation,
        extension: Option<String>,
        error: ApiError,
        by_fault: bool,
    ) -> Answer {
        let ApiError { status, error_type, message } = error;
        let answer = web::json(status, &json!({"errorType": error_type, "errorMessage": message}));
        let refusal = Some(format!("{error_type}: {message}"));
        let call = Call { at: clock::now(), extension, what, status, refusal, by_fault, report: None };
        self.journal.write(|journal| journal.calls.push(call));
        answer
    }

    fn name_of(&self, id: Option<&str>) -> Option<String> {
        let id = id?;
        self.state.read(|state| {
            let mine = |extension: &&crate::state::Extension| extension.id.as_deref() == Some(id);
            state.extensions.iter().find(mine).map(|extension| extension.name.clone())
        })
    }
}
