//! The Runtime API over HTTP, as used by `awslambdaric` and other runtimes.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::json;

use crate::board::Board;
use crate::clock;
use crate::environment::Environment;
use crate::state::{self, ApiError, Invoke, Phase, State};
use crate::web::{self, Answer, header};

/// Platform: the maximum size of a response is 6 MiB.
const RESPONSE_LIMIT: usize = 6 * 1024 * 1024;

/// Answers a request under `/2018-06-01/runtime/`; `path` is the rest.
pub(crate) async fn respond(
    environment: &Arc<Environment>,
    path: &str,
    request: Request<Incoming>,
) -> Answer {
    let parts: Vec<&str> = path.split('/').collect();
    match (request.method().as_str(), parts.as_slice()) {
        ("GET", ["invocation", "next"]) => next(&environment.state).await,
        ("GET", ["restore", "next"]) => restore_next(&environment.state).await,
        ("POST", ["invocation", id, kind @ ("response" | "error")]) => {
            answer(environment, id, *kind == "error", request).await
        }
        ("POST", ["init" | "restore", "error"]) => {
            let error = error_of(request).await;
            environment.state.write(|state| state.runtime.init_error = Some(error));
            accepted()
        }
        _ => refuse(&ApiError::new(404, "NotFound", "no such operation of the Runtime API")),
    }
}

async fn next(state: &Board<State>) -> Answer {
    let called = state.write(|state| {
        let generation = state.generation;
        state.runtime_next(clock::now()).map(|()| generation)
    });
    let generation = match called {
        Ok(generation) => generation,
        Err(error) => return refuse(&error),
    };
    let _idle = Idle { state, generation };
    loop {
        let over = state.wait(|state| {
            let over = state.generation != generation || state.phase == Phase::Stopped;
            (over || !state.runtime.pending.is_empty()).then_some(over)
        });
        if over.await {
            return refuse(&ApiError::new(500, "Sandbox.Gone", "the environment is gone"));
        }
        // Another worker may have been faster.
        if let Some(invoke) = state.write(State::hand_over) {
            return invocation(&invoke);
        }
    }
}

/// Answers `restore/next` (SnapStart): runtimes with restore hooks wait here instead.
async fn restore_next(state: &Board<State>) -> Answer {
    let generation = state.write(|state| {
        state.runtime.before_restore = true;
        state.generation
    });
    state
        .wait(|state| {
            let over = state.generation != generation || state.phase == Phase::Stopped;
            (over || !state.runtime.before_restore).then_some(())
        })
        .await;
    web::json(200, &json!({}))
}

fn invocation(invoke: &Invoke) -> Answer {
    let mut answer = Answer::new(Full::new(invoke.payload.clone()));
    let deadline = invoke.deadline_ms.to_string();
    for (name, value) in [
        ("content-type", "application/json"),
        ("lambda-runtime-aws-request-id", &invoke.request_id),
        ("lambda-runtime-deadline-ms", &deadline),
        ("lambda-runtime-invoked-function-arn", &invoke.arn),
        ("lambda-runtime-trace-id", &invoke.trace),
    ] {
        if let Ok(value) = value.parse() {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

async fn answer(environment: &Environment, id: &str, error: bool, request: Request<Incoming>) -> Answer {
    let answer = if error {
        error_of(request).await
    } else {
        match web::read(request.into_body(), RESPONSE_LIMIT).await {
            Ok(body) => state::Answer::Response(body),
            Err(error) => return refuse(&ApiError::new(413, "RequestEntityTooLarge", error.to_string())),
        }
    };
    match environment.state.write(|state| state.answer(id, answer, clock::now())) {
        Ok(()) => accepted(),
        Err(error) => refuse(&error),
    }
}

async fn error_of(request: Request<Incoming>) -> state::Answer {
    let named = header(request.headers(), "lambda-runtime-function-error-type").map(str::to_owned);
    let body: Bytes = web::read(request.into_body(), RESPONSE_LIMIT).await.unwrap_or_default();
    let error_type = named.filter(|name| !name.is_empty()).unwrap_or_else(|| "Runtime.Unknown".to_owned());
    state::Answer::Error { error_type, body }
}

fn accepted() -> Answer {
    web::json(202, &json!({"status": "OK"}))
}

fn refuse(error: &ApiError) -> Answer {
    web::json(error.status, &json!({"errorType": error.error_type, "errorMessage": error.message}))
}

/// A worker that waits for work, until it is answered or gone.
struct Idle<'a> {
    state: &'a Board<State>,
    generation: u64,
}

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.state.write(|state| {
            if state.generation == self.generation {
                state.runtime.idle = state.runtime.idle.saturating_sub(1);
            }
        });
    }
}
