//! One session: collector, sandbox, invocations, shutdown, and the account of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lambda_sandbox::collector::Protocol;
use lambda_sandbox::{
    Builder, Collector, Error, Extension, Function, LogFormat, Sandbox, Shutdown, ShutdownReason, Transport,
};
use serde_json::{Value, json};

use super::account::{self, Invoked};
use super::arguments::Arguments;

const INGESTION_KEY: &str = "demo-ingestion-key";

/// The reason why a session cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error(transparent)]
    Sandbox(#[from] Error),
    #[error("{path}: cannot be read: {source}", path = path.display())]
    Events { path: PathBuf, source: std::io::Error },
    #[error("{path}: {source}; write a JSON array of payloads", path = path.display())]
    NoArray { path: PathBuf, source: serde_json::Error },
}

/// Runs a session and reports it. Returns whether it passed.
pub(crate) async fn run(arguments: &Arguments) -> Result<bool, SessionError> {
    let payloads = payloads(arguments)?;
    let collector = Collector::builder().authorization(INGESTION_KEY).start().await?;
    let sandbox = sandbox(arguments, &collector).open().await?;
    account::heading("Init");
    let init = sandbox.init().await?;
    account::init(&init);
    let mut failures = Vec::new();
    let mut shutdown = None;
    let mut invoked = Vec::new();
    if let Some(error) = &init.error {
        failures.push(format!("the init failed: {error}"));
    } else {
        account::heading("Invocations");
        for (at, payload) in payloads.iter().enumerate() {
            // The demonstration freezes once; otherwise it is between all of them.
            if at > 0 && (!arguments.demo || at == 2) {
                freeze(&sandbox, arguments.freeze).await?;
            }
            match sandbox.invoke(payload.clone()).await {
                Ok(invocation) => {
                    invoked.push(Invoked::new(at + 1, invocation, &sandbox));
                    account::invocation(invoked.last());
                }
                Err(error) => {
                    failures.push(format!("invocation {}: {error}", at + 1));
                    break;
                }
            }
        }
        shutdown = shut_down(&sandbox).await;
    }
    let received = collector.received();
    let comparison = sandbox.ledger().compare(&received);
    account::telemetry(&sandbox, &received, &comparison);
    account::examples(&received);
    account::output(&sandbox.journal());
    failures.extend(judge(&sandbox, &invoked, shutdown.as_ref()));
    failures.extend(account::differences(&comparison));
    account::verdict(&failures, comparison.once);
    Ok(failures.is_empty())
}

fn payloads(arguments: &Arguments) -> Result<Vec<Value>, SessionError> {
    if let Some(path) = &arguments.events {
        return events(path);
    }
    if arguments.demo {
        return Ok(vec![json!({}), json!({}), json!({"fail": true}), json!({})]);
    }
    Ok((1..=arguments.invocations.unwrap_or(3)).map(|number| json!({"invocation": number})).collect())
}

fn events(path: &Path) -> Result<Vec<Value>, SessionError> {
    let text =
        std::fs::read(path).map_err(|source| SessionError::Events { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|source| SessionError::NoArray { path: path.to_owned(), source })
}

fn sandbox(arguments: &Arguments, collector: &Collector) -> Builder {
    let (protocol, transport) = match arguments.protocol {
        Protocol::Grpc => ("grpc", Transport::Grpc),
        Protocol::Http => ("http", Transport::HttpProtobuf),
    };
    let extension = Extension::binary(&arguments.extension)
        .env("ROTEL_OTLP_EXPORTER_ENDPOINT", collector.url(arguments.protocol))
        .env("ROTEL_OTLP_EXPORTER_PROTOCOL", protocol)
        .env("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", format!("Authorization={INGESTION_KEY}"))
        .env("ROTEL_OTEL_RESOURCE_ATTRIBUTES", "service.name=demo-service,deployment.environment=sandbox");
    let set = |name| arguments.variables.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    // The user's settings override ours.
    let extension =
        arguments.variables.iter().fold(extension, |extension, (name, value)| extension.env(name, value));
    let function = match &arguments.function {
        None => Function::sample(transport),
        Some(command) => {
            let port = if set("OTEL_EXPORTER_OTLP_PROTOCOL") == Some("grpc") { 4317 } else { 4318 };
            let function = Function::command("/bin/sh", ["-c", command]);
            match set("OTEL_EXPORTER_OTLP_ENDPOINT") {
                Some(_) => function,
                None => function.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{{ip}}:{port}")),
            }
        }
    };
    let builder = Sandbox::builder()
        .extension(extension)
        .function(function)
        .collector(collector)
        .timeout(arguments.timeout)
        .memory_mb(arguments.memory_mb)
        .log_format(if arguments.json { LogFormat::Json } else { LogFormat::Text });
    arguments.variables.iter().fold(builder, |builder, (name, value)| builder.env(name, value))
}

async fn freeze(sandbox: &Sandbox, length: Duration) -> Result<(), Error> {
    if !length.is_zero() && sandbox.is_frozen().await {
        sandbox.rest(length).await?;
        account::freeze(length);
    }
    Ok(())
}

/// Shuts the environment down, unless the last invocation was followed by a reset.
async fn shut_down(sandbox: &Sandbox) -> Option<Shutdown> {
    account::heading("Shutdown");
    let shutdown = sandbox.shutdown(ShutdownReason::Spindown).await.ok();
    account::shutdown(shutdown.as_ref());
    shutdown
}

fn judge(sandbox: &Sandbox, invoked: &[Invoked], shutdown: Option<&Shutdown>) -> Vec<String> {
    let mut failures: Vec<String> =
        sandbox.violations().into_iter().map(|call| format!("Lambda refuses this call: {call}")).collect();
    let resets = invoked.iter().filter_map(|invoked| invoked.invocation.reset.as_ref());
    for end in resets.chain(shutdown).flat_map(|shutdown| &shutdown.extensions) {
        if end.killed {
            failures.push(format!("{} was still running 2 s after SHUTDOWN and was killed", end.name));
        } else if !end.exit.is_some_and(|exit| exit.status.success()) {
            let how = end.exit.map_or("unknown exit status".to_owned(), |exit| exit.text());
            failures.push(format!("{} exited with an error: {how}", end.name));
        }
    }
    failures
}
