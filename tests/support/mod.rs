//! What the tests on the sandbox have in common.

#![allow(dead_code, reason = "each test crate uses a part of it")]

use std::sync::mpsc;
use std::time::Duration;

use lambda_sandbox::collector::{Identity, Protocol};
use lambda_sandbox::{
    Builder, Collector, Comparison, Extension, Function, Sandbox, Shutdown, ShutdownReason, Transport,
};
use serde_json::Value;

pub(crate) mod hour;
pub(crate) mod outage;

/// What a condition may take at most on a busy machine; nothing waits so long where all is well.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) const PROTOCOLS: [Protocol; 2] = [Protocol::Grpc, Protocol::Http];

/// The extension under test, sending to `collector`.
pub(crate) fn extension(collector: &Collector, protocol: Protocol) -> Extension {
    sending(unconfigured(), collector, protocol)
}

/// An extension, sending to `collector`.
pub(crate) fn sending(extension: Extension, collector: &Collector, protocol: Protocol) -> Extension {
    extension
        .env("ROTEL_OTLP_EXPORTER_ENDPOINT", collector.url(protocol))
        .env("ROTEL_OTLP_EXPORTER_PROTOCOL", name(protocol))
}

/// An extension whose pauses between attempts do not outlast an invocation, and whose flushes do not try for long.
pub(crate) fn impatient(extension: Extension) -> Extension {
    extension
        .env("ROTEL_OTLP_EXPORTER_RETRY_INITIAL_BACKOFF", "10ms")
        .env("ROTEL_OTLP_EXPORTER_RETRY_MAX_BACKOFF", "10ms")
        .env("ROTEL_OTLP_EXPORTER_RETRY_MAX_ELAPSED_TIME", "100ms")
}

/// The extension under test, without an endpoint.
pub(crate) fn unconfigured() -> Extension {
    Extension::binary(env!("CARGO_BIN_EXE_rotel-extension"))
}

pub(crate) fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Grpc => "grpc",
        Protocol::Http => "http",
    }
}

/// A sandbox with the extension under test and patience with its flushes: where a test is not about time, a busy machine
/// must not make it one.
pub(crate) fn sandbox(collector: &Collector, protocol: Protocol) -> Builder {
    let extension = extension(collector, protocol).env("ROTEL_FLUSH_TIMEOUT", "60s");
    Sandbox::builder().extension(extension).collector(collector).timeout(Duration::from_mins(5))
}

/// A function that writes five lines, sends five spans and then takes as many milliseconds as it was called with.
pub(crate) fn working() -> Function {
    Function::builtin(|context| async move {
        context.log_lines(5);
        context.send_spans(Transport::Grpc, 5).await.expect("the receiver takes spans");
        let length = context.payload.as_u64().map_or(Duration::ZERO, Duration::from_millis);
        tokio::time::sleep(length).await;
        Ok(Value::Null)
    })
}

/// A collector with a certificate of its own making; with it the certificate.
pub(crate) async fn behind_tls(client_authority: Option<String>) -> (Collector, String) {
    let (sender, certificate) = mpsc::channel();
    let collector = Collector::builder().tls(move |ip| {
        let certified = rcgen::generate_simple_self_signed([ip.to_string()]).expect("a certificate");
        sender.send(certified.cert.pem()).expect("the test waits for it");
        Identity {
            certificates: certified.cert.pem(),
            key: certified.signing_key.serialize_pem(),
            client_authority: client_authority.clone(),
        }
    });
    let collector = collector.start().await.expect("a collector");
    (collector, certificate.recv().expect("the certificate"))
}

/// What was emitted, held against what arrived.
pub(crate) fn compare(sandbox: &Sandbox, collector: &Collector) -> Comparison {
    sandbox.ledger().compare(&collector.received())
}

/// Shuts the sandbox down and sees that the extension kept to the rules until its end.
pub(crate) async fn end(sandbox: &Sandbox) -> Shutdown {
    let shutdown = sandbox.shutdown(ShutdownReason::Spindown).await.expect("a shutdown");
    assert!(shutdown.is_clean(), "{shutdown:?}\n{:#?}", sandbox.extension_output());
    assert_eq!(sandbox.violations(), Vec::<String>::new());
    shutdown
}
