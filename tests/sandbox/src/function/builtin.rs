//! A runtime for built-in functions: a task that speaks the Runtime API over HTTP, as runtimes do.

use std::io;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::otlp::Exporter;
use super::{Context, Failure, Handler};
use crate::ledger::Ledger;
use crate::telemetry::Telemetry;
use crate::web::{Client, header};

/// The inputs of a runtime besides its handler.
#[derive(Clone, Debug)]
pub(crate) struct Runtime {
    /// `http://ip:9001/2018-06-01/runtime`
    pub(crate) api: String,
    pub(crate) telemetry: Telemetry,
    pub(crate) ledger: Ledger,
    pub(crate) exporter: Exporter,
}

impl Runtime {
    /// Handles invocations until the function exits. Returns the reason.
    pub(crate) async fn run(self, handler: Handler) -> String {
        let client = Client::new();
        let mut cold_start = true;
        loop {
            let context = match self.next(&client, cold_start).await {
                Ok(context) => context,
                Err(error) => return format!("the runtime cannot get an invocation: {error}"),
            };
            cold_start = false;
            let id = context.request_id.clone();
            let (path, body) = match handler(context).await {
                Ok(answer) => ("response", answer),
                Err(Failure { exits: true, message, .. }) => return message,
                Err(failure) => {
                    ("error", json!({"errorType": failure.error_type, "errorMessage": failure.message}))
                }
            };
            let url = format!("{}/invocation/{id}/{path}", self.api);
            let error_type = body.get("errorType").and_then(Value::as_str).unwrap_or_default();
            let headers = [("lambda-runtime-function-error-type", error_type)];
            let headers = if path == "error" { headers.as_slice() } else { &[] };
            if let Err(error) = client.send(Method::POST, &url, headers, body.to_string().into()).await {
                return format!("the runtime cannot answer: {error}");
            }
        }
    }

    async fn next(&self, client: &Client, cold_start: bool) -> io::Result<Context> {
        let url = format!("{}/invocation/next", self.api);
        let answer = client.send(Method::GET, &url, &[], Bytes::new()).await?;
        if !answer.status().is_success() {
            return Err(io::Error::other(format!("the Runtime API answered {}", answer.status())));
        }
        let text = |name| header(answer.headers(), name).unwrap_or_default().to_owned();
        let deadline = text("lambda-runtime-deadline-ms").parse().map_err(io::Error::other)?;
        Ok(Context {
            request_id: text("lambda-runtime-aws-request-id"),
            deadline: UNIX_EPOCH + Duration::from_millis(deadline),
            invoked_arn: text("lambda-runtime-invoked-function-arn"),
            trace: text("lambda-runtime-trace-id"),
            payload: serde_json::from_slice(answer.body())?,
            cold_start,
            telemetry: self.telemetry.clone(),
            ledger: self.ledger.clone(),
            exporter: self.exporter.clone(),
        })
    }
}
