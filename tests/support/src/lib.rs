//! Code shared by the extension's tests on the sandbox: starting it, the processes that run with it, and the way it
//! must end. The subject of a test stays in the test.

#![expect(clippy::expect_used, clippy::missing_panics_doc, reason = "a test fails by panicking")]

use std::sync::mpsc;
use std::time::Duration;

use lambda_sandbox::aws::Aws;
use lambda_sandbox::collector::{Identity, Protocol, Received};
use lambda_sandbox::{
    Builder, Collector, Comparison, Extension, Function, Invocation, Sandbox, Shutdown, ShutdownReason,
    Status, Transport,
};
use rcgen::CertificateParams;
use serde_json::Value;

pub mod bounds;
pub mod hour;
pub mod not_held;
pub mod outage;
pub mod storm;

/// The maximum wait for a condition on a busy machine; nothing waits this long when all is well.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Both protocols.
pub const PROTOCOLS: [Protocol; 2] = [Protocol::Grpc, Protocol::Http];

/// The name of a protocol in environment variables.
pub fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Grpc => "grpc",
        Protocol::Http => "http",
    }
}

/// The path of the extension under test.
pub fn binary() -> String {
    if cfg!(feature = "bounds") {
        return bounds::binary();
    }
    // Cargo sets it for this crate only when a test runs, not when it is built.
    #[expect(
        clippy::disallowed_methods,
        reason = "Cargo's word to the test, not a variable of the extension"
    )]
    std::env::var("CARGO_BIN_EXE_rotel-extension").expect("the path, which `cargo test` sets")
}

/// The extension under test, without an endpoint.
pub fn unconfigured() -> Extension {
    let extension = Extension::binary(binary());
    if cfg!(feature = "bounds") { bounds::in_cgroup(extension) } else { extension }
}

/// The extension under test, sending to `collector`.
pub fn extension(collector: &Collector, protocol: Protocol) -> Extension {
    sending(unconfigured(), collector, protocol)
}

/// An extension, sending to `collector`.
pub fn sending(extension: Extension, collector: &Collector, protocol: Protocol) -> Extension {
    extension
        .env("ROTEL_OTLP_EXPORTER_ENDPOINT", collector.url(protocol))
        .env("ROTEL_OTLP_EXPORTER_PROTOCOL", name(protocol))
}

/// An extension with backoffs shorter than an invocation and a short retry limit, so that a flush gives up soon.
pub fn impatient(extension: Extension) -> Extension {
    extension
        .env("ROTEL_OTLP_EXPORTER_RETRY_INITIAL_BACKOFF", "10ms")
        .env("ROTEL_OTLP_EXPORTER_RETRY_MAX_BACKOFF", "10ms")
        .env("ROTEL_OTLP_EXPORTER_RETRY_MAX_ELAPSED_TIME", "100ms")
}

/// An extension that uses this stand-in for AWS.
pub fn with_aws(extension: Extension, aws: &Aws) -> Extension {
    aws.variables().into_iter().fold(extension, |extension, (name, value)| extension.env(name, value))
}

/// A sandbox with the extension under test and a long flush timeout: unless a test is about time, a busy machine must
/// not affect it.
pub fn sandbox(collector: &Collector, protocol: Protocol) -> Builder {
    let extension = extension(collector, protocol).env("ROTEL_FLUSH_TIMEOUT", "60s");
    Sandbox::builder().extension(extension).collector(collector).timeout(Duration::from_mins(5))
}

/// A function that writes `count` lines.
pub fn lines(count: usize) -> Function {
    Function::builtin(move |context| async move {
        context.log_lines(count);
        Ok(Value::Null)
    })
}

/// A function that writes five lines, sends five spans and then works for the number of milliseconds in its payload, if
/// any.
pub fn working() -> Function {
    Function::builtin(|context| async move {
        context.log_lines(5);
        context.send_spans(Transport::Grpc, 5).await.expect("the receiver takes spans");
        if let Some(length) = context.payload.as_u64() {
            tokio::time::sleep(Duration::from_millis(length)).await;
        }
        Ok(Value::Null)
    })
}

/// Runs an invocation, which must succeed.
pub async fn invoke(sandbox: &Sandbox, payload: Value) -> Invocation {
    let invocation = sandbox.invoke(payload).await.expect("an invocation");
    assert_eq!(invocation.status, Status::Success, "{invocation:?}");
    invocation
}

/// Runs two invocations of [`working`] and ends the environment.
pub async fn live(sandbox: Builder) -> Sandbox {
    let sandbox = sandbox.function(working()).start().await.expect("a sandbox");
    for _ in 0..2 {
        invoke(&sandbox, Value::Null).await;
    }
    end(&sandbox).await;
    sandbox
}

/// Starts a collector with a self-signed certificate and returns both. If there is a client authority, clients must
/// present a certificate that it has signed.
pub async fn behind_tls(client_authority: Option<String>) -> (Collector, String) {
    with_certificate(named, client_authority).await
}

/// The same with a certificate that `parameters` makes for the collector's address.
pub async fn with_certificate(
    parameters: impl FnOnce(String) -> CertificateParams + Send + 'static,
    client_authority: Option<String>,
) -> (Collector, String) {
    let (sender, certificate) = mpsc::channel();
    let collector = Collector::builder().tls(move |ip| {
        let key = rcgen::KeyPair::generate().expect("a key");
        let certified = parameters(ip.to_string()).self_signed(&key).expect("a certificate");
        sender.send(certified.pem()).expect("the test waits for it");
        Identity { certificates: certified.pem(), key: key.serialize_pem(), client_authority }
    });
    let collector = collector.start().await.expect("a collector");
    (collector, certificate.recv().expect("the certificate"))
}

/// The parameters of a certificate for this name.
pub fn named(name: String) -> CertificateParams {
    CertificateParams::new([name]).expect("parameters")
}

/// A collector behind TLS, and the extension that trusts it.
pub async fn trusted(protocol: Protocol) -> (Collector, Extension) {
    let (collector, certificate) = behind_tls(None).await;
    let extension = extension(&collector, protocol).env("ROTEL_OTLP_EXPORTER_TLS_CA_PEM", certificate);
    (collector, extension)
}

/// Compares the emitted items with those that arrived.
pub fn compare(sandbox: &Sandbox, collector: &Collector) -> Comparison {
    sandbox.ledger().compare(&collector.received())
}

/// Asserts that everything emitted has arrived exactly once; returns the number of items.
pub fn assert_exact(sandbox: &Sandbox, received: &Received) -> usize {
    let comparison = sandbox.ledger().compare(received);
    assert!(comparison.is_exact(), "{comparison:?}\n{:#?}", sandbox.extension_output());
    comparison.once
}

/// Shuts the sandbox down and asserts that the extension kept to the rules until its end.
pub async fn end(sandbox: &Sandbox) -> Shutdown {
    let shutdown = sandbox.shutdown(ShutdownReason::Spindown).await.expect("a shutdown");
    assert!(shutdown.is_clean(), "{shutdown:?}\n{:#?}", sandbox.extension_output());
    assert_eq!(sandbox.violations(), Vec::<String>::new());
    shutdown
}
